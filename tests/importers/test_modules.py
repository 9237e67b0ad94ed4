"""Small modules of many forms: what can be lowered computes the same, what cannot is listed all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.foreign_neurons import Leaky, LIFNode, MultiStepLIFNode
from torch import Tensor, nn

import stas_neuro
from stas_neuro.importers.errors import CannotImport
from stas_neuro.ir import Gate, Graph, Linear, MaskedColumnSum, Phase, Readout, SpikeMatMul
from stas_neuro.reference import run_reference

STEPS, WIDTH = 3, 8
IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2, 6, 6)) * 3)


class Network(nn.Module):
    """Maps of spikes (T, B, C, H, W), then `middle` on them, then a head on their result."""

    def __init__(self, middle: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.conv2 = nn.Conv2d(2, WIDTH, 3), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.point = nn.Conv2d(WIDTH, WIDTH, 1)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.pool, self.gelu = nn.MaxPool2d(2), nn.GELU()
        self.neurons = nn.ModuleList(MultiStepLIFNode(v_threshold=0.5) for _ in range(6))
        self.table = nn.Parameter(torch.randn(WIDTH, 1, 1))
        self.head = nn.Linear(WIDTH, 4)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)
        return self.middle(self, self.neurons[0](y))

    def each(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Apply a layer of maps to all steps."""
        return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def qkv(self, x: Tensor) -> list[Tensor]:
        """Spikes (T, B, N, C) of three linear layers."""
        tokens = x.flatten(3).transpose(2, 3)
        layers = zip((self.q, self.k, self.v), self.neurons[1:4], strict=False)
        return [neuron(layer(tokens) * 1) for layer, neuron in layers]


def heads(x: Tensor, count: int = 2) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(2, 3)


def graph_of(middle: Callable[[Network, Tensor], Tensor]) -> Graph:
    """Import a network; that this succeeds means that all spikes and logits are equal."""
    graph = stas_neuro.open_model(Network(middle).eval().double(), example=IMAGES)
    assert isinstance(graph, Graph)
    return graph


def problems_of(middle: Callable[[Network, Tensor], Tensor]) -> list[str]:
    with pytest.raises(CannotImport) as caught:
        graph_of(middle)
    return [str(problem) for problem in caught.value.problems]


# What can be lowered ----------------------------------------------------------------------------------------


def _map(net: Network, x: Tensor) -> Tensor:
    return net.head(x.mean((3, 4)).mean(0))


def _conversions(net: Network, x: Tensor) -> Tensor:
    return net.head(
        nn.functional.avg_pool2d(x.float().double().flatten(0, 1), 4).view(STEPS, -1, WIDTH).mean(0)
    )


def _time_first(net: Network, x: Tensor) -> Tensor:
    return net.head(x.mean(0).mean((2, 3)))


def _head_in_each_step(net: Network, x: Tensor) -> Tensor:
    return net.head(x.flatten(3).mean(-1)).mean(0)


def _sums(net: Network, x: Tensor) -> Tensor:
    return net.head(x.sum((3, 4)) / 16).sum(0) * 0.5


def _sum_into_head(net: Network, x: Tensor) -> Tensor:
    return net.head(x.sum((0, 3, 4)))


def _adaptive_pool(net: Network, x: Tensor) -> Tensor:
    pooled = nn.functional.adaptive_avg_pool2d(x.flatten(0, 1), 1).flatten(1)
    return net.head(pooled.unflatten(0, x.shape[:2]).mean(0))


def _layers(net: Network, x: Tensor) -> Tensor:
    y = net.neurons[1](net.each(net.norm, net.each(net.conv2, net.each(net.pool, x))))
    return _map(net, net.each(net.pool, x) + y)


def _scores_first(net: Network, x: Tensor) -> Tensor:
    q, k, v = map(heads, net.qkv(x))
    y = net.neurons[4]((q @ k.mT * 0.5 @ v).transpose(2, 3).flatten(3))
    return net.head(y.mean((0, 2)))


def _values_first(net: Network, x: Tensor) -> Tensor:
    q, k, v = map(heads, net.qkv(x))
    y = net.neurons[4](((q @ (k.mT @ v)) / 4).transpose(2, 3).flatten(3))
    return net.head(y.mean((0, 2)))


def _turned_scores(net: Network, x: Tensor) -> Tensor:
    q, k, v = map(heads, net.qkv(x))
    y = net.neurons[4]((v.mT @ (k @ q.mT)).flatten(2, 3).mT)
    return net.head(y.mean((0, 2)))


def _turned_values(net: Network, x: Tensor) -> Tensor:
    q, k, v = map(heads, net.qkv(x))
    y = net.neurons[4](((v.mT @ k) * 0.5 @ q.mT).flatten(2, 3).mT)
    return net.head(y.mean((0, 2)))


def _einsums(net: Network, x: Tensor) -> Tensor:
    q, k, v = (each.unflatten(-1, (2, -1)) for each in net.qkv(x))
    scores = torch.einsum("tbnhd,tbmhd->tbhnm", q, k)
    y = net.neurons[4](torch.einsum("tbhnm,tbmhd->tbnhd", scores, v).flatten(3))
    return net.head(y.mean((0, 2)))


def _one_head_in_batches(net: Network, x: Tensor) -> Tensor:
    q, k, v = (each.flatten(0, 1) for each in net.qkv(x))
    y = torch.bmm(torch.bmm(q, k.transpose(1, 2)), v).unflatten(0, x.shape[:2])
    return net.head(net.neurons[4](y).mean((0, 2)))


def _columns(net: Network, x: Tensor) -> Tensor:
    q, k, v = map(heads, net.qkv(x))
    mask = net.neurons[4](k.mul(v).sum(-2, keepdim=True))
    return net.head((q * mask).transpose(2, 3).flatten(3).mean((0, 2)))


def _point_on_tokens(net: Network, x: Tensor) -> Tensor:
    q, k, v = map(heads, net.qkv(x))
    y = net.neurons[4]((q @ k.mT @ v).transpose(2, 3).flatten(3))
    y = net.each(net.norm, net.each(net.point, y.transpose(2, 3).unflatten(3, x.shape[3:])))
    return _map(net, net.neurons[5](y))


def _moved(net: Network, x: Tensor) -> Tensor:
    y = net.q(x.movedim(2, -1).moveaxis((2, 3), (3, 2)))
    return net.head(net.neurons[1](y).mean((0, 2, 3)))


def _steps_apart(net: Network, x: Tensor) -> Tensor:
    y = torch.stack([net.conv2(step) for step in x.unbind(0)])
    y = net.neurons[1](torch.cat([y[index].unsqueeze(0) for index in range(STEPS)]))
    return _map(net, y)


@pytest.mark.parametrize(
    "middle",
    [
        _map, _conversions, _time_first, _head_in_each_step, _sums, _sum_into_head, _adaptive_pool, _layers,
        _scores_first, _values_first, _turned_scores, _turned_values, _einsums, _one_head_in_batches,
        _columns, _point_on_tokens, _moved, _steps_apart,
    ],
)  # fmt: skip
def test_a_module_and_its_graph_compute_the_same(middle: Callable[[Network, Tensor], Tensor]) -> None:
    graph = graph_of(middle)
    assert (graph.time_steps, graph.output.phase) == (STEPS, Phase.END)
    logits = run_reference(graph, IMAGES.numpy(), count=False).logits
    with torch.no_grad():
        own = Network(middle).eval().double()(IMAGES)
    np.testing.assert_allclose(logits, own.numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("images_first", [False, True])
def test_logits_of_each_step_are_averaged(images_first: bool) -> None:
    def middle(net: Network, x: Tensor) -> Tensor:
        logits = net.head(x.flatten(3).mean(-1))
        return logits.transpose(0, 1) if images_first else logits

    with pytest.warns(UserWarning, match="returns logits of each step; the graph returns their mean"):
        graph = graph_of(middle)
    with torch.no_grad():
        own = Network(middle).eval().double()(IMAGES).mean(1 if images_first else 0)
    logits = run_reference(graph, IMAGES.numpy(), count=False).logits
    np.testing.assert_allclose(logits, own.numpy(), rtol=0, atol=1e-9)


def test_attention_keeps_its_order_heads_and_scale() -> None:
    (scores,) = graph_of(_scores_first).of_type(SpikeMatMul)
    assert (scores.form, scores.heads, scores.scale) == ("(QK^T)V", 2, 0.5)
    (values,) = graph_of(_values_first).of_type(SpikeMatMul)
    assert (values.form, values.heads, values.scale) == ("Q(K^TV)", 2, 0.25)
    (alone,) = graph_of(_one_head_in_batches).of_type(SpikeMatMul)
    assert (alone.heads, alone.scale) == (1, 1.0)
    graph = graph_of(_columns)
    assert len(graph.of_type(MaskedColumnSum)) == len(graph.of_type(Gate)) == 1


def test_a_head_in_each_step_is_one_behind_the_readout() -> None:
    graph = graph_of(_head_in_each_step)
    (readout,) = graph.of_type(Readout)
    (head,) = graph.of_type(Linear)
    assert head.phase == Phase.END and graph.inputs(head)["x"].src == readout.name


def test_a_kernel_of_one_position_behind_attention_is_a_linear_layer() -> None:
    assert "point" in [node.name for node in graph_of(_point_on_tokens).of_type(Linear)]


# Loops over time --------------------------------------------------------------------------------------------


class Loop(nn.Module):
    """A loop over steps in the module's own code, with the state handed on or kept."""

    def __init__(self, kind: str, steps: int = 4) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.conv2 = nn.Conv2d(2, WIDTH, 3), nn.Conv2d(WIDTH, WIDTH, 3)
        self.head, self.kind, self.steps = nn.Linear(WIDTH, 4), kind, steps
        made = [Leaky(0.5), Leaky(0.75)] if kind == "handed on" else [LIFNode(step_mode="s") for _ in "ab"]
        self.first, self.second = made

    def forward(self, x: Tensor) -> Tensor:
        total, mem = torch.zeros(1), None
        if self.kind == "handed on":
            mem = [self.first.reset_mem(), self.second.reset_mem()]
        for step in range(self.steps):
            frame = x[:, step] if x.ndim == 5 else x
            y = self.conv(frame)
            if mem is None:
                y = self.second(self.conv2(self.first(y)))
            else:
                y, mem[0] = self.first(y, mem[0])
                y, mem[1] = self.second(self.conv2(y), mem[1])
            total = total + self.head(y.mean((2, 3)))
        return total / self.steps


@pytest.mark.parametrize("kind", ["handed on", "kept"])
@pytest.mark.parametrize("frames", [False, True])
def test_a_loop_over_time_is_rolled_up(kind: str, frames: bool) -> None:
    example = IMAGES[:, None].repeat(1, 4, 1, 1, 1) + torch.arange(4)[None, :, None, None, None]
    graph = stas_neuro.open_model(Loop(kind).eval(), example=example if frames else IMAGES)
    assert isinstance(graph, Graph)
    assert graph.time_steps == 4
    names = ["input", "conv", "first", "conv2", "second", "second.tokens", "readout", "head", "output"]
    assert [node.name for node in graph.nodes] == names
    assert graph.node("conv").phase == (Phase.STEP if frames else Phase.ONCE)


def test_a_loop_that_carries_more_than_membranes_over_is_refused() -> None:
    class Recurrent(Loop):
        def forward(self, x: Tensor) -> Tensor:
            outputs = [self.first(self.conv(x))]
            for _ in range(self.steps - 1):
                outputs.append(self.first(self.conv(x) + outputs[-1]))
            return self.head(torch.stack(outputs).mean((0, 3, 4)))

    with pytest.raises(CannotImport, match="step 2 of the neuron reads a value of step 1; use in each step"):
        stas_neuro.open_model(Recurrent("kept").eval(), example=IMAGES)


def test_a_sum_of_spikes_over_steps_reaches_the_head() -> None:
    class Counted(Loop):
        def forward(self, x: Tensor) -> Tensor:
            count = sum(self.first(self.conv(x)) for _ in range(self.steps))
            return self.head(count.flatten(2).mean(-1) / self.steps)

    assert isinstance(stas_neuro.open_model(Counted("kept").eval(), example=IMAGES), Graph)


def test_a_sum_over_steps_is_a_mean_with_larger_weights() -> None:
    class Summed(Loop):
        def forward(self, x: Tensor) -> Tensor:
            return sum(self.head(self.first(self.conv(x)).mean((2, 3))) for _ in range(self.steps))

    network = Summed("kept").eval()
    graph = stas_neuro.open_model(network, example=IMAGES)
    assert isinstance(graph, Graph)
    for param in ("weight", "bias"):
        own = getattr(network.head, param).detach().numpy() * 4
        np.testing.assert_array_equal(graph.tensor("head", param), own)


def test_a_mean_over_some_of_the_steps_is_refused() -> None:
    class Late(Loop):
        def forward(self, x: Tensor) -> Tensor:
            outputs = [self.head(self.first(self.conv(x)).mean((2, 3))) for _ in range(self.steps)]
            return sum(outputs[1:]) / 3

    with pytest.raises(CannotImport, match="reads a sum over 3 of 4 steps; sum over all steps"):
        stas_neuro.open_model(Late("kept").eval(), example=IMAGES)


def test_frames_need_their_axes() -> None:
    class Frames(Network):
        def forward(self, x: Tensor) -> Tensor:
            return self.middle(self, self.neurons[0](self.each(self.conv, x)))

    network, frames = Frames(_map).eval().double(), IMAGES.expand(3, -1, -1, -1, -1)
    graph = stas_neuro.open_model(network, example=frames, axes="TBCHW")
    assert isinstance(graph, Graph) and graph.input.phase == Phase.STEP
    with pytest.raises(CannotImport, match="as axes BTCHW, the neurons run as many steps as images"):
        stas_neuro.open_model(network, example=frames)


# What cannot ------------------------------------------------------------------------------------------------


def _scrambled(net: Network, x: Tensor) -> Tensor:
    q, k, v = net.qkv(x)  # (T, B, 16, 8): as (T, B, 8, 16) channels and tokens are mixed
    k = heads(k.reshape(*k.shape[:2], WIDTH, -1).transpose(2, 3))
    return net.head(net.neurons[4]((heads(q) @ k.mT @ heads(v)).transpose(2, 3).flatten(3)).mean((0, 2)))


def _windows(net: Network, x: Tensor) -> Tensor:
    return net.head((x @ x.mT @ x).flatten(2, 3).mean((0, 2)))


REFUSALS: dict[str, tuple[Callable[[Network, Tensor], Any], list[str]]] = {
    "scrambled": (_scrambled, ["reshape of (T=3, B=13, H=4 W=4, C=8) to (3, 13, 8, 16) cuts across axes"]),
    "softmax": (
        lambda net, x: net.head((net.qkv(x)[0] @ net.qkv(x)[1].mT).softmax(-1).mean((0, 2))[:, :WIDTH]),
        ["no rule for the operation aten.softmax.int"],
    ),
    "product of currents": (
        lambda net, x: _map(net, net.neurons[1]((1 - x) * net.each(net.conv2, x))),
        ["multiplies values that are not spikes"],
    ),
    "time mean in a neuron": (
        lambda net, x: _map(net, net.neurons[1](net.conv2(x.mean(0)).expand(STEPS, -1, -1, -1, -1))),
        ["reads a mean that is not over H and W"],
    ),
    "average pooling": (
        lambda net, x: _map(net, net.each(nn.AvgPool2d(3, ceil_mode=True), x).softmax(2)),
        ["use neither ceil_mode", "aten.softmax.int"],
    ),
    "average to a size": (
        lambda net, x: _map(net, net.each(nn.AdaptiveAvgPool2d(3), x)),
        ["average to a size that divides H and W"],
    ),
    "dropout": (
        lambda net, x: _map(net, nn.functional.dropout(x, 0.5, training=True)),
        ["drops values at random"],
    ),
    "every other channel": (
        lambda net, x: _map(net, x[:, :, ::2].repeat(1, 1, 2, 1, 1)),
        ["selects every other value; select neighbouring channels"],
    ),
    "no mean": (lambda net, x: net.head(x.movedim(2, 4)), ["reads a mean that is not over H and W"]),
    "a window of tokens": (
        lambda net, x: _windows(net, net.qkv(x)[0].unflatten(2, (4, -1))),
        ["heads are blocks of channels, and each attends to all tokens"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_lowered_is_refused_with_its_reason(case: str) -> None:
    middle, reasons = REFUSALS[case]
    problems = problems_of(middle)
    for reason in reasons:
        assert any(reason in problem for problem in problems), problems


def test_all_problems_are_listed_at_once_with_module_and_line() -> None:
    class Several(Network):
        def forward(self, x: Tensor) -> Tensor:
            y = self.neurons[0](self.conv(x).unsqueeze(0).repeat(STEPS, 1, 1, 1, 1))
            y = self.each(nn.MaxPool2d(2, ceil_mode=True), self.each(self.conv2, y))
            y = self.neurons[1](self.gelu(y))
            return _map(self, y.cumsum(2))

    with pytest.raises(CannotImport) as caught:
        stas_neuro.open_model(Several(_map).eval().double(), example=IMAGES)
    problems = [*map(str, caught.value.problems)]
    assert [problem.partition(": ")[0].partition(" (")[0] for problem in problems] == [
        "module",
        "gelu",
        "module",
    ]
    assert "test_modules.py:" in problems[0] and "`y = self.neurons[1](self.gelu(y))`" in problems[1]
    assert "no rule for the operation aten.gelu.default: only neurons are nonlinear in a graph" in problems[1]


def test_what_depends_on_values_is_refused_where_it_is() -> None:
    def branching(net: Network, x: Tensor) -> Tensor:
        return _map(net, x if x.sum() > 0 else net.neurons[1](x))

    (problem,) = problems_of(branching)
    assert problem.startswith("module (test_modules.py:") and "torch.export cannot trace it" in problem


def test_weights_that_no_graph_holds_are_refused() -> None:
    network = Network(_map).eval()
    with torch.no_grad():
        network.head.weight[0, 0] = torch.nan
    with pytest.raises(stas_neuro.errors.InputError, match=r"head\.weight contains NaN"):
        stas_neuro.open_model(network, example=IMAGES.float())
    with pytest.raises(stas_neuro.errors.InputError, match=r"table is float16; convert the module"):
        stas_neuro.open_model(Network(_map).eval().half(), example=IMAGES)
