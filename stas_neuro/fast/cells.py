"""Cells, in which all outputs of a node are counted alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir.ops.windows import Windowed
from stas_neuro.reference.alike import equal_rows
from stas_neuro.reference.ops.windows import taps_of
from stas_neuro.reference.rows import RecordRow

Array = NDArray[Any]
Whole = NDArray[np.int64]
_AT_ONCE = 64
"""Columns by which rows are compared at once: more take less time, and more memory."""


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes of positions: int64 (positions,), from 0 on."""

    of_position: Whole

    @cached_property
    def sizes(self) -> Whole:
        """Positions of each class."""
        return np.bincount(self.of_position)


@dataclass(frozen=True, eq=False)
class Cells:
    """Outputs of a node, divided into classes of positions and segments of features.

    All positions of a class and features of a segment are in the same record rows, and have the same
    weights.

    Parameters
    ----------
    classes : Classes
    bounds : int64 (segments + 1,)
        First feature of each segment, and the number of features.
    member : float64 (classes, segments, rows)
        1 where a row has the outputs of a cell.
    first : int64 (classes,)
        A position of each class.
    """

    classes: Classes
    bounds: Whole
    member: NDArray[np.float64]
    first: Whole

    @staticmethod
    def of(parts: Sequence[RecordRow], weights: Sequence[Array], *, apart: bool) -> Cells:
        """Divide the outputs of a node with record rows and weights (positions, features).

        With `apart` each position has a class of its own.
        """
        positions, features = parts[0].extent
        edges = {0, features, *(edge for part in parts for edge in part.features)}
        for each in weights:
            edges |= set((np.flatnonzero((each[:, 1:] != each[:, :-1]).any(axis=0)) + 1).tolist())
        bounds = np.array(sorted(edges), np.int64)
        # The row of each cell: it is in only one, or in none where it is on another chip.
        owner = np.full((positions, len(bounds) - 1), -1)
        for at, part in enumerate(parts):
            rows = slice(None) if part.positions is None else part.positions
            owner[rows, slice(*np.searchsorted(bounds, part.features))] = at
        if apart:
            first = of_position = np.arange(positions)
        else:
            first, of_position = alike([owner, *(each[:, bounds[:-1]] for each in weights)])
        member = (owner[first][:, :, None] == np.arange(len(parts))).astype(np.float64)
        return Cells(Classes(of_position), bounds, member, first)

    def weighted(self, weights: Array) -> NDArray[np.float64]:
        """Give each row's outputs of a cell their weight (positions, features): (classes, segments, rows)."""
        of_cells: NDArray[np.float64] = self.member * weights[self.first][:, self.bounds[:-1], None]
        return of_cells

    @property
    def places(self) -> NDArray[np.float64]:
        """Features that each row has of a position of a class: (classes, rows)."""
        return np.asarray(np.einsum("csr,s->cr", self.member, np.diff(self.bounds)))

    @cached_property
    def segments(self) -> Whole:
        """The segment of each feature: int64 (features,)."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))

    def by_head(self, heads: int) -> NDArray[np.float64]:
        """Features that each row has of a position of a class and of a head: (classes, heads, rows)."""
        edges = np.arange(heads + 1) * (self.bounds[-1] // heads)
        shared = np.minimum(self.bounds[1:], edges[1:, None]) - np.maximum(self.bounds[:-1], edges[:-1, None])
        return np.asarray(np.einsum("csr,hs->chr", self.member, shared.clip(0)))

    def windows(self, window: Windowed, height: int, width: int) -> NDArray[np.float64]:
        """Count the outputs of each row that have an input position in their window: (positions, rows)."""
        numbers = np.arange(1.0, height * width + 1).reshape(1, 1, height, width)
        reached = np.zeros((height * width + 1, self.member.shape[2]))
        of_output = self.places[self.classes.of_position]
        for _, _, taken in taps_of(numbers, window):  # 0 outside the map; a tap takes each input once at most
            reached[taken.ravel().astype(np.int64)] += of_output
        return reached[1:]


def alike(tables: Sequence[Array]) -> tuple[Whole, Whole]:
    """Return the first of each class of rows that are equal in all tables, and the class of each row."""
    first, of_row = np.zeros(1, np.int64), np.zeros(len(tables[0]), np.int64)
    columns = np.hstack(tables)
    for start in range(0, columns.shape[1], _AT_ONCE):
        some = np.column_stack([of_row, columns[:, start : start + _AT_ONCE]]).astype(np.float64)
        first, of_row = equal_rows(some + 0.0)  # no zero is negative
    return first, of_row
