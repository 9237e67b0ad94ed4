"""What each node of a quantised graph computes: docs/integer.md, in floats that hold integers exactly.

Floats let BLAS do the products. A float holds every integer up to 2^24 (float32) or 2^53 (float64), a sum of
integers is exact in whatever order it is taken if the sum of their magnitudes keeps that limit, and a product
with a power of two is exact always. So a shift is a product, then floor where it goes to the right.
`exact_dtype` shows for each node that its integers keep the limit, from the bounds that its graph has proved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import (
    ALIGN,
    EXACT_LIMIT,
    QUANTISED,
    STATE_LIMIT,
    WORD_LIMIT,
    FixedAdd,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedInput,
    FixedIntegrate,
    FixedLIF,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedOutput,
    FixedReadout,
    FixedSpikeMatMul,
    Gate,
    Graph,
    Node,
    Range,
    SpikeMaxPool,
    Tokens,
    membrane_bound,
    per_op,
)
from stas_neuro.reference.operators import (
    OPERATORS,
    Inputs,
    NodeContext,
    Operator,
    Outputs,
    Values,
    accumulate,
    column_sum,
    convolve,
    gather,
    live_rows,
    nonzero_weight,
    spike_product,
)

Dtype = type[np.floating[Any]]


def exact_dtype(graph: Graph, node: Node) -> Dtype:
    """Give the smallest of float32 and float64 that is exact for all integers a node of the graph meets."""
    largest = _largest(graph, node)
    # A graph whose integers could pass this is not made: stas_neuro/ir/bounds.py.
    assert largest <= EXACT_LIMIT, f"{node.name} meets {largest}"
    return np.float32 if largest <= 2**24 else np.float64


def _largest(graph: Graph, node: Node) -> int:
    """Bound the magnitudes that a node takes, gives, or meets between the two."""
    ports = {port: graph.source_type(edge) for port, edge in graph.inputs(node).items()}
    ports |= {port: graph.types[node.name, port] for port in node.OUTPUTS}
    size = {port: Range(value.low, value.bound or 0).magnitude for port, value in ports.items()}
    return max(_within(graph, node, size), *size.values())


def _within(graph: Graph, node: Node, size: Mapping[str, int]) -> int:
    """Bound what a node meets between its ports, each of `size`; 0 where that is no more than those."""
    match node:
        case FixedConv2d() | FixedLinear():
            return _magnitude_sum(graph.tensor(node, "weight")) * size["x"]
        case FixedIntegrate(mode="learned"):
            return _magnitude_sum(graph.tensor(node, "weights")[None]) * size["x"]
        case FixedLIF():
            # |v| * (4096 - dv) / 4096 is a whole number of small parts: as many as in lowest terms.
            keep = 4096 - node.dv
            return membrane_bound(graph, node) * (keep // (keep & -keep))
        case FixedAdd():
            return node.a_weight * size["a"] + node.b_weight * size["b"]
        case FixedHaltAccumulate():
            scores = graph.time_steps * len(node.lags) if node.late else 1
            return size["total"] * scores + max(size["score"], 1 << node.score_bits)
        case FixedReadout():
            # What the graph was refused for if its sums could pass it.
            return WORD_LIMIT if node.divides else STATE_LIMIT
    return 0


def _magnitude_sum(weight: NDArray[np.integer[Any]]) -> int:
    """Largest sum of the magnitudes of an output's weights."""
    return int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1).max())


def _right(value: Values, bits: int) -> Values:
    """Shift to the right, towards minus infinity."""
    return np.asarray(np.floor(value * 0.5**bits))


def _synaptic_input(sums: Values, context: NodeContext) -> Values:
    """Compute shift(sums, weight_exp) << 6 of sums (..., Cout)."""
    exponents = context.tensors["weight_exp"].astype(np.int64)
    scale = np.ldexp(np.ones_like(context.tensors["weight_exp"]), exponents)
    shifted: Values = sums * (scale * 2**ALIGN) if exponents.min() >= 0 else np.floor(sums * scale) * 2**ALIGN
    return shifted


def _conv2d(node: FixedConv2d, inputs: Inputs, context: NodeContext) -> Outputs:
    sums = convolve(node, inputs["x"], context.tensors["weight"])
    y = _synaptic_input(sums.swapaxes(1, 3), context).swapaxes(1, 3)
    bias = context.tensors["bias"] * 2**node.bias_exp
    y = y + bias.reshape(len(bias), *(node.bias_map or (1, 1)))
    return {"y": _right(y, node.bias_exp) * 2**node.bias_exp if node.off_core else y}


def _linear(node: FixedLinear, inputs: Inputs, context: NodeContext) -> Outputs:
    def product(x: Values) -> Values:
        y: Values = _synaptic_input(x @ context.tensors["weight"].T, context)
        y += context.tensors["bias"] * 2**node.bias_exp
        return y

    return {"y": live_rows(product, inputs, context.skip)}


def _lif(node: FixedLIF, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]
    # sign(v) * ((|v| * keep) >> 12) rounds towards 0.
    v = np.trunc(context.state.get("v", np.zeros_like(x)) * ((4096 - node.dv) / 4096)) + x
    fired = v > node.vth << ALIGN
    v[fired] = 0
    context.state["v"] = v
    return {"s": fired.astype(x.dtype)}


def _add(node: FixedAdd, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": node.a_weight * inputs["a"] + node.b_weight * inputs["b"]}


def _spike_mat_mul(node: FixedSpikeMatMul, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": spike_product(node, inputs) * 2 ** (ALIGN + node.exponent)}


def _masked_column_sum(node: FixedMaskedColumnSum, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": column_sum(inputs) * 2 ** (ALIGN + node.exponent)}


def _integrate(node: FixedIntegrate, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]  # (T, B, ...)
    match node.mode:
        case "max":
            return {"y": x.max(axis=0)}
        case "mean" | "sum":
            return {"y": x.sum(axis=0)}
        case "learned":
            return {"y": _right(np.tensordot(context.tensors["weights"], x, axes=1), node.shift)}


def _halting_score(node: FixedHaltingScore, inputs: Inputs, context: NodeContext) -> Outputs:
    place = _right(inputs["z"][:, :, 0], node.shift).astype(np.int64) - node.low
    return {"h": context.tensors["table"][place.clip(0, node.entries - 1)]}


def _halt_accumulate(node: FixedHaltAccumulate, inputs: Inputs, context: NodeContext) -> Outputs:
    return accumulate(node, inputs, context, limit=node.limit, one=1 << node.score_bits)


def _readout(node: FixedReadout, inputs: Inputs, context: NodeContext) -> Outputs:
    """Take in one step; give y after the last."""
    clipped = {
        port: _right(value, node.z_shift).clip(-node.z_limit, node.z_limit)
        for port, value in inputs.items()
        if port.startswith("z")
    }
    value, weight = gather(node, {**inputs, **clipped}, context)
    if not context.last_step:
        return {}
    if node.divides:
        # Dividend and divisor have 31 bits: a quotient below a whole number is further from it than the 53
        # bits of float64 round by.
        value = np.trunc(value * 2**node.divide_bits / nonzero_weight(weight))
    return {"y": _right(value.sum(axis=1), node.y_shift)}


FIXED_OPERATORS: Mapping[type[Node], Operator] = per_op(
    "operators of the integer reference",
    {
        FixedConv2d: _conv2d,
        FixedLinear: _linear,
        FixedLIF: _lif,
        SpikeMaxPool: OPERATORS[SpikeMaxPool],
        FixedIntegrate: _integrate,
        Tokens: OPERATORS[Tokens],
        FixedAdd: _add,
        FixedSpikeMatMul: _spike_mat_mul,
        FixedMaskedColumnSum: _masked_column_sum,
        Gate: OPERATORS[Gate],
        FixedHaltingScore: _halting_score,
        FixedHaltAccumulate: _halt_accumulate,
        FixedReadout: _readout,
    },
    of=QUANTISED,
    without=(FixedInput, FixedOutput),  # the run's own ends
)
"""The operator of each node type of a quantised graph, whose inputs come in its `exact_dtype`."""
