"""What of a graph SANA-FE can say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    FixedInput,
    FixedLIF,
    FixedSynaptic,
    Graph,
    Map,
    Node,
    Phase,
    Stage,
    Tokens,
    op_of,
)

_CANNOT = {
    "SpikeMatMul": "multiplies spikes, a synapse multiplies a spike by a weight",
    "MaskedColumnSum": "multiplies spikes, a synapse multiplies a spike by a weight",
    "SpikeAnd": "multiplies spikes, a synapse multiplies a spike by a weight",
    "HeadSum": "sums spikes without weights, synapses there are those of a layer with weights",
    "Gate": "gates values, nothing there can",
    "HaltingScore": "looks a score up, no unit has tables",
    "ImageScore": "compares sums of classes, no unit does",
    "HaltAccumulate": "decides on halting, no unit can",
    "LateHaltAccumulate": "decides on halting, no unit can",
    "SpikeMaxPool": "is an OR of spikes in the step of its input, a neuron would take a step more",
    "MaxPool": "takes the largest value, a neuron there adds up",
    "SynapticCurrent": "outlasts a step, in units of its own that no neuron there has",
    "Slice": "takes some channels of a value, its connections are those of whole layers",
    "TokenMean": "sums the values of all tokens, spikes in one place arrive as one",
    "Integrate": "waits for all steps, neurons send in each",
    "Add": "sums two values, spikes in one place arrive as one",
}

_TOLD = 3
"""Kinds of refusals that a message names."""


def refusals(graph: Graph) -> tuple[str, ...]:
    """Tell, node by node, what SANA-FE cannot say of a graph; nothing where it can say it.

    What comes after the model steps is read off the spikes, and not looked at.
    """
    if graph.stage != Stage.QUANTISED:
        return (f"the graph is {graph.stage}: what is compared with a core is its integers",)
    found = []
    for node in graph.nodes:
        if node.phase == Phase.END:
            continue
        reason = _CANNOT.get(op_of(node).__name__) or _reason(graph, node)
        if reason:
            found.append(f"{node.name}: {op_of(node).__name__} {reason}")
    return tuple(found)


def cannot_say(reasons: Sequence[str]) -> InputError:
    """Make the error of `refusals`, by kind, the most frequent first; all of them as its `lines` if many."""
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        where, _, why = reason.partition(": ")
        kinds.setdefault(why, []).append(where)
    lines = [
        f"{len(nodes)} x {why}, e.g. {nodes[0]}" if len(nodes) > 1 else f"{nodes[0]}: {why}"
        for why, nodes in sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    ]
    more = f"; other kinds: {len(lines) - _TOLD}" if len(lines) > _TOLD else ""
    what = f"SANA-FE cannot say {len(reasons)} parts of the network: {'; '.join(lines[:_TOLD])}{more}"
    remedy = (
        "convert a feed-forward network of LIF, Linear and Conv2d layers: "
        "SANA-FE can say none with attention or halting"
    )
    error = InputError(what, remedy)
    error.lines = tuple(lines) if more else ()
    return error


def _reason(graph: Graph, node: Node) -> str | None:
    if node.phase != Phase.STEP:
        return f"runs in phase {node.phase}, all neurons step alike"
    if isinstance(node, FixedSynaptic):
        if "alive" in graph.inputs(node):
            return "has a bias that halting holds back"
        exponents, weight = (graph.tensor(node, p).astype(np.int64) for p in ("weight_exp", "weight"))
        lost = np.maximum(-exponents, 0).reshape(-1, *[1] * (weight.ndim - 1))
        if graph.tensor(node, "bias").any():
            return "has biases, which its neurons would add up before the first spike comes"
        if (weight & ((1 << lost) - 1)).any():
            return "rounds its sums, synapses add exact weights: use larger scales"
        targets = [graph.node(edge.dst) for edge in graph.consumers(node)]
        if len(targets) != 1 or not isinstance(targets[0], FixedLIF):
            return "ends in no LIF, or in several"
        if not isinstance(origin_of(graph, node, "x"), FixedLIF | FixedInput):
            return "takes no spikes"
    if isinstance(node, FixedLIF):
        if "alive" in graph.inputs(node):
            return "is gated by halting"
        if node.reset != "zero":
            return "is reset by subtraction"
        if not isinstance(graph.node(graph.inputs(node)["x"].src), FixedSynaptic):
            return "takes no synaptic input"
    return None


def origin_of(graph: Graph, node: Node, port: str) -> Node:
    """What sends the values that a node takes: a node between that only numbers them anew is passed."""
    source = graph.node(graph.inputs(node)[port].src)
    return origin_of(graph, source, "x") if isinstance(source, Map | Tokens) else source
