"""Facts about halting: which accumulator masks a block, and which mask a node or a score belongs to."""

from __future__ import annotations

from stas_neuro.ir import POLICIES, Edge, Graph, HaltAccumulate, HaltingScore, ImageScore, Node

Mask = tuple[str, str, int]
"""Source of a mask of tokens: node, port, and delay in model steps."""


def accumulator_of(graph: Graph, block: int) -> HaltAccumulate | None:
    """Return the accumulator whose mask a block runs under; None without halting."""
    if not graph.accumulators:
        return None
    return graph.accumulators[block if POLICIES[graph.halting].per_block else 0]


def own_block(graph: Graph, accumulator: HaltAccumulate) -> int:
    """Return the number of the block that an accumulator runs with.

    It is the first block where one accumulator masks all of them, which then have the same visits.
    """
    return graph.accumulators.index(accumulator)


def visit_mask(graph: Graph, block: int) -> Edge | None:
    """Return the edge with the mask of a block's visits; None if all tokens visit it."""
    accumulator = accumulator_of(graph, block)
    return None if accumulator is None else graph.inputs(accumulator).get("alive")


def score_mask(graph: Graph, score: HaltingScore | ImageScore) -> Edge | None:
    """Return the edge with the mask of the visits that a score belongs to; None if all tokens visit."""
    for edge in graph.consumers(score):
        if (mask := graph.inputs(edge.dst).get("alive")) is not None:
            return mask
    return None


def mask_heard(graph: Graph, node: Node | str) -> Mask | None:
    """Return the source of the mask of a node's visits; None if the node takes no mask.

    Nodes with equal masks compute the tokens of the same visits.
    """
    mask = graph.inputs(node).get("alive")
    return None if mask is None else place_of(mask)


def place_of(mask: Edge) -> Mask:
    """Return the source of an edge with a mask."""
    return mask.src, mask.src_port, mask.delay
