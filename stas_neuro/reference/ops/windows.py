"""Windows that slide over maps: of convolutions and of pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stas_neuro.ir import Conv2d, SpikeMaxPool
from stas_neuro.reference.ops.base import Values


def taps_of(x: Values, window: Conv2d | SpikeMaxPool) -> Iterator[tuple[int, int, Values]]:
    """Shift a zero-padded map to each place (row, column) of a window: views (B, C, H', W') of its inputs."""
    kernel, stride, (above, left) = window.sides
    height, width = x.shape[2:]
    padded = np.zeros((*x.shape[:2], height + 2 * above, width + 2 * left), x.dtype)
    padded[:, :, above : above + height, left : left + width] = x
    # The last input that the last window's first place can have, plus one.
    ends = height + 2 * above - kernel[0] + 1, width + 2 * left - kernel[1] + 1
    for row, column in np.ndindex(kernel):
        rows, columns = (
            slice(first, first + end, step)
            for first, end, step in zip((row, column), ends, stride, strict=True)
        )
        yield row, column, padded[:, :, rows, columns]
