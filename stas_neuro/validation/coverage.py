"""How many measurements lie in the intervals, and how wide these are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stas_neuro.energy import Interval
from stas_neuro.validation.checks import Check


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Measurements of one kind.

    Parameters
    ----------
    kind : str
        Energy, time or power, or all of them.
    measurements, inside : int
        Number of measurements, and of those in the interval.
    width : float
        Geometric mean of high / low.
    held_out, held_out_inside, held_out_width
        The same for a profile without the figures of their run, where there is one.
    error : float
        Median magnitude of the relative error of the value.
    """

    kind: str
    measurements: int
    inside: int
    width: float
    held_out: int
    held_out_inside: int
    held_out_width: float
    error: float


@dataclass(frozen=True)
class _Merged:
    unit: str
    measured: float
    predicted: Interval
    held_out: Interval | None
    """None where nothing else measured it."""


def coverage(checks: Iterable[Check]) -> tuple[Coverage, ...]:
    """Count measurements by kind, those of kinds without any left out, then all.

    Predictions of the same measurement are merged into one.
    """
    same: dict[tuple[str, str, float], list[Check]] = {}
    for check in checks:
        same.setdefault((check.run, check.quantity, check.measured), []).append(check)
    merged = [_merge(found) for found in same.values()]
    kinds = {"J": "energy", "s": "time", "W": "power"}
    found = {kind: [one for one in merged if one.unit == unit] for unit, kind in kinds.items()}
    return tuple(_row(kind, some) for kind, some in {**found, "all": merged}.items() if some)


def _row(kind: str, found: list[_Merged]) -> Coverage:
    others = [(one.held_out, one.measured) for one in found if one.held_out is not None]
    errors = [abs(one.predicted.value / one.measured - 1) for one in found]
    return Coverage(
        kind=kind,
        measurements=len(found),
        inside=sum(_inside(one.predicted, one.measured) for one in found),
        width=_width([one.predicted for one in found]),
        held_out=len(others),
        held_out_inside=sum(_inside(predicted, measured) for predicted, measured in others),
        held_out_width=_width([predicted for predicted, _ in others]),
        error=float(np.median(errors)),
    )


def _merge(found: list[Check]) -> _Merged:
    predicted = _hull([check.predicted for check in found])
    alone = any(check.alone for check in found)
    held_out = None if alone else _hull([check.held_out or check.predicted for check in found])
    return _Merged(found[0].unit, found[0].measured, predicted, held_out)


def _hull(intervals: list[Interval]) -> Interval:
    value = float(np.mean([each.value for each in intervals]))
    return Interval(value, min(each.low for each in intervals), max(each.high for each in intervals))


def _width(intervals: list[Interval]) -> float:
    if not intervals:
        return float("nan")
    return float(np.exp(np.mean([np.log(each.high / each.low) for each in intervals])))


def _inside(interval: Interval, measured: float) -> bool:
    return bool(interval.low <= measured <= interval.high)
