"""Neurons that get steps and images in one axis, so that they step over images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli_support import fine
from support.foreign_neurons import MultiStepLIFNode
from torch import Tensor, nn

import stas_neuro
from stas_neuro.importers.errors import CannotImport
from stas_neuro.ir import LIF, Graph
from stas_neuro.reference import run_reference

IMAGES = torch.from_numpy(np.random.default_rng(5).normal(size=(3, 2, 6, 6)) * 3)
CODE = """
import sys
sys.path.insert(0, {path!r})
from test_images_as_steps import Network
def make():
    return Network(4, "T B").double()
"""


class Network(nn.Module):
    """Two neurons, the second on (T B, ...), (B T, ...) or (T, B, ...); both on the first with `all`."""

    def __init__(self, steps: int, order: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.steps, self.order = steps, order
        self.conv, self.conv2, self.head = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
        self.first, self.second = MultiStepLIFNode(v_threshold=0.5), MultiStepLIFNode(v_threshold=0.25)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).unsqueeze(0).repeat(self.steps, 1, 1, 1, 1)
        y = self.first(y.flatten(0, 1)) if self.order == "all" else self.first(y).flatten(0, 1)
        y = self.conv2(y).unflatten(0, (self.steps, -1))
        if self.order == "B T":
            y = self.second(y.transpose(0, 1).flatten(0, 1)).unflatten(0, (-1, self.steps)).transpose(0, 1)
        elif self.order == "B":
            y = self.second(y.transpose(0, 1)).transpose(0, 1)
        else:
            y = self.second(y.flatten(0, 1)).unflatten(0, (self.steps, -1))
        return self.head(y.mean((0, 3, 4)))


def _reset(module: Network) -> Network:
    module.first.reset()
    module.second.reset()
    return module


@pytest.mark.parametrize(  # 13 images are what a module is traced with first
    ("steps", "order"), [(1, "T B"), (4, "T B"), (13, "T B"), (4, "B T"), (1, "all"), (4, "all")]
)
def test_the_graph_is_the_module_for_one_image_at_a_time(steps: int, order: str) -> None:
    module = Network(steps, order).double().eval()
    paths = "first, second" if order == "all" else "second"
    with pytest.warns(UserWarning, match=f"^{paths}: the first axis has the images of a batch beside"):
        graph = stas_neuro.open_model(module, example=IMAGES)
    assert isinstance(graph, Graph) and graph.time_steps == steps and len(graph.of_type(LIF)) == 2
    logits = run_reference(graph, IMAGES.numpy(), count=False).logits
    with torch.no_grad():
        alone = torch.cat([_reset(module)(x) for x in IMAGES.split(1)])
        together = _reset(module)(IMAGES)
    np.testing.assert_allclose(logits, alone.numpy(), rtol=0, atol=1e-9)
    assert (together - alone).abs().amax() > 1e-3  # a batch computes something else, as the warning says


def test_images_in_the_place_of_steps_are_refused() -> None:
    with pytest.raises(CannotImport, match=r"second .*the neuron's first axis is \(B=1\d\), not time"):
        stas_neuro.open_model(Network(4, "B").double().eval(), example=IMAGES)


def test_compile_says_which_neurons(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE.format(path=str(Path(__file__).parent)))
    np.savez(tmp_path / "images.npz", example=IMAGES.numpy())
    arguments = ("compile", f"{tmp_path}/net.py:make", "--example", tmp_path / "images.npz")
    lines = fine(*arguments, "-o", tmp_path / "a.stas").out.splitlines()
    assert [line.partition(": the first axis")[0] for line in lines][2] == "warning: second"
    document = json.loads(fine(*arguments, "-o", tmp_path / "b.stas", "--json").out)
    assert len(document["warnings"]) == 1 and document["warnings"][0].startswith("second: ")
