"""Rows of an activity record, and their part of what is counted for each value that a node outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.reference.ops.base import Counts, Each, Shared


@dataclass(frozen=True, eq=False)
class RecordRow:
    """Some of the values that a node outputs: a row of the record.

    `positions` is None for all of them; `extent` has the positions and features of the whole.
    """

    row: str
    extent: tuple[int, int]
    positions: NDArray[np.intp] | None
    features: tuple[int, int]

    @property
    def values(self) -> int:
        """How many they are."""
        positions = self.extent[0] if self.positions is None else len(self.positions)
        return positions * (self.features[1] - self.features[0])

    def count(self, counted: Each | Shared) -> Counts:
        """Sum what this part has of counts, int64 (B,)."""
        shared = isinstance(counted, Shared)
        counts = counted.counts if isinstance(counted, Shared) else counted
        positions, features = self.extent
        times = 1
        if counts.shape[1] == positions:
            counts = counts if self.positions is None else counts[:, self.positions]
        elif not shared:
            times = positions if self.positions is None else len(self.positions)
        first, end = self.features
        if counts.shape[2] == 1 and not shared:
            times *= end - first
        elif end - first < features:
            of_each = features // counts.shape[2]
            counts = counts[:, :, first // of_each : -(-end // of_each)]
        return _sum(counts) * times

    def of(self, values: Each) -> Each:
        """Give what this part has of values (B, positions, features)."""
        held = values if self.positions is None else values[:, self.positions]
        return held[:, :, slice(*self.features)]


def _sum(x: NDArray[Any]) -> Counts:
    """Sum whole numbers of each image, int64 (B,); exact whatever the precision of the run."""
    wide = np.float64 if x.dtype.kind == "f" else np.int64
    return np.asarray(x.sum(axis=tuple(range(1, x.ndim)), dtype=wide), np.int64)
