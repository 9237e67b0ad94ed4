"""The frontend reads models as they are, and refuses with every reason what it would lose or change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from stas_neuro.errors import InputError
from stas_neuro.frontend.torch_model import lower
from stas_neuro.ir import LIF, Conv2d, Graph, Linear, SpikeMatMul, Stage
from stas_neuro.models.config import PRESETS, StasConfig
from stas_neuro.models.halting import Halting
from stas_neuro.models.stas import StasModel
from stas_neuro.passes import FoldBatchNorm

TINY = PRESETS["tiny"]
SMALL_ENOUGH = [name for name, config in PRESETS.items() if config.image_size <= 32]


@pytest.mark.parametrize("name", SMALL_ENOUGH)
def test_presets_lower_and_fold(name: str):
    graph = lower(StasModel(PRESETS[name]).eval())
    assert graph.stage == Stage.TRACED and graph.blocks == PRESETS[name].depth
    assert graph.tokens == PRESETS[name].tokens
    assert FoldBatchNorm()(graph).stage == Stage.FOLDED


def test_names_are_module_paths():
    model = StasModel(TINY)
    graph = lower(model)
    modules = dict(model.named_modules())
    computing = [node for node in graph.nodes if isinstance(node, LIF | Conv2d | Linear | SpikeMatMul)]
    assert computing and all(node.name in modules for node in computing)
    leaves = {name for name, module in modules.items() if not list(module.children())}
    assert leaves <= {node.name for node in graph.nodes}


def test_weights_and_geometry_are_the_modules():
    model = StasModel(TINY.replace(stem="learned", fire=">="))
    model.blocks[0].q_lif.threshold = 0.75
    with torch.no_grad():
        model.stem.integrate.weights.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    graph = lower(model)
    for name, parameter in model.named_parameters():
        node, param = name.rsplit(".", 1)
        renamed = {"weight": "gamma", "bias": "beta"}.get(param) if "bn" in node.split(".")[-1] else param
        assert torch.equal(torch.from_numpy(graph.tensor(node, renamed or param).copy()), parameter.detach())
    lif = graph.node("blocks.0.q_lif")
    assert isinstance(lif, LIF) and lif.threshold == 0.75 and lif.fire == ">="


def test_weights_are_a_snapshot_of_the_model():
    model = StasModel(TINY)
    graph = lower(model)
    before = graph.tensor("head", "weight").copy()
    with torch.no_grad():
        model.head.weight.add_(1.0)
    assert (graph.tensor("head", "weight") == before).all()


def _foreign(model: StasModel) -> None:
    model.blocks[0].dropout = nn.Dropout(0.1)


def _replaced(model: StasModel) -> None:
    model.blocks[1].q = nn.Sequential(model.blocks[1].q, nn.GELU())


def _hooked(model: StasModel) -> None:
    model.blocks[0].fc1.register_forward_hook(lambda module, args, out: out + 1.0)


def _grouped(model: StasModel) -> None:
    conv = model.stem.conv1
    model.stem.conv1 = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, groups=2, bias=False)


def _dilated(model: StasModel) -> None:
    model.stem.rpe = nn.Conv2d(TINY.dim, TINY.dim, 3, padding=2, dilation=2, bias=False)


def _oblong(model: StasModel) -> None:
    model.stem.rpe = nn.Conv2d(TINY.dim, TINY.dim, (3, 1), padding=(1, 0), bias=False)


def _not_finite(model: StasModel) -> None:
    with torch.no_grad():
        model.blocks[0].v.weight[0, 0] = float("nan")


def _missing(model: StasModel) -> None:
    del model.blocks[1].proj_lif


def _extra(model: StasModel) -> None:
    model.positions = nn.Linear(TINY.dim, TINY.dim)


def _other_block(model: StasModel) -> None:
    model.blocks[1] = nn.Identity()


def _halting_rule(model: StasModel) -> None:
    model.make_halting = lambda config, like: Halting(config, like)


REFUSED: list[tuple[Callable[[StasModel], None], str]] = [
    (_foreign, "blocks.0.dropout: Dropout is no module of a STAS model"),
    (_replaced, "blocks.1.q: is a Sequential, not a Linear"),
    (_hooked, "blocks.0.fc1: has forward hooks"),
    (_grouped, "stem.conv1: groups=2"),
    (_dilated, "stem.rpe: dilation="),
    (_oblong, "stem.rpe: kernel_size="),
    (_not_finite, "blocks.0.v.weight: holds NaN"),
    (_missing, "blocks.1.proj_lif: is missing"),
    (_extra, "positions: Linear has no place in the graph"),
    (_other_block, "blocks.1: is a Identity, not a Block"),
    (_halting_rule, "its halting rule is replaced"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_would_be_lost_is_refused(change: Callable[[StasModel], None], reason: str):
    model = StasModel(TINY)
    change(model)
    with pytest.raises(InputError) as caught:
        lower(model)
    assert reason in caught.value.what and "\n" not in str(caught.value)


def test_every_reason_is_told_at_once():
    model = StasModel(TINY)
    told = [(change, reason) for change, reason in REFUSED if change not in (_oblong, _extra, _other_block)]
    for change, _ in told:
        change(model)
    with pytest.raises(InputError) as caught:
        lower(model)
    assert [reason for _, reason in told if reason not in caught.value.what] == []


def test_a_subclass_with_another_forward_is_refused():
    class Louder(StasModel):
        def forward(self, images: torch.Tensor, *, skip: bool = False):  # type: ignore[no-untyped-def]
            return super().forward(2 * images, skip=skip)

    with pytest.raises(InputError, match="Louder is no module of a STAS model"):
        lower(Louder(TINY))


@pytest.mark.parametrize(("tokens_above_width", "form"), [(True, "Q(K^TV)"), (False, "(QK^T)V")])
def test_attention_takes_the_cheaper_order(tokens_above_width: bool, form: str):
    config: StasConfig = TINY.replace(
        heads=2 if tokens_above_width else 1, dim=16 if tokens_above_width else 32
    )
    graph: Graph = lower(StasModel(config))
    assert {node.form for node in graph.of_type(SpikeMatMul)} == {form}
