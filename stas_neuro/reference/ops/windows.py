"""Windows that slide over maps: of convolutions and of pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stas_neuro.ir.ops.windows import Windowed
from stas_neuro.reference.ops.base import Values


def taps_of(x: Values, window: Windowed, outside: float = 0.0) -> Iterator[tuple[int, int, Values]]:
    """Shift a map, padded with `outside`, to each place (row, column) of a window: views (B, C, H', W')."""
    kernel, stride, (above, left), dilation = window.sides
    extent = window.sides.extent
    height, width = x.shape[2:]
    padded = np.full((*x.shape[:2], height + 2 * above, width + 2 * left), outside, x.dtype)
    padded[:, :, above : above + height, left : left + width] = x
    # The last input that the last window's first place can have, plus one.
    ends = height + 2 * above - extent[0] + 1, width + 2 * left - extent[1] + 1
    for row, column in np.ndindex(kernel):
        rows, columns = (
            slice(first, first + end, step)
            for first, end, step in zip((row * dilation[0], column * dilation[1]), ends, stride, strict=True)
        )
        yield row, column, padded[:, :, rows, columns]
