"""The operations that kernels compute. Each is made once for a node of a graph, and run step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis.halting import Mask
from stas_neuro.fast import kernels
from stas_neuro.fast.counting import CellCounts
from stas_neuro.fast.rows import Live, Rows
from stas_neuro.fast.sums import ConvSums, LinearSums, Sums
from stas_neuro.ir import (
    ALIGN,
    STATE_LIMIT,
    Edge,
    FixedAdd,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedLIF,
    FixedReadout,
    Gate,
    Map,
    Node,
    Phase,
    Slice,
    SpikeMaxPool,
    Tokens,
)
from stas_neuro.ir.types import neutral
from stas_neuro.reference.ops.base import Outputs

if TYPE_CHECKING:
    from stas_neuro.fast.execution import FastExecution

Array = NDArray[Any]
_LONG = 256
"""Features up to which rows are joined."""


class Operation(Protocol):
    """Computes a node, counts its events, and gives what is at its output ports."""

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Compute a step."""


@dataclass(frozen=True, eq=False)
class Fire:
    """Neurons, with the sums that they take: in dtype. Their state is known by a name."""

    node: FixedLIF
    sums: Sums
    shape: tuple[int, ...]
    dtype: type[np.floating[Any]]
    name: str

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Step them."""
        live = self.sums.live(run, step)
        features = len(self.sums.current.scale)
        spikes = run.out(self.node, (len(live.where), features), np.uint8)
        if run.counter is None:
            counts = CellCounts.nowhere(len(spikes), features)
        else:
            counts = run.counter.neurons(self.node, live, step)
        self.fire(run, step, live, counts, spikes)
        if run.record_states:
            everyone = run.everyone(live.positions)
            run.record_state(self.node, Rows(self.membranes(run, live), everyone, self.shape))
        rows = Rows(spikes, live, self.shape)
        if run.counter is not None:
            run.counter.fired(self.node, rows, counts)
        return {"s": rows}

    def fire(self, run: FastExecution, step: int, live: Live, counts: CellCounts, spikes: Array) -> None:
        """Step live rows, and count them."""
        if self.node.phase == Phase.ONCE and not run.record_states:
            self._fire_once(run, step, counts, spikes)
        else:
            self._fire(run, step, live, counts, spikes)

    def membranes(self, run: FastExecution, live: Live) -> Array:
        """Give all; those of halted tokens decay now, which else waits until they live again."""
        every = live.images * live.positions
        v = run.state(self.name, every, len(self.sums.current.scale), self.dtype)
        halted = live.index < 0
        v[halted] = np.trunc(v[halted] * self._keep)
        return v

    def _fire_once(self, run: FastExecution, step: int, counts: CellCounts, spikes: Array) -> None:
        """Step them from rest; nothing is left for a next step."""
        # Some rows are taken as one long row, where all are counted together: loops over it take less time.
        alike = counts.by_image(len(run.images)) and len(counts.bounds) == 2
        joined = self._rows_joined if alike else 1
        long = -1, joined * len(self.sums.current.scale)
        bounds = [_long(each, joined) for each in self._bounds_at_rest]
        for rows, sums in self.sums.blocks(run, step):
            kernels.fire_once(
                sums.reshape(long), *bounds, counts.to[rows][::joined], joined * counts.bounds,
                spikes[rows].reshape(long), counts.active, counts.fired,
            )  # fmt: skip

    @cached_property
    def _rows_joined(self) -> int:
        """How many rows of an image, a divisor of their number, make one that is long enough."""
        positions = math.prod(self.shape) // len(self.sums.current.scale)
        most = max(1, _LONG // len(self.sums.current.scale))
        return max(size for size in range(1, most + 1) if positions % size == 0)

    @cached_property
    def _joined(self) -> tuple[int, Array, Array]:
        """How many rows are joined where none has missed a step, and the scale and bias of these."""
        current, joined = self.sums.current, self._rows_joined
        return joined, np.tile(current.scale, joined), _long(current.bias, joined)

    @cached_property
    def _bounds_at_rest(self) -> list[Array]:
        """The least sums to fire, to have an input of at least 0, and one of at least 1: between, it is 0."""
        return [self.sums.current.bounds(least) for least in ((self.node.vth << ALIGN) + 1, 0, 1)]

    def _fire(self, run: FastExecution, step: int, live: Live, counts: CellCounts, spikes: Array) -> None:
        current, dtype = self.sums.current, self.dtype
        joined, scale, bias = 1, current.scale, current.bias
        if live is run.everyone(live.positions) and counts.by_image(live.images):
            joined, scale, bias = self._joined
        rows = run.everyone(live.positions // joined) if joined > 1 else live
        long = -1, len(scale)
        sent = spikes.reshape(long)
        # At first nothing is kept, also of tokens that come later: what is not recorded need not be cleared.
        keep = dtype(0) if step == 0 else self._keep
        every = live.images * live.positions
        v = run.state(self.name, every, len(current.scale), dtype, clear=run.record_states)
        done = 0
        for _, sums in self.sums.blocks(run, step):
            summed = sums.reshape(long)
            now = slice(done, done + len(summed))
            to = counts.to[now.start * joined : now.stop * joined]
            kernels.fire(
                summed, scale, bias, current.unit, keep, *self._threshold, v.reshape(long), rows.where[now],
                rows.missed[now], to, counts.bounds, sent[now], counts.active, counts.fired,
            )  # fmt: skip
            done = now.stop

    @cached_property
    def _keep(self) -> Any:
        """What is kept of a membrane in a step."""
        return self.dtype((4096 - self.node.dv) / 4096)

    @cached_property
    def _threshold(self) -> tuple[Any, ...]:
        """The threshold, the largest membrane, and what a spike leaves of it: a share, less an amount."""
        node, resets = self.node, self.node.reset == "zero"
        largest = STATE_LIMIT if node.clips else np.inf
        values = (node.vth << ALIGN, largest, not resets, 0 if resets else node.subtracted)
        return tuple(self.dtype(value) for value in values)


def _long(bias: Array, joined: int) -> Array:
    """Give a bias (1 or positions, features) to rows of which so many are joined."""
    each = bias if len(bias) > 1 else np.tile(bias, joined)
    return each.reshape(-1, joined * bias.shape[1])


@dataclass(frozen=True, eq=False)
class Synapses:
    """A layer whose current is not for its own neurons alone."""

    node: Node
    sums: LinearSums | ConvSums
    shape: tuple[int, ...]

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Multiply."""
        self.sums.run(run, step)
        live, current = self.sums.live(run, step), self.sums.current
        y = run.out(self.node, (len(live.where), len(current.scale)), current.bias.dtype)
        for rows, sums in self.sums.blocks(run, step):
            y[rows] = current.of(sums)
        return {"y": Rows(y, live, self.shape)}


@dataclass(frozen=True, eq=False)
class PackTokens:
    """A gate of tokens: the rows of those that visit."""

    node: Gate
    x: Edge
    mask: Mask
    shape: tuple[int, int]

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Gather rows."""
        x, live = run.rows(self.x, step), run.live(self.mask, self.shape[0], step)
        if x.live is live:
            return {"y": x}
        out = run.out(self.node, (len(live.where), self.shape[1]), x.data.dtype)
        kernels.pack(x.data, x.live.index, live.where, out)
        return {"y": Rows(out, live, self.shape)}


@dataclass(frozen=True, eq=False)
class AddRows:
    """A weighted sum, in the type of its result."""

    node: FixedAdd
    edges: dict[str, Edge]
    mask: Mask | None
    positions: int
    shape: tuple[int, ...]
    dtype: type[np.generic]

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Add."""
        live = run.live(self.mask, self.positions, step)
        a, b = (run.rows(self.edges[port], step).on(live).data for port in ("a", "b"))
        out = run.out(self.node, a.shape, self.dtype)
        np.multiply(a, self.dtype(self.node.a_weight), out=out, dtype=self.dtype, casting="unsafe")
        weighted = b if self.node.b_weight == 1 else b.astype(self.dtype) * self.dtype(self.node.b_weight)
        np.add(out, weighted, out=out, dtype=self.dtype, casting="unsafe")
        return {"y": Rows(out, live, self.shape)}


@dataclass(frozen=True, eq=False)
class PoolRows:
    """The largest spike of each window."""

    node: SpikeMaxPool
    x: Edge
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]]

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Pool."""
        (channels, height, width), (_, rows, columns) = self.shapes
        x = run.rows(self.x, step).data
        live = run.everyone(rows * columns)
        out = run.out(self.node, (len(live.where), channels), x.dtype)
        maps = out.reshape(live.images, rows, columns, channels)
        kernels.pool(x.reshape(live.images, height, width * channels), np.array(self.node.sides), maps)
        return {"y": Rows(out, live, self.shapes[1])}


@dataclass(frozen=True, eq=False)
class Reshape:
    """Tokens of a map or a map of tokens: the same rows."""

    node: Tokens | Map
    x: Edge
    shape: tuple[int, ...]

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Give all rows another shape."""
        x = run.rows(self.x, step)
        x = x.on(run.everyone(x.live.positions))
        rows = Rows(x.data, x.live, self.shape)
        rows.counts.update(x.counts)
        return {"y": rows}


@dataclass(frozen=True, eq=False)
class Columns:
    """Some of the features."""

    node: Slice
    x: Edge
    shape: tuple[int, ...]

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Copy columns."""
        x = run.rows(self.x, step)
        data = np.ascontiguousarray(x.data[:, self.node.start : self.node.stop])
        return {"y": Rows(data, x.live, self.shape)}


@dataclass(frozen=True, eq=False)
class Score:
    """Scores by the first channel of tokens; halted ones have that of 0, which no accumulator takes."""

    node: FixedHaltingScore
    z: Edge
    mask: Mask | None
    """Of the visits that the scores belong to."""
    positions: int

    def run(self, run: FastExecution, step: int) -> Outputs:
        """Look them up."""
        node, dtype = self.node, run.dtypes[self.node.name]
        z = run.rows(self.z, step)
        h = np.empty((z.live.images, self.positions), dtype)
        table = run.sites[node.name].tensors["table"]
        kernels.score(z.data, z.live.starts, z.live.where, self._group, 0.5**node.shift, node.low, table, h)
        if run.counter is not None:
            run.counter.lookups(node, run.live(self.mask, self.positions, step), step)
        return {"h": h}

    @cached_property
    def _group(self) -> Array:
        """The number of the group of each position; without groups each has its own."""
        return np.array(self.node.groups or range(self.positions))


@dataclass(frozen=True, eq=False)
class Halt:
    """Accumulators whose tokens halt by the sum of their scores alone."""

    node: FixedHaltAccumulate

    MODES: ClassVar[frozenset[str]] = frozenset({"raster", "time", "block"})

    def run(self, run: FastExecution, step: int) -> Outputs:
        """Decide about all tokens, those that have halted as well."""
        node, dtype = self.node, run.dtypes[self.node.name]
        given = run.graph.inputs(node)
        h = run.value(node, "score", step).astype(dtype, copy=False)
        alive, total = (
            run.value(node, port, step).astype(dtype, copy=False)
            if port in given
            else np.full(h.shape, neutral(port), dtype)
            for port in ("alive", "total")
        )
        last = node.last_block and (node.mode == "block" or step == run.graph.time_steps - 1)
        outputs = {port: np.empty(h.shape, dtype) for port in node.OUTPUTS}
        kernels.halt(
            h.ravel(), alive.ravel(), total.ravel(), dtype(node.limit), dtype(1 << node.score_bits),
            node.is_closed(step) or last, *(output.ravel() for output in outputs.values()),
        )  # fmt: skip
        return outputs


@dataclass(frozen=True, eq=False)
class Weigh:
    """A weighted mean-field readout without division, which needs only sums over tokens."""

    node: FixedReadout
    edges: dict[str, Edge]
    features: int

    def run(self, run: FastExecution, step: int) -> Outputs:
        """Take in one step; give y after the last."""
        node, dtype = self.node, run.dtypes[self.node.name]
        sums = run.state(node.name, len(run.images), self.features, dtype)
        weighed, unweighed = np.zeros((2, len(sums)), np.int64)
        for port, edge in self.edges.items():
            if port.startswith("z"):
                z = run.rows(edge, step)
                of_visits = f"p{port[1:]}"
                weighs = of_visits in self.edges
                if weighs:
                    p = run.value(node, of_visits, step).astype(dtype, copy=False)
                else:
                    p = np.ones((z.live.images, z.live.positions), dtype)
                kernels.weigh(
                    z.data, z.live.where, p, dtype(0.5**node.z_shift), dtype(node.z_limit), sums,
                    weighed if weighs else unweighed,
                )  # fmt: skip
        if run.counter is not None:
            run.counter.weighted(node, weighed, step)
        last = step == run.graph.time_steps - 1
        return {"y": np.floor(sums * dtype(0.5**node.y_shift))} if last else {}
