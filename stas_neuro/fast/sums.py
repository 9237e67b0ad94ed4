"""What brings synaptic input to neurons: layers, products of spikes, or values that others computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis.halting import Mask
from stas_neuro.fast import kernels
from stas_neuro.fast.parts import Part, of_bias
from stas_neuro.fast.products import Product
from stas_neuro.fast.rows import Live
from stas_neuro.ir import (
    Edge,
    FixedConv2d,
    FixedLinear,
    FixedSpikeMatMul,
)

if TYPE_CHECKING:
    from stas_neuro.fast.execution import FastExecution

Array = NDArray[Any]
_CACHED = 1 << 20
"""Bytes of inputs and sums of a product that are computed at once, to stay in the cache of a processor."""


Block = tuple[slice, Array]
"""Rows, and their sums (rows, features)."""


@dataclass(frozen=True, eq=False)
class Current:
    """How sums become synaptic input: floor(sums * scale) * unit + bias (1 or positions, features)."""

    scale: Array
    unit: Any
    bias: Array

    def of(self, sums: Array) -> Array:
        """Convert sums (rows of whole images or of tokens, features)."""
        scaled: Array = np.floor(sums.astype(self.scale.dtype) * self.scale) * self.unit
        biased: Array = scaled.reshape(-1, *self.bias.shape) + self.bias
        return biased.reshape(scaled.shape)

    def bounds(self, current: float) -> Array:
        """Give the least sums whose synaptic input is at least `current`: like the bias.

        Sums are whole numbers and scales powers of two. Bounds that no sum in the type of the scale reaches,
        or that all do, are infinite.
        """
        least = np.ceil(np.ceil((current - self.bias.astype(np.float64)) / self.unit) / self.scale)
        limit = 2.0 ** (np.finfo(self.scale.dtype).nmant + 1)
        return np.where(np.abs(least) <= limit, least, np.copysign(np.inf, least)).astype(self.scale.dtype)


def of_part(current: Current, part: Part) -> Current:
    """Give the current of a part of a layer."""
    return Current(current.scale[part.features], current.unit, of_bias(current.bias, part))


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
class LinearSums:
    """A linear layer."""

    node: FixedLinear
    x: Edge
    mask: Mask | None
    positions: int
    product: Product
    current: Current

    def live(self, run: FastExecution, step: int) -> Live:
        """Compute the rows of its mask."""
        return run.live(self.mask, self.positions, step)

    def blocks(self, run: FastExecution, step: int) -> Iterator[Block]:
        """Multiply some rows at a time."""
        x = run.rows(self.x, step).on(self.live(run, step)).data
        rows = self.positions * _images_at_once(self.positions, x[:1].nbytes, self.current)
        for start in range(0, len(x), rows):
            done = slice(start, start + rows)
            yield done, self.product(x[done], run.buffers)

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Count its inputs; neurons ask for its sums."""
        if run.counter is not None:
            run.counter.synapses(self.node, run.rows(self.x, step), step)
        return {}


@dataclass(frozen=True, eq=False)
class ConvSums:
    """A convolution, as a product with its windows: of one output position each."""

    node: FixedConv2d
    x: Edge
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]]
    """Of its input and of its output (C, H, W)."""
    product: Product
    current: Current

    def live(self, run: FastExecution, step: int) -> Live:
        """Compute all rows."""
        return run.everyone(self.shapes[1][1] * self.shapes[1][2])

    def blocks(self, run: FastExecution, step: int) -> Iterator[Block]:
        """Multiply the windows of some images at a time."""
        (channels, height, width), (_, _, columns) = self.shapes
        x = run.rows(self.x, step).data.reshape(-1, height, width * channels)
        rows, in_a_row, of_column, sides = self._windows
        takes = self.product.takes
        of_image = rows, in_a_row, sides[0, 0], sides[0, 1] * of_column
        inputs = of_image[2] * of_image[3]
        size = in_a_row * inputs * np.dtype(takes).itemsize // columns
        images = _images_at_once(rows * columns, size, self.current)
        done = 0
        for start in range(0, len(x), images):
            part = x[start : start + images].astype(takes, copy=False)
            windows = run.buffers.get("windows", (len(part), *of_image), takes)
            _copy_windows(part, of_column, sides, windows)
            taken = self._chosen(windows.reshape(len(part), -1, inputs)).reshape(-1, inputs)
            sums = self.product(taken, run.buffers).reshape(-1, len(self.current.scale))
            yield slice(done, done + len(sums)), sums
            done += len(sums)

    @cached_property
    def _windows(self) -> tuple[int, int, int, Array]:
        """Output rows, windows in each, values in a column of the map, and sides as of `kernels.windows`."""
        return *self.shapes[1][1:], self.shapes[0][0], np.array(self.node.sides)

    def _chosen(self, windows: Array) -> Array:
        """Choose those to multiply out of the windows (images, windows, inputs): all."""
        return windows

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Count its inputs; neurons ask for its sums."""
        if run.counter is not None:
            run.counter.synapses(self.node, run.rows(self.x, step), step)
        return {}


@dataclass(frozen=True, eq=False)
class AttentionSums:
    """Products of spikes q (k^T v)."""

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
        y = run.buffers.get("product", (len(live.where), heads, size), self.current.bias.dtype)
        if run.counter is not None:
            counts = run.counter.products(self.node, live, step)
        else:
            nowhere = np.zeros(len(y), np.int64), np.zeros(heads * size, np.int64)
            counts = *nowhere, np.zeros((live.images, 1), np.int64), np.zeros((1, heads), np.int64)
        kernels.attend(q, k, v, live.starts, y, *counts)
        yield slice(None), y.reshape(-1, heads * size)

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
        yield slice(None), run.rows(self.x, step).on(self.live(run, step)).data


def _images_at_once(positions: int, inputs: int, current: Current) -> int:
    """Number the images multiplied at once, which have so many rows, each with inputs of so many bytes."""
    size: int = positions * (inputs + current.scale.nbytes)
    return max(1, _CACHED // size)


def _copy_windows(x: Array, channels: int, sides: Array, out: Array) -> None:
    """Copy windows as `kernels.windows` does, in words of eight bytes where channels fill these."""
    size = channels * x.itemsize
    if size % np.uint64().itemsize == 0:
        channels = size // np.uint64().itemsize
        x, out = x.view(np.uint64), out.view(np.uint64)
    kernels.windows(x, channels, sides, out)
