"""Networks of ReLUs become networks of spikes with the same rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import stas_neuro
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.importers.ann import IntegrateAndFire, convert
from stas_neuro.importers.errors import CannotImport
from stas_neuro.ir import LIF, Graph, Phase


class Residual(nn.Module):
    """Functional ReLUs, a ReLU module that is called twice, sums of ReLUs and of a ReLU with a current."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.third = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.skip = nn.Conv2d(4, 4, 1, stride=2)
        self.act = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = x + self.act(self.second(x))
        y = self.act(self.third(x) + self.skip(x))
        return self.head(y.mean((2, 3)))


class Attention(nn.Module):
    """Attention of ReLUs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 2, stride=2), nn.ReLU())
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = (self.split(layer(x).relu()) for layer in (self.q, self.k, self.v))
        y = (q @ (k.transpose(-2, -1) @ v) * 0.25).transpose(1, 2).flatten(2)
        x = x + nn.functional.relu(self.out(nn.functional.relu(y)))
        return self.head(x.mean(1))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, -1)).transpose(1, 2)


def made(cls: Callable[[], nn.Module], seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Give a network with statistics of its own, and images."""
    torch.manual_seed(seed)
    network, images = cls(), torch.rand(24, 1, 6, 6)
    network.train()
    network(images)
    return network.eval(), images


def naive_rates(x: Tensor, threshold: float, steps: int) -> Tensor:
    """Count the spikes for constant inputs as a formula: each started threshold of the sum so far is one."""
    return (x * steps / threshold).floor().clamp(0, steps)


def test_neurons_count_thresholds() -> None:
    x = torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 3.0], dtype=torch.float64)
    spikes = IntegrateAndFire(1.0)(x.expand(8, -1))
    assert torch.equal(spikes.sum(0), naive_rates(x, 1.0, 8))


@pytest.mark.parametrize(
    ("cls", "stem", "mode"),
    [
        (Residual, "", "one-step"),
        (Attention, "", "one-step"),
        (Attention, "stem", "one-step"),
        (Attention, "stem", "late-mean"),
    ],
)
def test_the_graph_computes_the_spikes_of_the_converted_module(
    cls: Callable[[], nn.Module], stem: str, mode: str
) -> None:
    network, images = made(cls)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    spiking = convert(network, images, 4, stem=stem, mode=mode)
    graph = stas_neuro.open_model(spiking, example=images[:3])  # which compares every spike
    assert isinstance(graph, Graph)
    lifs = graph.of_type(LIF)
    assert {(lif.reset, lif.tau, lif.fire) for lif in lifs} == {("subtract", float("inf"), ">=")}
    phases = {lif.name: lif.phase for lif in lifs}
    wanted = {"one-step": Phase.ONCE, "late-mean": Phase.STEM}[mode] if stem else Phase.STEP
    if cls is Attention:
        assert phases.pop("stem.1.neuron") == wanted
    assert set(phases.values()) == {Phase.STEP}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_one_step_is_a_network_of_one_step() -> None:
    network, images = made(Attention)
    graph = stas_neuro.open_model(network, example=images, time_steps=1, stem="stem")
    assert isinstance(graph, Graph) and graph.time_steps == 1
    assert {lif.phase for lif in graph.of_type(LIF)} == {Phase.STEP}


def test_options_of_a_conversion_go_together() -> None:
    network, images = made(Attention)
    with pytest.raises(InputError, match="stem is given without time_steps"):
        stas_neuro.open_model(network, example=images, stem="stem")
    with pytest.raises(InputError, match="stem_mode is 'sum'; use one-step or late-mean"):
        stas_neuro.open_model(network, example=images, time_steps=4, stem="stem", stem_mode="sum")
    with pytest.raises(CannotImport, match="or give time_steps to convert its ReLUs"):
        stas_neuro.open_model(network, example=images)
    with pytest.raises(InputError, match=r"options for a module of ReLUs, and .*neuron is a neuron"):
        stas_neuro.open_model(convert(network, images, 4), example=images, time_steps=4)


def test_rates_approach_the_activations() -> None:
    """Without rounding of inputs the error of the logits falls with the steps."""
    network, images = made(Residual, seed=1)
    network.double()
    errors = []
    with torch.no_grad():
        wanted = network(images.double())
        for steps in (4, 16, 64, 256):
            spiking = convert(network, images.double(), steps, percentile=100)
            errors.append(float((spiking(images.double()) - wanted).abs().mean()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 8 * errors[3]
    assert errors[-1] < 0.01 * float(wanted.abs().mean())


def test_scales_are_in_weights_and_thresholds_alone() -> None:
    """With activations that are multiples of the scale, spikes compute the network exactly."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False)).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([3.0, 6.0]).reshape(2, 1, 1, 1))
        network[2].weight.copy_(torch.tensor([1.0, 10.0]).reshape(1, 2, 1, 1))
    images = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(4, 1, 1, 1)
    spiking = convert(network, images, 8, percentile=100)
    weights = spiking.state_dict()["2.weight"].flatten()
    assert spiking.get_submodule("1.neuron").threshold == 6.0 and weights.tolist() == [6.0, 60.0]
    with torch.no_grad():
        assert torch.equal(spiking(images).flatten(), network(images).flatten())


class Softmax(nn.Module):
    """What rates cannot compute, in three places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.LayerNorm([4, 4, 4]), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.norm(self.conv(x)).relu())
        return self.head(x.mean((2, 3))).softmax(-1)


def test_all_operations_without_a_form_are_named_at_once() -> None:
    network, images = made(Softmax)
    with pytest.raises(CannotImport) as raised:
        convert(network, images, 4)
    assert [(each.where, each.what.split()[0]) for each in raised.value.problems] == [
        ("norm", "LayerNorm"), ("gelu", "gelu"), ("softmax", "softmax"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()), "1: is the output, and has the unit of spikes"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)),
            "is normalised",
        ),
        (nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1), nn.ReLU6()), "ReLU6"),
    ],
)
def test_a_unit_that_cannot_be_chosen_is_refused(network: nn.Module, reason: str) -> None:
    with pytest.raises(CannotImport, match=reason):
        convert(network.eval(), torch.rand(4, 1, 3, 3), 4)


def test_a_stem_without_neurons_is_refused() -> None:
    network, images = made(Attention)
    with pytest.raises(InputError, match="stem: no ReLU is in 'head'; name the first of the modules stem"):
        convert(network, images, 4, stem="head")


def test_a_stem_comes_first() -> None:
    last = nn.Sequential(nn.Conv2d(8, 3, 1), nn.ReLU())
    network, images = made(lambda: nn.Sequential(Attention().stem, last))
    with pytest.raises(InputError, match=r"stem: .* of '1\.1' takes spikes of all steps"):
        convert(network, images, 4, stem="1")


def test_integers_and_lava_compute_the_converted_network() -> None:
    network, images = made(Attention)
    spiking = convert(network, images, 4)
    pixels = np.random.default_rng(0).random((4, 1, 6, 6))
    graph = stas_neuro.open_model(spiking, example=images[:3])
    data = LabelledImages(pixels, np.arange(4) % 3)
    bundle = stas_neuro.compile(graph, calibrate=data, bits=8)
    assert stas_neuro.verify(bundle, data, limit=2).passed
