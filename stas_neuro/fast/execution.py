"""Runs an integer program with kernels, batches side by side on all cores of the processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stas_neuro.analysis.halting import Mask
from stas_neuro.data import PreparedImages
from stas_neuro.errors import InputError
from stas_neuro.fast import kernels
from stas_neuro.fast.buffers import Buffers
from stas_neuro.fast.counting import FastCounter, FastCounting
from stas_neuro.fast.plan import Plan
from stas_neuro.fast.prepared import give_back, take
from stas_neuro.fast.products import eight_bit_pays
from stas_neuro.fast.rows import Live, Rows
from stas_neuro.fast.sums import Sums
from stas_neuro.fast.threads import one_blas_thread, workers
from stas_neuro.ir import Edge, FixedHaltAccumulate, Graph, Node, Phase, Stage
from stas_neuro.mapping import Mapping
from stas_neuro.reference.interpreter import Execution, check_shape, check_values
from stas_neuro.reference.ops.base import Values
from stas_neuro.trace import Collect, Trace

Array = NDArray[Any]
_BATCH = 256
"""Most images of a batch whose nodes have many values."""
_FEW_VALUES = 1 << 19
"""Up to so many values of its largest node a batch has more images: what is done once a batch is then most of
its time."""
_MOST_VALUES = 1 << 22
"""Most values that a node has in a batch of more than one image."""
_WORTH_DIVIDING = 1 << 17
"""Values of a node, on average, with which a batch is divided: with fewer, what Python does between kernels,
in one thread at a time, takes longer than they do."""


def run_fast(  # noqa: PLR0913
    graph: Graph,
    images: NDArray[Any] | PreparedImages,
    *,
    record_spikes: bool = False,
    record_states: bool = False,
    mapping: Mapping | None = None,
    gating: str = "silent",
    count: bool = True,
    eight_bit: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
    collect: Collect = Trace.collect,
    kept: NDArray[np.int64] | None = None,
) -> Trace:
    """Classify images with an integer program; the trace equals that of `run_reference` in every bit.

    Parameters
    ----------
    graph : Graph
        A quantised graph. The reference computes the nodes for which there is no kernel.
    images : int (B, C, H, W), or (B, T, C, H, W) where the graph takes event data
        Raw images, 0..255.
    record_spikes, record_states, mapping, gating, count, progress, collect
        As of `run_reference`.
    eight_bit : bool, optional
        Whether to multiply 8-bit numbers where that is exact; by default where it is faster.
    kept : int64 array, optional
        Numbers of the images whose counts `collect` keeps, in increasing order; by default all. Records of
        batches have the counts of these alone, and the sums over all.

    Raises
    ------
    InputError
        When the graph is not quantised, or the images do not fit it.
    """
    if graph.stage != Stage.QUANTISED:
        what = f"the graph is {graph.stage}, but the fast backend runs only integer programs"
        raise InputError(what, "use the backend reference, or run with --arithmetic fixed")
    check_shape(graph, images.shape)
    if mapping is not None and not count:
        raise InputError("the run is on cores and is not counted", "count it, or give no mapping")
    eight_bit = eight_bit_pays() if eight_bit is None else eight_bit
    prepared = take(graph, eight_bit=eight_bit)
    planned = prepared.plan
    counting = prepared.counting(graph, mapping, gating) if count else None
    side_by_side = workers()
    batches = batches_of(graph, len(images), side_by_side)
    workspaces = prepared.workers(side_by_side)
    idle = [FastExecution(graph, planned, record_spikes, record_states, each) for each in workspaces]

    def classify(batch: slice) -> Trace:
        worker = idle.pop()
        try:
            return worker.classify(images[batch], counting, _within(batch, kept))
        finally:
            idle.append(worker)

    def finished(traces: Iterator[Trace]) -> Iterator[Trace]:
        for batch, trace in zip(batches, traces, strict=True):
            yield trace
            if progress is not None:
                progress(min(batch.stop, len(images)), len(images))

    with one_blas_thread(), ThreadPoolExecutor(side_by_side) as pool:
        # One worker needs no thread of its own: two would wait for each other to let go of the interpreter.
        each = map if side_by_side == 1 else pool.map
        trace = collect(finished(each(classify, batches)), len(images))
    prepared.buffers = workspaces
    give_back(graph, prepared, eight_bit=eight_bit)
    return trace


def _within(batch: slice, kept: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Number those images of a batch whose counts are kept; None for all."""
    if kept is None:
        return None
    first, end = np.searchsorted(kept, (batch.start, batch.stop)).tolist()
    return np.asarray(kept[first:end] - batch.start)


def batches_of(graph: Graph, images: int, side_by_side: int) -> list[slice]:
    """Divide images into batches whose values fit in caches, enough of them for all workers if that pays."""
    average = np.mean([math.prod(value.shape) for value in graph.types.values()])
    parts = max(1, min(side_by_side, int(images * average / _WORTH_DIVIDING)))
    size = batch_size(graph, -(-images // parts))
    return [slice(start, start + size) for start in range(0, images, size)]


def batch_size(graph: Graph, images: int) -> int:
    """Number the images of a batch, out of some, whose values fit in caches."""
    largest = max(math.prod(value.shape) for value in graph.types.values())
    return max(1, min(max(_BATCH, _FEW_VALUES // largest), _MOST_VALUES // largest, images))


def images_at_once(graph: Graph, images: int) -> int:
    """Number the images, out of some, that all workers take at a time: a batch each."""
    many = workers()
    return min(images, many * batch_size(graph, -(-images // many)))


class FastExecution(Execution):
    """Batches on their way through a graph, one after another: what one worker does, and its buffers."""

    counter: FastCounter | None

    def __init__(
        self, graph: Graph, planned: Plan, spikes: bool, states: bool, buffers: Buffers | None = None
    ) -> None:
        empty = np.empty((0, *graph.image_shape))
        super().__init__(
            graph, empty, dict(planned.dtypes), spikes=spikes, states=states, skip=True, observe=None
        )
        self.buffers = Buffers() if buffers is None else buffers
        self._plan = planned
        self._everyone: dict[tuple[int, int], Live] = {}

    def classify(
        self, images: Array, counting: FastCounting | None, kept: NDArray[np.int64] | None = None
    ) -> Trace:
        """Run a batch.

        Raises InputError where its values are not those that the graph takes.
        """
        self.load(images, counting, kept)
        return self.trace()

    def load(
        self, images: Array, counting: FastCounting | None, kept: NDArray[np.int64] | None = None
    ) -> None:
        """Take a batch to run, and forget the one before; `kept` numbers the images that are counted alone.

        Raises InputError where its values are not those that the graph takes.
        """
        check_values(self.graph, images)
        source = self.graph.input
        self.images = images.astype(self._plan.stored[source.name, source.OUTPUTS[0]], copy=False)
        if source.phase != Phase.ONCE:  # frames of a step are read together
            self.images = np.ascontiguousarray(self.images.swapaxes(0, 1)).swapaxes(0, 1)
        graph = self.graph
        self.visits = np.ones((len(images), graph.time_steps, graph.blocks, graph.tokens), np.bool_)
        for held in (self.values, self.previous, self.spikes, self.states):
            held.clear()
        for context in self.sites.values():
            context.state.clear()
        self._live: dict[Mask, tuple[int, Live]] = {}
        self._absent: dict[Mask, NDArray[np.int32]] = {}
        self._states: dict[str, Array] = {}
        self._summed: tuple[Sums, int, Array] | None = None
        self._converted: dict[tuple[str, str], tuple[Array, int, Rows]] = {}
        self.counter = None if counting is None else FastCounter(counting, self, kept)
        self.listeners = [] if self.counter is None else [self.counter]

    def end(self) -> Trace:
        """Run what follows the last model step, and drop the counter, which knows this execution.

        Else a graph would be held by this circle until the garbage collector finds it.
        """
        trace = super().end()
        self.counter, self.listeners = None, []
        return trace

    def _evaluate(self, node: Node, step: int) -> None:
        operation = self._plan.operations.get(node.name)
        if operation is None:
            super()._evaluate(node, step)
            return
        self.sites[node.name].step = step
        outputs = operation.run(self, step)
        self.values.update({(node.name, port): value for port, value in outputs.items()})
        if self.record_spikes and node.traits.fires and isinstance(outputs.get("s"), Rows):
            self.spikes.setdefault(node.name, []).append(outputs["s"].dense(np.uint8))
        if isinstance(node, FixedHaltAccumulate):
            self._record(node, self.sites[node.name], outputs)

    def _prologue(self, node: Node) -> None:
        """Keep rows of a stem node by step, where the reference stacks arrays."""
        if node.phase == Phase.ONCE or node.name not in self._plan.operations:
            super()._prologue(node)
            return
        steps: dict[tuple[str, str], list[Any]] = {}
        for step in range(self.graph.time_steps):
            self._evaluate(node, step)
            for port in node.OUTPUTS:
                if (node.name, port) in self.values:
                    steps.setdefault((node.name, port), []).append(self.values[node.name, port])
        self.values.update(steps)  # type: ignore[arg-type]

    def value(self, node: Node, port: str, step: int) -> Values:
        """Give the value at an input port of a node in a step, (B, ...)."""
        edge = self.graph.inputs(node)[port]
        key = edge.src, edge.src_port
        held: Any = (self.previous if edge.delay else self.values).get(key)
        if isinstance(held, list):
            dense = [rows.dense(self.dtypes[edge.src]) for rows in held]
            return np.stack(dense) if node.traits.stacks else dense[step]
        return self._dense(edge.src, held) if isinstance(held, Rows) else super().value(node, port, step)

    def sent(self, source: str, step: int) -> Values:
        """Give what a node sent first of its ports in a step, (B, ...)."""
        held: Any = self.values[source, self.graph.node(source).OUTPUTS[0]]
        if isinstance(held, list):
            held = held[step]
        return self._dense(source, held) if isinstance(held, Rows) else super().sent(source, step)

    def _dense(self, source: str, rows: Rows) -> Values:
        dense: Values = rows.dense(self.dtypes[source])
        return dense

    # What operations ask for

    def rows(self, edge: Edge, step: int) -> Rows:
        """Give what an edge brings in a step as rows."""
        key = edge.src, edge.src_port
        whole: Any = self.values[key]
        value = self.graph.types[key]
        by_step = isinstance(whole, list) or (value.phase == Phase.STEM and not isinstance(whole, Rows))
        held, at = (whole[step], step) if by_step else (whole, 0)
        if isinstance(held, Rows):
            return held
        seen = self._converted.get(key)
        if seen is None or seen[0] is not whole or seen[1] != at:
            seen = whole, at, Rows.of(held, value.shape, self._plan.stored[key], self.everyone)
            self._converted[key] = seen
        return seen[2]

    def sums(self, whole: Sums, step: int) -> Array:
        """Give sums (rows, features) of a layer that are computed at once, for all of its parts."""
        if self._summed is None or self._summed[0] is not whole or self._summed[1] != step:
            ((_, sums),) = whole.blocks(self, step)
            self._summed = whole, step, sums
        return self._summed[2]

    def everyone(self, positions: int) -> Live:
        """Give all rows of a number of positions."""
        rows = len(self.images), positions
        if rows not in self._everyone:
            self._everyone[rows] = Live.everyone(*rows)
        return self._everyone[rows]

    def live(self, mask: Mask | None, positions: int, step: int) -> Live:
        """Give the rows of the tokens that a mask lets pass in a step."""
        if mask is None:
            return self.everyone(positions)
        if mask not in self._live or self._live[mask][0] != step:
            self._live[mask] = step, self._visiting(mask, positions, step)
        return self._live[mask][1]

    def _visiting(self, mask: Mask, positions: int, step: int) -> Live:
        source, port, delay = mask
        alive = (self.previous if delay else self.values).get((source, port))
        everyone = self.everyone(positions)
        every = len(everyone.where)
        if mask not in self._absent:
            self._absent[mask] = np.full(every, 0 if alive is None else -1, np.int32)
        if alive is None:  # before the first step all live
            return everyone
        where, index = self.buffers.get(("rows", mask), (2, every), np.int64)
        missed = self.buffers.get(("missed", mask), (every,), np.int32)
        starts = np.empty(len(self.images) + 1, np.int64)
        rows = kernels.visit(alive, self._absent[mask], where, missed, starts, index)
        if self.record_states:
            self._absent[mask].fill(0)  # membranes of halted tokens are kept up to date
        if rows == every and (step == 0 or not missed.any()):  # at first there is nothing to miss
            return everyone
        return Live(everyone.images, positions, where[:rows], missed[:rows], starts, index, everyone)

    def state(
        self, name: str, rows: int, features: int, dtype: type[np.generic], *, clear: bool = True
    ) -> Array:
        """Give the state of a name, at first 0, or without `clear` whatever finite numbers."""
        if name not in self._states:
            self._states[name] = self.buffers.get(("state", name), (rows, features), dtype)
            if clear:
                self._states[name].fill(0)
        return self._states[name]

    def record_state(self, node: Node, state: Rows) -> None:
        """Record the state of a node after a step."""
        recorded = state.dense(state.data.dtype.type).astype(np.int32)
        self.states.setdefault(node.name, []).append(recorded)

    def out(self, node: Node, shape: tuple[int, ...], dtype: DTypeLike, port: str = "") -> Array:
        """Give an array for a result, used again in the next step unless it has to outlast this one.

        A `port` is named by nodes with several.
        """
        step = self.sites[node.name].step if node.name in self._plan.kept else 0
        return self.buffers.get(("out", node.name, port, step), shape, dtype)
