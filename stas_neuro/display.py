"""Results in one line (`repr`), and as small tables in notebooks (`_repr_html_`). Imports no library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

_PREFIXES = {-5: "f", -4: "p", -3: "n", -2: "u", -1: "m", 0: "", 1: "k", 2: "M", 3: "G"}
NONE = "-"
"""What stands for a number that is not known."""
MOST_ROWS = 30
"""Largest number of rows of a table in a notebook."""


class Ends(Protocol):
    """A value with its lower and upper bound."""

    @property
    def value(self) -> float:
        """The value."""

    @property
    def low(self) -> float:
        """The lower bound."""

    @property
    def high(self) -> float:
        """The upper bound."""


def si(number: float, unit: str) -> str:
    """Format a number with three digits and an SI prefix: 0.0000123 J is "12.3 uJ"."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g} {unit}".rstrip()
    digits = float(f"{number:.2e}")  # rounded first, so that 999.6 uJ becomes 1 mJ
    power = min(max(math.floor(math.log10(abs(digits)) / 3), min(_PREFIXES)), max(_PREFIXES))
    return f"{digits / 1000.0**power:.3g} {_PREFIXES[power]}{unit}".rstrip()


def with_ends(found: Ends | None, unit: str) -> str:
    """Format a value with its interval: "23.6 pJ (18.9 pJ to 39.8 pJ)"."""
    if found is None:
        return NONE
    return f"{si(found.value, unit)} ({si(found.low, unit)} to {si(found.high, unit)})"


def share(found: float | None) -> str:
    """Format a share: 41.2 %."""
    return NONE if found is None else f"{100 * found:.1f} %"


def share_with_ends(found: Ends | None) -> str:
    """Format a saving with its interval, each with its sign."""
    return NONE if found is None else f"{found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%})"


@dataclass(frozen=True)
class HtmlTable:
    """A table of texts, with a heading for each column, or none."""

    rows: Sequence[Sequence[object]]
    columns: Sequence[str] = ()
    title: str = ""

    def lines(self) -> Iterator[str]:
        """Yield its HTML, escaped; a long table is cut."""
        yield "<table>"
        if self.title:
            yield f"<caption>{escape(self.title)}</caption>"
        if self.columns:
            cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.columns)
            yield f"<thead><tr>{cells}</tr></thead>"
        yield "<tbody>"
        for row in self.rows[:MOST_ROWS]:
            first, *rest = (escape(str(cell)) for cell in row)
            yield f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        yield "</tbody></table>"
        if (more := len(self.rows) - MOST_ROWS) > 0:
            yield f"<p>and {more} more</p>"


class Displayed:
    """A result that `repr` shows in one line, and a notebook as small tables.

    A class says what it is by `_headline`, and what the tables have by `_tables`; `_note` is printed below
    them, such as the basis of its figures.
    """

    def _headline(self) -> str:
        raise NotImplementedError

    def _tables(self) -> Iterable[HtmlTable]:
        return ()

    def _note(self) -> str:
        return ""

    def __repr__(self) -> str:
        headline = " ".join(self._headline().split())
        return f"<{type(self).__name__} {headline}>"

    def _repr_html_(self) -> str:
        """Return HTML for a notebook: the line of `repr`, and tables."""
        name = type(self).__name__
        lines = [f"<div><p><b>{name}</b> {escape(self._headline())}</p>"]
        for table in self._tables():
            lines += table.lines()
        note = self._note()
        return "\n".join([*lines, f"<p>{escape(note)}</p>" if note else "", "</div>"])


class Plotted(Displayed):
    """A result that can also be drawn."""

    def plot(self, **options: Any) -> Any:
        """Draw it as an Altair chart, which notebooks show; see `stas_neuro.report.charts.of_results.plot`.

        Raises
        ------
        InputError
            When there is nothing to draw, an option is unknown, or Altair is not installed.
        """
        from stas_neuro.report.charts.of_results import plot

        return plot(self, **options)
