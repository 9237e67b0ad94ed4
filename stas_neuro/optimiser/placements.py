"""Placements that the networks of a search share, in one process and between several."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from stas_neuro.chips import Profile
from stas_neuro.compiler import Compilation
from stas_neuro.errors import InputError, StasError
from stas_neuro.files import write_atomically
from stas_neuro.ir import Graph, Node
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.mapping import parse_mapping
from stas_neuro.optimiser.space import Placing
from stas_neuro.placement import place
from stas_neuro.reference import Counting

_KEPT = 64
"""Placements that a process keeps in memory: those of a few networks."""


@dataclass(frozen=True)
class Placed:
    """A placement, and how to count the activity of a run on it."""

    placing: Placing
    mapping: Mapping
    counting: Counting

    @staticmethod
    def learned(graph: Graph, compilation: Compilation, placing: Placing, gating: str) -> Placed:
        """Place a network as its compilation does, which learns from a run of it."""
        mapping = compilation.place(graph)
        assert mapping is not None  # the compilation has a placement
        return Placed(placing, mapping, Counting.of(graph, mapping, gating))


@dataclass(frozen=True)
class Placements:
    """Places networks of the same structure once for each placing and chip.

    Networks are placed without a run, so that a placement does not depend on which of them comes first.

    Parameters
    ----------
    folder : Path
        Where placements are written, so that other processes find them.
    """

    folder: Path
    _kept: dict[str, Placed] = field(default_factory=dict, compare=False, repr=False)
    _groups: dict[str, int | None] = field(default_factory=dict, compare=False, repr=False)
    """Groups of each block that need the fewest cores, of networks on chips: the same for all strategies."""

    def of(self, graph: Graph, chip: Profile, placing: Placing, gating: str) -> Placed:
        """Return the placement of a network; raises InputError for each network that does not fit."""
        key = _digest((structure_of(graph), chip.name, astuple(placing), gating))
        if key not in self._kept:
            mapping = self._mapping(graph, chip, placing)
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = Placed(placing, mapping, Counting.of(graph, mapping, gating))
        return self._kept[key]

    def _mapping(self, graph: Graph, chip: Profile, placing: Placing) -> Mapping:
        network = structure_of(graph), chip.name
        path = self.folder / f"{_digest((*network, astuple(placing)))}.json"
        if not path.exists():
            groups = self._groups.get(_digest(network)) if placing.groups is None else placing.groups
            write_atomically(path, _document(graph, chip, replace(placing, groups=groups)).encode())
        content = path.read_bytes()
        refused = json.loads(content).get("refused")
        if refused is not None:
            raise InputError(*refused)
        mapping = parse_mapping(content, str(path))
        if placing.groups is None and placing.cores is None:
            self._groups[_digest(network)] = mapping.groups
        return mapping


def _document(graph: Graph, chip: Profile, placing: Placing) -> str:
    """Place a network; return the mapping as a document, or what is wrong and the remedy."""
    try:
        mapping = place(graph, chip, strategy=placing.strategy, groups=placing.groups, cores=placing.cores)
    except StasError as error:
        return json.dumps({"refused": [error.what, error.remedy]})
    return mapping.to_json()


def structure_of(graph: Graph) -> str:
    """Return a hash of all that the placement of a network without a run, and its routes, depend on.

    That is everything but its weights, and the numbers that its neurons compute with.
    """
    nodes = [(type(node).__name__, *_attributes(node)) for node in graph.nodes]
    shapes = sorted((name, tensor.shape) for name, tensor in graph.tensors.items())
    edges = [astuple(edge) for edge in graph.edges]
    return _digest((graph.time_steps, nodes, edges, shapes))


def _attributes(node: Node) -> list[tuple[str, Any]]:
    """List the attributes that are not numbers of the arithmetic: those of integers, and real numbers."""
    of_floats = {each.name for each in fields(node.INTEGERS_OF or type(node))} | {"weight_bits", "off_core"}
    found = [(each.name, getattr(node, each.name)) for each in fields(node) if each.name in of_floats]
    return [(name, value) for name, value in found if not isinstance(value, float)]


def _digest(words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()
