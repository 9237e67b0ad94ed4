"""What stock processes cannot express, found in one go; and biases in the unit of synaptic input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from stas_neuro.ir import (
    ALIGN,
    BIAS_LIMIT,
    EVENTS,
    LIF,
    Add,
    Array,
    Conv2d,
    FixedConv2d,
    FixedInput,
    FixedLIF,
    FixedLinear,
    Graph,
    HaltAccumulate,
    HaltingScore,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Phase,
    Problems,
    SpikeMatMul,
    Stage,
    op_of,
)

_UNIT = 1 << ALIGN


def find_unsupported(graph: Graph, problems: Problems) -> None:
    """Add a problem for everything in `graph` that stock processes cannot express."""
    if graph.stage != Stage.QUANTISED:
        problems.add("graph", f"it is {graph.stage}", "quantise it: stock processes compute in integers")
        return
    for node in graph.nodes:
        if node.phase == Phase.STEM:
            what = "it runs in steps before the model steps, which stock processes cannot sum up and hold"
            problems.add(node.name, what, "use a stem that spikes once, or in each model step")
        check = _CHECKS.get(op_of(node))
        if check is not None and node.phase != Phase.END:
            check(graph, node, problems)


def held_bias(bias: Array, bias_exp: int) -> tuple[Array, Array]:
    """Split bias << bias_exp into what an alive spike can bring, as its weight, and a rest of 0..63."""
    whole = bias.astype(np.int64) << bias_exp
    return whole >> ALIGN, whole & (_UNIT - 1)


def round_held_biases(graph: Graph) -> Graph:
    """Round the biases that halting holds back to what synapses can bring: multiples of 64 of their unit.

    The result is another quantised graph, for every backend. The exponents of these biases become 6 or 7.

    Raises
    ------
    IRError
        Where the rounded biases break a bound of the graph.
    """
    nodes, tensors = list(graph.nodes), dict(graph.tensors)
    for place, node in enumerate(nodes):
        if not isinstance(node, FixedLinear) or "alive" not in graph.inputs(node):
            continue
        whole = graph.tensor(node, "bias").astype(np.int64) << node.bias_exp
        exp = ALIGN if np.abs(whole).max() + _UNIT // 2 <= BIAS_LIMIT << ALIGN else ALIGN + 1
        nodes[place] = replace(node, bias_exp=exp)
        rounded = (whole + (1 << exp >> 1)) >> exp
        tensors[f"{node.name}/bias"] = rounded.clip(-BIAS_LIMIT, BIAS_LIMIT).astype(np.int16)
    return replace(graph, nodes=tuple(nodes), tensors=tensors)


def _input(graph: Graph, node: FixedInput, problems: Problems) -> None:
    if node.encoding == "bias":
        what = "the image enters as bias currents, which a stock LIF takes once and for all images"
        problems.add(node.name, what, "use the input encoding graded")


def _integrate(graph: Graph, node: Node, problems: Problems) -> None:
    if node.phase != Phase.STEM:
        what = "it integrates over steps before the model steps"
        problems.add(node.name, what, "use a stem that spikes once, or in each model step")


def _weights(graph: Graph, node: FixedConv2d | FixedLinear, problems: Problems) -> None:
    _events(graph, node, "x", problems)
    weight, exponents = graph.tensor(node, "weight"), graph.tensor(node, "weight_exp")
    shifted = weight[exponents < 0]
    if (shifted % 2).any() and shifted.min() < 0:
        what = "odd weights of both signs, whose sum is shifted right, do not fit one stock synapse process"
        problems.add(f"{node.name}/weight", what, "use at most 8 bits")
    if isinstance(node, FixedLinear) and "alive" in graph.inputs(node):
        _held(graph, node, problems)


def _held(graph: Graph, node: FixedLinear, problems: Problems) -> None:
    """Biases that halting holds back come by synapses, which bring multiples of 64.

    A rest may stay constant where nobody reads a halted token's membrane again, and the rest alone does not
    make it fire.
    """
    rest = held_bias(graph.tensor(node, "bias"), node.bias_exp)[1]
    if not rest.any():
        return
    lifs = [graph.node(edge.dst) for edge in graph.consumers(node)]
    silent = all(isinstance(lif, FixedLIF) and _stays_silent(lif, int(rest.max())) for lif in lifs)
    for_good = graph.accumulators[0].mode == "rectangular" or graph.time_steps == 1
    if not (for_good and silent):
        what = f"halting holds back biases that are no multiple of {_UNIT}, the unit of stock synapses"
        problems.add(f"{node.name}/bias", what, "round them first (round_held_biases)")


def _stays_silent(lif: FixedLIF, bias: int) -> bool:
    threshold = lif.vth << ALIGN
    return ((threshold * (4096 - lif.dv)) >> 12) + bias <= threshold


def _lif(graph: Graph, node: FixedLIF, problems: Problems) -> None:
    source = graph.node(graph.inputs(node)["x"].src)
    if op_of(source) not in (Conv2d, Linear, SpikeMatMul, MaskedColumnSum):
        what = f"its input comes from {source.name}, a sum of currents"
        problems.add(node.name, what, "use the spikformer backbone, whose blocks add spikes")


def _add(graph: Graph, node: Node, problems: Problems) -> None:
    for port in ("a", "b"):
        _events(graph, node, port, problems)


def _score(graph: Graph, node: Node, problems: Problems) -> None:
    _events(graph, node, "z", problems)


def _halt(graph: Graph, node: HaltAccumulate, problems: Problems) -> None:
    if node.mode not in ("block", "rectangular"):
        what = f"mode {node.mode} needs the scores of a whole model step before the next one can start"
        problems.add(node.name, what, "use halting block, rectangular or off: stock LIFs cannot wait")


def _events(graph: Graph, node: Node, port: str, problems: Problems) -> None:
    value = graph.source_type(graph.inputs(node)[port])
    if value.kind not in EVENTS:
        what = f"its input {port} is a {value.kind}, stock neurons send spikes"
        problems.add(node.name, what, "use the spikformer backbone, whose blocks add spikes")


_CHECKS: dict[type[Node], Callable[[Graph, Any, Problems], None]] = {
    Input: _input,
    Integrate: _integrate,
    Conv2d: _weights,
    Linear: _weights,
    LIF: _lif,
    Add: _add,
    HaltingScore: _score,
    HaltAccumulate: _halt,
}
