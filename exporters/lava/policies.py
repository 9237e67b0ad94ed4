"""What accumulators compute at a visit, one function a halting policy; needs no Lava."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stas_neuro.ir import Array, per_policy


@dataclass
class Accumulator:
    """An accumulator of N tokens: `one` stands for 1, a token halts at `limit`.

    `share` divides weights that add up to 1 in each model step: it is their number, or 1 where the unit of
    what follows holds that. `column` (N,) is the sum of its own scores.
    """

    one: float
    limit: float
    last_block: bool
    share: int
    column: Array


@dataclass(frozen=True)
class Visit:
    """One visit: scores, mask and total (N,), if it is in the last model step, if no more are allowed."""

    score: Array
    alive: Array
    total: Array
    last_step: bool
    closed: bool


Sent = dict[str, Array]


def _raster(accumulator: Accumulator, visit: Visit) -> Sent:
    """Sum over all visits; the very last one halts."""
    return _sum_up(accumulator, visit, forced=visit.closed or (accumulator.last_block and visit.last_step))


def _block(accumulator: Accumulator, visit: Visit) -> Sent:
    """Sum within a model step, whose last visit halts."""
    sent = _sum_up(accumulator, visit, forced=accumulator.last_block or visit.closed)
    return sent if accumulator.share == 1 else sent | {"p": sent["p"] / accumulator.share}


def _rectangular(accumulator: Accumulator, visit: Visit) -> Sent:
    """Sum over earlier steps and lower blocks."""
    weight = visit.alive * visit.score
    accumulator.column += weight
    summed = visit.total + accumulator.column
    stays = np.zeros_like(visit.alive) if visit.closed else visit.alive * (summed < accumulator.limit)
    return {"alive": stays, "total": summed, "p": weight}


def _image(accumulator: Accumulator, visit: Visit) -> Sent:
    """Stop where the image's score has come; each visit made has the same weight."""
    stops = (visit.total + visit.score >= accumulator.limit) | visit.closed
    return {
        "alive": visit.alive * (1 - stops.astype(visit.alive.dtype)),
        "total": visit.total + visit.alive * visit.score,
        "p": visit.alive * accumulator.one,
    }


def _sum_up(accumulator: Accumulator, visit: Visit, *, forced: bool) -> Sent:
    score, alive, total = visit.score, visit.alive, visit.total
    halts = np.ones_like(score) if forced else (total + score >= accumulator.limit).astype(score.dtype)
    weight = alive * np.where(halts > 0, accumulator.one - total, score)
    return {"alive": alive * (1 - halts), "total": total + alive * score, "p": weight}


POLICIES: Mapping[str, Callable[[Accumulator, Visit], Sent]] = per_policy(
    "Lava's accumulators",
    {
        "raster": _raster,
        "time": _raster,
        "block": _block,
        "rectangular": _rectangular,
        "image": _image,
    },
)
"""By the mode of an accumulator."""
