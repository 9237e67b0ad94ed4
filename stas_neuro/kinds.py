"""Kinds of arguments: what a value has to be, and the error where it is something else."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from stas_neuro.documents import shown
from stas_neuro.errors import InputError, unknown

Take = Callable[[str, Any], Any]
"""Returns an argument, given its name and value, in the form that a function uses; raises InputError."""


def refused(name: str, value: object, wanted: str) -> InputError:
    """Return the error for an argument of a wrong kind; `wanted` completes "give ..."."""
    kind = type(value).__name__
    text = f"{name} is {shown(repr(value))}" if _is_short(value) else f"{name} is an object of type {kind}"
    return InputError(text, f"give {wanted}")


def _is_short(value: object) -> bool:
    return value is None or isinstance(value, str | bytes | bool | int | float | Path)


@dataclass(frozen=True)
class Kind:
    """Values that a test accepts, which are passed on as they are; `wanted` describes them."""

    wanted: str
    accepts: Callable[[Any], bool]

    def __call__(self, name: str, value: Any) -> Any:
        """Return the value; raise InputError where it is of another kind."""
        if not self.accepts(value):
            raise refused(name, value, self.wanted)
        return value


def optional(take: Take) -> Take:
    """Accept None, too."""
    return lambda name, value: None if value is None else take(name, value)


def whole(least: int | None = None, most: int | None = None) -> Kind:
    """Accept whole numbers in a range, of Python and of numpy; True and False are none."""

    def accepts(value: Any) -> bool:
        try:
            given = operator.index(value)
        except TypeError:
            return False
        in_range = (least is None or given >= least) and (most is None or given <= most)
        return in_range and not isinstance(value, bool)

    return Kind(f"a whole number{_range(least, most)}", accepts)


def number(least: float | None = None, most: float | None = None) -> Kind:
    """Accept finite numbers in a range."""

    def accepts(value: Any) -> bool:
        if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
            return False
        try:
            given = float(value)
        except (TypeError, ValueError):
            return False
        in_range = (least is None or given >= least) and (most is None or given <= most)
        return in_range and math.isfinite(given)

    return Kind(f"a finite number{_range(least, most)}", accepts)


def _range(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "" if least is None else f" of at least {least:g}"
    return f" from {least:g} to {most:g}"


def one_of(known: Collection[str] | Callable[[], Collection[str]]) -> Take:
    """Accept names; another is answered with a similar one and all names."""

    def take(name: str, value: Any) -> Any:
        names = known() if callable(known) else known
        if not isinstance(value, str) or value not in names:
            raise unknown(name.replace("_", " "), value, names)
        return value

    return take


def check_fields(options: object, kinds: Mapping[str, Take]) -> None:
    """Check the fields of an object; raises InputError for the first of a wrong kind."""
    for name, take in kinds.items():
        take(name, getattr(options, name))


FLAG = Kind("True or False", lambda value: isinstance(value, bool))
FUNCTION = Kind("a function", callable)
TEXT = Kind("a text", lambda value: isinstance(value, str))
PATH = Kind("a path, as str or Path", lambda value: isinstance(value, str | Path) and bool(str(value)))
REAL = Kind("a number", lambda value: isinstance(value, Real) and not isinstance(value, bool))
"""Also one that is not finite, which options refuse with their range."""
