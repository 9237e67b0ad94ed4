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
        Nodes that are computed for this chip, and others that need them, by a processor beside the cores.
    computes : dict of node name to bool (positions, features)
        Values that it computes: those of its neurons, and all that these depend on up to other neurons.
    holds : dict of node name to bool (positions, features)
        Those of them that belong to this chip alone: of its neurons, and of `beside`.
    classifies : bool
        Whether it has all values that the logits depend on.
    """

    chip: int
    mapping: Mapping
    beside: frozenset[str]
    computes: dict[str, Wanted]
    holds: dict[str, Wanted]
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
    which decide what is computed and sent. What is on no core is computed for the first chip that needs it,
    and the logits for the chip that holds the first value before them. Pixels are at hand on each chip.

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
        self._chips = sorted({mapping.cores[piece.core].chip for piece in mapping.pieces})
        self._own: dict[int, dict[str, Wanted]] = {chip: {} for chip in self._chips}
        """What each chip is to compute for itself or for others, by node."""
        self._needs: dict[int, dict[str, Wanted]] = {}
        self._passed: dict[int, dict[str, Wanted]] = {}

    def division(self) -> Division:
        self._place_pieces()
        for chip in self._chips:
            self._trace(chip)
        beside = self._place_beside()
        classifier = self._place_output()
        shares = tuple(
            ChipShare(
                chip=chip,
                mapping=self._part(chip),
                beside=frozenset(beside[chip]),
                computes=self._passed[chip],
                holds=self._own[chip],
                classifies=chip == classifier,
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
        """Find what a chip computes, and what that needs of the nodes with values of their own."""
        needs, passed = self._reach.behind(self._own[chip])
        self._passed[chip] = passed | {self._graph.input.name: self._all_of(self._graph.input.name)}
        halting = {node.name for node in self._graph.accumulators}
        self._needs[chip] = needs | {name: self._all_of(name) for name in halting}

    def _place_beside(self) -> dict[int, list[str]]:
        """Let the first chip that needs a node beside the cores compute it; those that need it come first."""
        placed: dict[int, list[str]] = {chip: [] for chip in self._chips}
        for node in reversed(self._graph.nodes):
            if node.name not in self._reach.sources or node.name in self._mapping.layers:
                continue
            takers = [chip for chip in self._chips if node.name in self._needs[chip]]
            if isinstance(node, Input) or not takers:
                continue
            placed[takers[0]].append(node.name)
            self._own[takers[0]][node.name] = self._all_of(node.name)
            self._trace(takers[0])
        return placed

    def _place_output(self) -> int:
        source = self._graph.inputs(self._graph.output)["x"].src
        wanted = {source: self._all_of(source)}
        needs, passed = (wanted, {}) if source in self._reach.sources else self._reach.behind(wanted)
        first = next(iter(needs))
        chip = next(chip for chip in self._chips if first in self._own[chip])
        self._needs[chip] |= needs
        self._passed[chip] |= passed
        return chip

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
