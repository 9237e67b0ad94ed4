"""Results as data frames of pandas, which is optional."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from stas_neuro.extras import needs

if TYPE_CHECKING:
    import pandas


def to_frame(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return rows, with the same keys each, as a data frame.

    Raises
    ------
    InputError
        When pandas is not installed, with the command that installs it.
    """
    with needs("pandas"):
        import pandas
    return pandas.DataFrame([dict(row) for row in rows])


def ends(name: str, interval: Any) -> dict[str, Any]:
    """Return an interval, or None, as the columns name, name_low and name_high."""
    corners = (("", "value"), ("_low", "low"), ("_high", "high"))
    return {f"{name}{end}": getattr(interval, corner, None) for end, corner in corners}


def flat(result: Any) -> dict[str, Any]:
    """Return the fields of a result as columns: intervals as three, lists of names as one text."""
    columns: dict[str, Any] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        if is_dataclass(value) and hasattr(value, "high"):
            columns |= ends(field.name, value)
        else:
            columns[field.name] = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return columns
