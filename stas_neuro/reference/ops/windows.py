"""Windows that slide over maps: of convolutions and of pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stas_neuro.ir.ops.windows import Window
from stas_neuro.reference.ops.base import Values


def taps_of(x: Values, window: Window, outside: float = 0.0) -> Iterator[tuple[int, int, Values]]:
    """Shift a map, padded with `outside`, to each place (row, column) of a window: views (B, C, H', W')."""
    pad, stride, height, width = window.padding, window.stride, *x.shape[2:]
    padded = np.full((*x.shape[:2], height + 2 * pad, width + 2 * pad), outside, x.dtype)
    padded[:, :, pad : pad + height, pad : pad + width] = x
    # The last input that the last window's first place can have, plus one.
    ends = [size + 2 * pad - window.kernel + 1 for size in (height, width)]
    for row in range(window.kernel):
        for column in range(window.kernel):
            yield row, column, padded[:, :, row : row + ends[0] : stride, column : column + ends[1] : stride]
