"""Hops and chip crossings of messages between cores.

Messages between tiles of a chip go along x, then along y. Chips form a row in the order of their numbers; a
message to another chip leaves by tile 0,0, passes the chips between without hops, and enters by tile 0,0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stas_neuro.mapping.mapping import CoreLocation

Steps = NDArray[np.int64]


def places_of(cores: Sequence[CoreLocation]) -> Steps:
    """Return chip, column and row of each core, int64 (3, cores)."""
    columns = ([getattr(site, name) for site in cores] for name in ("chip", "x", "y"))
    return np.array(list(columns), np.int64)


def distances(places: Steps, to: int) -> dict[str, Steps]:
    """Return the hops along x and y and the chip crossings from every core to one, int64 (cores,) each.

    `places`, (3, cores), is the result of `places_of`.
    """
    return between(places, places[:, to, None])


def between(start: Steps, end: Steps) -> dict[str, Steps]:
    """Return the hops and chip crossings between places (3, ...), which are broadcast."""
    (chip, x, y), (to_chip, to_x, to_y) = start, end
    away = chip != to_chip
    return {
        "hops_x": np.where(away, x + to_x, abs(x - to_x)),
        "hops_y": np.where(away, y + to_y, abs(y - to_y)),
        "chip_crossings": abs(chip - to_chip),
    }
