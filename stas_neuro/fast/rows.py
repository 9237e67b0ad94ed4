"""Values as rows: those of live tokens one after another, or all positions of maps and of tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.fast.cells import Classes
from stas_neuro.fast.kernels import count, pack
from stas_neuro.fast.parts import Part
from stas_neuro.ir import Shape

Array = NDArray[Any]
_FEW_CHANNELS = 8
"""Channels up to which a map is copied one after another: loops over its positions are longer."""


@dataclass(frozen=True, eq=False)
class Live:
    """Which rows of (images, positions) are at hand.

    Parameters
    ----------
    images, positions : int
    where : int64 (rows,)
        Row of each among all images * positions, ascending.
    missed : int32 (rows,)
        Model steps in which each was not at hand since it last was; -1 where it never was.
    starts : int64 (images + 1,)
        First row of each image, and the end.
    index : int64 (images * positions,)
        Number of the row of each, -1 for those not at hand.
    """

    images: int
    positions: int
    where: NDArray[np.int64]
    missed: NDArray[np.int32]
    starts: NDArray[np.int64]
    index: NDArray[np.int64]
    of: Live | None = None
    """All rows, where these are some."""
    of_layer: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    """Of rows of a part, int64 (rows,) each: their numbers among the layer's rows at hand, and among all."""
    _cells: dict[Classes, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)
    _populations: dict[Classes, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)
    _parts: dict[Part, Live] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def everyone(images: int, positions: int) -> Live:
        """All rows."""
        rows = np.arange(images * positions)
        starts = np.arange(images + 1) * positions
        return Live(images, positions, rows, np.zeros(len(rows), np.int32), starts, rows)

    @property
    def complete(self) -> bool:
        """Whether all rows are at hand."""
        return len(self.where) == self.images * self.positions

    @property
    def at(self) -> NDArray[np.int64]:
        """Row of each among all rows of the layer: int64 (rows,), ascending."""
        return self.where if self.of_layer is None else self.of_layer[1]

    @property
    def chosen(self) -> NDArray[np.int64]:
        """Which of the rows of the layer those of a part are: int64 (rows,)."""
        assert self.of_layer is not None
        return self.of_layer[0]

    def within(self, part: Part) -> Live:
        """Give the rows of a part, whose positions are numbered from 0."""
        if part not in self._parts:
            image, position = np.divmod(self.where, self.positions)
            number = part.number[position]
            (rows,) = np.nonzero(number >= 0)
            positions = len(part.positions)
            where = (image * positions + number)[rows]
            index = np.full(self.images * positions, -1)
            index[where] = np.arange(len(where))
            starts = np.searchsorted(where, np.arange(self.images + 1) * positions)
            self._parts[part] = Live(
                self.images, positions, where, self.missed[rows], starts, index,
                of_layer=(rows, self.where[rows]),
            )  # fmt: skip
        return self._parts[part]

    def cells(self, classes: Classes) -> NDArray[np.int64]:
        """Number the cell of each row: that of the class of its position, image after image."""
        if classes not in self._cells:
            if self.of is None:
                of_image = np.arange(self.images)[:, None] * len(classes.sizes)
                self._cells[classes] = (of_image + classes.of_position).ravel()
            else:
                self._cells[classes] = self.of.cells(classes)[self.where]
        return self._cells[classes]

    def population(self, classes: Classes) -> NDArray[np.int64]:
        """Count the rows of each cell."""
        if classes not in self._populations:
            cells = self.images * len(classes.sizes)
            self._populations[classes] = np.bincount(self.cells(classes), minlength=cells)
        return self._populations[classes]


@dataclass(frozen=True, eq=False)
class Rows:
    """A value at an output port: `data` (rows, features); those not at hand are 0.

    `shape` is that of the port: (C, H, W), (N, D) or (D,).
    """

    data: Array
    live: Live
    shape: Shape
    counts: dict[Classes, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(
        default_factory=dict, init=False, repr=False
    )
    """What `counted` has found, or is known."""

    def dense(self, dtype: type[np.generic]) -> Array:
        """Give the value as the reference has it: (images, *shape)."""
        live = self.live
        features = self.data.shape[1]
        if live.complete:
            full = self.data.astype(dtype)
        else:
            full = np.zeros((live.images * live.positions, features), dtype)
            full[live.where] = self.data
        if len(self.shape) == 3:
            maps = full.reshape(live.images, live.positions, features).swapaxes(1, 2)
            return np.ascontiguousarray(maps).reshape(live.images, *self.shape)
        return full.reshape(live.images, *self.shape)

    def on(self, live: Live) -> Rows:
        """Give the rows of others, or of a part of the layer; those not at hand here are 0."""
        same = live.of_layer is None and live.complete and self.live.complete
        if same or live is self.live:
            return self
        data = np.empty((len(live.where), self.data.shape[1]), self.data.dtype)
        pack(self.data, self.live.index, live.at, data)
        return Rows(data, live, self.shape)

    @staticmethod
    def of(value: Array, shape: Shape, dtype: type[np.generic], everyone: Callable[[int], Live]) -> Rows:
        """Make rows of a value (images, *shape) of the reference; `everyone` has all rows, by positions."""
        if len(shape) == 3:
            value = value.reshape(*value.shape[:2], -1).swapaxes(1, 2)
        elif len(shape) == 1:
            value = value[:, None]
        images, positions, features = value.shape
        if len(shape) == 3 and features <= _FEW_CHANNELS:
            data = np.empty((images, positions, features), dtype)
            for feature in range(features):
                data[:, :, feature] = value[:, :, feature]
        else:
            data = np.ascontiguousarray(value, dtype)
        return Rows(data.reshape(-1, features), everyone(positions), shape)

    def counted(self, classes: Classes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count what is not 0 in each cell, and sum it: (cells,) each."""
        if classes not in self.counts:
            nonzero, total = np.zeros((2, self.live.images * len(classes.sizes)), np.int64)
            count(self.data, self.live.cells(classes), nonzero, total)
            self.counts[classes] = nonzero, total
        return self.counts[classes]
