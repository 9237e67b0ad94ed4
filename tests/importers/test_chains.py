"""Chains of linear operations become one layer: it computes the module, its integers run on Lava."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from support.foreign_neurons import LIFNode, MultiStepLIFNode
from support.imported_runs import imported_on_lava
from torch import Tensor, nn
from torch.nn.functional import pad

import stas_neuro
from stas_neuro.importers.errors import CannotImport
from stas_neuro.importers.windows import Fit, fit_windows, views
from stas_neuro.ir import Conv2d, Graph, Linear, Synaptic
from stas_neuro.passes import FoldBatchNorm, Quantise

STEPS, WIDTH = 2, 6
IMAGES = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (2, 2, 6, 6)) / 255)


def norm(width: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(width)
    made.running_mean.normal_(0, 0.3)
    made.running_var.uniform_(0.2, 0.6)
    nn.init.normal_(made.bias, 0.2, 0.2)
    return made


class PadWithBias(nn.Module):
    """A normalisation, and around its result a border of what it makes of zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = pad(self.norm(x), [1] * 4)
        outside = self.norm.bias.detach() - self.norm.running_mean * self.norm.weight.detach() / torch.sqrt(
            self.norm.running_var + self.norm.eps
        )
        outside = outside.view(1, -1, 1, 1)
        y[:, :, :1, :] = outside
        y[:, :, -1:, :] = outside
        y[:, :, :, :1] = outside
        y[:, :, :, -1:] = outside
        return y


class Network(nn.Module):
    """Spikes (T, B, C, 6, 6), `middle` on them, and a head on the mean of what it returns."""

    def __init__(self, middle: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.head = nn.Conv2d(2, WIDTH, 3, padding=1), nn.Linear(WIDTH, 4)
        self.layers = nn.ModuleDict(
            {
                "conv": nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                "inside": nn.Conv2d(WIDTH, WIDTH, 3),
                "depthwise": nn.Conv2d(WIDTH, WIDTH, 3, groups=WIDTH, bias=False),
                "point": nn.Conv2d(WIDTH, WIDTH, 1, bias=False),
                "expand": nn.Conv2d(WIDTH, 2 * WIDTH, 1),
                "biased": nn.Conv2d(WIDTH, WIDTH, 1),
                "wide": nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1),
                "dilated": nn.Conv2d(WIDTH, WIDTH, 3, padding=2, dilation=2),
                "halve": nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
                "row": nn.Conv2d(WIDTH, WIDTH, (1, 5), padding=(0, 2)),
                "column": nn.Conv2d(WIDTH, WIDTH, (5, 1), padding=(2, 0)),
                "norm": norm(WIDTH),
                "norm2": norm(WIDTH),
                "bordered": PadWithBias(WIDTH),
                "mean": nn.AvgPool2d(2),
                "apart": nn.MaxPool2d(2, stride=1, dilation=2),
                "linear": nn.Linear(WIDTH, WIDTH),
                "linear2": nn.Linear(WIDTH, WIDTH, bias=False),
                "flat": nn.Linear(WIDTH * 36, WIDTH),
                "flat9": nn.Linear(WIDTH * 9, WIDTH),
            }
        )
        self.neurons = nn.ModuleList(MultiStepLIFNode(v_threshold=at) for at in (0.2, 0.02, 0.1))
        self.position = nn.Parameter(torch.randn(WIDTH, 6, 6) / 4)
        self.scale = nn.Parameter(torch.rand(WIDTH, 1, 1) + 0.5)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        y = self.neurons[0](self.first(x).unsqueeze(0).repeat(STEPS, 1, 1, 1, 1))
        y = self.neurons[1](self.middle(self, y))
        return self.head(y.flatten(3).mean((0, 3)))

    def each(self, x: Tensor, *layers: str) -> Tensor:
        """Apply layers to all steps, one after another."""
        y = x.flatten(0, 1)
        for layer in layers:
            y = self.layers[layer](y)
        return y.unflatten(0, x.shape[:2])

    def tokens(self, x: Tensor, *layers: str) -> Tensor:
        y = x.flatten(3).mT
        for layer in layers:
            y = self.layers[layer](y)
        return y.mT.unflatten(3, x.shape[3:])


Middle = Callable[[Network, Tensor], Tensor]


def imported(middle: Middle) -> Graph:
    return imported_on_lava(Network(middle), IMAGES)


CASES: dict[str, tuple[Middle, Sequence[tuple[int, ...]]]] = {
    "convolutions and norm": (lambda net, x: net.each(x, "point", "inside", "norm"), [(6, 6, 3, 3)]),
    "two norms": (lambda net, x: net.each(x, "conv", "norm", "norm2"), [(6, 6, 3, 3)]),
    "norm of spikes": (lambda net, x: net.each(x, "norm"), [(6, 1, 1, 1)]),
    "padded with the bias": (
        lambda net, x: net.each(x, "point", "bordered", "depthwise", "biased", "norm", "norm2"),
        [(6, 6, 3, 3)],
    ),
    "two outputs that see different parts of a kernel": (
        lambda net, x: net.each(x, "conv")[..., ::5, ::5],
        [(6, 6, 3, 3)],
    ),
    "a kernel of which one output sees a part": (
        lambda net, x: nn.functional.conv2d(
            net.each(x, "row").flatten(0, 1), net.layers["point"].weight, stride=(1, 4)
        ).unflatten(0, x.shape[:2]),
        [(6, 6, 1, 5)],
    ),
    "a smaller map": (lambda net, x: net.each(x, "inside", "depthwise", "halve"), None),
    "strides": (lambda net, x: net.each(x, "halve", "biased", "mean"), None),
    "zeros around a bias": (lambda net, x: net.each(x, "biased", "conv"), [(6, 6, 3, 3)]),
    "branches": (
        lambda net, x: net.each(x, "conv", "norm") + net.each(x, "point", "norm2") + net.each(x, "biased"),
        [(6, 6, 3, 3)],
    ),
    "branches that cost less": (
        lambda net, x: net.each(x, "row") + net.each(x, "column"),
        [(6, 6, 1, 5), (6, 6, 5, 1)],
    ),
    "a constant matrix": (
        lambda net, x: (x.flatten(3).mT @ net.layers["linear"].weight.mT).mT.unflatten(3, x.shape[3:]),
        [(6, 6)],
    ),
    "linear layers": (lambda net, x: net.tokens(x, "linear", "linear2"), [(6, 6)]),
    "scaled": (lambda net, x: net.each(x * 0.5, "conv") * net.scale / 2, [(6, 6, 3, 3)]),
    "shifted": (lambda net, x: -net.each(1 - x, "inside") - 0.1, [(6, 6, 3, 3)]),
    "inverse": (lambda net, x: 1 - x, [(6, 1, 1, 1)]),
    "difference": (lambda net, x: net.each(x, "conv") - x, [(6, 6, 3, 3)]),
    "difference of spikes": (
        lambda net, x: x - net.neurons[2](net.each(x, "conv")),
        [(6, 6, 3, 3), (6, 1, 1, 1), (6, 1, 1, 1)],
    ),
    "embedding of currents": (lambda net, x: net.each(x, "conv", "norm") + net.position, [(6, 6, 3, 3)]),
    "embedding of spikes": (lambda net, x: x + net.position, [(6, 1, 1, 1)]),
    "channels joined": (
        lambda net, x: net.each(torch.cat([x, net.neurons[2](net.each(x, "conv"))], 2), "wide"),
        [(6, 6, 3, 3), (6, 6, 3, 3), (6, 6, 3, 3)],
    ),
    "a part of the map": (lambda net, x: net.each(x, "conv")[..., ::2, 1:], None),
    "a larger map": (lambda net, x: net.each(pad(x, [1, 1, 1, 1]), "inside"), [(6, 6, 3, 3)]),
    "a whole map": (
        lambda net, x: net.layers["flat"](x.flatten(2))[..., None, None],
        [(6, 6, 6, 6)],
    ),
    "a whole map, channels last": (
        lambda net, x: net.layers["flat"](x.permute(0, 1, 3, 4, 2).flatten(2))[..., None, None],
        [(6, 6, 6, 6)],
    ),
    "a whole map of averages": (
        lambda net, x: net.layers["flat9"](
            nn.functional.adaptive_avg_pool2d(x.flatten(0, 1), 3).flatten(1)
        ).unflatten(0, x.shape[:2])[..., None, None],
        [(6, 6, 6, 6)],
    ),
    "dilated, then a point": (lambda net, x: net.each(x, "dilated", "point"), [(6, 6, 3, 3)]),
    "dilated": (lambda net, x: net.each(x, "dilated"), [(6, 6, 3, 3)]),
    "dilated pooling": (lambda net, x: net.each(x, "apart", "inside"), [(6, 6, 3, 3)]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_chain_is_one_layer(case: str) -> None:
    middle, shapes = CASES[case]
    graph = imported(middle)
    layers = [node for node in graph.nodes if isinstance(node, Synaptic)][1:-1]
    assert all(isinstance(layer, Conv2d | Linear) for layer in layers)
    if shapes is not None:
        assert sorted(graph.tensor(layer, "weight").shape for layer in layers) == sorted(shapes)
    else:
        assert len(layers) == 1


def test_the_same_in_a_loop_over_time() -> None:
    class Loop(Network):
        def __init__(self) -> None:
            super().__init__(lambda net, x: x)
            self.neurons = nn.ModuleList(LIFNode(v_threshold=0.2, step_mode="s") for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            current, total = self.first(x), 0.0
            for _ in range(STEPS):
                y = self.layers["inside"](self.layers["norm"](self.neurons[0](current)))
                total = total + self.neurons[1](y + 0.1).mean((2, 3))
            return self.head(total / STEPS)

    graph = stas_neuro.open_model(Loop().eval().double(), example=IMAGES)
    assert isinstance(graph, Graph)
    assert len([node for node in graph.nodes if isinstance(node, Synaptic)]) == 3


def test_logits_of_a_chain_are_added_up_in_a_loop_over_time() -> None:
    class Votes(Network):
        def __init__(self) -> None:
            super().__init__(lambda net, x: x)
            self.neurons = nn.ModuleList(LIFNode(v_threshold=0.2, step_mode="s") for _ in range(2))
            self.votes = nn.AvgPool1d(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            current, total = self.first(x), 0.0
            for _ in range(STEPS):
                y = self.neurons[1](self.layers["flat"](self.neurons[0](current).flatten(1)))
                total = total + self.votes(self.layers["linear"](y).unsqueeze(1)).squeeze(1)
            return total / STEPS

    graph = stas_neuro.open_model(Votes().eval().double(), example=IMAGES)
    assert isinstance(graph, Graph)
    layers = [node for node in graph.nodes if isinstance(node, Synaptic)]
    assert graph.tensor(layers[-1], "weight").shape == (3, WIDTH) and len(layers) == 3


@pytest.mark.parametrize("axes", ["BCW", "BTCW"])
def test_sequences_are_maps_of_one_row(axes: str) -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.first, self.norm = nn.Conv1d(3, WIDTH, 3, padding=1), nn.BatchNorm1d(WIDTH)
            self.second = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, dilation=2, groups=2)
            self.pool, self.point = nn.MaxPool1d(2, 1), nn.Conv1d(WIDTH, WIDTH, 1)
            self.neurons = nn.ModuleList(MultiStepLIFNode(v_threshold=0.1) for _ in range(2))
            self.flat = nn.Linear(4 * WIDTH, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(0, 1) if axes == "BTCW" else x.expand(STEPS, *x.shape)
            y = self.norm(self.first(x.flatten(0, 1)))
            y = self.pool(self.neurons[0](y.unflatten(0, x.shape[:2])).flatten(0, 1))
            y = self.neurons[1](self.point(self.second(y)).unflatten(0, x.shape[:2]))
            return self.flat(y.flatten(2)).mean(0)

    steps = (STEPS,) if axes == "BTCW" else ()
    example = torch.rand(2, *steps, 3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = stas_neuro.open_model(Sequence().eval().double(), example=example, axes=axes)
    assert isinstance(graph, Graph) and graph.input.shape == (3, 1, 12)
    (grouped,) = [node for node in graph.of_type(Conv2d) if node.sides.dilation == (1, 2)]
    assert grouped.sides.kernel == (1, 3) and Quantise(bits=8)(FoldBatchNorm()(graph))


def _of_steps(net: Network, x: Tensor) -> Tensor:
    return net.each(x, "conv") + torch.arange(STEPS).reshape(-1, 1, 1, 1, 1) / 2


REFUSALS: dict[str, tuple[Middle, str]] = {
    "padded twice": (
        lambda net, x: net.each(x, "conv", "point", "conv"),
        r"layers.conv \(conv2d\) -> layers.point \(conv2d\) -> layers.conv \(conv2d\).* is no convolution",
    ),
    "a constant of each step": (_of_steps, "adds a constant that differs between steps"),
    "a write of values": (
        lambda net, x: net.each(x, "conv").slice_scatter(x[..., :2], 4, 0, 2),
        "no rule for the operation aten.slice_scatter",
    ),
    "reflected": (
        lambda net, x: net.each(
            pad(x.flatten(0, 1), [1] * 4, mode="reflect").unflatten(0, x.shape[:2]), "inside"
        ),
        "pads by reflect|no rule",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_no_convolution_is_refused(case: str) -> None:
    middle, reason = REFUSALS[case]
    with pytest.raises(CannotImport, match=reason):
        stas_neuro.open_model(Network(middle).eval().double(), example=IMAGES)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_windows_are_found_from_what_outputs_depend_on(size: int, kernel: int, stride: int) -> None:
    for padding in range(kernel):
        count = (size + 2 * padding - kernel) // stride + 1
        if count < 1:
            continue
        taps = np.arange(count)[:, None] * stride - padding + np.arange(kernel)
        depends = np.zeros((count, size), bool)
        for output, inputs in enumerate(taps):
            depends[output, inputs[(inputs >= 0) & (inputs < size)]] = True
        fit, *others = fit_windows(depends)
        assert all(fit < other for other in others)
        assert fit.kernel <= max(kernel, fit.padding + 1, fit.stride)
        assert (size + 2 * fit.padding - fit.kernel) // fit.stride + 1 == count
        for output, inputs in enumerate(depends):
            reached = np.flatnonzero(inputs)
            first = output * fit.stride - fit.padding
            assert not reached.size or (first <= reached[0] and reached[-1] < first + fit.kernel)
        seen = {
            tap
            for places in views(fit, size, count)
            for place in places
            for tap in range(fit.kernel)
            if 0 <= place * fit.stride - fit.padding + tap < size
        }
        starts = np.arange(count)[:, None] * fit.stride - fit.padding + np.arange(fit.kernel)
        assert seen == set(np.flatnonzero(((starts >= 0) & (starts < size)).any(axis=0)))


def test_windows_that_see_everything_or_one_position() -> None:
    assert fit_windows(np.ones((9, 1), dtype=bool)) == [Fit(9, 1, 8)]
    assert fit_windows(np.eye(4, dtype=bool)) == [Fit(1, 1, 0)]
