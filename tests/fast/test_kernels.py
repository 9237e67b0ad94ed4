"""Compiled loops: where they are kept, and what they count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stas_neuro.fast import kernels


def test_loops_that_cannot_be_kept_are_compiled_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def njit(*, cache: bool = False, **options: Any) -> Callable[[Any], Any]:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    def loop() -> None:
        return None

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels._kernel(loop) is loop
    assert asked == [True, False]


@pytest.mark.parametrize("positions", [1, 3, 4])
def test_more_neurons_than_half_a_count_holds_are_counted(positions: int) -> None:
    """Also where rows of several positions are joined."""
    rows, features = 36_000, 2
    sums = np.tile(np.array([1, 0], np.float32), (rows, positions))
    v, spikes = np.zeros_like(sums), np.zeros(sums.shape, np.uint8)
    active, fired = np.zeros((2, 1, 2), np.int64)
    ones, zeros = np.ones(sums.shape[1], np.float32), np.zeros((1, sums.shape[1]), np.float32)
    threshold = np.array([0.5, np.inf, 0, 0], np.float32)
    kernels.fire(
        sums, ones, zeros, np.float32(1), np.float32(0), *threshold, v, np.arange(rows),
        np.zeros(rows, np.int32), np.zeros(rows * positions, np.int64), np.array([0, 1, features]), spikes,
        active, fired,
    )  # fmt: skip
    np.testing.assert_array_equal(spikes, sums)
    assert active.tolist() == fired.tolist() == [[rows * positions, 0]]
