"""What netx can say of each operation of an integer program, and why not where it cannot.

A netx network is a chain of layers with weights, each with its neurons; layers get what the one before sent a
step earlier, so that all but the time of spikes is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from stas_neuro.exporters.netx.weights import changed_by_netx
from stas_neuro.ir import (
    LIF,
    VTH_LIMIT,
    Add,
    Array,
    BatchNorm,
    Conv2d,
    FixedConv2d,
    FixedLinear,
    FixedReadout,
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

BIAS_EXP = 6
"""Of all biases in netx."""
Reasons = Iterator[tuple[str, str]]
_ANOTHER = "convert the network to another target (lava)"
_NO_HALTING = "compile with halting off"
_LAST = "let neurons be the last layer"
_SCALE = "compile it with --exponents none"


def effective(graph: Graph, node: FixedConv2d | FixedLinear) -> Array | None:
    """Give weights with their exponents, whole numbers int64; None where an exponent would round sums."""
    weight, exponents = (graph.tensor(node, param).astype(np.int64) for param in ("weight", "weight_exp"))
    by_feature = exponents.reshape(-1, *[1] * (weight.ndim - 1))
    left, right = np.maximum(by_feature, 0), np.maximum(-by_feature, 0)
    return None if (weight & ((1 << right) - 1)).any() else (weight << left) >> right


def mantissas(graph: Graph, node: Any) -> Array | None:
    """Give the biases of a node in netx's unit, int64 (features,); None where they are no multiples of it."""
    bias = graph.tensor(node, "bias").astype(np.int64) << node.bias_exp
    return None if (bias % (1 << BIAS_EXP)).any() else bias >> BIAS_EXP


def problems_of(graph: Graph) -> list[Problem]:
    """Return a problem for each reason why netx cannot express a node."""
    return [
        Problem(node.name, what, remedy)
        for node in graph.nodes
        for what, remedy in (*_refuse_place(graph, node), *_REFUSALS[op_of(node)](graph, node))
    ]


def _refuse_place(graph: Graph, node: Node) -> Reasons:
    """Refuse what is not in the row of one input, and steps before the model steps."""
    if len(graph.consumers(node)) > 1:
        yield f"is used {len(graph.consumers(node))} times: a netx network is a chain", "use no branches"
    if node.phase == Phase.STEM:
        yield "runs in prologue steps: a netx network has one clock", "use a one-step stem"


def _nothing(graph: Graph, node: Node) -> Reasons:
    yield from ()


def _never(what: str, remedy: str = _ANOTHER) -> Callable[[Graph, Any], Reasons]:
    def refuse(graph: Graph, node: Node) -> Reasons:
        yield what, remedy

    return refuse


def _refuse_input(graph: Graph, node: Any) -> Reasons:
    if node.encoding == "graded":
        yield "sends pixels as graded spikes", "compile with --input-encoding spikes, for frames of 0 and 1"
    elif node.encoding == "spikes" and node.phase != Phase.STEP:
        yield "is held for all steps", "use a frame of spikes in each step"


def _refuse_conv2d(graph: Graph, node: Any) -> Reasons:
    if node.off_core:
        yield from _refuse_input_neurons(graph, node)
    else:
        yield from _refuse_weights(graph, node)
    if node.bias_map:
        yield "has biases by position, for the border of a normalised image", "use spikes as input"


def _refuse_input_neurons(graph: Graph, node: Any) -> Reasons:
    """Refuse what a processor computes, unless it is pixel << 6, the bias of an input neuron."""
    weight, exponents, bias = (graph.tensor(node, param) for param in ("weight", "weight_exp", "bias"))
    plain = node.kernel in (1, (1, 1)) and node.stride in (1, (1, 1)) and node.padding in (0, (0, 0))
    alone = plain and node.groups == node.in_channels == node.out_channels
    if not (alone and (weight == 1).all() and not exponents.any() and not bias.any()):
        yield "is computed off the cores", "compile with --input-encoding graded, or use input neurons"


def _refuse_linear(graph: Graph, node: Any) -> Reasons:
    if "alive" in graph.inputs(node):
        yield "has a bias that halting holds back", _NO_HALTING
    if node.phase == Phase.END:
        yield from _refuse_head(graph, node)
    else:
        yield from _refuse_weights(graph, node)
        yield from _one_token(graph, node)


def _refuse_head(graph: Graph, node: Any) -> Reasons:
    """Refuse a layer behind the readout, unless neurons that only add up and never fire compute the same."""
    source: Any = graph.node(graph.inputs(node)["x"].src)
    if not isinstance(source, FixedReadout) or source.z_shift or source.y_shift:
        yield "takes not the sum of spikes, but a shifted one or another layer", _LAST
        return
    weight = effective(graph, node)
    if weight is None:
        yield "has an exponent below 0 that rounds its sums", _SCALE
        return
    if (changed := changed_by_netx(weight, dense=True)) is not None:
        yield changed
    if (bias := head_bias(graph, node)) is None:
        yield f"has biases that are no multiples of {graph.time_steps} x {1 << BIAS_EXP}, T of netx's", _SCALE
    elif graph.time_steps * int((weight.clip(min=0).sum(1) + bias.clip(min=0)).max()) > VTH_LIMIT:
        yield f"can sum up to more than {VTH_LIMIT}, the largest threshold", _LAST


def head_bias(graph: Graph, node: Any) -> Array | None:
    """Give the biases that neurons add in each of T steps, int64; None where they are no whole numbers."""
    bias = graph.tensor(node, "bias").astype(np.int64) << node.bias_exp
    step = graph.time_steps << BIAS_EXP
    return None if (bias % step).any() else bias // step


def _refuse_weights(graph: Graph, node: Any) -> Reasons:
    if node.x_shift:
        yield "reads a current, which is rounded where it is sent", "put a LIF before it"
    weight = effective(graph, node)
    if weight is None:
        yield "has an exponent below 0 that rounds its sums", _SCALE
    elif (changed := changed_by_netx(weight, dense=_is_dense(graph, node))) is not None:
        yield changed
    if mantissas(graph, node) is None:
        yield f"has biases that are no multiples of {1 << BIAS_EXP}", _SCALE


def _is_dense(graph: Graph, node: Node) -> bool:
    return isinstance(node, Linear) or is_covering(graph, node)


def is_covering(graph: Graph, node: Node) -> bool:
    """Return whether a convolution has one window, which covers its input, and is followed by tokens."""
    if not isinstance(node, Conv2d) or node.groups > 1 or node.sides.padding != (0, 0):
        return False
    shape = graph.source_type(graph.inputs(node)["x"]).shape
    after = [graph.node(edge.dst) for edge in graph.consumers(node)]
    return node.sides.extent == shape[1:] == node.sides.kernel and all(
        isinstance(node, Tokens) for node in after
    )


def _one_token(graph: Graph, node: Node) -> Reasons:
    shape = graph.source_type(graph.inputs(node)["x"]).shape
    if len(shape) == 2 and shape[0] > 1:
        yield f"has {shape[0]} tokens: netx has no axis of tokens", "use convolutions on maps"


def _refuse_lif(graph: Graph, node: Any) -> Reasons:
    if node.phase != Phase.STEP:
        yield "fires once and its spikes are held: netx has one clock", "use neurons in each step"
    if "alive" in graph.inputs(node):
        yield "is gated by halting", _NO_HALTING
    if node.reset != "zero":
        yield "is reset by subtraction, a neuron of netx to 0", "use neurons that are reset to 0"
    source = graph.node(graph.inputs(node)["x"].src)
    while isinstance(source, Tokens | SynapticCurrent):
        source = graph.node(graph.inputs(source)["x"].src)
    if not isinstance(source, Conv2d | Linear):
        yield "takes no synaptic input", "put a layer with weights before it"


def _refuse_current(graph: Graph, node: Any) -> Reasons:
    if node.bias and mantissas(graph, node) is None:
        yield f"has biases that are no multiples of {1 << BIAS_EXP}", _SCALE
    source = graph.node(graph.inputs(node)["x"].src)
    source = graph.node(graph.inputs(source)["x"].src) if isinstance(source, Tokens) else source
    if not isinstance(source, FixedConv2d | FixedLinear) or graph.tensor(source, "bias").any():
        yield "gets a bias that adds up in the current", "put the bias on the current"


def _refuse_tokens(graph: Graph, node: Node) -> Reasons:
    _, height, width = graph.source_type(graph.inputs(node)["x"]).shape
    used = [graph.node(edge.dst) for edge in graph.consumers(node)]
    if height * width > 1 and not all(isinstance(each, Readout) for each in used):
        yield f"makes {height * width} tokens: netx has no axis of tokens", "use a layer that covers the map"


def _refuse_readout(graph: Graph, node: Any) -> Reasons:
    if node.mode != "mean-field" or len(graph.inputs(node)) > 1 or node.divides:
        yield (
            "reads not the sum of the last spikes",
            "use a mean-field readout of one block",
        )
    source = graph.node(graph.inputs(node)[f"z{node.blocks - 1}"].src)
    source = graph.node(graph.inputs(source)["x"].src) if isinstance(source, Tokens) else source
    if not isinstance(source, LIF):
        yield "reads not what neurons send", "let neurons be the last layer"


_POOLING = _never("is max pooling, which netx does not load", "use strides in place of max pooling")
_PRODUCTS = _never("multiplies spikes by spikes: netx has weights only")
_REFUSALS: Mapping[type[Node], Callable[[Graph, Any], Reasons]] = per_op(
    "forms in netx",
    {
        Add: _never("adds two values: a netx network is a chain"),
        BatchNorm: _never("is a normalisation that was not folded", "compile the network"),
        Conv2d: _refuse_conv2d,
        Gate: _never("multiplies by a mask: netx has weights only"),
        HaltAccumulate: _never("decides on halting", _NO_HALTING),
        HaltingScore: _never("scores tokens for halting", _NO_HALTING),
        HeadSum: _never("sums up the channels of each head"),
        ImageScore: _never("scores images for halting", _NO_HALTING),
        Input: _refuse_input,
        Integrate: _never("reduces the prologue's steps to one value: netx has one clock"),
        LIF: _refuse_lif,
        LateHaltAccumulate: _never("decides on halting", _NO_HALTING),
        Linear: _refuse_linear,
        Map: _never("makes a map of tokens: netx has no axis of tokens"),
        MaskedColumnSum: _PRODUCTS,
        MaxPool: _POOLING,
        Output: _nothing,
        Readout: _refuse_readout,
        Slice: _never("takes some of the channels: netx sends all"),
        SpikeAnd: _PRODUCTS,
        SpikeMatMul: _PRODUCTS,
        SpikeMaxPool: _never(
            "is max pooling, which netx does not load", "use strides in place of max pooling"
        ),
        SynapticCurrent: _refuse_current,
        TokenMean: _never("averages tokens: netx has no axis of tokens"),
        Tokens: _refuse_tokens,
    },
)
