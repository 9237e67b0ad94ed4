"""Facts derived from the table of layers of a record, whose rows are layers or pieces of them on cores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity.record import Layer

HALTING_KINDS = ("HaltingScore", "ImageScore", "HaltAccumulate")
"""Operations that decide which tokens halt."""


def record_halts(rows: Sequence[Layer]) -> bool:
    """Return whether tokens of the network halt."""
    return any(row.kind == "HaltAccumulate" for row in rows)


def owner_of(row: Layer) -> str:
    """Return the name of the row with the neurons that a row's synapses end on."""
    return row.placed_with or row.name


def neuron_rows(rows: Sequence[Layer]) -> NDArray[np.intp]:
    """Return, for each row, the index of the row with its neurons, intp (rows,)."""
    places = {row.name: place for place, row in enumerate(rows)}
    return np.array([places[owner_of(row)] for row in rows], dtype=np.intp)


def stages_in(rows: Sequence[Layer], phase: str) -> int:
    """Count the spiking stages of a phase, 0 if it has no rows; a row without a stage is in the first."""
    return 1 + max((row.stage or 0 for row in rows if row.phase == phase), default=-1)
