"""Sums as synaptic input: the least sums that give it, against all sums."""

from __future__ import annotations

import numpy as np
import pytest

from stas_neuro.fast.sums import Current


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_are_the_least_sums_with_a_current(dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(0)
    exponents = np.arange(-8, 8)
    bias = rng.integers(-2000, 2001, (3, len(exponents))).astype(dtype)
    current = Current(np.ldexp(1.0, exponents).astype(dtype), dtype(64), bias)
    sums = np.arange(-40_000, 40_001, dtype=np.int32)
    every = np.broadcast_to(sums[:, None, None], (len(sums), *bias.shape))
    given = current.of(every.reshape(-1, bias.shape[1])).reshape(every.shape)
    for least in (-3000, -64, -1, 0, 1, 64, 5121):
        bounds = current.bounds(least)
        assert bounds.dtype == dtype
        np.testing.assert_array_equal(every.astype(dtype) >= bounds, given >= least)


def test_bounds_beyond_what_a_type_holds_are_infinite() -> None:
    current = Current(np.full(1, 2.0**-8, np.float32), np.float32(64), np.zeros((1, 1), np.float32))
    within = 2**24 / 2**8 * 64
    assert current.bounds(within) == 2**24
    assert current.bounds(within + 1) == np.inf
    assert current.bounds(-within - 64) == -np.inf
