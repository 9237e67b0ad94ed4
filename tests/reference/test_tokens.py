"""What rearranges tokens and channels, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stas_neuro.ir import Array, Map, Node, Phase, Tokens
from stas_neuro.reference.ops import OPERATORS
from stas_neuro.reference.ops.base import NodeContext

AT: dict[str, Any] = {"name": "n", "phase": Phase.STEP, "scope": "s"}


def compute(node: Node, inputs: Mapping[str, Array]) -> Array:
    return OPERATORS[type(node)](node, inputs, NodeContext({}, steps=1, skip=True))["y"]


def test_a_map_is_tokens_row_by_row() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 4))
    y = compute(Map(height=2, width=3, **AT), {"x": x})
    assert y.shape == (2, 4, 2, 3)
    for image, channel, row, column in np.ndindex(y.shape):
        assert y[image, channel, row, column] == x[image, row * 3 + column, channel]
    np.testing.assert_array_equal(compute(Tokens(**AT), {"x": y}), x)
