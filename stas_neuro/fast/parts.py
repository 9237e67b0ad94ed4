"""Parts of a layer: some of its positions and features, which are computed as a smaller layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir.ops.base import Wanted
from stas_neuro.reference.alike import equal_rows


@dataclass(frozen=True, eq=False)
class Part:
    """Positions, int64 ascending, out of a number of them, and features that follow each other."""

    positions: NDArray[np.int64]
    out_of: int
    features: slice

    @cached_property
    def number(self) -> NDArray[np.int64]:
        """The number of each position of the layer among those of the part, -1 where it is in none."""
        number = np.full(self.out_of, -1, np.int64)
        number[self.positions] = np.arange(len(self.positions))
        return number

    @property
    def shape(self) -> tuple[int, int]:
        """Positions and features."""
        return len(self.positions), self.features.stop - self.features.start


def rectangles(wanted: Wanted) -> tuple[Part, ...]:
    """Divide values (positions, features) into parts, each of some positions and of features in a row."""
    return tuple(_rectangles(wanted))


def _rectangles(wanted: Wanted) -> Iterator[Part]:
    first, of_position = equal_rows(np.packbits(wanted, axis=1))
    for number, row in enumerate(wanted[first]):
        edges = np.flatnonzero(np.diff(row.astype(np.int8), prepend=0, append=0)).tolist()
        positions = np.flatnonzero(of_position == number)
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            yield Part(positions, len(wanted), slice(first, last))


def of_bias(bias: NDArray[Any], part: Part) -> NDArray[Any]:
    """Give the part's biases of those (1 or positions, features) of a layer."""
    rows = bias if len(bias) == 1 else bias[part.positions]
    return np.ascontiguousarray(rows[:, part.features])
