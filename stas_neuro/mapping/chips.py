"""A mapped network divided by chip: what each chip computes, and the values that chips send to each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import neuron_layers
from stas_neuro.ir import Graph, Input
from stas_neuro.ir.ops.base import Wanted, folded
from stas_neuro.mapping.check import check_mapping
from stas_neuro.mapping.mapping import Mapping
from stas_neuro.mapping.reach import Reach
from stas_neuro.mapping.routes import count, index_of


@dataclass(frozen=True, eq=False, kw_only=True)
class ChipShare:
    """What one chip computes of a network.

    Parameters
    ----------
    chip : int
    mapping : Mapping
        The pieces on its cores alone; cores are numbered as in the mapping of the network.
    beside : frozenset of str
        Nodes beside the cores that are computed with this chip.
    computes : dict of node name to bool (positions, features)
        Values that it computes: those of its neurons, and those that they depend on up to other neurons.
    holds : dict of node name to bool (positions, features)
        The values that are computed on this chip alone: of its neurons, and of `beside`.
    needs : frozenset of str
        Nodes with neurons, or beside the cores, whose values it uses. Other chips send those that it does not
        compute.
    classifies : bool
        Whether it has all values that the logits depend on.
    """

    chip: int
    mapping: Mapping
    beside: frozenset[str]
    computes: dict[str, Wanted]
    holds: dict[str, Wanted]
    needs: frozenset[str]
    classifies: bool


@dataclass(frozen=True, eq=False)
class Transfer:
    """Values of a node that one chip sends to another.

    `index` is that of the values of a batch (images, positions, features); `shape` is that of the values that
    it gives of an image.
    """

    sender: int
    receiver: int
    index: tuple[slice | NDArray[np.intp], ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Division:
    """A network divided by chip; `transfers` has the nodes that are sent, in topological order."""

    shares: tuple[ChipShare, ...]
    transfers: dict[str, tuple[Transfer, ...]]


def divide(graph: Graph, mapping: Mapping) -> Division:
    """Divide a network by the chips of its mapping.

    Each chip gets the values that its neurons depend on (`Reach`), and the outputs of all halting units,
    which decide what is computed and sent. What is on no core is computed with the first chip that needs it,
    and the logits with the chip that has the first neuron of the last layer. Pixels are at hand on each chip.

    Raises
    ------
    InputError
        If the mapping is not a mapping of this graph.
    """
    check_mapping(graph, mapping)
    return _Divider(graph, mapping).division()


class _Divider:
    def __init__(self, graph: Graph, mapping: Mapping) -> None:
        self._graph, self._mapping = graph, mapping
        self._reach = Reach(graph)
        self._chips = mapping.used_chips
        self._own: dict[int, dict[str, Wanted]] = {chip: {} for chip in self._chips}
        """The values that are computed on a chip alone, by node."""
        self._beside: dict[int, set[str]] = {chip: set() for chip in self._chips}
        self._needs: dict[int, dict[str, Wanted]] = {}
        """Values of neurons, and of nodes beside the cores, that a chip's own ones depend on."""
        self._computes: dict[int, dict[str, Wanted]] = {}

    def division(self) -> Division:
        self._place_pieces()
        last = self._mapping.of_layer(list(neuron_layers(self._graph))[-1])
        (first,) = (piece for piece in last if (piece.positions[0], piece.features[0]) == (0, 0))
        self._classifier = self._mapping.cores[first.core].chip
        for chip in self._chips:
            self._trace(chip)
        self._place_beside()
        shares = tuple(
            ChipShare(
                chip=chip,
                mapping=self._part(chip),
                beside=frozenset(self._beside[chip]),
                computes=self._computes[chip],
                holds=self._own[chip],
                needs=frozenset(self._needs[chip]),
                classifies=chip == self._classifier,
            )
            for chip in self._chips
        )
        return Division(shares, self._transfers())

    def _place_pieces(self) -> None:
        for layer, extent in neuron_layers(self._graph).items():
            held: dict[int, Wanted] = {}
            for piece in self._mapping.of_layer(layer):
                chip = self._mapping.cores[piece.core].chip
                values = held.setdefault(chip, np.zeros(extent, np.bool_))
                values[list(piece.positions), slice(*piece.features)] = True
            for chip, values in held.items():
                self._own[chip][layer] = np.broadcast_to(True, extent) if values.all() else values

    def _trace(self, chip: int) -> None:
        """Find what a chip computes, and what it needs."""
        graph, starts = self._graph, dict(self._own[chip])
        wanted = {node.name: self._all_of(node.name) for node in graph.accumulators}
        if chip == self._classifier:
            before = graph.inputs(graph.output)["x"].src
            (wanted if before in self._reach.sources else starts)[before] = self._all_of(before)
        needs, computes = self._reach.behind(starts)
        self._needs[chip] = needs | wanted
        self._computes[chip] = computes | {graph.input.name: self._all_of(graph.input.name)}

    def _place_beside(self) -> None:
        """Let the first chip that needs a node beside the cores compute it; those that need it come first."""
        for node in reversed(self._graph.nodes):
            on_no_core = node.name in self._reach.sources and node.name not in self._mapping.layers
            takers = [chip for chip in self._chips if node.name in self._needs[chip]]
            if on_no_core and takers and not isinstance(node, Input):
                self._own[takers[0]][node.name] = self._all_of(node.name)
                self._beside[takers[0]].add(node.name)
                self._trace(takers[0])

    def _part(self, chip: int) -> Mapping:
        here = [piece for piece in self._mapping.pieces if self._mapping.cores[piece.core].chip == chip]
        return replace(self._mapping, pieces=tuple(here))

    def _transfers(self) -> dict[str, tuple[Transfer, ...]]:
        found = {}
        for node in self._graph.nodes:
            if transfers := tuple(self._of_node(node.name)):
                found[node.name] = transfers
        return found

    def _of_node(self, name: str) -> Iterable[Transfer]:
        for sender in self._chips:
            if (held := self._own[sender].get(name)) is None:
                continue
            for receiver in self._chips:
                if receiver != sender and (needed := self._needs[receiver].get(name)) is not None:
                    both = np.broadcast_to(folded(held) & folded(needed), held.shape)
                    if count(both):
                        index, _ = index_of(both)
                        yield Transfer(sender, receiver, (slice(None), *index), both[index].shape)

    def _all_of(self, name: str) -> Wanted:
        return np.broadcast_to(True, self._reach.extents[name])
