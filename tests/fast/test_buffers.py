"""Buffers of the fast backend."""

from __future__ import annotations

import numpy as np

from stas_neuro.fast.buffers import Buffers


def test_buffers_are_apart_and_begin_at_lines() -> None:
    buffers = Buffers()
    held = [
        buffers.get(key, (size,), np.uint8) for key, size in (("a", 3), ("b", 1 << 24), ("c", 65), ("d", 0))
    ]
    for value, array in enumerate(held):
        assert array.ctypes.data % 64 == 0 or not array.size
        array[:] = value
    for value, array in enumerate(held):
        assert (array == value).all()
    assert buffers.get("a", (3,), np.uint8).ctypes.data == held[0].ctypes.data


def test_buffers_that_grow_a_little_leave_little_behind() -> None:
    buffers = Buffers()
    for size in range(1 << 20, (1 << 20) + (200 << 6), 1 << 6):
        buffers.get("a", (size,), np.uint8)
    assert buffers.size < 10 << 20
