"""Counts the activity of a fast run: from tallies that kernels give, else as the reference does.

Kernels tally by cells (`Cells`). What a tally is worth in the record is known before a run, so that once a
batch has ended its events of a kind are one product with a sparse matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity, ActivityBuilder, Counts
from stas_neuro.activity import Whole as Sums
from stas_neuro.analysis import works_in
from stas_neuro.fast import kernels
from stas_neuro.fast.cells import Cells, Classes, Whole, alike
from stas_neuro.fast.rows import Live, Rows
from stas_neuro.ir import (
    FixedConv2d,
    FixedHaltingScore,
    FixedLIF,
    FixedLinear,
    FixedReadout,
    FixedSpikeMatMul,
    Graph,
    Kind,
    Node,
    Phase,
)
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.chips import ChipShare
from stas_neuro.mapping.routes import Arrival, Route, Routes, routes
from stas_neuro.reference.activity import ActivityCounter, Counting, label_of
from stas_neuro.reference.cores import MESSAGE_KINDS, Event

if TYPE_CHECKING:
    from stas_neuro.fast.execution import FastExecution

Source = tuple[str, int, str]
"""A node, a step that it did, and what was tallied in it."""
_ONCE: Source = "", 0, "once"
"""The tally of what every image counts for: 1."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """By which cells the outputs of a node are tallied, and by which classes the positions of its inputs."""

    cells: Cells
    taken: Classes


@dataclass(frozen=True, eq=False)
class _Sent:
    """The tally of the spikes that a route takes: those `fired` at positions that are visited in its step."""

    source: Source
    fired: Source
    route: Route
    cells: Cells


class _Worth:
    """What tallies are worth in the record: entries of a sparse matrix for each kind of events.

    `first` has the number of each source's first tally, in order. Targets are the rows of the record in its
    first step, then those in the next.
    """

    def __init__(self, rows: int) -> None:
        self.first: dict[Source, int] = {_ONCE: 0}
        self._tallies = 1
        self._rows = rows
        self._entries: dict[str, list[tuple[Whole, Whole, Whole]]] = {}

    def add(
        self,
        kind: str,
        rows: Whole,
        weights: NDArray[np.float64],
        steps: Iterable[tuple[Source, Iterable[int]]],
    ) -> None:
        """Let sources count in rows: weights (..., rows) of each tally, each in some steps of the record."""
        flat = weights.reshape(-1, len(rows)).astype(np.int64)
        tally, row = np.nonzero(flat)
        worth, targets = flat[tally, row], rows[row]
        entries = self._entries.setdefault(kind, [])
        for source, counted_in in steps:
            first = self._first_of(source, len(flat))
            entries += [(self._rows * step + targets, tally + first, worth) for step in counted_in]

    def _first_of(self, source: Source, tallies: int) -> int:
        if source not in self.first:
            self.first[source] = self._tallies
            self._tallies += tallies
        return self.first[source]

    def matrices(self) -> dict[str, tuple[Whole, Whole, Whole]]:
        """Give the targets, tallies and weights of all entries, by kind; they are not kept here."""
        matrices = {}
        while self._entries:
            kind, entries = self._entries.popitem()
            matrices[kind] = tuple(np.concatenate(each) for each in zip(*entries, strict=True))
        return matrices


class FastCounting:
    """Plan of the counting of a graph, of which `kernels` are the nodes that kernels compute.

    `ways` are the routes of the mapping, or those of a share of it, of which alone the rows are counted then.
    """

    def __init__(
        self,
        graph: Graph,
        mapping: Mapping | None,
        gating: str,
        kernels: set[str],
        ways: Routes | None = None,
        share: ChipShare | None = None,
    ) -> None:
        self._time_steps = graph.time_steps  # not the graph, which may hold this plan
        neurons = {node.name for node in graph.of_type(FixedLIF) if node.name in kernels}
        if mapping is not None and ways is None:
            ways = routes(graph, mapping)
        own: dict[str, list[Route]] = {}
        arrivals: dict[str, list[Arrival]] = {}
        """By the node that counts them among its inputs."""
        if ways is not None:
            for route in ways.routes:
                own.setdefault(route.source, []).append(route)
            others = []
            for arrival in ways.arrivals:
                if arrival.receiver in kernels and _takes(graph, graph.node(arrival.receiver), arrival):
                    arrivals.setdefault(arrival.receiver, []).append(arrival)
                else:
                    others.append(arrival)
            of_others = tuple(route for route in ways.routes if route.source not in neurons)
            ways = replace(ways, routes=of_others, arrivals=tuple(others))
        self.counting = Counting.of(graph, mapping, gating, ways, share)
        record = self.counting.builder(0)
        self._steps = {label: number for number, label in enumerate(record.steps)}
        self._rows = {layer.name: row for row, layer in enumerate(record.layers)}
        self._classes: dict[bytes, Classes] = {}
        self._worth = _Worth(len(record.layers))
        self.layers: dict[str, _Layer] = {}
        self.sent: list[_Sent] = []
        for node in graph.nodes:
            if node.name in kernels and self.counting.parts.get(node.name):
                self._plan(graph, node, own.get(node.name, []), arrivals.get(node.name, []))
        self.sources = list(self._worth.first)
        self.events = self._worth.matrices()

    @property
    def bytes(self) -> int:
        """Bytes that its matrices take."""
        return sum(each.nbytes for entries in self.events.values() for each in entries)

    def _plan(self, graph: Graph, node: Node, ways: list[Route], arrivals: list[Arrival]) -> None:
        """Plan what the tallies of a node are worth, if it has any."""
        match node:
            case FixedLIF():
                self._neurons(node, ways)
            case FixedConv2d() | FixedLinear():
                self._inputs(graph, node, arrivals)
            case FixedSpikeMatMul():
                self._products(node)
            case FixedReadout():
                values = [part.values for part in self.counting.parts[node.name]]
                self._add(node, "weighted", {"readout_macs": np.array(values, np.float64)})
            case FixedHaltingScore():
                self._add(node, "live", {"score_lookups": self._cells(node).places})

    def _cells(self, node: Node, ways: Iterable[Route] = ()) -> Cells:
        weights = [getattr(way, what) for way in ways for what in MESSAGE_KINDS.values()]
        # Where visits decide what is sent, positions have to be told apart.
        apart = any(way.block is not None for way in ways)
        cells = Cells.of(self.counting.parts[node.name], weights, apart=apart)
        cells = replace(cells, classes=self._same(cells.classes))
        self.layers[node.name] = _Layer(cells, cells.classes)
        return cells

    def _neurons(self, node: FixedLIF, ways: list[Route]) -> None:
        cells = self._cells(node, ways)
        self._add(node, "fired", {"spikes_out": cells.member})
        self._add(node, "active", {"updates_active": cells.member, "updates_inactive": -cells.member})
        self._add(node, "live", {"updates_inactive": cells.places, "updates_gated": -cells.places})
        everyone = cells.classes.sizes @ cells.places
        at_once = [(_ONCE, steps) for steps in self._counted_in(node)]
        self._worth.add("updates_gated", self._rows_of(node), everyone, at_once)
        for number, way in enumerate(ways):
            self._route(node, cells, way, number)

    def _route(self, node: FixedLIF, cells: Cells, way: Route, number: int) -> None:
        steps: list[tuple[Source, list[int]]] = []
        for step in self._done(way.phase):
            fired = source = node.name, step if step in self._done(node.phase) else 0, "fired"
            if way.block is not None:
                source = node.name, step, f"sent on route {number}"
                self.sent.append(_Sent(source, fired, way, cells))
            steps.append((source, [self._steps[label_of(way.phase, step)]]))
        for kind, what in MESSAGE_KINDS.items():
            self._worth.add(kind, self._rows_of(node), cells.weighted(getattr(way, what)), steps)

    def _inputs(self, graph: Graph, node: FixedConv2d | FixedLinear, arrivals: list[Arrival]) -> None:
        """Plan products of real numbers, or spikes and, of graded ones, values."""
        x = graph.inputs(node)["x"]
        cells = self._cells(node)
        weights, taken = cells.places, cells.classes
        if isinstance(node, FixedConv2d):
            windows = cells.windows(node, *graph.source_type(x).shape[1:])
            first, of_position = alike([windows])
            weights, taken = windows[first], self._same(Classes(of_position))
            self.layers[node.name] = _Layer(cells, taken)
        if arrivals:
            self._messages(node, weights, taken, arrivals)
        match graph.source_type(x).kind:
            case Kind.CURRENT | Kind.NUMBER:
                self._add(node, "nonzero", {"macs": weights})
            case Kind.GRADED:
                self._add(node, "nonzero", {"synops": weights})
                self._add(node, "total", {"synops_unary": weights})
            case _:
                self._add(node, "nonzero", {"synops": weights, "synops_unary": weights})

    def _messages(
        self, node: Node, weights: NDArray[np.float64], taken: Classes, arrivals: list[Arrival]
    ) -> None:
        """Let inputs from beside the cores be messages to the rows for which they have a weight."""
        names = [part.row for part in self.counting.parts[node.name]]
        reached = np.zeros(weights.shape)
        for arrival in arrivals:
            row = names.index(f"{node.name}@{arrival.core}")
            reached[:, row] = weights[:, row] > 0
            assert (arrival.wanted == reached[taken.of_position, row, None]).all()
        self._add(node, "nonzero", {"input_messages": reached})

    def _products(self, node: FixedSpikeMatMul) -> None:
        cells, parts = self._cells(node), self.counting.parts[node.name]
        # A core that holds outputs j of whatever tokens makes the whole column j of k^T v.
        held = np.zeros((len(cells.bounds) - 1, len(parts)))
        for at, part in enumerate(parts):
            held[slice(*np.searchsorted(cells.bounds, part.features)), at] = 1
        of_queries = cells.by_head(node.heads)
        self._add(node, "columns", {"synops": held, "synops_unary": held})
        self._add(node, "queries", {"synops": of_queries, "synops_unary": of_queries})

    def _add(self, node: Node, what: str, worth: dict[str, NDArray[np.float64]]) -> None:
        """Let what is tallied in each step of a node count, with weights (..., rows) by kind."""
        steps = [((node.name, step, what), labels) for step, labels in enumerate(self._counted_in(node))]
        for kind, weights in worth.items():
            self._worth.add(kind, self._rows_of(node), weights, steps)

    def _counted_in(self, node: Node) -> list[list[int]]:
        """List, for each step that a node does, the steps of the record in which it is counted."""
        return [
            [self._steps[label] for label in self.counting.labels(node, step, self._time_steps)]
            for step in self._done(node.evaluated_in)
        ]

    def _rows_of(self, node: Node) -> Whole:
        return np.array([self._rows[part.row] for part in self.counting.parts[node.name]])

    def _same(self, classes: Classes) -> Classes:
        """Return one object for equal classes, so that what was counted by them is found again."""
        return self._classes.setdefault(classes.of_position.tobytes(), classes)

    def _done(self, phase: Phase) -> range:
        """Give the steps that are done in a phase."""
        return range(self._time_steps if phase in (Phase.STEM, Phase.STEP) else 1)


def _takes(graph: Graph, node: Node, arrival: Arrival) -> bool:
    """Tell whether a node counts what arrives among its inputs, in the steps in which it arrives.

    What others take as well arrives once for all of them.
    """
    if not isinstance(node, FixedConv2d | FixedLinear) or len(graph.consumers(arrival.source)) > 1:
        return False
    x = graph.inputs(node)["x"]
    first_port = graph.node(x.src).OUTPUTS[0]
    at_once = works_in(graph, node) == node.phase == arrival.phase
    return at_once and (x.src, x.src_port, x.delay) == (arrival.source, first_port, False)


class CellCounts(NamedTuple):
    """Where a kernel counts: row r adds to cell to[r], (cells, segments or heads); `bounds` of segments."""

    to: Whole
    bounds: Whole
    active: Whole
    fired: Whole

    def by_image(self, images: int) -> bool:
        """Tell whether all positions of an image are counted alike."""
        return len(self.active) <= images

    def of_some(self, rows: Whole, features: slice) -> CellCounts:
        """Give where the neurons of some rows, numbers (rows,), and of some features are counted from 0."""
        first, last = self._segments(features)
        bounds = self.bounds[first : last + 1] - features.start
        return CellCounts(self.to[rows], bounds, *np.zeros((2, len(self.active), last - first), np.int64))

    def add(self, some: CellCounts, features: slice) -> None:
        """Add the counts of some features."""
        first, last = self._segments(features)
        self.active[:, first:last] += some.active
        self.fired[:, first:last] += some.fired

    def _segments(self, features: slice) -> tuple[int, int]:
        first, last = np.searchsorted(self.bounds, (features.start, features.stop)).tolist()
        return first, last

    @staticmethod
    def nowhere(rows: int, features: int) -> CellCounts:
        """Count what nobody reads."""
        return CellCounts(np.zeros(rows, np.int64), np.array([0, features]), *np.zeros((2, 1, 1), np.int64))


def _spread(plan: FastCounting, tallies: Whole, record: ActivityBuilder) -> None:
    """Add what tallies (tallies, images) are worth to a record of so many images."""
    record.begin(plan.events)
    for kind, entries in plan.events.items():
        images, rows, steps = record.table(kind).shape
        kernels.spread(tallies, *entries, record.table(kind).T.reshape(rows * steps, images))


class FastCounter(ActivityCounter):
    """Counts one batch: all of its images, or only those that are kept, and the sums over all."""

    def __init__(self, plan: FastCounting, run: FastExecution, kept: Whole | None) -> None:
        super().__init__(plan.counting, run)
        self._buffers = run.buffers
        self._plan = plan
        self._images = len(run.images)
        self._kept: Whole | slice = slice(None) if kept is None else kept
        self._sums: ActivityBuilder | None = None
        """Of all images, as if they were one; None where the counts of each are kept."""
        if kept is not None:
            self._builder, self._sums = plan.counting.builder(len(kept)), plan.counting.builder(1)
        self._tallies: dict[Source, Whole] = {_ONCE: np.ones(self._images, np.int64)}
        """Of each image after the other."""

    def neurons(self, node: Node, live: Live, step: int) -> CellCounts:
        """Give where the neurons of live rows are counted in a step: how many were active and fired."""
        cells = self._plan.layers[node.name].cells
        shape = self._images * len(cells.member), len(cells.bounds) - 1
        counts = CellCounts(live.cells(cells.classes), cells.bounds, *np.zeros((2, *shape), np.int64))
        self._tallies[node.name, step, "active"] = counts.active
        self._tallies[node.name, step, "fired"] = counts.fired
        self._tallies[node.name, step, "live"] = live.population(cells.classes)
        return counts

    def fired(self, node: Node, spikes: Rows, counts: CellCounts) -> None:
        """Take the spikes of neurons as counted, for what they are sent to."""
        # Of few segments faster than a sum.
        total = counts.fired[:, 0] if counts.fired.shape[1] == 1 else np.einsum("cs->c", counts.fired)
        spikes.counts[self._plan.layers[node.name].cells.classes] = total, total

    def synapses(self, node: Node, x: Rows, step: int) -> None:
        """Count the inputs of a layer in a step."""
        nonzero, total = x.counted(self._plan.layers[node.name].taken)
        self._tallies[node.name, step, "nonzero"] = nonzero
        self._tallies[node.name, step, "total"] = total

    def products(self, node: FixedSpikeMatMul, live: Live, step: int) -> tuple[Whole, Whole, Whole, Whole]:
        """Give where products are counted in a step: cells (rows,), segments (features,), and counts from 0.

        These are of the columns of each segment (images, segments), and of queries (cells, heads).
        """
        cells = self._plan.layers[node.name].cells
        columns = np.zeros((self._images, len(cells.bounds) - 1), np.int64)
        queries = np.zeros((self._images * len(cells.member), node.heads), np.int64)
        self._tallies[node.name, step, "columns"] = columns
        self._tallies[node.name, step, "queries"] = queries
        return live.cells(cells.classes), cells.segments, columns, queries

    def lookups(self, node: Node, live: Live, step: int) -> None:
        """Count the scores of live tokens in a step."""
        classes = self._plan.layers[node.name].cells.classes
        self._tallies[node.name, step, "live"] = live.population(classes)

    def weighted(self, node: Node, visits: Whole, step: int) -> None:
        """Take how many visits of each image a readout has weighed in a step."""
        self._tallies[node.name, step, "weighted"] = visits

    def counts(self) -> Dict[str, Counts]:
        """Give the counts of every kind, (images, rows, steps), where those of all images are kept."""
        self._count()
        return self._builder.counts

    def activity(self) -> Activity:
        """Give the record."""
        self._count()
        if self._sums is None:
            return super().activity()
        visits = self._run.visits
        assert not isinstance(self._kept, slice)
        whole = Sums(
            images=self._images,
            numbers=self._kept,
            counts={kind: counts[0] for kind, counts in self._sums.counts.items()},
            visits=visits.sum(axis=0),
        )
        return self._builder.build(visits[self._kept], whole)

    def _count(self) -> None:
        """Enter what the tallies are worth."""
        plan = self._plan
        for sent in plan.sent:
            self._tallies[sent.source] = self._sent(sent)
        by_tally = [self._tallies[source].reshape(self._images, -1).T.ravel() for source in plan.sources]
        tallies = self._buffers.get("tallies", (sum(map(len, by_tally)),), np.int64)
        tallies = np.concatenate(by_tally, out=tallies).reshape(-1, self._images)
        _spread(plan, np.ascontiguousarray(tallies[:, self._kept]), self._builder)
        if self._sums is not None:
            _spread(plan, tallies.sum(axis=1, keepdims=True), self._sums)

    def _add(self, label: str, events: Iterable[Event]) -> None:
        for kind, row, counts in events:
            self._builder.add(kind, row, label, counts[self._kept])
            if self._sums is not None:
                self._sums.add(kind, row, label, counts.sum())

    def _sent(self, sent: _Sent) -> Whole:
        cells, route = sent.cells, sent.route
        fired = self._tallies[sent.fired].reshape(self._images, len(cells.member), -1)
        opened = self._run.visits[:, sent.source[1], route.block]
        if route.tokens is not None:
            opened = opened @ route.tokens
        return fired * opened[:, cells.first, None]
