"""Run steps and collect their problems instead of raising; one error may contain several."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from stas_neuro.errors import StasError
from stas_neuro.ir import Problem
from stas_neuro.passes import PassError

T = TypeVar("T")


def attempt(step: Callable[[], T]) -> tuple[T | None, tuple[Problem, ...]]:
    """Run a step of a compilation; return its result, or None and every reason why it failed."""
    try:
        return step(), ()
    except StasError as error:
        return None, problems_of(error)


def problems_of(error: StasError) -> tuple[Problem, ...]:
    """Return the problems in an error, or the error itself as one."""
    cause: BaseException | None = error
    while cause is not None:
        if found := getattr(cause, "problems", ()):
            return tuple(found)
        cause = cause.__cause__
    own = error.__cause__ if isinstance(error, PassError) else error  # without the names of passes
    assert isinstance(own, StasError)
    return (Problem("", own.what, own.remedy),)
