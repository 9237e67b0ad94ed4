"""Arrays that are used again for each batch and step."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LINE = 64
"""Bytes of a line of a processor's cache."""


class Buffers:
    """Arrays by key. An array is valid until the next one of the same key is asked for; at first it is 0."""

    def __init__(self) -> None:
        self._held: dict[Hashable, NDArray[np.uint8]] = {}

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(held.size for held in self._held.values())

    def get(self, key: Hashable, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Give an array with whatever values."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if key not in self._held or self._held[key].size < size:
            self._held[key] = _aligned(size)
        return self._held[key][:size].view(dtype).reshape(shape)


def _aligned(size: int) -> NDArray[np.uint8]:
    """Give bytes of 0 that begin at a line of a processor's cache: rows that do not take longer to load."""
    held = np.zeros(size + _LINE, np.uint8)
    start = -held.ctypes.data % _LINE
    return held[start : start + size]
