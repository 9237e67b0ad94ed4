"""Rules that tie halting together: the accumulators form one chain in block order, and Readout follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from stas_neuro.ir.ops import HaltAccumulate, HaltingScore, ImageScore, LateHaltAccumulate, Node
from stas_neuro.ir.policies import POLICIES
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.types import ValueType

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph

Types = Mapping[tuple[str, str], ValueType]


class _Place(NamedTuple):
    """Where an edge comes from."""

    node: str
    port: str
    delay: int


def check_halting(graph: Graph, types: Types, problems: Problems) -> None:
    """Add a problem for each accumulator off the chain and each port of Readout that disagrees with it."""
    accumulators = graph.accumulators
    if accumulators:
        _check_alike(graph, accumulators, problems)
        if problems.found:
            return
    for index in range(len(accumulators)):
        _check_link(graph, index, problems)
    _check_readout(graph, types, problems)


def _check_alike(graph: Graph, accumulators: tuple[HaltAccumulate, ...], problems: Problems) -> None:
    first = accumulators[0]
    for node in accumulators[1:]:
        if (node.mode, node.epsilon) != (first.mode, first.epsilon):
            what = (
                f"mode {node.mode}, epsilon {node.epsilon:g}; {first.name}: {first.mode}, {first.epsilon:g}"
            )
            problems.add(node.name, what, "all accumulators share mode and epsilon")
        if (late := _late(node)) != _late(first):
            what = f"late is {late}, that of {first.name} is {_late(first)}"
            problems.add(node.name, what, "all accumulators are late alike")
    wanted = POLICIES[first.mode].accumulators(graph.blocks)
    if len(accumulators) != wanted:
        what = f"{len(accumulators)} HaltAccumulate nodes in mode {first.mode} with {graph.blocks} blocks"
        problems.add("graph", what, f"this mode has {wanted}")
    for node in accumulators:
        if isinstance(node, LateHaltAccumulate):
            _check_lags(node, len(accumulators), problems)
        if node.last_block != (node is accumulators[-1]):
            what = f"last_block is {node.last_block}, in the order of the graph it is {not node.last_block}"
            problems.add(node.name, what, "set it on the accumulator of the last block, and on no other")
    if _late(first):
        _check_cap(accumulators, graph.time_steps, problems)


def _late(node: HaltAccumulate) -> int:
    return node.late if isinstance(node, LateHaltAccumulate) else 0


def _check_lags(node: LateHaltAccumulate, accumulators: int, problems: Problems) -> None:
    """Require a lag for each accumulator, of a policy that has late decisions."""
    if not POLICIES[node.mode].may_be_late:
        able = " and ".join(name for name, policy in POLICIES.items() if policy.may_be_late)
        remedy = f"only {able} halting have late decisions, the others are exact when pipelined"
        problems.add(node.name, f"late is {node.late} in mode {node.mode}", remedy)
    if len(node.lags) != accumulators:
        what = f"has {len(node.lags)} lags with late {node.late} and {accumulators} accumulators"
        problems.add(node.name, what, "give one lag for each accumulator")


def _check_cap(accumulators: tuple[HaltAccumulate, ...], steps: int, problems: Problems) -> None:
    """Require a cap on visits that ends them for good: a late decision does not know those before it."""
    closes = [steps if node.closes is None else min(node.closes, steps) for node in accumulators]
    if closes != sorted(closes, reverse=True) or closes[-1] < closes[0] - 1:
        what = f"closes is {', '.join(str(node.closes) for node in accumulators)} in the order of the blocks"
        remedy = "with late decisions, close all accumulators behind the first that closes in raster order"
        problems.add(accumulators[0].name, what, remedy)


def _check_link(graph: Graph, index: int, problems: Problems) -> None:
    """Require of an accumulator the alive and total that its policy hands on."""
    accumulators = graph.accumulators
    node, policy = accumulators[index], POLICIES[accumulators[index].mode]
    link = policy.mask_of(policy.scored_blocks(graph.blocks)[index], graph.blocks)
    for port in node.OPTIONAL:
        actual = _place(graph, node, port)
        wanted = _Place(accumulators[link.accumulator].name, port, link.delay) if link else None
        if actual != wanted:
            remedy = f"in mode {node.mode} it must be {_words(wanted)}"
            problems.add(f"{node.name}:{port}", f"is {_words(actual)}", remedy)
    score = graph.node(graph.inputs(node)["score"].src)
    wanted_score = ImageScore if policy.by_image else HaltingScore
    if not isinstance(score, wanted_score):
        what = f"comes from {score.name}, a {type(score).__name__}"
        remedy = f"connect a {wanted_score.__name__}" + (f" in mode {node.mode}" if policy.by_image else "")
        problems.add(f"{node.name}:score", what, remedy)


def _check_readout(graph: Graph, types: Types, problems: Problems) -> None:
    readout = graph.readout
    policy = None if _reads_means(graph, types) else POLICIES.get(graph.halting)
    context = f"with readout {readout.mode} and halting {graph.halting}"
    wanted = _readout_places(graph, by_visit=policy is not None)
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
    divides = policy is not None and policy.fills == "visit"
    if readout.normalise != (readout.mode == "mean-field" and divides):
        what = f"normalise is {readout.normalise} {context}"
        able = " or ".join(name for name, policy in POLICIES.items() if policy.fills == "visit")
        problems.add(readout.name, what, f"only mean-field over {able} halting does")


def _reads_means(graph: Graph, types: Types) -> bool:
    """Tell whether Readout reads what each step makes of all tokens, so that no visit is left to weigh."""
    accumulators, readout = graph.accumulators, graph.readout
    edge = graph.inputs(readout).get(f"z{readout.blocks - 1}")
    if not accumulators or edge is None:
        return False
    halting = types[accumulators[0].name, "alive"].shape[0]
    return types[edge.src, edge.src_port].shape[0] != halting


def _readout_places(graph: Graph, *, by_visit: bool) -> dict[str, _Place | None]:
    """Give the ports of Readout that must be connected, and what to (None: anything)."""
    readout, accumulators = graph.readout, graph.accumulators
    last = readout.blocks - 1
    if not by_visit:
        return {f"z{last}": None}
    places: dict[str, _Place | None] = {}
    scored = POLICIES[graph.halting].scored_blocks(readout.blocks)
    for block, node in zip(scored, accumulators, strict=True):
        # What the block's accumulator scored, the weight it gave, the mask under which the block ran.
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
