"""What a run does on the cores of a mapping: what its neurons send, and which cores stand still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import extent, mask_heard, neurons_of, stages_of
from stas_neuro.ir import Graph, Phase
from stas_neuro.ir.ops.base import Wanted
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.routes import Route, Routes
from stas_neuro.reference.alike import equal_rows
from stas_neuro.reference.ops.base import Counts, Each, by_position
from stas_neuro.reference.rows import RecordRow

MESSAGE_KINDS = {
    "axon_messages": "copies",
    "hops_x": "hops_x",
    "hops_y": "hops_y",
    "chip_crossings": "chip_crossings",
}
"""Kinds of events that a message does, and what a route says of each."""
Event = tuple[str, str, Counts]
"""Kind, row and counts (B,)."""
Events = Iterator[Event]
Visits = Callable[[int], NDArray[np.bool_]]
"""Whom a block visits at this step, (B, N)."""


def parts_of(graph: Graph, mapping: Mapping | None) -> dict[str, tuple[RecordRow, ...]]:
    """List the rows of each node that does events: its pieces on cores, or itself where it is on none."""
    return {
        node.name: tuple(_parts(graph, mapping, node.name))
        for node in graph.nodes
        if node.traits.counts_events
    }


def _parts(graph: Graph, mapping: Mapping | None, name: str) -> Iterator[RecordRow]:
    node = graph.node(name)
    shape = extent(graph, node)
    if mapping is None or node.off_core:
        yield RecordRow(name, shape, None, (0, shape[1]))
        return
    home = neurons_of(graph, node)
    for piece in mapping.of_layer(home):
        everywhere = len(piece.positions) == extent(graph, graph.node(home))[0]
        positions = None if everywhere else np.array(piece.positions)
        yield RecordRow(f"{name}@{piece.core}", shape, positions, piece.features)


@dataclass(frozen=True, eq=False)
class _Sender:
    """A part of a source: `per_value` (values, kinds) is what each value that is not 0 counts for."""

    part: RecordRow
    kinds: tuple[str, ...]
    per_value: NDArray[np.floating[Any]]

    @staticmethod
    def of(route: Route, part: RecordRow) -> _Sender:
        """Leave out the kinds of which there are none."""
        by_kind = {kind: part.of(getattr(route, what)[None]).ravel() for kind, what in MESSAGE_KINDS.items()}
        kinds = tuple(kind for kind, each in by_kind.items() if each.any())
        per_value = np.array([by_kind[kind] for kind in kinds]).reshape(len(kinds), part.values).T
        return _Sender(part, kinds, _exact(per_value))

    def events(self, sent: Each) -> Events:
        """Count for the values that are sent, bool (B, positions, features)."""
        chosen = self.part.of(sent).reshape(len(sent), -1).astype(self.per_value.dtype)
        for kind, counts in zip(self.kinds, (chosen @ self.per_value).T, strict=True):
            yield kind, self.part.row, counts.astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Receivers:
    """Rows that take values from beside the cores.

    Values that the same rows want are one class: those of class c begin at `classes[c]` in `values`, and the
    classes that row r wants at `first[r]` in `wanted`.
    """

    source: str
    phase: Phase
    rows: tuple[str, ...]
    values: NDArray[np.intp]
    classes: NDArray[np.intp]
    wanted: NDArray[np.intp]
    first: NDArray[np.intp]

    @staticmethod
    def of(source: str, phase: Phase, wanted: dict[str, Wanted]) -> _Receivers:
        """Take the values (positions, features) that each row wants, of which there is at least one."""
        by_row = np.array([each.ravel() for each in wanted.values()])
        values = np.flatnonzero(by_row.any(axis=0))
        any_of, of_value = equal_rows(np.packbits(by_row[:, values], axis=0).T)
        order = np.argsort(of_value, kind="stable")
        classes = np.searchsorted(of_value[order], np.arange(len(any_of)))
        of_rows = [np.flatnonzero(row) for row in by_row[:, values[any_of]]]
        first = np.cumsum([0, *map(len, of_rows[:-1])])
        return _Receivers(
            source, phase, tuple(wanted), values[order], classes, np.concatenate(of_rows), first
        )

    def events(self, sent: Each) -> Events:
        """Count the values that are sent, bool (B, positions, features)."""
        exact = np.float32 if len(self.values) < 2**24 else np.float64
        ones = sent.reshape(len(sent), -1)[:, self.values].astype(exact)
        of_class = np.add.reduceat(ones, self.classes, axis=1)
        counts = np.add.reduceat(of_class[:, self.wanted], self.first, axis=1)
        for row, of_row in zip(self.rows, counts.T, strict=True):
            yield "input_messages", row, of_row.astype(np.int64)


class Messages:
    """Counts messages by the routes of a mapping, all or some of them."""

    def __init__(self, graph: Graph, mapping: Mapping, ways: Routes) -> None:
        # Not the graph, which may hold what counts its runs.
        self._visited = {
            route.source for route in ways.routes if graph.node(route.source).traits.sends_if_visited
        }
        parts = parts_of(graph, mapping)
        self._routes = [
            (route, [_Sender.of(route, part) for part in parts[route.source]]) for route in ways.routes
        ]
        arrivals: dict[tuple[str, Phase], dict[str, Wanted]] = {}
        for arrival in ways.arrivals:
            rows = arrivals.setdefault((arrival.source, arrival.phase), {})
            rows[f"{arrival.receiver}@{arrival.core}"] = arrival.wanted
        self._receivers = [_Receivers.of(*key, rows) for key, rows in arrivals.items()]

    def events(self, phase: Phase, value: Callable[[str], Each], visits: Visits) -> Events:
        """Count the messages of one step of a phase, of which `value` gives what a node sent, (B, ...)."""
        for route, senders in self._routes:
            if route.phase == phase:
                sent = self._sent(route, value, visits)
                for sender in senders:
                    yield from sender.events(sent)
        for receivers in self._receivers:
            if receivers.phase == phase:
                yield from receivers.events(by_position(value(receivers.source)) != 0)

    def _sent(self, route: Route, value: Callable[[str], Each], visits: Visits) -> Each:
        if route.source in self._visited:
            assert route.block is not None  # it sends for tokens of its own block
            return visits(route.block)[:, :, None]
        sent: Each = by_position(value(route.source)) != 0
        if route.block is None:
            return sent
        visited = visits(route.block)
        opened: Each = visited if route.tokens is None else visited @ route.tokens
        sent &= opened[:, :, None]
        return sent


def _exact(whole: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Give whole numbers (values, sums) as floats in which each sum over any of the values is exact."""
    return whole.astype(np.float32 if whole.sum(axis=0).max(initial=0) < 2**24 else np.float64)


class Standstill:
    """Tells which neurons are not stepped where a core with no live token stands still.

    At a stage of a model step a core stands still if all its pieces of that stage hold tokens of one block,
    and all of these have halted. A piece that knows of no halting, or of another block's, keeps it going.
    """

    def __init__(self, graph: Graph, mapping: Mapping) -> None:
        stages = stages_of(graph)
        at_work: dict[tuple[int, int], list[tuple[str, RecordRow]]] = {}
        for layer in mapping.layers:
            if graph.node(layer).phase == Phase.STEP:
                for piece, part in zip(mapping.of_layer(layer), _parts(graph, mapping, layer), strict=True):
                    at_work.setdefault((piece.core, stages[layer]), []).append((layer, part))
        hears = {layer: mask_heard(graph, layer) for layer in mapping.layers}
        heard = [({hears[layer] for layer, _ in team}, team) for team in at_work.values()]
        self._teams = [team for visits, team in heard if len(visits) == 1 and None not in visits]
        traits = {layer: graph.node(layer).traits for layer in mapping.layers}
        self._steps = {name for name, each in traits.items() if each.keeps_neurons and each.masks_tokens}

    def events(self, alive: Callable[[str], Each]) -> Events:
        """Count the neurons that are not stepped in a model step; `alive` gives the mask (B, N) of a node."""
        for team in self._teams:
            stands = np.logical_and.reduce([_all_halted(alive(layer), part) for layer, part in team])
            for layer, part in team:
                if layer in self._steps:
                    yield "updates_skipped", part.row, stands * part.values


def _all_halted(alive: Each, part: RecordRow) -> NDArray[np.bool_]:
    of_part = alive if part.positions is None else alive[:, part.positions]
    return np.asarray((of_part == 0).all(axis=1))
