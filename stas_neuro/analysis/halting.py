"""What halting does to a network: its mode, and which mask says who visits a block."""

from __future__ import annotations

from stas_neuro.ir import Edge, Graph, HaltAccumulate, HaltingScore, Node

Mask = tuple[str, str, int]
"""Where a mask of tokens comes from: node, port, and how many model steps late."""


def halts(graph: Graph) -> bool:
    """Tell whether tokens halt."""
    return bool(graph.accumulators)


def halting_mode(graph: Graph) -> str:
    """Name the halting of a graph, `off` where there is none."""
    return graph.accumulators[0].mode if halts(graph) else "off"


def lateness(graph: Graph) -> int:
    """Count the hardware steps by which halting decisions are late, 0 also where there are none."""
    return graph.accumulators[0].late if halts(graph) else 0


def accumulator_of(graph: Graph, block: int) -> HaltAccumulate | None:
    """Give the accumulator under whose mask a block runs, the only one of mode time; None without halting."""
    accumulators = graph.accumulators
    return accumulators[min(block, len(accumulators) - 1)] if accumulators else None


def own_block(graph: Graph, accumulator: HaltAccumulate) -> int:
    """Number the block that an accumulator runs with; the first where it is that of all, who visit alike."""
    return graph.accumulators.index(accumulator)


def visit_mask(graph: Graph, block: int) -> Edge | None:
    """Give the edge with the mask of who visits a block; None where all tokens do."""
    accumulator = accumulator_of(graph, block)
    return None if accumulator is None else graph.inputs(accumulator).get("alive")


def score_mask(graph: Graph, score: HaltingScore) -> Edge | None:
    """Give the edge with the mask of the visits that a score belongs to; None where all tokens visit."""
    for edge in graph.consumers(score):
        if (mask := graph.inputs(edge.dst).get("alive")) is not None:
            return mask
    return None


def mask_heard(graph: Graph, node: Node | str) -> Mask | None:
    """Tell where the mask of a node's visits comes from; None where it hears of no halting.

    Nodes with equal masks compute the tokens of the same visits.
    """
    mask = graph.inputs(node).get("alive")
    return None if mask is None else place_of(mask)


def place_of(mask: Edge) -> Mask:
    """Tell where an edge brings a mask from."""
    return mask.src, mask.src_port, mask.delay
