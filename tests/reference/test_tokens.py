"""What rearranges tokens and channels, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from stas_neuro.ir import Array, FixedTokenMean, Map, Node, Phase, Slice, TokenMean, Tokens
from stas_neuro.reference.ops import FIXED_OPERATORS, OPERATORS
from stas_neuro.reference.ops.base import NodeContext

AT: dict[str, Any] = {"name": "n", "phase": Phase.STEP, "scope": "s"}


def compute(node: Node, inputs: Mapping[str, Array]) -> Array:
    return {**OPERATORS, **FIXED_OPERATORS}[type(node)](node, inputs, NodeContext({}, steps=1, skip=True))[
        "y"
    ]


def test_a_map_is_tokens_row_by_row() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 4))
    y = compute(Map(height=2, width=3, **AT), {"x": x})
    assert y.shape == (2, 4, 2, 3)
    for image, channel, row, column in np.ndindex(y.shape):
        assert y[image, channel, row, column] == x[image, row * 3 + column, channel]
    np.testing.assert_array_equal(compute(Tokens(**AT), {"x": y}), x)


def test_a_mean_over_tokens_is_their_sum_in_integers() -> None:
    x = np.random.default_rng(0).integers(-9, 9, (2, 5, 3)).astype(float)
    total = np.array([[[sum(x[image, :, channel]) for channel in range(3)]] for image in range(2)])
    np.testing.assert_allclose(compute(TokenMean(**AT), {"x": x}), total / 5, rtol=1e-15)
    np.testing.assert_array_equal(compute(FixedTokenMean(**AT), {"x": x}), total)


def test_a_mean_that_rounds_rounds_each_token() -> None:
    """To the nearest multiple, and up between two."""
    x = np.array([[[-7.0], [-6.0], [-2.0], [1.0], [2.0], [5.0], [6.0]]])
    rounded = sum((-2, -1, 0, 0, 1, 1, 2))
    assert compute(FixedTokenMean(**AT, x_shift=2), {"x": x}).tolist() == [[[rounded]]]


@pytest.mark.parametrize("shape", [(4,), (3, 4), (4, 2, 3)])
def test_a_slice_is_some_of_the_channels(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(2, *shape))
    y = compute(Slice(start=1, stop=3, **AT), {"x": x})
    channels = np.moveaxis(x, 1 if len(shape) == 3 else -1, 0)
    np.testing.assert_array_equal(np.moveaxis(y, 1 if len(shape) == 3 else -1, 0), [channels[1], channels[2]])
