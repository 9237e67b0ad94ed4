"""Convolutions of narrow maps with few channels, as products with windows of whole rows of the map.

A window of a whole output row has as many rows of the map as the kernel, each complete. Its product with a
matrix that is 0 outside the kernel gives the row at once. It takes more products than windows of single
positions, but there are fewer and longer windows to copy, which else takes longer than the products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.fast.sums import ConvSums
from stas_neuro.ir import FixedConv2d

Array = NDArray[Any]
_WORTH_COPYING = 512
"""Products that are made in about the time that copying a row of one position's window takes."""


_LARGEST = 1 << 20
"""Numbers of the largest matrix: others fill the caches that are left for the windows."""


def is_narrow(node: FixedConv2d, width: int, columns: int) -> bool:
    """Tell whether windows of rows take less time than those of positions.

    `width` and `columns` are those of the map and of the output.
    """
    channels = node.in_channels * node.out_channels
    if columns * node.sides.kernel[0] * width * channels > _LARGEST:
        return False
    return (width - node.sides.kernel[1]) * channels <= _WORTH_COPYING


def of_rows(weight: Array, node: FixedConv2d, width: int, columns: int) -> Array:
    """Give the matrix of output rows: (columns * outputs, kernel rows * width * inputs).

    `weight` is (outputs, inputs, kernel rows, kernel columns); `width` and `columns` are those of the map and
    of the output.
    """
    outputs, inputs, rows, _ = weight.shape
    sides = node.sides
    matrix = np.zeros((columns, outputs, rows, width, inputs), weight.dtype)
    for column in range(columns):
        for tap in range(sides.kernel[1]):
            at = column * sides.stride[1] + tap - sides.padding[1]
            if 0 <= at < width:
                matrix[column, :, :, at] = weight[:, :, :, tap].transpose(0, 2, 1)
    return matrix.reshape(columns * outputs, -1)


@dataclass(frozen=True, eq=False)
class RowSums(ConvSums):
    """A convolution, as a product with its windows: of one output row each."""

    @cached_property
    def _windows(self) -> tuple[int, int, int, Array]:
        (channels, _, width), (_, rows, _) = self.shapes
        sides = np.array(self.node.sides)
        sides[:, 1] = 1, 1, 0, 1
        return rows, 1, width * channels, sides
