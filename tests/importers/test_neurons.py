"""Neurons by class: each is found by name, read to numbers, and computes what the LIF of the graph does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support import foreign_neurons as foreign
from torch import Tensor, nn

import stas_neuro
from stas_neuro.compiler import open_source
from stas_neuro.errors import InputError
from stas_neuro.importers import ImportOptions
from stas_neuro.importers.errors import CannotImport, ImportDiffers
from stas_neuro.importers.neuron import Neuron
from stas_neuro.ir import LIF, Graph

IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 6, 6)) * 3)


class OneLayer(nn.Module):
    """A convolution, a neuron and a head, for neurons that take all steps at once."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.neuron, self.head = nn.Conv2d(2, 4, 3), neuron, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.neuron(self.conv(x).unsqueeze(0).repeat(5, 1, 1, 1, 1))
        return self.head(y.mean((0, 3, 4)))


class OneLayerInALoop(OneLayer):
    """The same, for neurons that take one step."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.stack([self.neuron(self.conv(x)).mean((2, 3)) for _ in range(5)]).mean(0))


def lif_of(neuron: nn.Module, network: type[OneLayer] = OneLayer, **options: Any) -> LIF:
    graph = stas_neuro.open_model(network(neuron).eval().double(), example=IMAGES, **options)
    assert isinstance(graph, Graph)
    (lif,) = graph.of_type(LIF)
    assert lif.name == "neuron"
    return lif


@pytest.mark.parametrize(
    ("neuron", "tau", "threshold", "fire"),
    [
        (foreign.MultiStepLIFNode(tau=2.0, v_threshold=0.75), 2.0, 0.75, ">="),
        (foreign.LIFNode(tau=3.0, step_mode="m"), 3.0, 1.0, ">="),
        (foreign.LIFNode(tau=4 / 3, v_threshold=0.5, decay_input=False, step_mode="m"), 4 / 3, 0.5, ">="),
        (foreign.LIFNode(v_reset=-0.5, step_mode="m"), 2.0, 1.5, ">="),
        (foreign.LIFNode(v_reset=0.25, decay_input=False, step_mode="m"), 2.0, 0.75, ">="),
        (foreign.IFNode(step_mode="m"), math.inf, 1.0, ">="),
        (foreign.ParametricLIFNode(0.0, step_mode="m"), 2.0, 1.0, ">="),
        (foreign.LIFNode(v_threshold=nn.Parameter(torch.tensor(0.5)), step_mode="m"), 2.0, 0.5, ">="),
    ],
)
def test_a_neuron_of_all_steps(neuron: nn.Module, tau: float, threshold: float, fire: str) -> None:
    lif = lif_of(neuron)
    assert (lif.tau, lif.threshold, lif.fire) == pytest.approx((tau, threshold, fire))


@pytest.mark.parametrize(
    ("neuron", "tau", "threshold", "fire"),
    [
        (foreign.LIFNode(tau=3.0, step_mode="s"), 3.0, 1.0, ">="),
        (foreign.Leaky(0.5, threshold=2.0, init_hidden=True), 2.0, 2.0, ">"),
        (foreign.Leaky(0.75, init_hidden=True), 4.0, 1.0, ">"),
        (foreign.Leaky(1.0, init_hidden=True), math.inf, 1.0, ">"),
    ],
)
def test_a_neuron_of_single_steps(neuron: nn.Module, tau: float, threshold: float, fire: str) -> None:
    lif = lif_of(neuron, OneLayerInALoop)
    assert (lif.tau, lif.threshold, lif.fire) == (tau, threshold, fire)


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (foreign.KLIFNode(step_mode="m"), "KLIFNode of spikingjelly is not a supported neuron"),
        (foreign.LIFNode(v_threshold=-1.0, step_mode="m"), "threshold -1 above rest"),
        (
            foreign.LIFNode(v_threshold=nn.Parameter(torch.ones(4)), step_mode="m"),
            "neuron: v_threshold has 4 values",
        ),
        (
            foreign.Leaky(0.5, init_hidden=True, reset_mechanism="subtract"),
            "subtracts the threshold after the leak",
        ),
    ],
)
def test_a_neuron_that_no_graph_has_is_refused_with_the_reason(neuron: nn.Module, reason: str) -> None:
    network = OneLayerInALoop if isinstance(neuron, foreign.Leaky) else OneLayer
    with pytest.raises(CannotImport, match=reason):
        lif_of(neuron, network)


def test_a_class_that_changes_a_known_one_is_not_taken_for_it() -> None:
    class Noisy(foreign.MultiStepLIFNode):
        def step(self, x: Tensor) -> Tensor:
            return super().step(x + 1)

    with pytest.raises(CannotImport, match=r"neuron: .*Noisy is a MultiStepLIFNode with its own step;"):
        lif_of(Noisy())


def test_a_class_that_only_sets_a_known_one_up_is_it() -> None:
    class Usual(foreign.MultiStepLIFNode):
        def __init__(self) -> None:
            super().__init__(tau=4.0)

    assert lif_of(Usual()).tau == 4.0


class Own(nn.Module):
    """A user's neuron."""

    def __init__(self, leak: float) -> None:
        super().__init__()
        self.leak = leak

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = v + (current - v) * self.leak
            spikes.append((v > 0.5).to(x))
            v = v * (v <= 0.5)
        return torch.stack(spikes)


def test_a_class_of_the_users_own_is_what_the_user_says() -> None:
    lif = lif_of(Own(0.25), neurons={Own: lambda own: Neuron(tau=1 / own.leak, threshold=0.5, fire=">")})
    assert (lif.tau, lif.threshold, lif.fire) == (4.0, 0.5, ">")


def test_a_neuron_described_wrongly_is_found_on_the_example() -> None:
    with pytest.raises(ImportDiffers, match=r"neuron: \d+ of 960 spikes differ from those of the module"):
        lif_of(Own(0.25), neurons={Own: Neuron(tau=2.0, threshold=0.5, fire=">")})


def test_a_neuron_that_nobody_describes_is_refused_where_its_code_is() -> None:
    with pytest.raises(CannotImport) as caught:
        lif_of(Own(0.25))
    assert "has no known neuron; name its classes of neurons" in str(caught.value)


def test_importing_leaves_the_module_as_it_was() -> None:
    network = OneLayer(foreign.MultiStepLIFNode()).eval().double()
    before = network(IMAGES)
    network.neuron.reset()
    stas_neuro.open_model(network, example=IMAGES)
    assert "forward" not in vars(network.neuron)
    torch.testing.assert_close(network(IMAGES), before, rtol=0, atol=0)


def test_what_is_given_beside_a_module_is_checked_first() -> None:
    network = OneLayer(foreign.MultiStepLIFNode())
    for options, reason in (
        ({"example": IMAGES}, "the module is in training mode; call its eval"),
        ({}, "no example is given"),
        ({"example": IMAGES[0, 0]}, "the example has 2 axes"),
        ({"example": IMAGES, "axes": "TBCHW"}, r"the example has shape \(3, 2, 6, 6\), axes are TBCHW"),
        ({"example": IMAGES, "axes": "CHWB"}, "axes are 'CHWB'"),
        ({"examples": IMAGES}, "there is no option 'examples'; did you mean example"),
    ):
        with pytest.raises(InputError, match=reason):
            stas_neuro.open_model(network, **options)
        network.eval()


def test_layers_that_never_fire_on_the_example_are_named() -> None:
    network = OneLayer(foreign.MultiStepLIFNode(v_threshold=1e6)).eval()
    opened = open_source(network, ImportOptions(example=IMAGES.float()))
    (note,) = opened.notes
    assert note.startswith("equal to the module in float64 on 3 images: all 960 values of 1 layer of neurons")
    assert note.endswith("; no neuron fires in neuron")
