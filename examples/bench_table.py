"""Figures of the benchmarks: medians and ranges of repeats or of rounds in turn, ratios, and their tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 132
"""Columns of the widest table."""
Figures = list[dict[str, Any]]
"""Figures as JSON: what was measured, the quantity, median and range, and the ratio to a rival."""

Rounds = Sequence[Mapping[str, float]]
"""A value of everything that is measured, round by round."""


@dataclass(frozen=True)
class Figure:
    """One quantity of something measured: median and range of its repeats."""

    what: str
    quantity: str
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, what: str, quantity: str, values: Sequence[float]) -> Figure:
        """Summarise repeats."""
        return cls(what, quantity, statistics.median(values), min(values), max(values))

    def against(self, rival: Figure) -> dict[str, Any]:
        """Return the figure as JSON, with its ratio to a baseline of the same run."""
        return asdict(self) | {
            "rival": rival.what,
            "ratio": self.value / rival.value,
            "ratio_low": self.low / rival.high,
            "ratio_high": self.high / rival.low,
        }


def of_rounds(rounds: Rounds, rivals: Mapping[str, str], quantity: str) -> Figures:
    """Summarise rounds; ratios are of values of the same round."""
    figures = []
    for what, rival in rivals.items():
        ratios = Figure.of(what, quantity, [each[what] / each[rival] for each in rounds])
        figures.append(
            asdict(Figure.of(what, quantity, [each[what] for each in rounds]))
            | {"rival": rival, "ratio": ratios.value, "ratio_low": ratios.low, "ratio_high": ratios.high}
        )
    return figures


def in_turn(calls: Mapping[str, Callable[[], int]], rounds: int) -> list[dict[str, float]]:
    """Return the rate of each call in each round: what it says that it did, a second. The first warms up."""
    for call in calls.values():
        call()
    return [{what: _rate(call) for what, call in calls.items()} for _ in range(rounds)]


def _rate(call: Callable[[], int]) -> float:
    begun = time.perf_counter()
    done = call()
    return done / (time.perf_counter() - begun)


def wide_console() -> Console:
    """Return a console with room for every figure, also where it is a file, which counts as 80 columns."""
    console = Console(highlight=False)
    return Console(highlight=False, width=max(console.width, WIDTH))


def table(title: str, figures: Figures, columns: Mapping[str, str]) -> Table:
    """Lay out figures: the first quantity of `columns` with its ratio and rival, of the others the value.

    `columns` maps quantities to the head of their column. Only what has the first quantity gets a row.
    """
    main, *others = columns
    shown = Table(title=title, box=box.SIMPLE_HEAD)
    shown.add_column("", no_wrap=True)
    for head in (columns[main], "ratio", "range", "to", *(columns[each] for each in others)):
        shown.add_column(head, justify="right", no_wrap=True)
    values = {(each["what"], each["quantity"]): each["value"] for each in figures}
    for each in (each for each in figures if each["quantity"] == main):
        spread = f"{each['ratio_low']:.3g}-{each['ratio_high']:.3g}"
        beside = (values.get((each["what"], quantity)) for quantity in others)
        cells = ("" if value is None else f"{value:.3g}" for value in beside)
        shown.add_row(
            each["what"], f"{each['value']:.4g}", f"{each['ratio']:.3g}", spread, each["rival"], *cells
        )
    return shown
