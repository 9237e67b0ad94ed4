"""Operations beside those of a plain transformer: the graph computes the module, its integers run on Lava."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.foreign_neurons import IFNode, LIFNode, MultiStepLIFNode
from support.imported_runs import imported_on_lava
from torch import Tensor, nn

import stas_neuro
from stas_neuro.ir import (
    LIF,
    Conv2d,
    Gate,
    Graph,
    HeadSum,
    Linear,
    Map,
    MaskedColumnSum,
    MaxPool,
    Node,
    Phase,
    Readout,
    Slice,
    SpikeAnd,
    SpikeMatMul,
    TokenMean,
)

STEPS, WIDTH = 3, 8
IMAGES = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (2, 2, 6, 6)) / 255)


class Block(nn.Module):
    """QK attention, a convolution with normalisation, and a linear layer: (T, B, C, H, W) to (T, B, N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.neurons = nn.ModuleList(MultiStepLIFNode(v_threshold=0.2) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.neurons[0](x.sum(2, keepdim=True) * 1)
        y = self.neurons[1](self.norm(self.conv(y.flatten(0, 1))).unflatten(0, x.shape[:2]))
        return self.neurons[2](self.linear(y.flatten(3).mT))


class Network(nn.Module):
    """Spikes (T, B, C, 6, 6), `middle` on them, and a head."""

    def __init__(self, middle: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.head = nn.Conv2d(2, WIDTH, 3, padding=1), nn.Linear(WIDTH, 4)
        self.layers = nn.ModuleDict(
            {
                "conv": nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                "depthwise": nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH),
                "groups": nn.Conv1d(WIDTH, WIDTH, 1, groups=2),
                "oblong": nn.Conv2d(WIDTH, WIDTH, (1, 3), stride=(1, 2), padding=(0, 1)),
                "halve": nn.Conv2d(WIDTH, WIDTH, 2, stride=2),
                "pool": nn.MaxPool2d(3, 2, 1),
                "mean": nn.AvgPool2d(2),
                "linear": nn.Linear(WIDTH, WIDTH),
                "qkv": nn.Linear(WIDTH, 3 * WIDTH),
                "fused": nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1),
                "norm": nn.BatchNorm1d(3 * WIDTH),
            }
        )
        self.layers["norm"].running_var.uniform_(0.1, 0.5)
        self.neurons = nn.ModuleList(MultiStepLIFNode(v_threshold=0.2) for _ in range(6))
        self.without_leak = IFNode(v_threshold=0.5, step_mode="m")
        self.undivided = LIFNode(tau=3.0, v_threshold=0.5, decay_input=False, step_mode="m")
        self.middle, self.blocks = middle, nn.ModuleList([Block()])

    def forward(self, x: Tensor) -> Tensor:
        y = self.neurons[0](self.first(x).unsqueeze(0).repeat(STEPS, 1, 1, 1, 1))
        return self.middle(self, y)

    def each(self, layer: str, x: Tensor) -> Tensor:
        """Apply a layer to all steps."""
        return self.layers[layer](x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def fire(self, neuron: int, x: Tensor) -> Tensor:
        return self.neurons[neuron](x)

    def tokens(self, neuron: int, x: Tensor) -> Tensor:
        """Spikes (T, B, N, C) of a linear layer."""
        return self.fire(neuron, self.layers["linear"](x.flatten(3).mT))

    def read(self, x: Tensor) -> Tensor:
        """Logits of maps."""
        return self.head(x.flatten(3).mean((0, 3)))


def imported(middle: Callable[[Network, Tensor], Tensor]) -> Graph:
    return imported_on_lava(Network(middle), IMAGES)


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, -1)).transpose(2, 3)


def _attend(net: Network, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    y = (_heads(q) @ _heads(k).mT @ _heads(v)).transpose(2, 3).flatten(3)
    return net.head(net.fire(4, y).mean((0, 2)))


def _qkv(net: Network, x: Tensor) -> Tensor:
    """Currents (T, B, N, 3 C) of one layer."""
    y = net.layers["qkv"](x.flatten(3).mT)
    return net.layers["norm"](y.flatten(0, 1).mT).mT.unflatten(0, x.shape[:2])


def _fused(net: Network, x: Tensor) -> Tensor:
    q, k, v = (net.fire(1 + index, part) for index, part in enumerate(_qkv(net, x).chunk(3, -1)))
    return _attend(net, q, k, v)


def _fused_before_neurons(net: Network, x: Tensor) -> Tensor:
    q, k, v = net.fire(1, _qkv(net, x)).unflatten(-1, (3, -1)).unbind(3)
    return _attend(net, q, k, v)


def _fused_convolution(net: Network, x: Tensor) -> Tensor:
    y = net.fire(1, net.each("fused", x))
    return net.read(y[:, :, :WIDTH] * y.narrow(2, WIDTH, WIDTH))


def _sliced(net: Network, x: Tensor) -> Tensor:
    y = net.fire(1, net.each("fused", x))
    return net.read(net.fire(2, net.each("conv", y[:, :, 4:12])) + y.split([WIDTH, WIDTH], 2)[1])


def _token_attention(net: Network, x: Tensor) -> Tensor:
    return net.read(_masked(net, x).flatten(3))


def _masked(net: Network, x: Tensor) -> Tensor:
    """Map of spikes behind QK attention with two heads."""
    q, k = (net.tokens(index, x).mT.unflatten(2, (2, -1)) for index in (1, 2))
    mask = net.fire(3, q.sum(3, keepdim=True))
    return (mask * k).flatten(2, 3).unflatten(3, x.shape[3:])


def _token_attention_with_one_head(net: Network, x: Tensor) -> Tensor:
    q, k = net.tokens(1, x), net.tokens(2, x)
    return net.head((k * net.fire(3, q.sum(-1, keepdim=True))).mean((0, 2)))


def _channel_attention(net: Network, x: Tensor) -> Tensor:
    """Mask channels by the number of tokens at which q fires."""
    q, k = net.tokens(1, x), net.tokens(2, x)
    return net.head((k * net.fire(3, q.sum(2, keepdim=True) * 1)).mean((0, 2)))


def _votes(net: Network, x: Tensor) -> Tensor:
    """Classes are averages of four neurons each."""
    y = net.fire(1, net.layers["linear"](x.mean((3, 4)))).flatten(0, 1)
    return nn.functional.avg_pool1d(y.unsqueeze(1), 4, 4).squeeze(1).unflatten(0, x.shape[:2]).mean(0)


CASES: dict[str, tuple[Callable[[Network, Tensor], Tensor], list[type[Node]]]] = {
    "without leak": (lambda net, x: net.read(net.without_leak(net.each("conv", x))), [LIF]),
    "input not divided": (lambda net, x: net.read(net.undivided(net.each("conv", x))), [LIF]),
    "depthwise": (lambda net, x: net.read(net.fire(1, net.each("depthwise", x))), [Conv2d]),
    "groups of channels": (
        lambda net, x: net.read(net.fire(1, net.each("groups", x.flatten(3)))),
        [Conv2d],
    ),
    "oblong": (lambda net, x: net.read(net.fire(1, net.each("oblong", x))), [Conv2d]),
    "currents pooled": (
        lambda net, x: net.read(net.fire(1, net.each("pool", net.each("conv", x)))),
        [MaxPool],
    ),
    "sums pooled": (
        lambda net, x: net.read(
            net.fire(2, net.each("conv", net.each("pool", x + net.fire(1, net.each("conv", x)))))
        ),
        [MaxPool],
    ),
    "stages": (
        lambda net, x: net.read(
            net.fire(2, net.each("halve", net.tokens(1, x).mT.unflatten(3, x.shape[3:])))
        ),
        [Map],
    ),
    "mean of tokens": (
        lambda net, x: net.head(net.fire(1, net.layers["linear"](x.mean((3, 4))))).mean(0),
        [TokenMean],
    ),
    "mean after a layer": (
        lambda net, x: net.head(net.fire(1, net.layers["linear"](x.flatten(3).mT).mean(2))).mean(0),
        [TokenMean],
    ),
    "head of tokens in each step": (lambda net, x: net.head(net.tokens(1, x)).mean((0, 2)), [Readout]),
    "average of windows": (
        lambda net, x: net.read(net.fire(1, net.each("mean", x))),
        [Conv2d],
    ),
    "average to a size": (
        lambda net, x: net.read(
            net.fire(1, nn.functional.adaptive_avg_pool2d(x.flatten(0, 1), (2, 3)).unflatten(0, x.shape[:2]))
        ),
        [Conv2d],
    ),
    "fused": (_fused, [SpikeMatMul]),
    "fused, one neuron": (_fused_before_neurons, [SpikeMatMul]),
    "fused convolution": (_fused_convolution, [SpikeAnd]),
    "a slice of what is used whole": (_sliced, [Slice]),
    "a convolution in a block": (lambda net, x: net.head(net.blocks[0](x).mean((0, 2))), [HeadSum]),
    "attention of tokens": (_token_attention, [HeadSum, Gate]),
    "attention of tokens with one head": (_token_attention_with_one_head, [HeadSum, Gate]),
    "attention of tokens, heads of one channel": (
        lambda net, x: net.read(net.fire(2, net.each("conv", x)).unflatten(2, (WIDTH, 1)).sum(3) * x),
        [SpikeAnd],
    ),
    "attention of channels": (_channel_attention, [MaskedColumnSum, Gate]),
    "votes": (_votes, [Linear]),
    "votes of the head": (
        lambda net, x: nn.functional.avg_pool1d(net.read(x).unsqueeze(1), 2).squeeze(1),
        [Linear],
    ),
    "both": (lambda net, x: net.read(x * net.fire(1, net.each("conv", x))), [SpikeAnd]),
    "one without the other": (
        lambda net, x: net.read((1 - net.fire(1, net.each("conv", x))) * x),
        [SpikeAnd],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_graph_and_integers_compute_the_same(case: str) -> None:
    middle, operations = CASES[case]
    graph = imported(middle)
    for operation in operations:
        assert graph.of_type(operation), graph.nodes


class Loop(nn.Module):
    """Fused layers and a mean over tokens in a loop over steps in the module's own code."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv, self.fused = nn.Conv2d(2, WIDTH, 3), nn.Conv2d(WIDTH, 2 * WIDTH, 1)
        self.linear, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)
        self.neurons = nn.ModuleList(LIFNode(v_threshold=0.2, step_mode="s") for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        logits = []
        for _ in range(STEPS):
            a, b = self.neurons[1](self.fused(self.neurons[0](self.conv(x)))).chunk(2, 1)
            mean = self.linear((a * (1 - b)).mean((2, 3)))
            logits.append(self.head(self.neurons[2](mean)))
        return torch.stack(logits).mean(0)


def test_the_same_in_a_loop_over_time() -> None:
    graph = stas_neuro.open_model(Loop().eval().double(), example=IMAGES)
    assert isinstance(graph, Graph)
    names = [node.name for node in graph.nodes]
    assert len(graph.of_type(LIF)) == 4 and not graph.of_type(Slice)
    assert {"fused-0-8", "fused-8-16", "neurons.1-0-8", "neurons.1-8-16", "and", "linear", "head"} <= {*names}
    (head,) = (node for node in graph.nodes if node.name == "head")
    assert head.phase == Phase.END


def test_neurons_that_nothing_reads_are_left_out() -> None:
    def unread(net: Network, x: Tensor) -> Tensor:
        net.fire(1, x)
        return net.read(net.fire(2, net.each("conv", x)))

    assert [lif.name for lif in imported(unread).of_type(LIF)] == ["neurons.0", "neurons.2"]
