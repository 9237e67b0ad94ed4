"""Prediction intervals: what another set-up would show, by the spread between those that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stas_neuro.energy import Interval
from stas_neuro.errors import InputError
from stas_neuro.extras import needs

LEVEL = 0.9
"""Probability with which the figure of another set-up lies in its interval."""
Figures = Mapping[str, Sequence[tuple[str, float]]]
"""(set-up, number) of each entry; numbers are above 0."""


@dataclass(frozen=True)
class Spread:
    """Spread between set-ups: standard deviation of logarithms, and its degrees of freedom."""

    deviation: float
    freedom: int


def spread_between(figures: Figures, *, without: str = "") -> Spread:
    """Return the spread between set-ups, pooled over the entries.

    Raises InputError where no entry was measured on two set-ups.
    """
    centred = [each - each.mean() for each in _logarithms(figures, without).values() if len(each)]
    freedom = sum(len(each) - 1 for each in centred)
    if freedom < 1:
        raise InputError("no two set-ups measured the same entry", "a spread needs at least two")
    return Spread(float(np.sqrt(sum((each**2).sum() for each in centred) / freedom)), freedom)


def prediction(figures: Figures, entry: str, *, without: str = "") -> Interval:
    """Return the interval of the figure of another set-up, with probability `LEVEL`.

    The model is one of random effects: logarithms of figures are normal around a mean of the entry, with a
    spread between set-ups that is the same for all entries, because three to six set-ups say little about
    that of one. A set-up counts once, with the geometric mean of its runs. The interval is mean -+ t x spread
    x sqrt(1 + 1 / set-ups), with Student's t (Higgins, Thompson, Spiegelhalter 2009, with a pooled spread).

    Parameters
    ----------
    figures : mapping
    entry : str
    without : str
        A set-up that is left out of means and spread.

    Raises
    ------
    InputError
        Where no other set-up measured the entry, or no two the same one.
    """
    with needs("calibrate"):
        from scipy.special import stdtrit
    logarithms = _logarithms(figures, without)[entry]
    if not len(logarithms):
        raise InputError(f"only {without} measured {entry}", "a prediction needs another set-up")
    spread, mean = spread_between(figures, without=without), float(logarithms.mean())
    quantile = float(stdtrit(spread.freedom, (1 + LEVEL) / 2))
    half = quantile * spread.deviation * float(np.sqrt(1 + 1 / len(logarithms)))
    low, value, high = np.exp([mean - half, mean, mean + half]).tolist()
    return Interval(value=value, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """An entry as `prediction` has it.

    Parameters
    ----------
    entry : str
    interval : Interval
        In SI units, for another set-up.
    setups, inside : int
        Number of set-ups that measured it, and of those whose mean lies in what the others predict.
    """

    entry: str
    interval: Interval
    setups: int
    inside: int


def predictions(figures: Figures) -> tuple[Predicted, ...]:
    """Predict each entry for another set-up, and each set-up by the others."""
    found = []
    for entry, numbers in figures.items():
        names = dict.fromkeys(setup for setup, _ in numbers)
        others = [prediction(figures, entry, without=setup) for setup in names]
        means = np.exp(_logarithms(figures, "")[entry])
        inside = sum(each.low <= mean <= each.high for each, mean in zip(others, means, strict=True))
        found.append(
            Predicted(entry=entry, interval=prediction(figures, entry), setups=len(names), inside=int(inside))
        )
    return tuple(found)


def _logarithms(figures: Figures, without: str) -> dict[str, NDArray[np.float64]]:
    """Give the mean logarithm of each set-up, by entry."""
    found = {}
    for entry, numbers in figures.items():
        of_setup: dict[str, list[float]] = {}
        for setup, number in numbers:
            if setup != without:
                of_setup.setdefault(setup, []).append(float(np.log(number)))
        found[entry] = np.array([np.mean(each) for each in of_setup.values()])
    return found
