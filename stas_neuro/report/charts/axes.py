"""Axes of amounts: logarithmic where they span decades, with SI prefixes on their labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from stas_neuro.report.charts.style import library

if TYPE_CHECKING:
    import altair

_STEPS = ((1.0, 2.0, 5.0), (1.0,))
"""Labelled multiples of a power of ten: over few decades, and over many."""
_FEW = 2.0
"""Decades up to which an axis has labels between the powers of ten."""


def log_axis(numbers: Iterable[float], title: str, unit: str) -> tuple[altair.Scale, altair.Axis]:
    """Return the logarithmic scale over positive numbers, and its axis; `unit` may be empty."""
    alt = library()
    positive = [number for number in numbers if number > 0] or [1.0]
    low, high = min(positive) / 1.15, max(positive) * 1.15
    return alt.Scale(type="log", domain=[low, high], nice=False), alt.Axis(
        title=title, values=log_ticks(low, high), labelExpr=si_label(unit)
    )


def linear_axis(title: str, unit: str, *, grid: bool = True) -> altair.Axis:
    """Return the axis of amounts from 0."""
    axis: altair.Axis = library().Axis(title=title, labelExpr=si_label(unit), tickCount=6, grid=grid)
    return axis


def log_ticks(low: float, high: float) -> list[float]:
    """Return the labelled values of a logarithmic axis."""
    multiples: Sequence[float] = _STEPS[math.log10(high / low) > _FEW]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = (multiple * 10.0**decade for decade in decades for multiple in multiples)
    return [float(f"{value:.6g}") for value in found if low <= value <= high]


def above_zero(number: float, scale: altair.Scale) -> float:
    """Return a number as drawn on a logarithmic scale, which has no 0: its start."""
    return number if number > 0 else float(scale.domain[0])


def si_label(unit: str, digits: int | None = None) -> str:
    """Return the expression of Vega that writes a label as 200uJ; "u" stands for micro, as in our tables."""
    form = "~s" if digits is None else f".{digits}~s"
    return f"replace(format(datum.value, '{form}'), 'µ', 'u') + '{unit}'"
