"""Bounds of every integer of a quantised graph, proved from its weights: what makes overflow impossible.

Each rule takes the ranges at a node's inputs and gives those at its outputs, whatever the image: `Range` of
the smallest and the largest value. What is too large for a core, or for the processor beside it, is a problem
that names the node, the bound, the limit and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stas_neuro.ir.fixed import (
    ALIGN,
    PIXEL_LIMIT,
    STATE_LIMIT,
    WORD_LIMIT,
    FixedAdd,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedIntegrate,
    FixedLIF,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedReadout,
    FixedSpikeMatMul,
    op_of,
)
from stas_neuro.ir.nodes import (
    LIF,
    Add,
    Conv2d,
    Gate,
    HaltAccumulate,
    HaltingScore,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Readout,
    SpikeMatMul,
    SpikeMaxPool,
    Tokens,
)
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.types import Array, Phase, ValueType

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph

BIAS_LIMIT = 2**12 - 1
"""Largest magnitude of the 13-bit mantissa of a bias."""
EXACT_LIMIT = 2**53
"""Sums of magnitudes below this are exact in float64, in whatever order they are taken."""


class Range(NamedTuple):
    """Smallest and largest value."""

    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """Largest distance from 0."""
        return max(-self.low, self.high)

    def with_zero(self) -> Range:
        """Where the value may also be 0."""
        return Range(min(self.low, 0), max(self.high, 0))

    def times(self, factor: int) -> Range:
        """Multiplied by a whole number of at least 0."""
        return Range(self.low * factor, self.high * factor)

    def shifted(self, bits: int) -> Range:
        """Shifted to the right, towards minus infinity."""
        return Range(self.low >> bits, self.high >> bits)


@dataclass(frozen=True)
class _Site:
    node: Node
    graph: Graph
    inputs: Mapping[str, Range]
    types: Mapping[tuple[str, str], ValueType]
    problems: Problems

    def tensor(self, param: str) -> Array:
        return self.graph.tensor(self.node, param).astype(np.int64)

    def fits(self, what: str, value: Range, limit: int, remedy: str) -> None:
        """Note a problem where a value can leave [-limit, limit]."""
        if value.magnitude > limit:
            bits = limit.bit_length() + 1
            self.problems.add(
                self.node.name,
                f"{what} can reach {value.low}..{value.high}, beyond the {limit} of {bits} bits with sign",
                remedy,
            )


Ranges = dict[str, Range]


def infer_bounds(
    graph: Graph, types: Mapping[tuple[str, str], ValueType], problems: Problems
) -> dict[tuple[str, str], ValueType]:
    """Return the types with the proved bounds of their values."""
    ranges: dict[tuple[str, str], Range] = {}
    for node in graph.nodes:
        inputs = {
            port: ranges[edge.src, edge.src_port]
            for port, edge in graph.inputs(node).items()
            if (edge.src, edge.src_port) in ranges
        }
        rule = _RULES.get(op_of(node))
        outputs = rule(node, _Site(node, graph, inputs, types, problems)) if rule else {}
        ranges.update({(node.name, port): value for port, value in outputs.items()})
    return {key: replace(value, bound=ranges[key].high, low=ranges[key].low) for key, value in types.items()}


def membrane_range(node: FixedLIF, x: Range, steps: int) -> Range:
    """Range of a membrane before its reset, over `steps` steps from rest with inputs in `x`."""
    keep = 4096 - node.dv
    low = high = 0
    for _ in range(steps):
        low = min(low, x.low - ((-low * keep) >> 12))
        # A membrane that is kept is not above the threshold.
        high = max(high, x.high + ((min(high, node.vth << ALIGN) * keep) >> 12))
    return Range(low, high)


def membrane_bound(graph: Graph, lif: FixedLIF) -> int:
    """Largest magnitude that a membrane of a quantised graph can reach, whatever the image."""
    x = graph.source_type(graph.inputs(lif)["x"])
    assert x.bound is not None  # a quantised graph is not made without
    steps = 1 if lif.phase == Phase.ONCE else graph.time_steps
    return membrane_range(lif, Range(x.low, x.bound), steps).magnitude


def _input(node: Input, site: _Site) -> Ranges:
    return {"y": Range(0, PIXEL_LIMIT)}


def synaptic_ranges(weight: Array, exponents: Array, bias: Array, x: Range) -> tuple[Range, Range]:
    """Give the ranges of synaptic input, and of it with the bias (out, ...), over inputs in `x` or 0."""
    matrix = weight.reshape(len(weight), -1)
    positive, negative = np.maximum(matrix, 0).sum(1), np.minimum(matrix, 0).sum(1)
    high = _shift(positive * max(x.high, 0) + negative * min(x.low, 0), exponents) << ALIGN
    low = _shift(positive * min(x.low, 0) + negative * max(x.high, 0), exponents) << ALIGN
    biases = bias.reshape(len(bias), -1)
    y = Range(int((low + biases.min(1)).min()), int((high + biases.max(1)).max()))
    return Range(int(low.min()), int(high.max())), y


def _shift(value: Array, exponents: Array) -> Array:
    """Shift left by exponents above 0, right (towards minus infinity) by those below."""
    shifted: Array = (value << np.maximum(exponents, 0)) >> np.maximum(-exponents, 0)
    return shifted


def _synapses(node: FixedConv2d | FixedLinear, site: _Site) -> Ranges:
    weight, exponents, bias = (site.tensor(param) for param in ("weight", "weight_exp", "bias"))
    _check_mantissas(node, site, weight, exponents, bias)
    x = site.inputs["x"].with_zero()  # the padding of a map, the x of a dead token
    sums = Range(0, int(np.abs(weight).reshape(len(weight), -1).sum(1).max()) * x.magnitude)
    site.fits("the sum of its inputs' magnitudes", sums, EXACT_LIMIT, "split the layer")
    current, y = synaptic_ranges(weight, exponents, bias << node.bias_exp, x)
    remedy = "lower its weight_exp, or leave the exponents to the Quantise pass"
    site.fits("its synaptic input", current, STATE_LIMIT, remedy)
    site.fits("its output", y, STATE_LIMIT, remedy)
    if isinstance(node, FixedConv2d) and node.off_core:
        mantissa = y.shifted(node.bias_exp)
        site.fits("the bias current that it becomes", mantissa, BIAS_LIMIT, "raise its bias_exp")
        y = mantissa.times(1 << node.bias_exp)
    return {"y": y.with_zero() if "alive" in site.graph.inputs(node) else y}


def _check_mantissas(
    node: FixedConv2d | FixedLinear, site: _Site, weight: Array, exponents: Array, bias: Array
) -> None:
    step = 1 << (9 - node.weight_bits)
    if weight.min() < -256 or weight.max() > 255 or (weight % step).any():
        what = f"weights in {weight.min()}..{weight.max()} are no mantissas of {node.weight_bits} bits"
        site.problems.add(f"{node.name}/weight", what, f"use multiples of {step} in -256..255")
    if exponents.min() < -8 or exponents.max() > 7:
        what = f"exponents are {exponents.min()}..{exponents.max()}"
        site.problems.add(f"{node.name}/weight_exp", what, "use -8..7")
        exponents.clip(-8, 7, out=exponents)
    site.fits("a bias", Range(int(bias.min()), int(bias.max())), BIAS_LIMIT, "raise its bias_exp")


def _lif(node: FixedLIF, site: _Site) -> Ranges:
    steps = 1 if node.phase == Phase.ONCE else site.graph.time_steps
    membrane = membrane_range(node, site.inputs["x"], steps)
    remedy = "lower the weight_exp of the layers before it, and its vth"
    site.fits("its membrane", membrane, STATE_LIMIT, remedy)
    return {"s": Range(0, 1)}


def _pool(node: SpikeMaxPool, site: _Site) -> Ranges:
    return {"y": Range(0, 1)}


def _tokens(node: Tokens, site: _Site) -> Ranges:
    return {"y": site.inputs["x"]}


def _add(node: FixedAdd, site: _Site) -> Ranges:
    a, b = site.inputs["a"].times(node.a_weight), site.inputs["b"].times(node.b_weight)
    y = Range(a.low + b.low, a.high + b.high)
    site.fits("the sum", y, STATE_LIMIT, "lower the weight_exp of the layers before it")
    return {"y": y}


def _gate(node: Gate, site: _Site) -> Ranges:
    return {"y": site.inputs["x"].with_zero()}


def _integrate(node: FixedIntegrate, site: _Site) -> Ranges:
    x, steps = site.inputs["x"].with_zero(), site.graph.time_steps
    if node.mode == "max":
        return {"y": site.inputs["x"]}
    if node.mode != "learned":
        y = x.times(steps)
    else:
        weights = site.tensor("weights")
        positive, negative = int(np.maximum(weights, 0).sum()), int(np.minimum(weights, 0).sum())
        y = Range(positive * x.low + negative * x.high, positive * x.high + negative * x.low)
        site.fits("the weighted sum", y, WORD_LIMIT, "raise its shift")
        y = y.shifted(node.shift)
    site.fits("the sum over steps", y, STATE_LIMIT, "lower the weight_exp of the layers before it")
    return {"y": y}


def _spike_mat_mul(node: FixedSpikeMatMul, site: _Site) -> Ranges:
    tokens, features = site.types[node.name, "y"].shape
    return _product(node, site, tokens * (features // node.heads))


def _masked_column_sum(node: FixedMaskedColumnSum, site: _Site) -> Ranges:
    key = site.graph.inputs(node)["k"]
    return _product(node, site, site.types[key.src, key.src_port].shape[0])


def _product(node: FixedSpikeMatMul | FixedMaskedColumnSum, site: _Site, most: int) -> Ranges:
    y = Range(0, most << (ALIGN + node.exponent))
    site.fits("its synaptic input", y, STATE_LIMIT, "lower its exponent, or the number of tokens")
    return {"y": y}


def _halting_score(node: FixedHaltingScore, site: _Site) -> Ranges:
    table = site.tensor("table")
    if table.min() < 0:
        site.problems.add(f"{node.name}/table", f"holds {table.min()}", "a score is at least 0")
    return {"h": Range(0, int(table.max()))}


def _halt_accumulate(node: FixedHaltAccumulate, site: _Site) -> Ranges:
    one, h, graph = 1 << node.score_bits, site.inputs["score"].high, site.graph
    if not 0 < node.limit <= one:
        site.problems.add(node.name, f"limit is {node.limit}", f"1 - epsilon is in 1..{one} of these bits")
    if h > one:
        site.problems.add(node.name, f"scores reach {h}", f"a score is at most {one} of these bits")
    # A token may have visited all before the news that it had to halt arrives.
    everything = h * graph.time_steps * len(graph.accumulators)
    if node.mode == "rectangular":
        total, p = everything, h
    else:
        total, p = everything if node.late else node.limit + h, one
    site.fits("its total", Range(0, total), STATE_LIMIT, "use fewer score bits")
    sent = h if node.late else total  # late decisions send scores, and add them up where they are used
    return {"alive": Range(0, 1), "total": Range(0, sent), "p": Range(0, p)}


def _readout(node: FixedReadout, site: _Site) -> Ranges:
    last = site.graph.inputs(node)[f"z{node.blocks - 1}"]
    tokens = site.types[last.src, last.src_port].shape[0]
    values = [value.shifted(node.z_shift) for port, value in site.inputs.items() if port.startswith("z")]
    z = Range(
        max(min(value.low for value in values), -node.z_limit),
        min(max(value.high for value in values), node.z_limit),
    ).with_zero()
    remedy = "raise its z_shift or lower its z_limit, or use fewer score bits"
    state = z.times(_weight_of_a_token(node, site))
    if node.divides:
        site.fits("a token's sum", state, STATE_LIMIT, remedy)
        site.fits("a token's dividend", state.times(1 << node.divide_bits), WORD_LIMIT, "lower divide_bits")
        y = z.times((1 << node.divide_bits) * tokens)
        site.fits("the sum over tokens", y, WORD_LIMIT, "lower divide_bits")
    else:
        y = state.times(tokens)
        site.fits("the sum over tokens", y, STATE_LIMIT, remedy)
    y = y.shifted(node.y_shift)
    site.fits("its output", y, STATE_LIMIT, "raise its y_shift")
    return {"y": y}


def _weight_of_a_token(node: FixedReadout, site: _Site) -> int:
    """Largest sum of the weights with which a token's values are added up."""
    graph = site.graph
    weights = [value.high for port, value in site.inputs.items() if port.startswith("p")]
    if not weights:
        return 1 if node.mode == "last-state" else graph.time_steps
    accumulator = graph.accumulators[0]
    if accumulator.mode == "rectangular":
        return sum(weights) * graph.time_steps
    assert isinstance(accumulator, FixedHaltAccumulate)
    one = 1 << accumulator.score_bits  # what the weights of a token add up to, in each step or over all
    return one * graph.time_steps if accumulator.mode == "block" else one


_RULES: dict[type[Node], Callable[[Any, _Site], Ranges]] = {
    Input: _input,
    Conv2d: _synapses,
    Linear: _synapses,
    LIF: _lif,
    SpikeMaxPool: _pool,
    Integrate: _integrate,
    Tokens: _tokens,
    Add: _add,
    SpikeMatMul: _spike_mat_mul,
    MaskedColumnSum: _masked_column_sum,
    Gate: _gate,
    HaltingScore: _halting_score,
    HaltAccumulate: _halt_accumulate,
    Readout: _readout,
}
