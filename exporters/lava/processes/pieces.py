"""Where the neurons of a node are: which piece each belongs to, so that events are counted by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stas_neuro.ir import Array, Shape


class Pieces:
    """Pieces of a node's neurons; one that is on no cores is whole.

    Parameters
    ----------
    shape : Shape
        Of the node's neurons: maps (C, H, W), tokens (N, D), or one axis.
    arrays : mapping of names to arrays
        "piece" (*shape): number of the piece that each neuron is in. "wakers" bool (pieces, N + 1), where
        cores are gated: whether a piece is stepped if this token is alive; the last, whoever is. "sends" ():
        a bit for each value that the node sends is kept, 1 where it is not 0.
    """

    def __init__(self, shape: Shape, arrays: Mapping[str, Array]) -> None:
        """Take what the network says; `stepped` is `piece`, by rows where no row is cut."""
        self.shape = shape
        self.piece = arrays.get("piece")
        self.wakers = arrays.get("wakers")
        self.sends = "sends" in arrays
        self.stepped = _by_row(self.piece)
        self.size = int(np.prod(shape))
        self.axes: Shape = () if self.piece is None else (int(self.piece.max()) + 1,)
        self.neurons = self.count(np.ones(shape, np.bool_))

    def awake(self, alive: Array) -> Array:
        """Pieces that are stepped while these tokens (N,) are alive, bool (pieces,)."""
        if self.wakers is None:
            return np.ones(self.axes, np.bool_)
        awake: Array = self.wakers[:, :-1][:, alive > 0].any(axis=1) | self.wakers[:, -1]
        return awake

    def awake_rows(self, alive: Array) -> Array | None:
        """Tokens that any piece which is stepped holds, bool (N,); None where that is all."""
        if self.wakers is None or self.stepped is None:
            return None
        awake = self.awake(alive)[self.stepped]
        rows = np.any(awake.reshape(len(alive), -1), axis=1)
        return None if rows.all() else rows

    def count(self, chosen: Array) -> Any:
        """Neurons that are chosen, of each piece: bool of `shape`, or of its first axis to choose rows."""
        if self.piece is None:
            return np.count_nonzero(chosen) * (self.size // chosen.size)
        return np.bincount(self.piece[chosen].ravel(), minlength=self.axes[0])

    def sum(self, values: Array) -> Any:
        """Sum of whole numbers of `shape` over each piece; exact whatever the precision of the run."""
        if self.piece is None:
            return values.sum(dtype=np.float64)
        return np.bincount(self.piece.ravel(), values.ravel(), self.axes[0])

    def held(self, cells: Array, count: int) -> Array:
        """Number of neurons that each piece holds in each of `count` cells, int64 (pieces, count).

        `cells` has the cell of each neuron, integers that broadcast to `shape`. A whole node is one piece.
        """
        pieces = 1 if self.piece is None else self.axes[0]
        piece = np.zeros((), np.intp) if self.piece is None else self.piece
        place = np.broadcast_to(piece * count + cells, self.shape)
        return np.bincount(place.ravel(), minlength=pieces * count).reshape(pieces, count)


def _by_row(piece: Array | None) -> Array | None:
    """Piece of each row, where pieces hold whole rows: these are chosen faster than neurons."""
    if piece is not None and piece.ndim == 2 and (piece == piece[:, :1]).all():
        return piece[:, 0]
    return piece
