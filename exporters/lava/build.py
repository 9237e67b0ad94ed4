"""From a folded or a quantised graph to the neutral network that Lava processes are built from."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from stas_neuro.analysis import score_mask
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.network import FIXED, FLOAT, Layer, Network, Value, Wire
from stas_neuro.ir import Edge, FixedLIF, Graph, HaltingScore, Node, Stage, op_of

_COMMON = {field.name for field in fields(Node)}
_STOOD_FOR = {"tau", "threshold", "scale", "alpha", "beta", "epsilon"}
"""What a quantised node keeps of its float one, and computes with integers that stand for it."""
_ARITHMETIC = {Stage.FOLDED: FLOAT, Stage.QUANTISED: FIXED}


def build_network(graph: Graph) -> Network:
    """Translate `graph` node by node; names, ports and tensors stay as they are. It is on no cores.

    Raises
    ------
    InputError
        The graph still has BatchNorm nodes.
    """
    if graph.stage not in _ARITHMETIC:
        raise InputError(
            f"the graph is {graph.stage}, Lava runs a folded or a quantised one", "fold it first"
        )
    return Network(
        arithmetic=_ARITHMETIC[graph.stage],
        time_steps=graph.time_steps,
        layers=tuple(_layer(graph, node) for node in graph.nodes),
        wires=tuple(_wire(edge) for edge in graph.edges) + _score_masks(graph),
        tensors=dict(graph.tensors),
        classes=graph.classes,
        mean=graph.preprocessing.mean,
        std=graph.preprocessing.std,
    )


def _layer(graph: Graph, node: Node) -> Layer:
    types = ((port, graph.types[node.name, port]) for port in node.OUTPUTS)
    return Layer(
        name=node.name,
        op=op_of(node).__name__,
        phase=str(node.phase),
        params=_params(node),
        outputs={port: Value(str(value.kind), value.shape) for port, value in types},
    )


def _params(node: Node) -> dict[str, Any]:
    params = {field.name: getattr(node, field.name) for field in fields(node) if field.name not in _COMMON}
    if op_of(node) is type(node):
        return params
    if isinstance(node, FixedLIF):
        params["fire"] = ">"  # all that a core compares by: where the float neuron has >=, vth is one lower
    return {key: value for key, value in params.items() if key not in _STOOD_FOR}


def _wire(edge: Edge) -> Wire:
    return Wire(src=edge.src, src_port=edge.src_port, dst=edge.dst, dst_port=edge.dst_port, delay=edge.delay)


def _score_masks(graph: Graph) -> tuple[Wire, ...]:
    """Wire the mask of each accumulator to its score too: only visited tokens' scores are looked up."""
    masks = ((score, score_mask(graph, score)) for score in graph.of_type(HaltingScore))
    return tuple(_wire(replace(mask, dst=score.name)) for score, mask in masks if mask is not None)
