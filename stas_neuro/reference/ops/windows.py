"""Windows that slide over maps: of convolutions and of pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stas_neuro.ir import Conv2d, SpikeMaxPool
from stas_neuro.reference.ops.base import Values


def taps_of(x: Values, window: Conv2d | SpikeMaxPool) -> Iterator[tuple[int, int, Values]]:
    """Shift a zero-padded map to each place (row, column) of a window: views (B, C, H', W') of its inputs."""
    pad, stride, height, width = window.padding, window.stride, *x.shape[2:]
    padded = np.zeros((*x.shape[:2], height + 2 * pad, width + 2 * pad), x.dtype)
    padded[:, :, pad : pad + height, pad : pad + width] = x
    # The last input that the last window's first place can have, plus one.
    ends = [size + 2 * pad - window.kernel + 1 for size in (height, width)]
    for row in range(window.kernel):
        for column in range(window.kernel):
            yield row, column, padded[:, :, row : row + ends[0] : stride, column : column + ends[1] : stride]
