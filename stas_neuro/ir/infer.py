"""Types and proved bounds of all values of a graph, by the rules of its operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from stas_neuro.ir.ops import Gate, HaltAccumulate, Readout
from stas_neuro.ir.ops.base import BoundContext, Node, TypeContext, Untypable
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import Kind, ValueType

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph


def infer_types(graph: Graph, problems: Problems) -> dict[tuple[str, str], ValueType]:
    """Type every output port; add a problem for each value that a node cannot take."""
    types: dict[tuple[str, str], ValueType] = {}
    for node in graph.nodes:
        edges = graph.inputs(node).items()
        # Delayed values are typed by their source, later in the order: only alive and total ports take
        # them, and no output type hangs on those.
        inputs = {
            port: types[edge.src, edge.src_port]
            for port, edge in edges
            if not edge.delay and (edge.src, edge.src_port) in types
        }
        try:
            outputs = node.infer(TypeContext(node, graph, inputs, problems))
        except Untypable:
            continue
        types.update({(node.name, port): value for port, value in outputs.items()})
    _check_gates(graph, types, problems)
    return types


def infer_bounds(
    graph: Graph, types: Mapping[tuple[str, str], ValueType], problems: Problems
) -> dict[tuple[str, str], ValueType]:
    """Return the types of a quantised graph with the proved bounds of their values.

    The rules take the ranges at a node's inputs and give those at its outputs, whatever the image: overflow
    is impossible. What is too large for a core, or for the processor beside it, is a problem.
    """
    ranges: dict[tuple[str, str], Range] = {}
    for node in graph.nodes:
        inputs = {
            port: ranges[edge.src, edge.src_port]
            for port, edge in graph.inputs(node).items()
            if (edge.src, edge.src_port) in ranges
        }
        outputs = node.bound(BoundContext(node, graph, inputs, types, problems))
        ranges.update({(node.name, port): value for port, value in outputs.items()})
    return {key: replace(value, bound=ranges[key].high, low=ranges[key].low) for key, value in types.items()}


def _check_gates(graph: Graph, types: Mapping[tuple[str, str], ValueType], problems: Problems) -> None:
    """Check the ports that take a token mask or a halting sum; no other port takes a delayed edge."""
    for edge in graph.edges:
        node, value = graph.node(edge.dst), types.get((edge.src, edge.src_port))
        companion = gated_port(node, edge.dst_port)
        if companion is None:
            if edge.delay:
                problems.add(str(edge), "is delayed", "only alive, total and token masks may be")
            continue
        kind = Kind.MEMBRANE if edge.dst_port == "total" else Kind.MASK
        if value is not None and value.kind != kind:
            problems.add(f"{edge.dst}:{edge.dst_port}", f"is {value}", f"connect a {kind} of HaltAccumulate")
        along = graph.inputs(node).get(companion)
        gated = types.get((along.src, along.src_port)) if along else None
        if value is not None and gated is not None:
            rank = 1 if isinstance(node, HaltAccumulate) else 2
            # The total of late decisions has a row for each score, which their accumulator has typed.
            shape = value.shape[-1:] if edge.dst_port == "total" else value.shape
            if len(gated.shape) != rank or shape != gated.shape[:1]:
                what = f"has shape {value.shape} beside {companion} {gated.shape}"
                problems.add(f"{edge.dst}:{edge.dst_port}", what, "connect one value a token of (N, D)")


def gated_port(node: Node, port: str) -> str | None:
    """Return the input port whose tokens `port` masks, None if `port` takes no mask."""
    if isinstance(node, Readout):
        return port.replace("alive", "z") if port.startswith("alive") else None
    if isinstance(node, HaltAccumulate):
        return "score" if port in ("alive", "total") else None
    if isinstance(node, Gate):
        return "x" if port == "mask" and node.axis == "token" else None
    return "x" if port == "alive" else None
