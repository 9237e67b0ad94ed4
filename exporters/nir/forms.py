"""What NIR can say of each operation, and why not where it cannot.

NIR describes neurons in continuous time. A step of ours is Euler's with dt: tau dv/dt = (v_leak - v) + R x
becomes v = v + (x - v) / (tau / dt). It fires at v > v_threshold, never at equality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stas_neuro.ir import (
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    HeadSum,
    ImageScore,
    Input,
    Integrate,
    LateHaltAccumulate,
    Linear,
    Map,
    MaskedColumnSum,
    MaxPool,
    Node,
    Output,
    Phase,
    Problem,
    Readout,
    Shape,
    Slice,
    SpikeAnd,
    SpikeMatMul,
    SpikeMaxPool,
    SynapticCurrent,
    TokenMean,
    Tokens,
    op_of,
    per_op,
)

_ANOTHER = "convert the network to another target (lava)"
_STRIDES = "use strides in place of max pooling"
_NO_HALTING = "NIR has no halting: train and compile with halting off"


@dataclass(frozen=True)
class At:
    """A node of a graph that is to become NIR."""

    graph: Graph
    node: Any

    def shape(self, port: str) -> Shape:
        """Shape of what an input port takes, as NIR has it: tokens are one, and their axis is left out."""
        edge = self.graph.inputs(self.node)[port]
        shape = self.graph.source_type(edge).shape
        return shape[1:] if len(shape) == 2 else shape

    def tensor(self, param: str) -> Any:
        """A tensor of the node."""
        return self.graph.tensor(self.node, param)


Refuse = Callable[[At], Iterator[tuple[str, str]]]
"""Yields what NIR cannot say of a node, each with a remedy."""
Make = Callable[[At, Any, float], dict[str, Any]]
"""Makes NIR nodes by name, in order of their edges, with the module `nir` and dt; none: edges go past it."""


@dataclass(frozen=True)
class Form:
    """How an operation is written."""

    refuse: Refuse
    make: Make


def problems_of(graph: Graph) -> list[Problem]:
    """Return a problem for each reason why NIR cannot express a node."""
    return [
        Problem(node.name, what, remedy)
        for node in graph.nodes
        for what, remedy in (
            *_refuse_anywhere(graph, node),
            *FORMS[op_of(node)].refuse(At(graph, node)),
        )
    ]


def _refuse_anywhere(graph: Graph, node: Node) -> Iterator[tuple[str, str]]:
    if node.phase == Phase.STEM:
        yield "runs in prologue steps before the model steps: NIR has one clock", "use a one-step stem"
    if any(port.startswith(("alive", "mask", "total")) for port in graph.inputs(node)) and not isinstance(
        node, HaltAccumulate | Gate
    ):
        yield "has a mask of halting, which holds back its bias or update", _NO_HALTING


def _nothing(at: At) -> Iterator[tuple[str, str]]:
    yield from ()


def _one_token(at: At) -> Iterator[tuple[str, str]]:
    """Refuse what works on several tokens."""
    shape = at.graph.source_type(at.graph.inputs(at.node)["x"]).shape
    if len(shape) == 2 and shape[0] > 1:
        yield f"has {shape[0]} tokens: NIR has no axis of tokens", "use convolutions on maps"


def _refuse_linear(at: At) -> Iterator[tuple[str, str]]:
    yield from _one_token(at)
    if at.node.phase == Phase.END and not _follows_readout(at):
        yield "is behind another layer after the readout", "merge the layers of the head"


def _follows_readout(at: At) -> bool:
    return isinstance(at.graph.node(at.graph.inputs(at.node)["x"].src), Readout)


def _refuse_lif(at: At) -> Iterator[tuple[str, str]]:
    yield from _one_token(at)
    if at.node.phase != Phase.STEP:
        yield "fires once and its spikes are held: NIR has one clock", "use a stem that runs in model steps"
    if at.node.reset != "zero":
        yield "is reset by subtraction: a neuron of NIR is reset to a value", "use neurons that reset to 0"
    if at.node.fire != ">":
        yield "fires at v >= threshold: a neuron of NIR fires at v > threshold", "use neurons that fire at >"


def _refuse_tokens(at: At) -> Iterator[tuple[str, str]]:
    _, height, width = at.shape("x")
    used = [at.graph.node(edge.dst) for edge in at.graph.consumers(at.node)]
    if height * width > 1 and not all(isinstance(node, Readout) for node in used):
        yield (
            f"makes {height * width} tokens: NIR has no axis of tokens",
            "reduce the map to 1x1 by convolutions, or connect it to the readout only",
        )


def _refuse_add(at: At) -> Iterator[tuple[str, str]]:
    a, b = at.graph.inputs(at.node)["a"], at.graph.inputs(at.node)["b"]
    if a.src == b.src:
        yield "adds a value to itself: NIR has no edge twice", "double the weights that follow"
    shape = at.graph.source_type(a).shape
    if len(shape) == 2 and shape[0] > 1:
        yield f"has {shape[0]} tokens: NIR has no axis of tokens", "use convolutions on maps"


def _refuse_readout(at: At) -> Iterator[tuple[str, str]]:
    if at.node.mode != "mean-field":
        yield f"reads {at.node.mode}: who runs a NIR file takes the mean over steps", "use mean-field"
    if len(at.graph.inputs(at.node)) > 1:
        yield "reads several blocks, or by halting weights", _NO_HALTING


def _never(what: str, remedy: str = _ANOTHER) -> Form:
    """Refuse an operation that NIR has no node for."""

    def refuse(at: At) -> Iterator[tuple[str, str]]:
        yield what, remedy

    return Form(refuse, _pass_by)


def _pass_by(at: At, nir: Any, dt: float) -> dict[str, Any]:
    return {}


def _input(at: At, nir: Any, dt: float) -> dict[str, Any]:
    return {at.node.name: nir.Input(input_type={"input": np.array(at.node.shape)})}


def _output(at: At, nir: Any, dt: float) -> dict[str, Any]:
    return {at.node.name: nir.Output(output_type={"output": np.array(at.shape("x"))})}


def _biases_of_positions(at: At) -> Iterator[tuple[str, str]]:
    if at.node.bias_map:
        yield "each position has its own bias, a Conv2d of NIR has one for each channel", _ANOTHER


def _conv2d(at: At, nir: Any, dt: float) -> dict[str, Any]:
    node: Conv2d = at.node
    return {
        node.name: nir.Conv2d(
            input_shape=at.shape("x")[1:],
            weight=at.tensor("weight"),
            stride=node.sides.stride,
            padding=node.sides.padding,
            dilation=node.sides.dilation,
            groups=node.groups,
            # A bias is not optional in NIR.
            bias=at.tensor("bias") if node.bias else np.zeros(node.out_channels),
        )
    }


def _linear(at: At, nir: Any, dt: float) -> dict[str, Any]:
    weight = at.tensor("weight")
    if at.node.bias:
        return {at.node.name: nir.Affine(weight=weight, bias=at.tensor("bias"))}
    return {at.node.name: nir.Linear(weight=weight)}


def _lif(at: At, nir: Any, dt: float) -> dict[str, Any]:
    shape = at.shape("x")
    return {
        at.node.name: nir.LIF(
            tau=np.full(shape, at.node.tau * dt),
            r=np.ones(shape),
            v_leak=np.zeros(shape),
            v_threshold=np.full(shape, float(at.node.threshold)),
            v_reset=np.zeros(shape),
        )
    }


def _tokens(at: At, nir: Any, dt: float) -> dict[str, Any]:
    """Flatten a map of one position, or the mean over positions that the readout behind it takes."""
    channels, height, width = at.shape("x")
    made = {}
    if height * width > 1:
        sides = np.array([height, width])
        pool = nir.AvgPool2d(kernel_size=sides, stride=sides, padding=np.array([0, 0]))
        made[at.graph.readout.name] = pool
    shape = {"input": np.array([channels, 1, 1])}
    made[at.node.name] = nir.Flatten(input_type=shape, start_dim=0, end_dim=-1)
    return made


def _add(at: At, nir: Any, dt: float) -> dict[str, Any]:
    """Scale by 1 what two edges bring: NIR adds up the edges that end at a node."""
    return {at.node.name: nir.Scale(scale=np.ones(at.shape("a")))}


FORMS: Mapping[type[Node], Form] = per_op(
    "forms in NIR",
    {
        Add: Form(_refuse_add, _add),
        BatchNorm: _never("is a normalisation that was not folded", "compile the network"),
        Conv2d: Form(_biases_of_positions, _conv2d),
        Gate: _never("multiplies by a mask: NIR has no product of two values"),
        HaltAccumulate: _never("decides on halting: NIR cannot stop a neuron", _NO_HALTING),
        HaltingScore: _never("scores tokens for halting", _NO_HALTING),
        HeadSum: _never("sums up the channels of each head: NIR has no heads"),
        Input: Form(_nothing, _input),
        ImageScore: _never("scores images for halting", _NO_HALTING),
        Integrate: _never("reduces the prologue's steps to one value: NIR has one clock"),
        LIF: Form(_refuse_lif, _lif),
        LateHaltAccumulate: _never("decides on halting: NIR cannot stop a neuron", _NO_HALTING),
        Linear: Form(_refuse_linear, _linear),
        Map: _never("makes a map of tokens: NIR has no axis of tokens"),
        MaskedColumnSum: _never("multiplies spikes by spikes: NIR has no product of two values"),
        MaxPool: _never("is max pooling: NIR has sums and averages", _STRIDES),
        Output: Form(_nothing, _output),
        Readout: Form(_refuse_readout, _pass_by),
        Slice: _never("takes some of the channels: NIR sends all"),
        SpikeAnd: _never("multiplies spikes by spikes: NIR has no product of two values"),
        SpikeMatMul: _never("multiplies spikes by spikes: NIR has no product of two values"),
        SpikeMaxPool: _never("is max pooling: NIR has sums and averages", _STRIDES),
        SynapticCurrent: _never(
            "is a current with a time constant of its own", "use LIF neurons without one"
        ),
        TokenMean: _never("averages tokens: NIR has no axis of tokens", "leave the mean to the readout"),
        Tokens: Form(_refuse_tokens, _tokens),
    },
)
