"""Which floats hold the integers of a node exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from stas_neuro.ir import EXACT_LIMIT, Graph, Node, Range, op_of
from stas_neuro.reference.ops import RULES

Dtype = type[np.floating[Any]]


def exact_dtype(graph: Graph, node: Node) -> Dtype:
    """Give the smallest of float32 and float64 that is exact for all integers a node of the graph meets.

    It is shown from the bounds that the graph has proved.
    """
    found: Dtype = graph.derived(("exact dtype", node), lambda: _exact(graph, node))
    return found


def _exact(graph: Graph, node: Node) -> Dtype:
    largest = _largest(graph, node)
    # A graph whose integers could pass this is not made: the operation's `bound`.
    assert largest <= EXACT_LIMIT, f"{node.name} meets {largest}"
    return np.float32 if largest <= 2**24 else np.float64


def _largest(graph: Graph, node: Node) -> int:
    """Bound the magnitudes that a node takes, gives, or meets between the two."""
    ports = {port: graph.source_type(edge) for port, edge in graph.inputs(node).items()}
    ports |= {port: graph.types[node.name, port] for port in node.OUTPUTS}
    size = {port: Range(value.low, value.bound or 0).magnitude for port, value in ports.items()}
    rules = RULES.get(op_of(node))  # the ends of a run compute nothing
    return max(rules.between(graph, node, size) if rules else 0, *size.values())
