"""What brings synaptic input to neurons: layers, products of spikes, or values that others computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis.halting import Mask
from stas_neuro.fast import kernels
from stas_neuro.fast.products import Product
from stas_neuro.fast.rows import Live
from stas_neuro.ir import (
    Edge,
    FixedConv2d,
    FixedLinear,
    FixedSpikeMatMul,
    Kind,
)

if TYPE_CHECKING:
    from stas_neuro.fast.execution import FastExecution

Array = NDArray[Any]
_WINDOWS = 2048
"""Windows of a convolution that are multiplied at once, which keeps them in the cache of a processor."""


Block = tuple[slice, Array, int]
"""Rows, sums (these rows, columns), and the first column of an operation's own."""


@dataclass(frozen=True, eq=False)
class Current:
    """How sums become synaptic input: floor(sums * scale) * unit + bias (1 or positions, features)."""

    scale: Array
    unit: Any
    bias: Array

    def of(self, sums: Array) -> Array:
        """Convert sums (rows of whole images or of tokens, features)."""
        scaled: Array = np.floor(sums * self.scale) * self.unit
        biased: Array = scaled.reshape(-1, *self.bias.shape) + self.bias
        return biased.reshape(scaled.shape)


class Sums(Protocol):
    """What brings synaptic input to neurons, which may compute it with the neurons, block by block."""

    @property
    def current(self) -> Current:
        """How sums become synaptic input."""

    def live(self, run: FastExecution, step: int) -> Live:
        """Tell which rows it gives."""

    def blocks(self, run: FastExecution, step: int) -> Iterator[Block]:
        """Give the sums of all live rows."""


@dataclass(frozen=True, eq=False)
class Joined:
    """Linear layers with one input, multiplied at once: `name` is that of the first."""

    name: str
    x: Edge
    mask: Mask | None
    positions: int
    product: Product
    single: bool


@dataclass(frozen=True, eq=False)
class LinearSums:
    """Columns of joined linear layers from `first` on."""

    node: FixedLinear
    joined: Joined
    first: int
    current: Current
    counted: Kind

    def live(self, run: FastExecution, step: int) -> Live:
        """Compute the rows of its mask."""
        return run.live(self.joined.mask, self.joined.positions, step)

    def blocks(self, run: FastExecution, step: int) -> Iterator[Block]:
        """Multiply with the first of the joined layers that is asked."""
        joined = self.joined

        def multiplied() -> Array:
            x = run.rows(joined.x, step).on(self.live(run, step)).data
            return joined.product(x, run.buffers, "" if joined.single else joined.name)

        sums = multiplied() if joined.single else run.shared(joined.name, step, multiplied)
        yield slice(None), sums, self.first

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Count its inputs; neurons ask for its sums."""
        if run.counter is not None:
            run.counter.synapses(self.node, run.rows(self.joined.x, step), self.counted)
        return {}


@dataclass(frozen=True, eq=False)
class ConvSums:
    """A convolution, as a product with its windows."""

    node: FixedConv2d
    x: Edge
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]]
    """Of its input and of its output (C, H, W)."""
    product: Product
    current: Current
    counted: Kind

    def live(self, run: FastExecution, step: int) -> Live:
        """Compute all rows."""
        return run.everyone(self.shapes[1][1] * self.shapes[1][2])

    def blocks(self, run: FastExecution, step: int) -> Iterator[Block]:
        """Multiply the windows of some images at a time."""
        (channels, height, width), (_, rows, columns) = self.shapes
        x = run.rows(self.x, step).data.reshape(-1, height, width * channels)
        sides = np.array(self.node.sides)
        taps = self.node.sides.kernel
        images = max(1, _WINDOWS // (rows * columns))
        for start in range(0, len(x), images):
            part = x[start : start + images]
            shape = len(part), rows, columns, taps[0], taps[1] * channels
            windows = run.buffers.get("windows", shape, self.product.takes)
            kernels.windows(part, channels, sides, windows)
            done = slice(start * rows * columns, (start + len(part)) * rows * columns)
            flat = windows.reshape(len(part) * rows * columns, -1)
            yield done, self.product(flat, run.buffers, ""), 0

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Count its inputs; neurons ask for its sums."""
        if run.counter is not None:
            run.counter.synapses(self.node, run.rows(self.x, step), self.counted)
        return {}


@dataclass(frozen=True, eq=False)
class AttentionSums:
    """Products of spikes (q k^T) v."""

    node: FixedSpikeMatMul
    edges: dict[str, Edge]
    mask: Mask | None
    shape: tuple[int, int]
    current: Current

    def live(self, run: FastExecution, step: int) -> Live:
        """Compute the rows of its mask."""
        return run.live(self.mask, self.shape[0], step)

    def blocks(self, run: FastExecution, step: int) -> Iterator[Block]:
        """Multiply, and count what was multiplied."""
        live = self.live(run, step)
        heads, size = self.node.heads, self.shape[1] // self.node.heads
        q, k, v = (
            run.rows(self.edges[port], step).on(live).data.reshape(-1, heads, size)
            for port in ("q", "k", "v")
        )
        y = run.buffers.get(("product", ""), (len(live.where), heads, size), self.current.bias.dtype)
        if run.counter is not None:
            counts = run.counter.products(self.node, live)
        else:
            nowhere = np.zeros(len(y), np.int64), np.zeros((live.images, heads, size), np.int64)
            counts = *nowhere, np.zeros((1, heads), np.int64)
        kernels.attend(q, k, v, live.starts, y, *counts)
        yield slice(None), y.reshape(-1, heads * size), 0

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Do nothing: its neurons ask for its sums."""
        return {}


@dataclass(frozen=True, eq=False)
class ValueSums:
    """Input of neurons that another node computed."""

    x: Edge
    mask: Mask | None
    positions: int
    current: Current

    def live(self, run: FastExecution, step: int) -> Live:
        """Take the rows of the mask."""
        return run.live(self.mask, self.positions, step)

    def blocks(self, run: FastExecution, step: int) -> Iterator[Block]:
        """Give the value."""
        yield slice(None), run.rows(self.x, step).on(self.live(run, step)).data, 0
