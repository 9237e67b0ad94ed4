"""Values that regions of layers receive, as products of positions and features.

What an operation takes at a port, for some features at some positions, is a product again: its positions
depend on the positions alone, its features on the features alone (`Node.needs`). So each half is computed
once for each operation, however many regions have it. Sets are integers, whose bit n is element n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import Graph, Node
from stas_neuro.ir.ops.base import anywhere, same_values
from stas_neuro.mapping.reach import Reach

Elements = int
"""A set of positions or of features."""
Values = tuple[tuple[Elements, Elements], ...]
"""Values of a source: positions and features of products, no two of which share a feature."""


def elements(numbers: Sequence[int]) -> Elements:
    """Return the set of some numbers; they ascend if they are a range."""
    if isinstance(numbers, range):
        return (1 << numbers.stop) - (1 << numbers.start)
    found = 0
    for number in numbers:
        found |= 1 << number
    return found


def index_of(members: Elements) -> NDArray[np.intp]:
    """Return the elements of a set, ascending."""
    return np.flatnonzero(flags(members, members.bit_length()))


def count(values: Values) -> int:
    """Count values."""
    counted = 0
    for positions, features in values:
        counted += positions.bit_count() * features.bit_count()
    return counted


def union(first: Values, second: Values) -> Values:
    """Return the values that are in either."""
    if not first or first == second:
        return second
    joined: dict[Elements, Elements] = {}

    def add(positions: Elements, features: Elements) -> None:
        if positions and features:
            joined[positions] = joined.get(positions, 0) | features

    others = 0
    for _, features in second:
        others |= features
    for positions, features in first:
        add(positions, features & ~others)
    for positions, features in second:
        rest = features
        for before, of_before in first:
            add(positions | before, features & of_before)
            rest &= ~of_before
        add(positions, rest)
    return tuple(joined.items())


def difference(values: Values, without: Values) -> Values:
    """Return the values that are not in `without`."""
    left = []
    for positions, features in values:
        rest = features
        for others, of_others in without:
            left.append((positions & ~others, features & of_others))
            rest &= ~of_others
        left.append((positions, rest))
    return tuple(each for each in left if all(each))


class Inputs:
    """Finds the values that regions receive: those that cross from another core, or could."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._reach = Reach(graph)
        self._behind: dict[str, list[tuple[Node, dict[str, list[str]]]]] = {}
        """Each layer and the nodes between it and its sources, last first, with who sends to each port."""
        self._halves: dict[tuple[str, int, Elements], dict[str, Elements]] = {}
        """What each node takes at its ports along an axis, for some positions (0) or features (1)."""
        self._found: dict[tuple[str, Elements, Elements], dict[str, Values]] = {}

    def of(self, layer: str, positions: Elements, features: Elements) -> dict[str, Values]:
        """Return the values that a region receives, by source; those of a processor need no axons."""
        key = layer, positions, features
        if key not in self._found:
            self._found[key] = self._traced(*key)
        return self._found[key]

    def _traced(self, layer: str, positions: Elements, features: Elements) -> dict[str, Values]:
        """Trace values back to their sources, as `Reach.of` does."""
        found: dict[str, Values] = {}
        pending: dict[str, Values] = {layer: ((positions, features),)}
        for node, ports in self._nodes_behind(layer):
            for at, of in pending.pop(node.name, ()):
                rows, columns = self._half(node, ports, 0, at), self._half(node, ports, 1, of)
                for port, positions_taken in rows.items():
                    pulled = ((positions_taken, columns[port]),)
                    for source in ports[port] if all(pulled[0]) else ():
                        into = found if source in self._reach.sources else pending
                        into[source] = union(into.get(source, ()), pulled)
        return {source: values for source, values in found.items() if not self.graph.node(source).off_core}

    def _nodes_behind(self, layer: str) -> list[tuple[Node, dict[str, list[str]]]]:
        if layer not in self._behind:
            waiting, behind = {layer}, []
            for node in reversed(self.graph.nodes):
                if not waiting:
                    break
                if node.name in waiting:
                    waiting.remove(node.name)
                    ports = {port: list(self._reach.senders(node, port)) for port in self._reach.ports(node)}
                    behind.append((node, ports))
                    waiting |= {each for sent in ports.values() for each in sent} - self._reach.sources
            self._behind[layer] = behind
        return self._behind[layer]

    def _half(self, node: Node, ports: Iterable[str], axis: int, members: Elements) -> Mapping[str, Elements]:
        """Return the positions (axis 0) or features (1) that a node takes at each port, for some of them."""
        if type(node).needs is same_values:
            return dict.fromkeys(ports, members)
        key = node.name, axis, members
        if key not in self._halves:
            extent = self._reach.extents[node.name]
            chosen = flags(members, extent[axis])
            pulled = self._reach.pull(node, np.broadcast_to(chosen[:, None] if axis == 0 else chosen, extent))
            taken = {port: anywhere(values, axis=1 - axis).ravel() for port, values in pulled.items()}
            self._halves[key] = {port: _packed(values) for port, values in taken.items()}
        return self._halves[key]


def flags(members: Elements, size: int) -> NDArray[np.bool_]:
    """Return whether each of 0..size is in a set, bool (size,)."""
    content = np.frombuffer(members.to_bytes(-(-size // 8), "little"), np.uint8)
    return np.unpackbits(content, count=size, bitorder="little").astype(np.bool_)


def _packed(flags: NDArray[np.bool_]) -> Elements:
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")
