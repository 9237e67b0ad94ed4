"""Facts derived from the table of layers of a record, whose rows are layers or pieces of them on cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Row(Protocol):
    """What of a row (`stas_neuro.activity.Layer`) facts are derived from."""

    @property
    def name(self) -> str:
        """Its own."""

    @property
    def kind(self) -> str:
        """Operation."""

    @property
    def placed_with(self) -> str:
        """Row that keeps the neurons that its synapses end on; empty where that is the row itself."""

    @property
    def phase(self) -> str:
        """Phase of its steps."""

    @property
    def stage(self) -> int | None:
        """Spiking stages before it, if known."""


HALTING_KINDS = ("HaltingScore", "HaltAccumulate")
"""Operations that decide which tokens halt."""


def record_halts(rows: Sequence[Row]) -> bool:
    """Tell whether tokens of the network halt."""
    return any(row.kind == "HaltAccumulate" for row in rows)


def owner_of(row: Row) -> str:
    """Name the row that keeps the neurons which a row's synapses end on."""
    return row.placed_with or row.name


def neuron_rows(rows: Sequence[Row]) -> NDArray[np.intp]:
    """Find, for each row, the place of the row that keeps its neurons, (rows,)."""
    places = {row.name: place for place, row in enumerate(rows)}
    return np.array([places[owner_of(row)] for row in rows], dtype=np.intp)


def stages_in(rows: Sequence[Row], phase: str) -> int:
    """Count the spiking stages of a phase, 0 of an empty one; a row without a stage belongs to the first."""
    return 1 + max((row.stage or 0 for row in rows if row.phase == phase), default=-1)
