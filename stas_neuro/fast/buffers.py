"""Arrays that are used again for each batch and step."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LINE = 64
"""Bytes of a line of a processor's cache: rows that begin at one are loaded soonest."""
_BLOCK = 1 << 23
"""Bytes that are allocated at least: numpy asks for pages of 2 MiB from 4 MiB on. A processor finds rows that
are far from one another sooner in these, and they are mapped with fewer faults."""

_NOTHING = np.zeros(0, np.uint8)


class Buffers:
    """Arrays by key. An array is valid until the next one of the same key is asked for; at first it is 0."""

    def __init__(self) -> None:
        self._held: dict[Hashable, NDArray[np.uint8]] = {}
        self._left = _NOTHING
        self.size = 0
        """Bytes that were allocated."""

    def get(self, key: Hashable, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Give an array with whatever values."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        held = self._held.get(key, _NOTHING)
        if held.size < size:
            # What is left behind in a block is not used again: a buffer that grows at least doubles.
            self._held[key] = held = self._new(max(size, 2 * held.size))
        return held[:size].view(dtype).reshape(shape)

    def _new(self, size: int) -> NDArray[np.uint8]:
        """Give bytes of 0 that begin at a line."""
        lines = -(-size // _LINE) * _LINE
        if lines > self._left.size:
            block = np.zeros(max(lines, _BLOCK) + _LINE, np.uint8)
            self.size += block.size
            block = block[-block.ctypes.data % _LINE :]
            if lines >= _BLOCK:  # a block of its own
                return block[:size]
            self._left = block
        new, self._left = self._left[:size], self._left[lines:]
        return new
