"""Axes through views: what is accepted is what torch does, and what mixes axes is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stas_neuro.importers.axes import Dims, Piece, axis, merge, named, regroup, shape_of
from stas_neuro.importers.errors import Refused

SIZES = {"T": 4, "B": 3, "C": 8, "H": 6, "W": 5}


def labelled(dims: Dims) -> np.ndarray:
    """Give the tensor that dimensions describe: at each position, the places on all axes as one number."""
    pieces = [piece for dim in dims for piece in dim]
    kinds = sorted(SIZES)
    total = np.zeros([piece.size for piece in pieces], np.int64)
    for index, piece in enumerate(pieces):
        weight = math.prod(SIZES[kind] for kind in kinds[: kinds.index(piece.kind)])
        shape = [piece.size if at == index else 1 for at in range(len(pieces))]
        total = total + (np.arange(piece.size) * piece.stride * weight).reshape(shape)
    return total.reshape(shape_of(dims))


@given(st.permutations(sorted(SIZES)), st.data())
def test_views_track_what_torch_does(order: list[str], data: st.DataObject) -> None:
    dims: Dims = tuple(axis(kind, SIZES[kind]) for kind in order)
    values = labelled(dims)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            permuted = data.draw(st.permutations(range(len(dims))))
            dims, values = tuple(dims[at] for at in permuted), values.transpose(permuted)
        else:
            shape = data.draw(st.sampled_from(_shapes(values.shape)))
            values = values.reshape(shape)
            try:
                dims = regroup(dims, shape)
            except Refused:
                return
        np.testing.assert_array_equal(labelled(dims), values)


def _shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """List shapes that join two neighbours, split one dimension, or add or drop a dimension of size 1."""
    shapes = [(*shape, 1), tuple(size for size in shape if size > 1)]
    for at in range(len(shape) - 1):
        shapes.append((*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]))
    for at, size in enumerate(shape):
        shapes += [
            (*shape[:at], first, size // first, *shape[at + 1 :]) for first in (2, 4) if size % first == 0
        ]
    return shapes


def test_a_view_that_mixes_axes_is_refused_with_their_names() -> None:
    dims = tuple(axis(kind, SIZES[kind]) for kind in "TBCHW")
    with pytest.raises(Refused) as caught:
        regroup(dims, (4, 3, 6, 8, 5))
    assert caught.value.what == ("reshape of (T=4, B=3, C=8, H=6, W=5) to (4, 3, 6, 8, 5) cuts across axes")


def test_split_channels_join_again_only_in_their_order() -> None:
    heads, width = Piece("C", 4, 8), Piece("C", 8)
    assert regroup((axis("C", 32),), (4, 8)) == ((heads,), (width,))
    assert merge((heads, width)) == axis("C", 32)
    assert merge((width, heads)) == (width, heads)
    assert named(((width, heads),)) == "(C=8 C=4 in strides of 8)"
