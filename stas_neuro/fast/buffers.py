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


class Buffers:
    """Arrays by key. An array is valid until the next one of the same key is asked for; at first it is 0."""

    def __init__(self) -> None:
        self._held: dict[Hashable, NDArray[np.uint8]] = {}
        self._left = np.zeros(0, np.uint8)
        self.size = 0
        """Bytes of all."""

    def get(self, key: Hashable, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Give an array with whatever values."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if key not in self._held or self._held[key].size < size:
            self._held[key] = self._new(size)
        return self._held[key][:size].view(dtype).reshape(shape)

    def _new(self, size: int) -> NDArray[np.uint8]:
        """Give bytes of 0 that begin at a line."""
        lines = -(-size // _LINE) * _LINE
        if self._left.size < lines:
            block = np.zeros(max(lines, _BLOCK) + _LINE, np.uint8)
            self._left = block[-block.ctypes.data % _LINE :]
            self.size += block.size
        new, self._left = self._left[:size], self._left[lines:]
        return new
