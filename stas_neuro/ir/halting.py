"""Rules that tie halting together: the accumulators form one chain in block order, and Readout follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stas_neuro.ir.ops import HaltAccumulate, HaltingScore, Node
from stas_neuro.ir.problems import Problems

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph


class _Place(NamedTuple):
    """Where an edge comes from."""

    node: str
    port: str
    delay: int


def check_halting(graph: Graph, problems: Problems) -> None:
    """Add a problem for each accumulator off the chain and each port of Readout that disagrees with it."""
    accumulators = graph.accumulators
    if accumulators:
        _check_alike(graph, accumulators, problems)
        if problems.found:
            return
    for index in range(len(accumulators)):
        _check_link(graph, index, problems)
    _check_readout(graph, problems)


def _check_alike(graph: Graph, accumulators: tuple[HaltAccumulate, ...], problems: Problems) -> None:
    first = accumulators[0]
    for node in accumulators[1:]:
        if (node.mode, node.epsilon) != (first.mode, first.epsilon):
            what = (
                f"mode {node.mode}, epsilon {node.epsilon:g}; {first.name}: {first.mode}, {first.epsilon:g}"
            )
            problems.add(node.name, what, "all accumulators share mode and epsilon")
        if node.late != first.late:
            what = f"late is {node.late}, that of {first.name} is {first.late}"
            problems.add(node.name, what, "all accumulators are late alike")
    wanted = 1 if first.mode == "time" else graph.blocks
    if len(accumulators) != wanted:
        what = f"{len(accumulators)} HaltAccumulate nodes in mode {first.mode} with {graph.blocks} blocks"
        problems.add("graph", what, f"this mode has {wanted}")
    for node in accumulators:
        _check_lags(node, len(accumulators), problems)
        if node.last_block != (node is accumulators[-1]):
            what = f"last_block is {node.last_block}, in the order of the graph it is {not node.last_block}"
            problems.add(node.name, what, "set it on the accumulator of the last block, and on no other")


def _check_lags(node: HaltAccumulate, accumulators: int, problems: Problems) -> None:
    """Require a lag for each accumulator where decisions are late, and nothing of it elsewhere."""
    if node.late and node.mode not in ("raster", "time"):
        remedy = "only raster and time halting have late decisions, the others are exact when pipelined"
        problems.add(node.name, f"late is {node.late} in mode {node.mode}", remedy)
    wanted = accumulators if node.late else 0
    if len(node.lags) != wanted:
        what = f"has {len(node.lags)} lags with late {node.late} and {accumulators} accumulators"
        problems.add(node.name, what, "give one lag for each accumulator, none where nothing is late")


def _check_link(graph: Graph, index: int, problems: Problems) -> None:
    """Require alive and total of the accumulator before; raster and time close the chain over a step."""
    accumulators = graph.accumulators
    node = accumulators[index]
    carried = node.mode in ("raster", "time")
    source = accumulators[index - 1].name if index or carried else None
    for port in node.OPTIONAL:
        actual = _place(graph, node, port)
        wanted = _Place(source, port, 0 if index else 1) if source else None
        if actual != wanted:
            remedy = f"in mode {node.mode} it must be {_words(wanted)}"
            problems.add(f"{node.name}:{port}", f"is {_words(actual)}", remedy)
    score = graph.node(graph.inputs(node)["score"].src)
    if not isinstance(score, HaltingScore):
        what = f"comes from {score.name}, a {type(score).__name__}"
        problems.add(f"{node.name}:score", what, "connect a HaltingScore")


def _check_readout(graph: Graph, problems: Problems) -> None:
    readout = graph.readout
    mode = graph.accumulators[0].mode if graph.accumulators else "off"
    context = f"with readout {readout.mode} and halting {mode}"
    wanted = _readout_places(graph)
    connected = graph.inputs(readout)
    for port in readout.input_ports:
        actual = _place(graph, readout, port)
        # Without halting there is no accumulator that knows the last block's value: any will do.
        if port in wanted and actual is not None and actual != (wanted[port] or actual):
            remedy = f"{context} it must be {_words(wanted[port])}"
            problems.add(f"{readout.name}:{port}", f"is {_words(actual)}", remedy)
        elif (port in wanted) != (port in connected):
            remedy = "connect it" if port in wanted else "leave it open"
            problems.add(f"{readout.name}:{port}", f"is {_words(actual)} {context}", remedy)
    if readout.normalise != (readout.mode == "mean-field" and mode == "rectangular"):
        what = f"normalise is {readout.normalise} {context}"
        problems.add(readout.name, what, "only mean-field over rectangular halting does")


def _readout_places(graph: Graph) -> dict[str, _Place | None]:
    """Give the ports of Readout that must be connected, and what to (None: anything)."""
    readout, accumulators = graph.readout, graph.accumulators
    last = readout.blocks - 1
    if not accumulators:
        return {f"z{last}": None}
    places: dict[str, _Place | None] = {}
    for block in range(readout.blocks) if accumulators[0].mode != "time" else (last,):
        # What the block's accumulator scored, the weight it gave, the mask under which the block ran.
        node = accumulators[min(block, len(accumulators) - 1)]
        score = graph.node(graph.inputs(node)["score"].src)
        places[f"z{block}"] = _place(graph, score, "z")
        if readout.mode == "mean-field":
            places[f"p{block}"] = _Place(node.name, "p", 0)
        elif "alive" in graph.inputs(node):
            places[f"alive{block}"] = _place(graph, node, "alive")
    return places


def _place(graph: Graph, node: Node, port: str) -> _Place | None:
    edge = graph.inputs(node).get(port)
    return _Place(edge.src, edge.src_port, edge.delay) if edge else None


def _words(place: _Place | None) -> str:
    if place is None:
        return "left open"
    return f"connected to {place.node}:{place.port}" + (" delayed by a step" if place.delay else "")
