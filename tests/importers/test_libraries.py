"""Neurons and layers of the libraries themselves, where these are installed (`uv sync --group zoo`)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stas_neuro
from stas_neuro.ir import LIF, Graph

IMAGES = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 3


def imported(module: nn.Module, **options: Any) -> Graph:
    """Import a module: that this succeeds means that all spikes and logits are equal."""
    graph = stas_neuro.open_model(module.eval(), **{"example": IMAGES, **options})
    assert isinstance(graph, Graph)
    assert graph.time_steps == 4 and len(graph.of_type(LIF)) == 2
    return graph


class OfNorse(nn.Module):
    def __init__(self, lifted: bool) -> None:
        super().__init__()
        import norse.torch as norse

        torch.manual_seed(0)
        cells = [
            norse.LIFBoxCell(p=norse.LIFBoxParameters(tau_mem_inv=torch.tensor(rate)))
            for rate in (500.0, 250.0)
        ]
        layers = nn.Conv2d(2, 8, 3), cells[0], nn.Conv2d(8, 8, 3), cells[1]
        self.layers = norse.SequentialState(*layers)
        if lifted:
            self.layers = norse.Lift(self.layers)
        self.head, self.lifted = nn.Linear(8, 5), lifted

    def forward(self, x: Tensor) -> Tensor:
        if self.lifted:
            spikes, _ = self.layers(x)
            return self.head(spikes.mean((0, 3, 4)))
        total, state = 0, None
        for _ in range(4):
            spikes, state = self.layers(x, state)
            total = total + self.head(spikes.mean((2, 3)))
        return total / 4


def test_norse_in_a_loop() -> None:
    first, second = imported(OfNorse(lifted=False)).of_type(LIF)
    assert (first.tau, second.tau, first.fire) == (pytest.approx(2.0), pytest.approx(4.0), ">")


def test_norse_lifted_over_frames() -> None:
    imported(OfNorse(lifted=True), example=IMAGES.expand(4, -1, -1, -1, -1), axes="TBCHW")


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("reset_delay", [False, True])
def test_snntorch(hidden: bool, reset_delay: bool) -> None:
    snntorch = pytest.importorskip("snntorch")

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            settings = {"init_hidden": hidden, "reset_mechanism": "zero", "reset_delay": reset_delay}
            self.conv, self.first = nn.Conv2d(2, 8, 3), snntorch.Leaky(0.875, **settings)
            self.conv2, self.second = nn.Conv2d(8, 8, 3), snntorch.Leaky(0.5, threshold=0.5, **settings)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            outputs = []
            first, second = (None, None) if hidden else (self.first.init_leaky(), self.second.init_leaky())
            for _ in range(4):
                if hidden:
                    spikes = self.second(self.conv2(self.first(self.conv(x))))
                else:
                    spikes, first = self.first(self.conv(x), first)
                    spikes, second = self.second(self.conv2(spikes), second)
                outputs.append(self.head(spikes.mean((2, 3))))
            return torch.stack(outputs).mean(0)

    first, second = imported(Network()).of_type(LIF)
    assert (first.tau, first.threshold, first.fire, first.decay_input) == (8.0, 1.0, ">", False)
    assert (second.tau, second.threshold) == (2.0, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tau": 4 / 3, "decay_input": False, "v_threshold": 0.5},
        {"tau": 3.0, "v_reset": -0.25},
        {"init_tau": 2.5, "parametric": True},
    ],
)
def test_spikingjelly(mode: str, settings: dict[str, Any]) -> None:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    made = dict(settings)
    node = neuron.ParametricLIFNode if made.pop("parametric", False) else neuron.LIFNode

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                layer.Conv2d(2, 8, 3, step_mode=mode),
                layer.BatchNorm2d(8, step_mode=mode),
                node(step_mode=mode, **made),
                layer.MaxPool2d(2, 2, step_mode=mode),
                layer.Conv2d(8, 8, 3, step_mode=mode),
                node(step_mode=mode, **made),
            )
            self.head = layer.Linear(8, 5, step_mode=mode)

        def forward(self, x: Tensor) -> Tensor:
            functional.reset_net(self)
            if mode == "m":
                return self.head(self.layers(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean((3, 4))).mean(0)
            return sum(self.head(self.layers(x).flatten(2).mean(-1)) for _ in range(4)) / 4

    imported(Network())
