"""The torch models against what they are meant to be: stems, attention, skipping."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.random_models import images_for, random_config, random_model
from torch import Tensor, nn

from stas_neuro.frontend.torch_trace import trace
from stas_neuro.models import stas as stas_module
from stas_neuro.models.block import Block, SpikingAttention, Visit
from stas_neuro.models.config import (
    ACCUMULATIONS,
    ATTENTIONS,
    BACKBONES,
    READOUTS,
    STEMS,
    StasConfig,
)
from stas_neuro.models.lif import LIF
from stas_neuro.models.stas import StasModel
from stas_neuro.models.stem import Stem

# Stems --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_input", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("stem", STEMS)
def test_stems(stem: str, backbone: str, event_input: bool):
    config = random_config({"stem": stem, "backbone": backbone, "event_input": event_input}, 1)
    config = config.replace(image_size=8, patch_size=4, time_steps=3, dim=16)
    model = random_model(config, 1)
    images = torch.from_numpy(images_for(config, 2, 1))
    with torch.no_grad():
        tokens = model.stem(images)
    assert tokens.shape == (3 if stem == "sps" else 1, 2, 4, 16)
    assert tokens.std() > 0
    weights = {f"conv{i}" for i in range(5 if backbone == "spikingformer" else 4)}
    if backbone == "spikformer":
        weights.add("rpe")
        if stem in ("one-step", "max", "mean", "sum", "sps", "late-max"):
            assert set(tokens.unique().tolist()) <= {0.0, 1.0, 2.0}, "a sum of two spikes"
    assert {name for name, m in model.stem.named_children() if isinstance(m, nn.Conv2d)} == weights
    learned = [name for name, _ in model.stem.named_parameters() if name == "integrate.weights"]
    assert bool(learned) == stem.endswith("learned")


@pytest.mark.parametrize("patch", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_patches_halve_the_map_in_the_last_stages(backbone: str, patch: int):
    config = StasConfig(backbone=backbone, patch_size=patch, image_size=16, dim=16, heads=2)
    stem = Stem(config).eval()
    assert stem(torch.zeros(1, 1, 16, 16)).shape == (1, 1, (16 // patch) ** 2, 16)
    pooled = [i for i in stem.lif_stages if stem.pools_at(i)]
    assert pooled == list(stem.lif_stages)[4 - len(pooled) :]
    assert 2 ** len(pooled) == patch


def test_integration_of_the_first_spiking_layer():
    """Of a still image: what each early stem makes of the first LIF's spikes over T, by hand."""
    x = torch.tensor([3.0, 1.5, 1.2, 1.1, 0.5])  # codes 1111, 0101, 0010, 0001, 0000 over four steps
    expected = {
        "max": [1, 1, 1, 1, 0],
        "mean": [1, 0.5, 0.25, 0.25, 0],
        "sum": [4, 2, 1, 1, 0],
        "learned": [2.5, 1.5, 0.75, 1.0, 0],
        "one-step": [1, 0, 0, 0, 0],
    }
    for mode, wanted in expected.items():
        config = StasConfig(stem=mode, patch_size=1, image_size=5, dim=8, heads=1)
        stem = Stem(config).eval()
        if mode == "learned":
            with torch.no_grad():
                stem.integrate.weights.copy_(torch.tensor([0.25, 0.5, 0.75, 1.0]))
        with torch.no_grad():
            stem.conv0.weight.zero_()
            stem.conv0.weight[:, :, 1, 1] = 1
            stem.bn0.eps = 0.0
            stem.bn0.weight.fill_(1)
        seen: list[Tensor] = []
        stem.conv1.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            stem(x.expand(1, 1, 5, 5))
        assert seen[0].shape[0] == 1
        assert seen[0][0, 0, 0].tolist() == wanted, mode


def test_event_frames_are_taken_in_order():
    """sps: the tokens of step t depend on frames up to t only; one-step sees their mean."""
    config = random_config({"stem": "sps", "event_input": True}, 3).replace(time_steps=3)
    images = torch.from_numpy(images_for(config, 2, 3))
    changed = images.clone()
    changed[:, 2] += 1
    model = random_model(config, 3)
    with torch.no_grad():
        before, after = model.stem(images), model.stem(changed)
        assert torch.equal(before[:2], after[:2])
        assert not torch.equal(before[2], after[2])
        one_step = random_model(config.replace(stem="one-step"), 3)
        mean = images.mean(1, keepdim=True).expand_as(images)
        torch.testing.assert_close(one_step.stem(images), one_step.stem(mean))


# Attention ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "heads"), [(9, 4), (3, 1)])
def test_spiking_self_attention(tokens: int, heads: int):
    """(Q K^T) V / 8 head by head, whichever order is cheaper."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.integers(0, 2, (2, tokens, 8)).astype(float) for _ in range(3))
    y = SpikingAttention(heads)(*(torch.from_numpy(s).unsqueeze(0) for s in (q, k, v)))[0].numpy()
    width = 8 // heads
    expected = np.zeros_like(q)
    for image, i, j in np.ndindex(2, tokens, tokens):
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            expected[image, i, part] += (q[image, i, part] @ k[image, j, part]) * v[image, j, part] / 8
    np.testing.assert_array_equal(y, expected)


def block_spikes(block: Block, x: Tensor, visit: Visit) -> dict[str, Tensor]:
    """Spikes of the block's LIFs in one call."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda m, args, out, name=name: seen.__setitem__(name, out[0]))
        for name, module in block.named_children()
        if isinstance(module, LIF)
    ]
    block(x, visit)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("backbone", BACKBONES)
def test_spike_driven_attention(backbone: str):
    """K * V summed over tokens fires a neuron a channel, whose spikes mask Q; its membrane is the image's."""
    config = random_config({"attention": "sdsa", "backbone": backbone}, 7).replace(
        image_size=6, patch_size=2, dim=16, heads=2, time_steps=4, accumulate="off"
    )
    model = random_model(config, 7)
    block = model.blocks[0]
    assert isinstance(block, Block)
    assert not hasattr(block, "attn") and not hasattr(block, "attn_lif")
    seen: list[Tensor] = []
    block.proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        tokens = model.stem(torch.from_numpy(images_for(config, 2, 7))).expand(4, -1, -1, -1)
        spikes = block_spikes(block, tokens, Visit())
    kv = (spikes["k_lif"] * spikes["v_lif"]).numpy()
    assert kv.shape == (4, 2, 9, 16)
    v = np.zeros((2, 16))
    masks = []
    for t in range(4):
        v = v + (kv[t].sum(1) - v) / 2
        mask = (v >= 0.5) if config.fire == ">=" else (v > 0.5)
        v[mask] = 0
        masks.append(mask[:, None])
        np.testing.assert_array_equal(seen[0][t], spikes["q_lif"][t].numpy() * mask[:, None])
    assert 0 < np.mean(masks) < 1


def test_backbones_differ_in_where_the_neurons_are():
    spikformer, spikingformer = (Block(StasConfig(backbone=name, dim=8, heads=1)) for name in BACKBONES)
    lifs = {name for name, module in spikformer.named_children() if isinstance(module, LIF)}
    assert lifs == {f"{name}_lif" for name in ("q", "k", "v", "attn", "proj", "fc1", "fc2")}
    lifs = {name for name, module in spikingformer.named_children() if isinstance(module, LIF)}
    assert lifs == {f"{name}_lif" for name in ("in", "q", "k", "v", "attn", "fc1", "fc2")}
    assert {lif.threshold for lif in (spikformer.attn_lif, spikingformer.attn_lif)} == {0.5}
    # The residual stream: of Spikformer sums of spikes, of Spikingformer real numbers.
    for name, whole in (("spikformer", True), ("spikingformer", False)):
        config = random_config({"backbone": name, "accumulate": "off"}, 4).replace(depth=2, stem="one-step")
        model = random_model(config, 4)
        out: list[Tensor] = []
        model.blocks[1].register_forward_hook(lambda m, args, y, out=out: out.append(y))
        with torch.no_grad():
            model(torch.from_numpy(images_for(config, 2, 4)))
        assert torch.equal(out[0], out[0].round()) == whole
        if whole:
            assert out[0].min() >= 0 and 3 <= out[0].max() <= 6  # 2 + 2 a block


# Skipping -----------------------------------------------------------------------------------------------


def reviving() -> Iterator[tuple[StasModel, np.ndarray]]:
    """Models in which a token sits visits of a block out and comes back, with its membranes still charged."""
    for backbone in BACKBONES:
        for attention in ATTENTIONS:
            config = random_config({"accumulate": "block", "backbone": backbone, "attention": attention}, 11)
            config = config.replace(
                stem="sps", time_steps=4, depth=3, image_size=6, patch_size=2, epsilon=0.3, beta=-0.8
            )
            yield random_model(config, 11), images_for(config, 6, 11)


def test_skipping_is_masking_where_tokens_come_back():
    for model, images in reviving():
        masked, skipped = (trace(model, images, skip=skip) for skip in (False, True))
        v = masked.visits
        gaps = ~v[:, 1:-1] & v[:, :-2] & v[:, 2:]  # live, out for a step, live again
        assert gaps.sum() > 5
        np.testing.assert_array_equal(skipped.visits, masked.visits)
        for name, spikes in masked.spikes.items():
            np.testing.assert_array_equal(skipped.spikes[name], spikes, err_msg=name)
        np.testing.assert_allclose(skipped.logits, masked.logits, rtol=0, atol=1e-12)


def test_the_leak_of_missed_visits_matters(monkeypatch: pytest.MonkeyPatch):
    """Without it the same comparison fails: it is not vacuous."""
    skipping = stas_module._skipping

    def without_leak(block: nn.Module, z: Tensor, live: Tensor, state: stas_module._BlockState) -> Tensor:
        if state.missed is not None:
            state.missed.zero_()
        return skipping(block, z, live, state)

    differ = 0
    for model, images in reviving():
        masked = trace(model, images)
        with monkeypatch.context() as patch:
            patch.setattr(stas_module, "_skipping", without_leak)
            forgetful = trace(model, images, skip=True)
        differ += any((forgetful.spikes[name] != s).any() for name, s in masked.spikes.items())
    assert differ > 0


@pytest.mark.parametrize("accumulate", ACCUMULATIONS)
@pytest.mark.parametrize("readout", READOUTS)
def test_training_mode_runs_and_gives_gradients_to_all(accumulate: str, readout: str):
    config = random_config({"accumulate": accumulate, "readout": readout, "stem": "learned"}, 6)
    model = random_model(config.replace(depth=2), 6).train()
    output = model(torch.from_numpy(images_for(config, 4, 6)))
    (output.logits.square().sum() + output.ponder).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    model.commit_statistics()
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
