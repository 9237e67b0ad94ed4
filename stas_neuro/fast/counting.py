"""Counts the activity of a fast run: from sums that kernels give, else as the reference does.

Kernels sum over cells (`Cells`). What these do in the rows of the record follows once the batch has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.fast.cells import Cells, Classes, Whole, alike, by_row
from stas_neuro.fast.rows import Live, Rows
from stas_neuro.ir import FixedConv2d, FixedSpikeMatMul, Graph, Kind, Node, Phase
from stas_neuro.mapping import Mapping, Route, routes
from stas_neuro.reference.activity import ActivityCounter, Counting, Run, label_of
from stas_neuro.reference.cores import MESSAGE_KINDS

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Sent:
    """What one spike of each cell of a layer does on a route in some steps of the record, by kind."""

    route: Route
    steps: NDArray[np.intp]
    kinds: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class _Layer:
    """How the events of a node are counted: in which rows and steps of the record, by which cells."""

    node: Node
    rows: NDArray[np.intp]
    steps: NDArray[np.intp]
    cells: Cells
    places: NDArray[np.float64]
    windows: NDArray[np.float64] | None
    """(classes of positions of the input, rows) of a convolution."""
    taken: Classes
    """Of the positions of its inputs."""
    routes: tuple[_Sent, ...]


class FastCounting:
    """Plan of the counting of a graph, of which `kernels` are the nodes that kernels compute."""

    def __init__(self, graph: Graph, mapping: Mapping | None, gating: str, kernels: set[str]) -> None:
        self._time_steps = graph.time_steps  # not the graph, which may hold this plan
        neurons = {name for name in kernels if graph.node(name).traits.fires}
        ways = None if mapping is None else routes(graph, mapping)
        own: dict[str, list[Route]] = {}
        if ways is not None:
            for route in ways.routes:
                own.setdefault(route.source, []).append(route)
            others = tuple(route for route in ways.routes if route.source not in neurons)
            ways = replace(ways, routes=others)
        self.counting = Counting.of(graph, mapping, gating, ways)
        record = self.counting.builder(0)
        self._steps = {label: number for number, label in enumerate(record.steps)}
        self._rows = {layer.name: row for row, layer in enumerate(record.layers)}
        self._classes: dict[bytes, Classes] = {}
        self.layers = {
            name: self._layer(graph, graph.node(name), own.get(name, []) if name in neurons else [])
            for name in kernels
            if graph.node(name).traits.counts_events
        }

    def _layer(self, graph: Graph, node: Node, ways: list[Route]) -> _Layer:
        parts = self.counting.parts[node.name]
        weights = [getattr(way, what) for way in ways for what in MESSAGE_KINDS.values()]
        # Where visits decide what is sent, positions have to be told apart.
        cells = Cells.of(parts, weights, apart=any(way.block is not None for way in ways))
        cells = replace(cells, classes=self._same(cells.classes))
        sent = tuple(
            _Sent(
                way,
                self._numbers([label_of(way.phase, step) for step in range(self._times(way.phase))]),
                {kind: cells.weighted(getattr(way, what)) for kind, what in MESSAGE_KINDS.items()},
            )
            for way in ways
        )
        labels = (
            self.counting.labels(node, step, graph.time_steps) for step in range(self._times(node.phase))
        )
        steps = self._numbers([label for of_step in labels for label in of_step])
        windows, taken = None, cells.classes
        if isinstance(node, FixedConv2d):
            windows = cells.windows(node, *graph.source_type(graph.inputs(node)["x"]).shape[1:])
            first, of_position = alike([windows])
            windows, taken = windows[first], self._same(Classes(of_position))
        rows = np.array([self._rows[part.row] for part in parts])
        return _Layer(node, rows, steps, cells, cells.places, windows, taken, sent)

    def _same(self, classes: Classes) -> Classes:
        """Return one object for equal classes, so that what was counted by them is found again."""
        return self._classes.setdefault(classes.of_position.tobytes(), classes)

    def _times(self, phase: Phase) -> int:
        return self._time_steps if phase in (Phase.STEM, Phase.STEP) else 1

    def _numbers(self, labels: list[str]) -> NDArray[np.intp]:
        return np.array([self._steps[label] for label in labels])


@dataclass(frozen=True, eq=False)
class CellCounts:
    """Where a kernel counts: row r adds to cell to[r], (cells, segments or heads); `bounds` of segments."""

    to: Whole
    bounds: Whole
    active: Whole
    fired: Whole

    def by_image(self, images: int) -> bool:
        """Tell whether all values of an image are counted in one cell."""
        cells, segments = self.active.shape
        return bool(cells <= images and segments == 1)

    @staticmethod
    def nowhere(rows: int, features: int) -> CellCounts:
        """Count what nobody reads."""
        return CellCounts(np.zeros(rows, np.int64), np.array([0, features]), *np.zeros((2, 1, 1), np.int64))


class FastCounter(ActivityCounter):
    """Counts one batch."""

    def __init__(self, plan: FastCounting, run: Run) -> None:
        super().__init__(plan.counting, run)
        self._plan = plan
        self._images = len(run.images)
        self._neurons: dict[str, list[tuple[CellCounts, Live]]] = {}
        self._inputs: dict[str, list[tuple[Whole, Whole, Kind]]] = {}
        self._products: dict[str, list[tuple[Whole, Whole]]] = {}
        self._visits: dict[str, list[Live]] = {}

    def neurons(self, node: Node, live: Live) -> CellCounts:
        """Give where the neurons of live rows are counted in a step: how many were active and fired."""
        cells = self._plan.layers[node.name].cells
        shape = self._images * len(cells.member), len(cells.bounds) - 1
        counts = CellCounts(live.cells(cells.classes), cells.bounds, *np.zeros((2, *shape), np.int64))
        self._neurons.setdefault(node.name, []).append((counts, live))
        return counts

    def fired(self, node: Node, spikes: Rows, counts: CellCounts) -> None:
        """Take the spikes of neurons as counted, for what they are sent to."""
        total = counts.fired.sum(axis=1)
        spikes.counts[self._plan.layers[node.name].cells.classes] = total, total

    def synapses(self, node: Node, x: Rows, kind: Kind) -> None:
        """Count the inputs of a layer in a step."""
        nonzero, total = x.counted(self._plan.layers[node.name].taken)
        self._inputs.setdefault(node.name, []).append((nonzero, total, kind))

    def products(self, node: FixedSpikeMatMul, live: Live) -> tuple[Whole, Whole, Whole]:
        """Give where products are counted in a step: cells (rows,), and counts that begin at 0.

        These are of columns (images, heads, channels) and of queries (cells, heads).
        """
        cells = self._plan.layers[node.name].cells
        columns = np.zeros((self._images, node.heads, cells.bounds[-1] // node.heads), np.int64)
        queries = np.zeros((self._images * len(cells.member), node.heads), np.int64)
        self._products.setdefault(node.name, []).append((columns, queries))
        return live.cells(cells.classes), columns, queries

    def lookups(self, node: Node, live: Live) -> None:
        """Count the scores of live tokens in a step."""
        self._visits.setdefault(node.name, []).append(live)

    def activity(self) -> Activity:
        """Give the record."""
        for name, layer in self._plan.layers.items():
            if name in self._neurons:
                self._count_neurons(layer, self._neurons[name])
            elif name in self._inputs:
                self._count_inputs(layer, self._inputs[name])
            elif name in self._products:
                self._count_products(layer, self._products[name])
            elif name in self._visits:
                live = self._populations(layer, self._visits[name])
                self._put(layer, "score_lookups", by_row(live, layer.places))
        return super().activity()

    def _count_neurons(self, layer: _Layer, steps: list[tuple[CellCounts, Live]]) -> None:
        cells = layer.cells
        fired = self._stacked([counts.fired for counts, _ in steps])
        worked = by_row(self._stacked([counts.active for counts, _ in steps]), cells.member)
        live = self._populations(layer, [live for _, live in steps])
        self._put(layer, "spikes_out", by_row(fired, cells.member))
        self._put(layer, "updates_active", worked)
        self._put(layer, "updates_inactive", by_row(live, layer.places) - worked)
        if not all(live.complete for _, live in steps):
            self._put(layer, "updates_gated", by_row(cells.classes.sizes - live, layer.places))
        for sent in layer.routes:
            of_route = fired
            if sent.route.block is not None:
                cell_of = fired.reshape(*fired.shape[:2], len(cells.member), -1)
                of_route = cell_of * self._opened(sent.route)[:, :, cells.first, None]
            for kind, weights in sent.kinds.items():
                self._builder.add_block(kind, layer.rows, sent.steps, by_row(of_route, weights))

    def _count_inputs(self, layer: _Layer, steps: list[tuple[Whole, Whole, Kind]]) -> None:
        """Count products of real numbers, or spikes and, of graded ones, values."""
        weights = layer.places if layer.windows is None else layer.windows
        events = by_row(self._stacked([nonzero for nonzero, _, _ in steps]), weights)
        kind = steps[0][2]
        if kind in (Kind.CURRENT, Kind.NUMBER):
            self._put(layer, "macs", events)
            return
        self._put(layer, "synops", events)
        if kind == Kind.GRADED:
            events = by_row(self._stacked([total for _, total, _ in steps]), weights)
        self._put(layer, "synops_unary", events)

    def _count_products(self, layer: _Layer, steps: list[tuple[Whole, Whole]]) -> None:
        columns = self._stacked([columns for columns, _ in steps])
        queries = self._stacked([queries for _, queries in steps])
        # A core that holds outputs j of whatever tokens makes the whole column j of k^T v.
        held = np.zeros((columns.shape[2], len(layer.rows)))
        for at, part in enumerate(self._counting.parts[layer.node.name]):
            held[slice(*part.features), at] = 1
        assert isinstance(layer.node, FixedSpikeMatMul)
        counts = by_row(columns, held) + by_row(queries, layer.cells.by_head(layer.node.heads))
        for kind in ("synops", "synops_unary"):
            self._put(layer, kind, counts)

    def _populations(self, layer: _Layer, steps: list[Live]) -> Whole:
        """Count live rows: (steps, images, classes)."""
        return self._stacked([live.population(layer.cells.classes) for live in steps])

    def _stacked(self, steps: list[Whole]) -> Whole:
        """Stack counts whose first axis has images, and what there is of each: (steps, images, ...)."""
        stacked = np.stack(steps) if len(steps) > 1 else steps[0]
        return stacked.reshape(len(steps), self._images, -1)

    def _opened(self, route: Route) -> Array:
        """Tell for which positions of a route values are sent, bool (T, images, positions)."""
        visited: Array = self._run.visits[:, :, route.block].swapaxes(0, 1)
        return visited if route.tokens is None else visited @ route.tokens

    def _put(self, layer: _Layer, kind: str, counts: Whole) -> None:
        self._builder.add_block(kind, layer.rows, layer.steps, counts)
