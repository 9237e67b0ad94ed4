"""Products of whole numbers: each is exact where it is chosen, and is not chosen elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stas_neuro.fast.buffers import Buffers
from stas_neuro.fast.products import Bytes, Floats, product_of


@given(
    st.integers(0, 2**16),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 8),
    st.sampled_from((1, 3, 255)),
    st.booleans(),
)
def test_products_are_exact(
    seed: int, rows: int, inputs: int, outputs: int, largest: int, eight_bit: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = 2 * rng.integers(-128, 128, (outputs, inputs)).astype(np.int16)
    x = rng.integers(0, largest + 1, (rows, inputs)).astype(np.uint8)
    product = product_of(weight, largest, unsigned=True, eight_bit=eight_bit)
    y = product(x, Buffers()) * product.scale
    np.testing.assert_array_equal(y, x.astype(np.int64) @ weight.astype(np.int64).T)
    if not eight_bit:
        assert isinstance(product, Floats)


@pytest.mark.parametrize(
    ("weights", "largest", "taken"),
    [
        ([-256, 254], 1, True),  # -128 and 127 once halved
        ([-256, 254, 1], 1, False),  # odd: it cannot be halved
        ([-127, 127], 129, True),
        ([-128, 127], 128, False),  # two products can reach 2^15
        ([0, 0], 255, True),
    ],
)
def test_products_of_bytes_are_for_those_that_fit(weights: list[int], largest: int, taken: bool) -> None:
    weight = np.array([weights], np.int16)
    product = product_of(weight, largest, unsigned=True, eight_bit=True)
    assert isinstance(product, Bytes) == taken
    assert isinstance(product_of(weight, largest, unsigned=False, eight_bit=True), Floats)
    x = np.full((3, len(weights)), largest, np.uint8)
    y = product(x, Buffers()) * product.scale
    np.testing.assert_array_equal(y, x.astype(np.int64) @ weight.astype(np.int64).T)


def test_sums_that_float32_cannot_hold_are_made_in_float64() -> None:
    weight = np.full((1, 2**10), 255, np.int16)
    for largest, dtype in ((64, np.float32), (65, np.float64)):
        product = product_of(weight, largest, unsigned=True, eight_bit=False)
        assert product.takes is dtype
        x = np.full((1, 2**10), largest, np.uint8)
        assert product(x, Buffers()).item() == 255 * largest * 2**10
