"""Types and proved bounds of all values of a graph, by the rules of its operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from stas_neuro.ir.ops.base import BoundContext, TypeContext, Untypable
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import ValueType

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
        mask = node.mask_port(edge.dst_port)
        if mask is None:
            if edge.delay:
                problems.add(str(edge), "is delayed", "only alive, total and token masks may be")
            continue
        if value is not None and value.kind != mask.kind:
            remedy = f"connect a {mask.kind} of HaltAccumulate"
            problems.add(f"{edge.dst}:{edge.dst_port}", f"is {value}", remedy)
        along = graph.inputs(node).get(mask.along)
        gated = types.get((along.src, along.src_port)) if along else None
        if value is not None and gated is not None:
            # The total of late decisions has a row for each score, which their accumulator has typed.
            shape = value.shape[-1:] if edge.dst_port == "total" else value.shape
            if len(gated.shape) != mask.rank or shape != gated.shape[:1]:
                what = f"has shape {value.shape} beside {mask.along} {gated.shape}"
                remedy = "connect one value a token of (N, D); blocks that halt together have the same N"
                problems.add(f"{edge.dst}:{edge.dst_port}", what, remedy)
