"""Values of the reference as rows, and back."""

from __future__ import annotations

import numpy as np
import pytest

from stas_neuro.fast.rows import Live, Rows


@pytest.mark.parametrize("shape", [(3, 2, 4), (12, 2, 4), (5, 3), (7,)])
def test_values_become_rows_and_values_again(shape: tuple[int, ...]) -> None:
    value = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.float32)
    rows = Rows.of(value, shape, np.uint8, lambda positions: Live.everyone(2, positions))
    assert rows.data.dtype == np.uint8 and rows.data.flags.c_contiguous
    np.testing.assert_array_equal(rows.dense(np.float32), value)
