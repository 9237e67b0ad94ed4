"""Axes of a torch tensor by name, tracked through views.

A dimension is a product of pieces of named axes, outermost first: B (images), T (steps), C (channels), H and
W. A view regroups pieces; a view that mixes pieces of different axes is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stas_neuro.importers.errors import Refused

SCRAMBLED = "transpose to the order of the new shape before reshaping"


@dataclass(frozen=True)
class Piece:
    """`size` positions of axis `kind`, `stride` apart; the whole axis has stride 1 and its full size."""

    kind: str
    size: int
    stride: int = 1

    def __str__(self) -> str:
        part = f" in strides of {self.stride}" if self.stride > 1 else ""
        return f"{self.kind}={self.size}{part}"


Dim = tuple[Piece, ...]
Dims = tuple[Dim, ...]


def axis(kind: str, size: int) -> Dim:
    """Return a dimension that is one axis; an axis of size 1 has no piece."""
    return (Piece(kind, size),) if size > 1 else ()


def size_of(dim: Dim) -> int:
    """Return the size of a dimension."""
    return math.prod(piece.size for piece in dim)


def shape_of(dims: Dims) -> tuple[int, ...]:
    """Return the shape of a tensor."""
    return tuple(map(size_of, dims))


def kinds_of(dims: Iterable[Dim]) -> frozenset[str]:
    """Return the names of the axes in dimensions."""
    return frozenset(piece.kind for dim in dims for piece in dim)


def merge(pieces: Iterable[Piece]) -> Dim:
    """Join neighbours that continue each other."""
    merged: list[Piece] = []
    for piece in pieces:
        if merged and merged[-1].kind == piece.kind and merged[-1].stride == piece.stride * piece.size:
            piece = Piece(piece.kind, merged.pop().size * piece.size, piece.stride)
        merged.append(piece)
    return tuple(merged)


def regroup(dims: Dims, shape: Sequence[int]) -> Dims:
    """Reshape: distribute the same pieces, in their order, over dimensions of other sizes.

    Raises
    ------
    Refused
        If a dimension of the new shape would hold parts of axes that do not continue each other.
    """
    rest = list(merge(piece for dim in dims for piece in dim))
    rest.reverse()
    regrouped = []
    for size in shape:
        taken: list[Piece] = []
        while (missing := size // size_of(tuple(taken))) > 1:
            piece = rest.pop() if rest else None
            if piece is None or (missing % piece.size and piece.size % missing) or size % missing:
                raise _scrambles(dims, shape)
            if piece.size > missing:
                inner = piece.size // missing
                rest.append(Piece(piece.kind, inner, piece.stride))
                piece = Piece(piece.kind, missing, piece.stride * inner)
            taken.append(piece)
        if size_of(tuple(taken)) != size or _mixes_channels(taken, dims):
            raise _scrambles(dims, shape)
        regrouped.append(merge(taken))
    return tuple(regrouped)


def _mixes_channels(taken: Sequence[Piece], dims: Dims) -> bool:
    """Return whether channels are joined with a part of H or W, which no layer of a network uses."""
    kinds = {piece.kind for piece in taken}
    if "C" not in kinds or not kinds & {"H", "W"}:
        return False
    return any(size_of(_of(taken, kind)) != size_of(_of(sum(dims, ()), kind)) for kind in kinds)


def _of(pieces: Iterable[Piece], kind: str) -> Dim:
    return tuple(piece for piece in pieces if piece.kind == kind)


def _scrambles(dims: Dims, shape: Sequence[int]) -> Refused:
    what = f"reshape of {named(dims)} to {tuple(shape)} cuts across axes"
    return Refused(what, SCRAMBLED)


def named(dims: Dims) -> str:
    """Write dimensions with their axes, "(T=4 B=2, C=32, H=8, W=8)"."""
    return "(" + ", ".join(" ".join(map(str, dim)) or "1" for dim in dims) + ")"
