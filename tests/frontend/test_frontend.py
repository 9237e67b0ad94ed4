"""Lowering of torch models: names, structure, verification, folding, and what it refuses."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.random_models import images_for, random_config, random_model
from torch import nn

from stas_neuro.errors import InputError
from stas_neuro.frontend.torch_model import lower
from stas_neuro.frontend.torch_trace import trace
from stas_neuro.ir import (
    LIF,
    BatchNorm,
    Conv2d,
    Gate,
    HaltAccumulate,
    HaltingScore,
    ImageScore,
    Integrate,
    Linear,
    MaskedColumnSum,
    Phase,
    SpikeMatMul,
    SpikeMaxPool,
    Stage,
)
from stas_neuro.models.config import ACCUMULATIONS, BACKBONES, PRESETS, READOUTS, STEMS, StasConfig, preset
from stas_neuro.models.halting import Halting
from stas_neuro.models.stas import StasModel
from stas_neuro.passes import FoldBatchNorm

MODULES: dict[type, type] = {
    nn.Conv2d: Conv2d,
    nn.Linear: Linear,
    nn.MaxPool2d: SpikeMaxPool,
    nn.BatchNorm2d: BatchNorm,
}
BY_NAME = {"LIF": LIF, "TokenBatchNorm": BatchNorm, "SpikingAttention": SpikeMatMul, "Integrate": Integrate}
WITHOUT_MODULE = "|".join(
    (
        r"input|output|readout|stem\.(add|tokens)",
        r"blocks\.\d+\.(gate|kv|mask|add_attn|add_mlp)",
        r"halting\.\d+(\.score)?",
    )
)
NORM_PARAMETERS = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}


def tiny(**changes: object) -> StasModel:
    return random_model(preset("tiny").replace(**changes), 0)


# What is lowered ----------------------------------------------------------------------------------------


def assert_nodes_are_modules(model: StasModel) -> None:
    """One node a module that computes, of its type and under its path; other nodes have known names."""
    graph = lower(model)
    modules = dict(model.named_modules())
    kinds = {
        name: MODULES.get(type(module)) or BY_NAME.get(type(module).__name__)
        for name, module in modules.items()
    }
    wanted = {name: kind for name, kind in kinds.items() if kind is not None}
    nodes = {node.name: type(node) for node in graph.nodes}
    assert {name: nodes.get(name) for name in wanted} == wanted
    others = nodes.keys() - wanted.keys()
    assert all(re.fullmatch(WITHOUT_MODULE, name) for name in others), others
    tensors = {name.replace("/", ".") for name in graph.tensors}
    renamed = {
        re.sub(
            r"((?:^|[._])bn\d?)\.(\w+)$",
            lambda found: f"{found[1]}.{NORM_PARAMETERS[found[2]]}",
            name,
        )
        for name in model.state_dict()
        if not name.endswith("num_batches_tracked")
    }  # fmt: skip
    assert tensors == renamed


@pytest.mark.parametrize("name", PRESETS)
def test_presets_lower_and_fold(name: str):
    """The small ones as they are; of the large ones all but the width, which would take gigabytes."""
    config = preset(name)
    if config.image_size > 28:
        config = config.replace(dim=8 * config.heads, mlp_ratio=1.0)
    torch.manual_seed(0)
    model = StasModel(config).eval()
    graph = lower(model)  # verified as it is made
    assert graph.stage is Stage.TRACED
    assert (graph.time_steps, graph.blocks, graph.tokens) == (config.time_steps, config.depth, config.tokens)
    assert graph.classes == tuple(map(str, range(config.num_classes)))
    folded = FoldBatchNorm()(graph)
    assert folded.stage is Stage.FOLDED and not folded.of_type(BatchNorm)
    assert_nodes_are_modules(model)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("stem", STEMS)
def test_every_stem(stem: str, backbone: str):
    for event_input in (False, True):
        model = tiny(stem=stem, backbone=backbone, event_input=event_input)
        assert_nodes_are_modules(model)
        graph = lower(model)
        phases = {node.name: node.phase for node in graph.nodes if node.scope == "stem"}
        lifs = [name for name in phases if "lif" in name]
        first, *later = lifs
        once, stems, steps = Phase.ONCE, Phase.STEM, Phase.STEP
        assert phases["stem.tokens"] == (steps if stem == "sps" else once)
        if stem == "one-step":
            assert {phases[name] for name in lifs} == {once}
            assert ("stem.integrate" in phases) == event_input
        elif stem == "sps":
            assert {phases[name] for name in lifs} == {steps}
        elif stem.startswith("late"):
            assert {phases[name] for name in lifs} == {stems}
        else:
            assert phases[first] == stems and {phases[name] for name in later} == {once}
        frames = {"one-step": stems, "sps": steps}.get(stem, stems)
        assert phases["input"] == phases["stem.conv0"] or stem == "one-step"
        assert phases["input"] == (frames if event_input else once)


def test_attention_forms():
    """Q (K^T V) where tokens outnumber the channels of a head; SDSA has neither."""
    for image_size, form in ((8, "Q(K^TV)"), (4, "(QK^T)V")):
        graph = lower(tiny(image_size=image_size))
        assert [(node.form, node.heads, node.scale) for node in graph.of_type(SpikeMatMul)] == [
            (form, 4, 0.125)
        ] * 2
    graph = lower(tiny(attention="sdsa"))
    assert not graph.of_type(SpikeMatMul)
    assert [node.name for node in graph.of_type(MaskedColumnSum)] == ["blocks.0.kv", "blocks.1.kv"]
    assert [node.name for node in graph.of_type(Gate) if node.axis == "channel"] == [
        "blocks.0.mask",
        "blocks.1.mask",
    ]
    assert "alive" not in graph.inputs("blocks.0.mask_lif"), "its neurons belong to the image"
    thresholds = {node.name.split(".")[-1]: node.threshold for node in graph.of_type(LIF)}
    assert thresholds["mask_lif"] == 0.5 and thresholds["q_lif"] == 1.0


@pytest.mark.parametrize("accumulate", ACCUMULATIONS)
@pytest.mark.parametrize("readout", READOUTS)
def test_halting_and_readout(accumulate: str, readout: str):
    config = {"accumulate": accumulate, "readout": readout, "alpha": 0.7, "beta": -2.0, "epsilon": 0.2}
    graph = lower(tiny(**config, margin=0.3, fire=">="))
    accumulators = graph.of_type(HaltAccumulate)
    count = {"off": 0, "time": 1, "image": 1}.get(accumulate, 2)
    of_images = graph.of_type(ImageScore)
    assert len(accumulators) == len(graph.of_type(HaltingScore)) + len(of_images) == count
    assert len(of_images) == (accumulate == "image") and all(node.margin == 0.3 for node in of_images)
    for node in of_images:
        np.testing.assert_array_equal(graph.tensor(node, "weight"), graph.tensor("head", "weight"))
    assert all((node.alpha, node.beta) == (0.7, -2.0) for node in graph.of_type(HaltingScore))
    assert all((node.mode, node.epsilon) == (accumulate, 0.2) for node in accumulators)
    assert {node.fire for node in graph.of_type(LIF)} == {">="}
    gates = {node.name for node in graph.of_type(Gate)}
    first = set() if accumulate in ("block", "rectangular") else {"blocks.0.gate"}
    assert gates == (set() if accumulate == "off" else first | {"blocks.1.gate"})
    assert (graph.readout.mode, graph.readout.blocks) == (readout, 2)
    assert graph.readout.normalise == (accumulate in ("rectangular", "image") and readout == "mean-field")


def test_what_the_graph_takes_from_the_configuration():
    config = preset("tiny").replace(mean=(0.3,), std=(0.4,), num_classes=2, classes=("cat", "dog"))
    model = random_model(config, 0, torch.float32)
    graph = lower(model)
    assert (graph.preprocessing.mean, graph.preprocessing.std) == ((0.3,), (0.4,))
    assert graph.classes == ("cat", "dog")
    assert {tensor.dtype for tensor in graph.tensors.values()} == {np.dtype(np.float32)}
    before = graph.tensors["head/weight"].copy()
    with torch.no_grad():
        model.head.weight.zero_()
    np.testing.assert_array_equal(graph.tensors["head/weight"], before)  # its own copy
    assert lower(tiny()) == lower(tiny())
    other = copy.copy(tiny())
    other.config = other.config.replace(accumulate="block", epsilon=0.3, readout="rate")
    assert lower(other).of_type(HaltAccumulate)[0].mode == "block"


# What is refused ----------------------------------------------------------------------------------------


def hook(model: StasModel) -> None:
    model.blocks[1].register_forward_hook(lambda module, args, output: output * 2)


def foreign(model: StasModel) -> None:
    model.blocks[0].fc1 = nn.Sequential(model.blocks[0].fc1, nn.Dropout(0.1))


def grouped(model: StasModel) -> None:
    model.stem.conv2 = nn.Conv2d(4, 8, 3, padding=1, bias=False, groups=2).double()


def nan_weight(model: StasModel) -> None:
    with torch.no_grad():
        model.blocks[0].q.weight[0, 0] = float("nan")


def missing(model: StasModel) -> None:
    del model.blocks[1].v_lif


def extra(model: StasModel) -> None:
    model.blocks[0].adapter = nn.Linear(16, 16)
    model.blocks[1].adapter = nn.Linear(16, 16)


def dilated(model: StasModel) -> None:
    model.stem.conv1 = nn.Conv2d(2, 4, 3, padding=2, dilation=2, padding_mode="circular", bias=False)


def oblong(model: StasModel) -> None:
    model.stem.conv0 = nn.Conv2d(1, 2, (3, 1), padding=(1, 0), bias=False)


def ceiling(model: StasModel) -> None:
    model.stem.pool3 = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)


def no_affine(model: StasModel) -> None:
    model.stem.bn1 = nn.BatchNorm2d(4, affine=False)


def no_statistics(model: StasModel) -> None:
    model.stem.bn1 = nn.BatchNorm2d(4, track_running_stats=False)


def subclass(model: StasModel) -> None:
    class Loud(nn.Linear):
        pass

    model.head = Loud(16, 10)


def other_forward(model: StasModel) -> None:
    model.blocks[0].fc2.forward = lambda x: x  # type: ignore[method-assign]


def other_halting(model: StasModel) -> None:
    model.make_halting = lambda config, like: Halting(config, like)


def other_stem(model: StasModel) -> None:
    model.stem = nn.Identity()  # type: ignore[assignment]


def fewer_blocks(model: StasModel) -> None:
    model.blocks = model.blocks[:1]


def other_configuration(model: StasModel) -> None:
    model.config = model.config.replace(time_steps=2, stem="max")


REFUSED: dict[Callable[[StasModel], None], tuple[str, ...]] = {
    hook: ("blocks.1: has forward hooks, which may change its values; remove them",),
    foreign: (
        "blocks.0.fc1: Sequential is not a module of a STAS model; replace it",
        "blocks.0.fc1.1: Dropout is not a module of a STAS model; replace it",
    ),
    grouped: ("stem.conv2: groups=2, only 1 can be lowered",),
    nan_weight: ("blocks.0.q.weight: has NaN or infinite values",),
    missing: ("blocks.1.v_lif: is missing; a STAS model has a LIF here",),
    extra: (
        "blocks.0.adapter: Linear is not part of the graph; remove it",
        "blocks.1.adapter: Linear is not part of the graph; remove it",
    ),
    dilated: (
        "stem.conv1: dilation=(2, 2), only (1, 1) can be lowered",
        "stem.conv1: padding_mode='circular', only 'zeros' can be lowered",
    ),
    oblong: (
        "stem.conv0: kernel_size=(3, 1) is not one number for both sides; make it square",
        "stem.conv0: padding=(1, 0) is not one number for both sides",
    ),
    ceiling: ("stem.pool3: ceil_mode and dilation cannot be lowered; use the defaults",),
    no_affine: ("stem.bn1: has no affine weights or no running statistics; enable both",),
    no_statistics: ("stem.bn1: has no affine weights or no running statistics; enable both",),
    subclass: ("head: Loud is not a module of a STAS model; replace it",),
    other_forward: ("blocks.0.fc2: its forward is replaced; restore the original",),
    other_halting: ("model: its halting rule is replaced",),
    other_stem: (
        "stem: Identity is not a module of a STAS model; replace it",
        "stem: is a Identity, not a Stem; replace it",
    ),
    fewer_blocks: ("blocks: 1, not the configuration's 2; build the model again",),
    other_configuration: (
        "stem: built for stem='one-step', not 'max'; build the model again",
        "stem: built for time_steps=4, not 2; build the model again",
    ),
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_each_refusal(spoil: Callable[[StasModel], None]):
    model = tiny()
    lower(model)
    spoil(model)
    with pytest.raises(InputError) as caught:
        lower(model)
    for reason in REFUSED[spoil]:
        assert reason in caught.value.what
    assert caught.value.remedy.startswith("change the model as stated")


def test_every_reason_is_told_at_once():
    model = tiny()
    together = (hook, foreign, grouped, nan_weight, missing, oblong, ceiling, no_affine, other_halting)
    for spoil in together:
        spoil(model)
    with pytest.raises(InputError) as caught:
        lower(model)
    for reason in (reason for spoil in together for reason in REFUSED[spoil]):
        assert reason in caught.value.what


def test_the_models_config_alone_may_change_halting():
    """What `load_model` does: halting options are not what the stem was built for, and need not be."""
    model = tiny()
    changed = copy.copy(model)
    changed.config = model.config.replace(accumulate="off", readout="last-state", epsilon=0.5, alpha=2.0)
    images = images_for(model.config, 2, 0)
    np.testing.assert_array_equal(trace(changed, images).visits, True)
    assert not lower(changed).accumulators and lower(model).accumulators


# What is recorded ---------------------------------------------------------------------------------------


def test_tracing_leaves_the_model_as_it_was():
    model = tiny()
    images = images_for(model.config, 5, 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole = trace(model, images)
    chunks = trace(model, images, chunk=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    np.testing.assert_allclose(chunks.logits, whole.logits, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(chunks.visits, whole.visits)
    assert chunks.activity == whole.activity
    for name, spikes in whole.spikes.items():
        np.testing.assert_array_equal(chunks.spikes[name], spikes)
    assert trace(model, images, record_spikes=False).spikes == {}
    with torch.no_grad():
        plain = model(torch.from_numpy(images)).logits.numpy()
    np.testing.assert_array_equal(plain, whole.logits)


def test_hooks_are_removed_when_a_run_fails():
    model = tiny()
    with pytest.raises(RuntimeError):
        trace(model, np.zeros((2, 3, 8, 8)))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    lower(model)


def test_spikes_have_the_graphs_shapes():
    for number, attention in enumerate(("ssa", "sdsa")):
        choice = {"stem": "mean", "accumulate": "raster", "attention": attention, "event_input": bool(number)}
        config: StasConfig = random_config(choice, number)
        model = random_model(config, number)
        graph = lower(model)
        result = trace(model, images_for(config, 2, 0))
        assert result.spikes.keys() == {node.name for node in graph.of_type(LIF)}
        for node in graph.of_type(LIF):
            steps = 1 if node.phase == Phase.ONCE else config.time_steps
            assert result.spikes[node.name].shape == (2, steps, *graph.types[node.name, "s"].shape), node.name
            assert set(np.unique(result.spikes[node.name])) <= {0, 1}


def test_a_model_of_another_precision_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"model: its weights are bfloat16; convert it with model.float\(\)"):
        lower(random_model(preset("tiny"), 0).bfloat16())


def test_a_model_in_training_is_not_traced() -> None:
    model = random_model(preset("tiny"), 0).train()
    with pytest.raises(InputError, match=r"the model is in training mode; call model.eval\(\)"):
        trace(model, images_for(model.config, 1, 0))
