"""The torch models against what they are meant to be: neurons, normalisation, stems, attention, skipping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import images_for, random_config, random_model
from safetensors.torch import save_file
from torch import Tensor, nn

from stas_neuro.errors import InputError
from stas_neuro.frontend.torch_trace import trace
from stas_neuro.models import stas as stas_module
from stas_neuro.models.block import Block, SpikingAttention, Visit
from stas_neuro.models.checkpoint import load_checkpoint, save_checkpoint
from stas_neuro.models.config import (
    ACCUMULATIONS,
    ATTENTIONS,
    BACKBONES,
    PRESETS,
    READOUTS,
    STEMS,
    StasConfig,
    preset,
)
from stas_neuro.models.lif import LIF, SURROGATE_SLOPE, TokenBatchNorm
from stas_neuro.models.stas import StasModel
from stas_neuro.models.stem import Stem

Shapes = dict[str, tuple[int, ...]]


# Presets ------------------------------------------------------------------------------------------------


def released(backbone: str, depth: int, dim: int, classes: int) -> Shapes:
    """Parameters of the released classes for CIFAR that take part in a forward pass, names made ours.

    Stem: 3x3 convolutions without bias to dim/8, /4, /2, 1 channels and one more of dim (Spikformer's
    relative position, Spikingformer's fifth stage). Blocks: q, k, v (biased in Spikformer only), proj, and a
    hidden layer of 4 dim; a normalisation after each.
    """
    fifth = "rpe" if backbone == "spikformer" else "conv4"
    norm = {"rpe": "rpe_bn", "conv4": "bn4"}
    out: Shapes = {}

    def layer(name: str, norm_name: str, weight: tuple[int, ...], bias: bool) -> None:
        out[f"{name}.weight"] = weight
        if bias:
            out[f"{name}.bias"] = weight[:1]
        for part in ("weight", "bias", "running_mean", "running_var"):
            out[f"{norm_name}.{part}"] = weight[:1]

    channels = (3, dim // 8, dim // 4, dim // 2, dim)
    for i in range(4):
        layer(f"stem.conv{i}", f"stem.bn{i}", (channels[i + 1], channels[i], 3, 3), False)
    layer(f"stem.{fifth}", f"stem.{norm[fifth]}", (dim, dim, 3, 3), False)
    for l in range(depth):
        sizes = {name: (dim, dim) for name in ("q", "k", "v", "proj")}
        sizes |= {"fc1": (4 * dim, dim), "fc2": (dim, 4 * dim)}
        for name, weight in sizes.items():
            biased = backbone == "spikformer" or name not in "qkv"
            layer(f"blocks.{l}.{name}", f"blocks.{l}.{name}_bn", weight, biased)
    return out | {"head.weight": (classes, dim), "head.bias": (classes,)}


@pytest.mark.parametrize(
    ("name", "depth", "dim", "classes"),
    [
        ("spikformer-2-256-cifar10", 2, 256, 10),
        ("spikformer-4-384-cifar10", 4, 384, 10),
        ("spikformer-4-384-cifar100", 4, 384, 100),
        ("spikingformer-4-384-cifar10", 4, 384, 10),
        ("spikingformer-4-384-cifar100", 4, 384, 100),
    ],
)
def test_cifar_presets_have_the_released_layers(name: str, depth: int, dim: int, classes: int):
    with torch.device("meta"):
        model = StasModel(preset(name))
    ours = {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert ours == released(name.split("-")[0], depth, dim, classes)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build(name: str):
    config = preset(name)
    assert StasConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with torch.device("meta"):
        model = StasModel(config)
    # 224 pixels in patches of 16, 32 and 28 in patches of 4.
    assert config.tokens == {224: 196, 32: 64, 28: 49, 8: 16}[config.image_size]
    assert model.head.out_features == config.num_classes


def test_parameters_of_a_released_size():
    """Spikformer-4-384 has 9.3 million parameters."""
    with torch.device("meta"):
        model = StasModel(preset("spikformer-4-384-cifar10"))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(9.32e6, rel=0.01)


# Configuration ------------------------------------------------------------------------------------------


def test_every_reason_is_told_at_once():
    with pytest.raises(InputError) as caught:
        StasConfig(patch_size=3, heads=7, dim=60, epsilon=1.0, mean=(0.5, 0.5), std=(0.0,), classes=("a",))
    for reason in (
        "dim=60 is not a multiple of 8",
        "heads=7 does not divide dim=60",
        "patch_size=3 is not 1, 2, 4, 8 or 16",
        "epsilon=1.0 is outside [0, 1)",
        "mean has 2 values for 1 channels",
        "std=(0.0,) holds a value that is not positive",
        "1 class names for num_classes=10",
    ):
        assert reason in caught.value.what
    with pytest.raises(InputError, match=r"stem='conv' is not one of one-step.*; depth=0 is not a positive"):
        StasConfig(stem="conv", depth=0)
    with pytest.raises(InputError, match="patch_size=8 does not divide image_size=28"):
        StasConfig(patch_size=8)
    with pytest.raises(InputError, match="patch_size=32 is not 1, 2, 4, 8 or 16"):
        StasConfig(patch_size=32, image_size=32)
    with pytest.raises(InputError, match=r"no preset named 'huge'; choose one of tiny"):
        preset("huge")


NUMBERS = (None, True, -1, 0, 3, 0.5, -0.0, 10**400, 1e300, float("inf"), float("nan"))
ODD = (*NUMBERS, "", "max", {}, {"a": 1}, [], *([number] for number in NUMBERS), ["a"], [[1]], ["a"] * 10)


@pytest.mark.parametrize("key", StasConfig().to_json())
def test_any_json_is_a_configuration_or_one_error(key: str):
    for value in ODD:
        try:
            config = StasConfig.from_json({key: value}, "config.json")
        except InputError as error:
            assert error.what.startswith("config.json: "), value
        else:
            reals = [config.alpha, config.beta, config.epsilon, config.mlp_ratio, *config.mean, *config.std]
            assert np.isfinite(reals).all(), value
            assert all(isinstance(name, str) for name in config.classes), value
            assert StasConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_mistyped_key_is_told():
    with pytest.raises(InputError, match=r"^c: unknown key 'dept'; did you mean 'depth'\?$"):
        StasConfig.from_json({"dept": 1}, "c")


# LIF ----------------------------------------------------------------------------------------------------


def literal_lif(x: np.ndarray, threshold: float, fire: str) -> np.ndarray:
    """Spikes of one neuron, step by step."""
    v = x.dtype.type(0)
    spikes = np.zeros_like(x)
    for t, current in enumerate(x):
        v = v + (current - v) / 2
        if v > threshold or (fire == ">=" and v == threshold):
            spikes[t] = 1
            v = x.dtype.type(0)
    return spikes


@settings(max_examples=200)
@given(
    st.lists(st.integers(-24, 40), min_size=1, max_size=8),
    st.sampled_from([0.5, 1.0, 0.75, 1.25]),
    st.sampled_from([">", ">="]),
    st.sampled_from([np.float32, np.float64]),
)
def test_lif_is_the_literal_loop(eighths: list[int], threshold: float, fire: str, dtype: type[np.floating]):
    """Inputs are eighths, so that membranes meet thresholds exactly."""
    x = np.array(eighths, dtype) / dtype(8)
    spikes, _ = LIF(threshold, fire)(torch.from_numpy(x))
    assert spikes.dtype == torch.from_numpy(x).dtype
    np.testing.assert_array_equal(spikes.numpy(), literal_lif(x, threshold, fire))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.5, 1.0, 0.75])
def test_what_fires_at_the_threshold_and_beside_it(dtype: torch.dtype, threshold: float):
    at = torch.tensor(threshold, dtype=dtype)
    below, above = (torch.nextafter(at, torch.tensor(end, dtype=dtype)) for end in (0.0, 2.0))
    x = 2 * torch.stack([below, at, above]).unsqueeze(0)  # a first step from rest halves it, exactly
    assert LIF(threshold, ">")(x)[0][0].tolist() == [0, 0, 1]
    assert LIF(threshold, ">=")(x)[0][0].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("x", "code"),
    [(3.0, "1111"), (2.01, "1111"), (1.99, "0101"), (1.34, "0101"), (1.33, "0010"), (1.15, "0010"),
     (1.14, "0001"), (1.07, "0001"), (1.06, "0000"), (0.0, "0000"), (-1.0, "0000")],
)  # fmt: skip
def test_constant_inputs_give_rate_and_latency_codes(x: float, code: str):
    """x >= 2 fires at each of 4 steps, from 4/3 at every second, from 8/7 at the third, from 16/15 last."""
    for fire in (">", ">="):
        spikes, _ = LIF(1.0, fire)(torch.full((4, 1), x))
        assert "".join(str(int(s)) for s in spikes[:, 0]) == code
    assert LIF(1.0, ">=")(torch.full((4, 1), 2.0))[0].sum() == 4
    assert LIF(1.0, ">")(torch.full((4, 1), 2.0))[0].sum() == 2


def test_membrane_is_carried():
    x = torch.randn(6, 5, dtype=torch.float64) * 2
    lif = LIF(1.0, ">")
    whole, end = lif(x)
    first, v = lif(x[:2])
    second, v = lif(x[2:], v)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(v, end)


def test_the_gradient_does_not_flow_through_the_reset():
    """Against the chain rule written out: dv/dx = 1/2 along the membrane, cut where a spike reset it."""
    x = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    x.requires_grad_()
    spikes, _ = LIF(1.0, ">")(x.unsqueeze(1))
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    (spikes[:, 0] * weights).sum().backward()
    assert 0 < spikes.sum() < 6
    expected = np.zeros(6)
    v, dv = 0.0, np.zeros(6)  # dv: derivative of the membrane to each input
    for t, current in enumerate(x.detach().numpy()):
        v, dv = v / 2 + current / 2, dv / 2
        dv[t] += 0.5
        expected += float(weights[t]) * (1 - np.tanh(SURROGATE_SLOPE * (v - 1)) ** 2) * dv
        if v > 1:
            v, dv = 0.0, np.zeros(6)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-12)


# Normalisation over live tokens -------------------------------------------------------------------------


def trained_norm(x: Tensor, live: Tensor) -> TokenBatchNorm:
    norm = TokenBatchNorm(x.shape[-1]).double().train()
    norm(x, live)
    norm(2 * x, live)
    norm.commit()
    return norm


def test_dead_tokens_do_not_move_the_statistics():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    live = (torch.rand(3, 5) < 0.6).double()
    assert 0 < live.sum() < 15
    disturbed = torch.where(live.bool().unsqueeze(-1), x, 1e3 * torch.randn_like(x))
    one, other = trained_norm(x, live), trained_norm(disturbed, live)
    assert torch.equal(one.running_mean, other.running_mean)
    assert torch.equal(one.running_var, other.running_var)
    # Their own values, over both visits, by numpy.
    rows = x[live.bool()].numpy()
    rows = np.concatenate([rows, 2 * rows])
    np.testing.assert_allclose(one.running_mean, 0.1 * rows.mean(0))
    np.testing.assert_allclose(one.running_var, 0.9 + 0.1 * rows.var(0))


def test_normalisation_silences_dead_tokens_and_uses_running_statistics():
    norm = TokenBatchNorm(2).double().train()
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, -1.0]))
        norm.running_mean.copy_(torch.tensor([0.5, 0.0]))
    x = torch.ones(1, 2, 2, dtype=torch.float64)
    y = norm(x, torch.tensor([[1.0, 0.0]]).double())
    assert y[0, 1].tolist() == [0, 0]
    np.testing.assert_allclose(y[0, 0].detach(), [0.5 / np.sqrt(1 + 1e-5) + 1, 1 / np.sqrt(1 + 1e-5) - 1])
    before = norm.running_mean.clone()
    norm.eval()(x, torch.ones(1, 2).double())
    norm.commit()  # what training gathered; evaluation gathers nothing
    assert not torch.equal(norm.running_mean, before)
    before = norm.running_mean.clone()
    norm.commit()
    assert torch.equal(norm.running_mean, before)


def test_normalisation_without_halting_is_torchs():
    x = torch.randn(3, 5, 4)
    ours, theirs = TokenBatchNorm(4).train(), nn.BatchNorm1d(4).train()
    torch.testing.assert_close(ours(x), theirs(x.flatten(0, 1)).unflatten(0, (3, 5)))
    assert torch.equal(ours.running_var, theirs.running_var)
    no_live = trained_norm(x.double(), torch.zeros(3, 5).double())
    assert torch.isfinite(no_live.running_mean).all()


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


# Checkpoints --------------------------------------------------------------------------------------------


def test_checkpoint_round_trip(tmp_path: Path):
    config = random_config({"stem": "learned"}, 8).replace(
        num_classes=2, classes=("a", "b"), in_channels=1, mean=(0.1,), std=(0.3,)
    )
    model = random_model(config, 8).float()
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == config and not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def spoil_missing(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def spoil_truncated(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def spoil_nan(directory: Path) -> None:
    spoil_tensor(directory, torch.full((10, 8), float("nan")))


def spoil_shape(directory: Path) -> None:
    spoil_tensor(directory, torch.zeros(10, 9))


def spoil_tensor(directory: Path, value: Tensor) -> None:
    tensors = load_checkpoint(directory).state_dict()
    tensors["head.weight"] = value
    tensors["extra"] = tensors.pop("head.bias")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors"
    )


def spoil_config(directory: Path) -> None:
    (directory / "config.json").write_text("{")


def spoil_config_type(directory: Path) -> None:
    (directory / "config.json").write_text("[1]")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing, r"model\.safetensors not found; give a checkpoint directory"),
        (spoil_truncated, r"model\.safetensors: damaged or truncated"),
        (spoil_nan, r"extra is unknown; head\.bias is missing; head\.weight holds NaN"),
        (spoil_shape, r"head\.weight has shape \(10, 9\), not \(10, 8\)"),
        (spoil_config, r"config\.json: not JSON"),
        (spoil_config_type, r"config\.json: holds a list"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, spoil, message: str):
    torch.manual_seed(0)
    save_checkpoint(StasModel(StasConfig(dim=8, heads=1, depth=1, image_size=4)), tmp_path)
    load_checkpoint(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path)


def test_no_checkpoint(tmp_path: Path):
    with pytest.raises(InputError, match=r"config\.json not found; give a checkpoint directory"):
        load_checkpoint(tmp_path / "nothing")
