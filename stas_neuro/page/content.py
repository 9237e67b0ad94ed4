"""What a page consists of: sections with text, figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stas_neuro.display import NONE, si
from stas_neuro.energy import Interval
from stas_neuro.errors import InputError

if TYPE_CHECKING:
    from altair.typing import ChartType


_LONG = 60
"""Characters of a text that is read as a sentence."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and the value that it is sorted by; None sorts last."""

    text: str
    value: float | str | None = None

    @property
    def is_number(self) -> bool:
        """Whether the value is a number, which is aligned to the right."""
        return isinstance(self.value, int | float)

    @property
    def is_long(self) -> bool:
        """Whether the text is a sentence, which needs a wide column."""
        return len(self.text) > _LONG


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows; `note` is what was left out."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def is_number(self, column: int) -> bool:
        """Whether a column has numbers."""
        return any(row[column].is_number for row in self.rows)


@dataclass(frozen=True)
class Figure:
    """A chart: its Vega-Lite specification, and a sentence for those who do not see it."""

    name: str
    specification: dict[str, Any]
    description: str


@dataclass
class Section:
    """A part of the page."""

    name: str
    title: str
    text: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    lists: list[tuple[str, list[str]]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Why something is not shown."""

    def draw(self, name: str, chart: Callable[[], ChartType]) -> None:
        """Add a chart, or the reason why it cannot be drawn."""
        try:
            specification = chart().to_dict()
        except InputError as error:
            self.missing.append(str(error))
            return
        title = specification["title"]
        words = ". ".join([title["text"], *(line.rstrip(".") for line in title["subtitle"])])
        self.figures.append(Figure(name, specification, f"{words}."))


def text(words: str | None) -> Cell:
    """Return a cell of words."""
    return Cell(NONE, None) if words is None else Cell(words, words)


def number(value: float | None, form: str = "{:g}") -> Cell:
    """Return a cell of a number without a unit."""
    return Cell(NONE) if value is None else Cell(form.format(value), value)


def share(value: float | None) -> Cell:
    """Return a cell of a fraction, as a percentage."""
    return number(value, "{:.1%}")


def quantity(interval: Interval | None, unit: str) -> tuple[Cell, Cell, Cell]:
    """Return the cells of a value, its low and its high end."""
    if interval is None:
        return Cell(NONE), Cell(NONE), Cell(NONE)
    ends = interval.value, interval.low, interval.high
    value, low, high = (Cell(si(end, unit), end) for end in ends)
    return value, low, high


def saving(interval: Interval | None) -> tuple[Cell, Cell, Cell]:
    """Return the cells of a saving, its low and its high end."""
    if interval is None:
        return Cell(NONE), Cell(NONE), Cell(NONE)
    value, low, high = (number(end, "{:+.1%}") for end in (interval.value, interval.low, interval.high))
    return value, low, high


def table(
    name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, most: int = 400
) -> Table:
    """Make a table of at most `most` rows."""
    found = [tuple(row) for row in rows]
    left = len(found) - most
    note = f"{left} more rows are not shown; stas-export estimate --json lists all." if left > 0 else ""
    return Table(name, caption, tuple(columns), tuple(found[:most]), note)
