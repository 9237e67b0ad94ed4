"""Rules that tie halting together: the accumulators form one chain in block order, and Readout follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stas_neuro.ir.nodes import Edge, HaltAccumulate, Readout
from stas_neuro.ir.problems import Problems

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph


def check_halting(graph: Graph, problems: Problems) -> None:
    """Add a problem for each accumulator off the chain and each port of Readout that disagrees with it."""
    accumulators = graph.accumulators
    if accumulators:
        _check_alike(graph, accumulators, problems)
        for index in range(len(accumulators)):
            _check_link(graph, index, problems)
    _check_readout(graph, graph.readout, problems)


def _check_alike(graph: Graph, accumulators: tuple[HaltAccumulate, ...], problems: Problems) -> None:
    first = accumulators[0]
    for node in accumulators[1:]:
        if (node.mode, node.epsilon) != (first.mode, first.epsilon):
            what = (
                f"{node.mode} to 1 - {node.epsilon:g}, but {first.name} {first.mode} to 1 - {first.epsilon:g}"
            )
            problems.add(node.name, what, "all accumulators share mode and epsilon")
    wanted = 1 if first.mode == "time" else graph.blocks
    if len(accumulators) != wanted:
        what = f"{len(accumulators)} HaltAccumulate nodes in mode {first.mode} with {graph.blocks} blocks"
        problems.add("graph", what, f"this mode has {wanted}")
    for node in accumulators:
        if node.last_block != (node is accumulators[-1]):
            what = f"last_block is {node.last_block}, in the order of the graph it is {not node.last_block}"
            problems.add(node.name, what, "set it on the accumulator of the last block, and on no other")


def _check_link(graph: Graph, index: int, problems: Problems) -> None:
    """Require alive and total of the accumulator before; raster and time close the chain over a step."""
    accumulators = graph.accumulators
    node = accumulators[index]
    carried = node.mode in ("raster", "time")
    source = accumulators[index - 1].name if index or carried else None
    delay = 0 if index else 1
    for port in node.OPTIONAL:
        edge = graph.inputs(node).get(port)
        actual = (edge.src, edge.src_port, edge.delay) if edge else None
        wanted = (source, port, delay) if source else None
        if actual != wanted:
            where = f"{node.name}:{port}"
            problems.add(where, f"is {_place(actual)}", f"in mode {node.mode} it must be {_place(wanted)}")


def _place(source: tuple[str, str, int] | None) -> str:
    if source is None:
        return "left open"
    return f"connected to {source[0]}:{source[1]}" + (" delayed by a step" if source[2] else "")


def _check_readout(graph: Graph, readout: Readout, problems: Problems) -> None:
    edges = graph.inputs(readout)
    accumulators = graph.accumulators
    every, last = set(range(readout.blocks)), {readout.blocks - 1}
    by_block = bool(accumulators) and accumulators[0].mode != "time"
    weighted = readout.mode == "mean-field"
    blocks = every if by_block else last
    wanted = {f"z{block}" for block in blocks}
    if weighted and accumulators:
        wanted |= {f"p{block}" for block in blocks}
    masks = {
        f"alive{block}": graph.inputs(accumulators[block if by_block else 0]).get("alive")
        for block in (blocks if accumulators and not weighted else ())
        if not by_block or block < len(accumulators)
    }
    wanted |= {port for port, edge in masks.items() if edge is not None}
    mode = accumulators[0].mode if accumulators else "off"
    for port in sorted(wanted ^ edges.keys()):
        where = f"{readout.name}:{port}"
        state = "left open" if port in wanted else "connected"
        remedy = "connect it" if port in wanted else "leave it open"
        problems.add(where, f"is {state} with readout {readout.mode} and halting {mode}", remedy)
    for port in sorted(wanted & edges.keys()):
        _check_source(graph, port, edges[port], masks, by_block, problems)
    if readout.normalise != (weighted and mode == "rectangular"):
        what = f"normalise is {readout.normalise} with readout {readout.mode} and halting {mode}"
        problems.add(readout.name, what, "it is true for mean-field over rectangular halting, and only there")


def _check_source(
    graph: Graph, port: str, edge: Edge, masks: dict[str, Edge | None], by_block: bool, problems: Problems
) -> None:
    """Require the mask that the block saw, and the weight that its accumulator made."""
    where = f"{graph.readout.name}:{port}"
    actual = (edge.src, edge.src_port, edge.delay)
    if port.startswith("alive"):
        mask = masks[port]
        wanted = (mask.src, mask.src_port, mask.delay) if mask else None
    elif port.startswith("p"):
        block = int(port[1:]) if by_block else 0
        if block >= len(graph.accumulators):
            return
        wanted = (graph.accumulators[block].name, "p", 0)
    else:
        return
    if actual != wanted:
        problems.add(where, f"is {_place(actual)}", f"it must be {_place(wanted)}")
