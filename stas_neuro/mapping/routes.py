"""Routes of a mapped network: the cores that each neuron sends to, and the hops and chip crossings.

A neuron's value is needed on a core if a piece on it depends on the value through nodes without neurons: the
summands of a sum are sent to all receivers of the sum. Each core receives a value once, however many of its
pieces need it: a neuron sends one copy to each such core, including its own.

A value is sent to all cores that need it when it is computed, as it is not yet known which tokens will have
halted when it is used. A value that is computed once but needed in model steps is sent again in each of them,
for the tokens visited in that step by the first block that it reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import extent, works_in
from stas_neuro.ir import Graph, Node, Phase
from stas_neuro.ir.ops.base import Wanted, folded
from stas_neuro.mapping.check import check_mapping
from stas_neuro.mapping.distances import Steps, between, places_of
from stas_neuro.mapping.mapping import Mapping, Piece
from stas_neuro.mapping.reach import Need, Reach, join

Index = tuple[NDArray[np.intp], ...]
"""Of values (positions, features); of positions alone for all their features, which is faster to look up."""
_Key = tuple[str, Phase, int | None]
"""Of a route: source, phase and block."""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Route:
    """Route of a source's values in the steps of a phase.

    Parameters
    ----------
    source : str
        Node with the neurons.
    phase : Phase
        Phase they are sent in: the source's own, or `step` for values computed once.
    block : int or None
        Block whose visits determine the tokens for which values are sent; None for all tokens. For a
        `HaltAccumulate` it is its own block: it sends a message for each visited token, whatever the score
        (`total` and `p`).
    tokens : bool (N, positions) or None
        Tokens that the values of each position reach: they are sent while one of these is visited. None where
        position n is token n.
    copies, hops_x, hops_y, chip_crossings : int64 (positions, features)
        For one value of each neuron: number of cores it is sent to, and the hops and chip crossings of all
        these messages.
    """

    source: str
    phase: Phase
    block: int | None
    tokens: Wanted | None
    copies: Steps
    hops_x: Steps
    hops_y: Steps
    chip_crossings: Steps


@dataclass(frozen=True, eq=False)
class Arrival:
    """Values that reach a core from outside the cores: pixels, or results of a processor.

    `receiver` is the node that receives them, `core` the core of its piece, and `wanted`, bool (positions,
    features), which values of the source are needed.
    """

    source: str
    phase: Phase
    receiver: str
    core: int
    wanted: Wanted


@dataclass(frozen=True, eq=False)
class Routes:
    """All routes of a mapped network.

    Parameters
    ----------
    routes : tuple of Route
        Each pair of a neuron and a target core occurs once per phase.
    arrivals : tuple of Arrival
    input_axons : int64 (cores,)
        Number of distinct neurons and pixels whose values each core receives.
    output_axons : int64 (cores,)
        Number of copies that all neurons on each core send.
    """

    routes: tuple[Route, ...]
    arrivals: tuple[Arrival, ...]
    input_axons: NDArray[np.int64]
    output_axons: NDArray[np.int64]


def needed(
    graph: Graph, layer: str, positions: tuple[int, ...], features: tuple[int, int]
) -> dict[str, Wanted]:
    """Return the values that a piece of a layer depends on, bool (positions, features), by source node."""
    return merged(Reach(graph).of(layer, positions, features))


def merged(needs: dict[Need, Wanted]) -> dict[str, Wanted]:
    """Return the values needed in any step or visit, bool (positions, features), by source node."""
    wanted: dict[str, Wanted] = {}
    for need, values in needs.items():
        join(wanted, need.source, values)
    return wanted


def routes(graph: Graph, mapping: Mapping) -> Routes:
    """Return the routes of every value of a graph to the cores that need it.

    Raises
    ------
    InputError
        If the mapping is not a mapping of this graph.
    """
    check_mapping(graph, mapping)
    reach = Reach(graph)
    homes = {layer: _Homes.of(graph, mapping, layer) for layer in mapping.layers}
    arrivals: list[Arrival] = []
    input_axons = np.zeros(len(mapping.cores), np.int64)
    taken: _Receivers[str] = _Receivers()
    sent: _Receivers[_Key] = _Receivers()
    for core, needs in _needs_of_cores(reach, mapping):
        for source, values in merged(needs).items():
            if source in homes:
                taken.add(source, values, core)
            if not graph.node(source).off_core:
                input_axons[core] += count(values)
        for need, phase, values in _sent(graph, needs):
            if need.source in homes:
                sent.add((need.source, phase, need.block), values, core)
            else:
                arrivals.append(Arrival(need.source, phase, need.receiver, core, values))
    output_axons = np.zeros(len(mapping.cores), np.int64)
    for source, index, cores in taken:
        home = homes[source]
        output_axons[home.cores] += np.bincount(home.number[index].ravel(), minlength=len(home.cores)) * len(
            cores
        )
    draft: dict[_Key, Route] = {}
    places = places_of(mapping.cores)
    for key, index, cores in sent:
        source, _, block = key
        if key not in draft:
            tokens = reach.tokens(source) if block is not None else None
            draft[key] = _empty_route(graph, *key, tokens)
        home = homes[source]
        number = home.number[index]
        draft[key].copies[index] += len(cores)
        ways = between(places[:, home.cores, None], places[:, None, cores])
        for name, way in ways.items():
            getattr(draft[key], name)[index] += way.sum(axis=1)[number]
    return Routes(tuple(draft.values()), tuple(arrivals), input_axons, output_axons)


def _needs_of_cores(reach: Reach, mapping: Mapping) -> Iterator[tuple[int, dict[Need, Wanted]]]:
    """Yield each core with the values that its pieces need."""
    held: dict[int, list[Piece]] = {}
    for piece in mapping.pieces:
        held.setdefault(piece.core, []).append(piece)
    for core, pieces in sorted(held.items()):
        needs: dict[Need, Wanted] = {}
        for piece in pieces:
            for need, values in reach.of(piece.layer, piece.positions, piece.features).items():
                join(needs, need, values)
        yield core, needs


class _Receivers(Generic[T]):
    """Cores that need values, by what the values are of; those that need the same values are together."""

    def __init__(self) -> None:
        self._of: dict[tuple[T, bytes], tuple[Index, list[int]]] = {}

    def add(self, key: T, values: Wanted, core: int) -> None:
        index, name = index_of(values)
        self._of.setdefault((key, name), (index, []))[1].append(core)

    def __iter__(self) -> Iterator[tuple[T, Index, list[int]]]:
        for (key, _), (index, cores) in self._of.items():
            yield key, index, cores


def count(values: Wanted) -> int:
    """Count the values."""
    few = folded(values)
    return int(np.count_nonzero(few)) * (values.size // few.size)


def index_of(values: Wanted) -> tuple[Index, bytes]:
    """Return the index of the values, in row-major order, and a name that only equal ones have.

    Most are all combinations of some positions and some features, whose index is short.
    """
    few = folded(values)
    positions, features = (
        np.flatnonzero(np.broadcast_to(few.any(axis=1 - axis), values.shape[axis])) for axis in (0, 1)
    )
    if len(positions) * len(features) == count(values):
        name = np.intp(len(positions)).tobytes() + positions.tobytes() + features.tobytes()
        return (positions,) if len(features) == values.shape[1] else np.ix_(positions, features), name
    return np.nonzero(values), b"any" + np.packbits(values).tobytes()


def _sent(graph: Graph, needs: dict[Need, Wanted]) -> Iterator[tuple[Need, Phase, Wanted]]:
    """Yield each value that a core needs in a phase once, under the first block that opens its path."""
    seen: dict[tuple[str, Phase], Wanted] = {}
    for need in sorted(needs, key=lambda need: -1 if need.block is None else need.block):
        source = graph.node(need.source)
        phase = _sent_in(graph, source, graph.node(need.receiver))
        again = phase != source.phase or source.traits.sends_if_visited
        key = need.source, phase
        values = needs[need]
        if key in seen:
            values = np.broadcast_to(folded(values) & ~folded(seen[key]), values.shape)
        join(seen, key, values)
        if folded(values).any():
            yield need if again else need._replace(block=None), phase, values


def _sent_in(graph: Graph, source: Node, receiver: Node) -> Phase:
    """Return the phase in which a value is sent; values written by the processor persist."""
    if source.phase != Phase.ONCE or source.off_core:
        return source.phase
    return works_in(graph, receiver)


@dataclass(frozen=True, eq=False)
class _Homes:
    """Cores of a layer, int (pieces,), and the number of each neuron's among them, (positions, features)."""

    cores: NDArray[np.intp]
    number: NDArray[np.intp]

    @staticmethod
    def of(graph: Graph, mapping: Mapping, layer: str) -> _Homes:
        number = np.zeros(extent(graph, graph.node(layer)), np.intp)
        pieces = mapping.of_layer(layer)
        for at, piece in enumerate(pieces):
            number[list(piece.positions), slice(*piece.features)] = at
        return _Homes(np.array([piece.core for piece in pieces], np.intp), number)


def _empty_route(graph: Graph, source: str, phase: Phase, block: int | None, tokens: Wanted | None) -> Route:
    zeros = [np.zeros(extent(graph, graph.node(source)), np.int64) for _ in range(4)]
    return Route(source, phase, block, tokens, *zeros)
