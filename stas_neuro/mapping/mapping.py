"""The mapping data structure: every layer with neurons is cut into pieces, and each piece is on one core.

`placement` computes a mapping; backends use it for counting, and pricing attributes costs by it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.files import check_version, parse_json
from stas_neuro.limits import VALUES_LIMIT

SCHEMA_VERSION = 1
LOCATION_LIMIT = 1 << 16
"""Limit of chip numbers and of tiles along x and y: larger than any machine, and sums of hops stay exact."""
_REMEDY = "compile the bundle again with --placement"


@dataclass(frozen=True, kw_only=True, order=True)
class CoreLocation:
    """Location of a core: its chip, and the column and row of its tile in that chip's mesh."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    chip: int = 0
    x: int = 0
    y: int = 0

    def __post_init__(self) -> None:
        if min(self.chip, self.x, self.y) < 0 or max(self.chip, self.x, self.y) >= LOCATION_LIMIT:
            what = f"a core is at chip {self.chip}, tile {self.x},{self.y}"
            raise InputError(what, f"count from 0, to less than {LOCATION_LIMIT}")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some neurons of a layer: `positions` x `features`, all on one core.

    Parameters
    ----------
    layer : str
        The node with the neurons: a LIF, or a synaptic, halting or readout node that feeds no LIF.
    core : int
        Index into the cores of the mapping.
    positions : tuple of int
        Tokens, or positions of a map in row-major order, ascending; (0,) for a layer without positions.
    features : tuple of two ints
        First output feature (channel), and the one after the last.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    layer: str
    core: int
    positions: tuple[int, ...]
    features: tuple[int, int]

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in pairwise(self.positions))
        if not self.positions or self.positions[0] < 0 or not ascending:
            raise InputError(
                f"piece of {self.layer}: positions {self.positions[:4]}... are not ascending from 0", _REMEDY
            )
        if not 0 <= self.features[0] < self.features[1]:
            raise InputError(f"piece of {self.layer}: features are {self.features}", _REMEDY)
        if max(self.positions[-1], self.features[1] - 1) >= VALUES_LIMIT:
            what = f"piece of {self.layer}: position {self.positions[-1]} or feature {self.features[1] - 1}"
            raise InputError(f"{what} is not below {VALUES_LIMIT}", _REMEDY)

    @property
    def width(self) -> int:
        """Number of features."""
        return self.features[1] - self.features[0]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return len(self.positions) * self.width

    @property
    def name(self) -> str:
        """Name of its row in activity records."""
        return f"{self.layer}@{self.core}"


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Mapping of a network to cores.

    Parameters
    ----------
    profile : str
        Name of the profile whose limits the mapping satisfies.
    strategy : str
        Placement strategy: channel-major, token-major or halting-aware.
    cores : tuple of CoreLocation
    pieces : tuple of Piece
        A layer has at most one piece on a core, and each of its neurons is in exactly one piece.
    groups : int or None
        Number of groups that each network block was cut into; None if unknown.

    Raises
    ------
    InputError
        At construction, when a piece is on no core, two pieces are the same, or two contain the same neuron.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    profile: str
    strategy: str
    cores: tuple[CoreLocation, ...]
    pieces: tuple[Piece, ...]
    groups: int | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for piece in self.pieces:
            if not 0 <= piece.core < len(self.cores):
                raise InputError(f"{piece.name}: there are {len(self.cores)} cores", _REMEDY)
            if piece.name in seen:
                raise InputError(f"{piece.name} occurs twice", "make it one piece")
            seen.add(piece.name)
        for layer in self.layers:
            self._check_disjoint(layer)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that have pieces, in the order of the pieces."""
        return tuple(self._of_layers)

    @property
    def chips(self) -> int:
        """Number of chips that its cores are on."""
        return len({site.chip for site in self.cores})

    @property
    def used_chips(self) -> tuple[int, ...]:
        """Numbers of the chips that have pieces, ascending."""
        return tuple(sorted({self.cores[piece.core].chip for piece in self.pieces}))

    def of_layer(self, layer: str) -> tuple[Piece, ...]:
        """Return the pieces of a layer, in the order of `pieces`."""
        return self._of_layers.get(layer, ())

    @cached_property
    def _of_layers(self) -> dict[str, tuple[Piece, ...]]:
        found: dict[str, list[Piece]] = {}
        for piece in self.pieces:
            found.setdefault(piece.layer, []).append(piece)
        return {layer: tuple(pieces) for layer, pieces in found.items()}

    def check_layer(self, layer: str, positions: int, features: int) -> None:
        """Raise InputError where the pieces of a layer do not cover all of its positions x features."""
        held = sum(piece.neurons for piece in self.of_layer(layer))
        widest = max((piece.features[1] for piece in self.of_layer(layer)), default=0)
        last = max((piece.positions[-1] for piece in self.of_layer(layer)), default=-1)
        if held != positions * features or widest > features or last >= positions:
            raise InputError(
                f"the mapping holds {held} neurons of {layer}, it has {positions} x {features}", _REMEDY
            )

    def _check_disjoint(self, layer: str) -> None:
        pieces = self.of_layer(layer)
        position = np.concatenate([piece.positions for piece in pieces])
        spans = np.repeat([piece.features for piece in pieces], [len(each.positions) for each in pieces], 0)
        order = np.lexsort((spans[:, 0], position))
        position, spans = position[order], spans[order]
        twice = (position[1:] == position[:-1]) & (spans[1:, 0] < spans[:-1, 1])
        if twice.any():
            raise InputError(f"{layer}: two pieces hold position {position[twice.argmax()]}", _REMEDY)

    def to_json(self) -> str:
        """Return the text of mapping.json."""
        return json.dumps(asdict(self)) + "\n"


def parse_mapping(content: bytes, where: str) -> Mapping:
    """Make a mapping from the bytes of mapping.json; raises InputError naming `where`."""

    def check(document: dict[str, Any]) -> None:
        check_version({"schema_version": SCHEMA_VERSION, **document}, SCHEMA_VERSION, where)

    return parse_json(Mapping, content, where, _REMEDY, check)
