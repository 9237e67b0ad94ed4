"""Files of weights for a module of the user: what is found in them, and all that does not fit."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.foreign_neurons import MultiStepLIFNode
from torch import Tensor, nn

import stas_neuro
from stas_neuro.compiler.opened import open_source
from stas_neuro.errors import InputError
from stas_neuro.importers import ImportOptions
from stas_neuro.importers.module_weights import load_weights
from stas_neuro.ir import Graph

State = dict[str, Tensor]
IMAGES = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 4


class Network(nn.Module):
    """A part named as DataParallel names its own, and a normalisation that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"module": nn.Conv2d(1, 4, 3)})
        self.norm, self.unused, self.lif = nn.BatchNorm2d(4), nn.LayerNorm(4), MultiStepLIFNode()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv["module"](x))
        return self.head(self.lif(y.unsqueeze(0).repeat(2, 1, 1, 1, 1)).mean((0, 3, 4)))


def network() -> Network:
    return Network().eval()


def state(seed: int = 1) -> State:
    torch.manual_seed(seed)
    return network().state_dict()


def _named(change: Callable[[str], str]) -> Callable[[State], Any]:
    return lambda weights: {change(name): value for name, value in weights.items()}


def _timm(weights: State) -> Any:
    args = argparse.Namespace(lr=0.1, model="spikformer")
    return {"state_dict": weights, "state_dict_ema": state(2), "args": args, "optimizer": {"state": {}}}


WRAPPINGS: Mapping[str, tuple[Callable[[State], Any], str, tuple[str, ...]]] = {
    "plain": (dict, "", ()),
    "DataParallel": (_named(lambda name: f"module.{name}"), "", ("module.",)),
    "compiled": (_named(lambda name: f"_orig_mod.{name}"), "", ("_orig_mod.",)),
    "part of a larger network": (_named(lambda name: f"encoder.net.{name}"), "", ("encoder.net.",)),
    "other containers": (_named(lambda name: name.replace("module.", "")), "", ()),
    "timm": (_timm, "state_dict", ()),
    "without counters": (
        lambda weights: {"net": {name: it for name, it in weights.items() if "batches" not in name}},
        "net",
        (),
    ),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings(wrapping: str, legacy: bool, tmp_path: Path) -> None:
    wrap, entry, removed = WRAPPINGS[wrapping]
    torch.save(wrap(state()), tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    module = network()
    report = load_weights(module, tmp_path / "w.pth", False)
    assert (report.entry, report.removed) == (entry, removed)
    for name, value in state().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_the_report_is_in_the_notes_with_what_the_network_does_not_use(tmp_path: Path) -> None:
    torch.save(_timm(state()), tmp_path / "w.pth")
    options = ImportOptions(example=IMAGES, weights=tmp_path / "w.pth")
    assert open_source(network(), options).notes[1:] == (
        "weights: took state_dict (torch), not the moving average (EMA) state_dict_ema: --ema takes it",
        "weights: not read: state_dict_ema, args, optimizer",
        "weights: not used: unused.weight, unused.bias, *.num_batches_tracked",
    )


def test_the_moving_average_is_taken_if_asked_for(tmp_path: Path) -> None:
    torch.save(_timm(state()), tmp_path / "w.pth")
    graph = stas_neuro.open_model(network(), example=IMAGES, weights=tmp_path / "w.pth", ema=True)
    assert isinstance(graph, Graph)
    np.testing.assert_array_equal(graph.tensor("head", "weight"), state(2)["head.weight"])
    torch.save(state(), tmp_path / "alone.pth")
    with pytest.raises(InputError, match=r"no moving average .*; leave ema out"):
        load_weights(network(), tmp_path / "alone.pth", True)
    with pytest.raises(InputError, match="ema is given, and no weights"):
        stas_neuro.open_model(network(), example=IMAGES, ema=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_no_value_is_narrowed(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = {name: it.to(dtype) if it.is_floating_point() else it for name, it in state().items()}
    weights["head.bias"] = (torch.ones(3, dtype=torch.float64) / 3).to(dtype)
    save_file(weights, tmp_path / "w.safetensors")
    graph = stas_neuro.open_model(network(), example=IMAGES, weights=tmp_path / "w.safetensors")
    assert isinstance(graph, Graph)
    np.testing.assert_array_equal(graph.tensor("head", "bias"), weights["head.bias"].double().numpy())


def test_all_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    weights: dict[str, Any] = state()
    del weights["head.bias"], weights["norm.running_var"]
    weights |= {"head.weight": torch.ones(5, 4), "norm.bias": torch.ones(4, dtype=torch.int64)}
    torch.save(weights | {"pos_embed": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(
        InputError, match="the module: 2 missing, 1 surplus, 2 of another shape or dtype"
    ) as caught:
        load_weights(network(), tmp_path / "w.pth", False)
    assert caught.value.lines == (
        "missing: norm.running_var",
        "missing: head.bias",
        "surplus: pos_embed",
        "unlike: norm.bias is int64, not float64 or float32 or float16 or bfloat16",
        "unlike: head.weight has shape (5, 4), not (3, 4)",
    )


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    torch.save(state() | {"head.bias": torch.full((3,), torch.nan)}, tmp_path / "w.pth")
    with pytest.raises(
        InputError, match=r"1 with such values \(values: head.bias has NaN or infinite values\)"
    ):
        load_weights(network(), tmp_path / "w.pth", False)
