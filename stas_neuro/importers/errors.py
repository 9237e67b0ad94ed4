"""Errors of importers: operations that cannot be lowered, and a graph that computes something else."""

from __future__ import annotations

from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.ir import Problem


class CannotImport(InputError):
    """A module that a graph cannot express; `problems` has all reasons, each with its place."""

    problems: tuple[Problem, ...]

    def __init__(self, *problems: Problem) -> None:
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        super().__init__(
            "module cannot be imported: " + count + " | ".join(map(str, problems)),
            "change the module where it says so, or lower it by hand to stas_neuro.ir",
        )
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.problems


class ImportDiffers(CheckFailed):
    """A graph that does not compute the same as its module on the example."""


class Refused(Exception):
    """An operation that a rule cannot lower.

    Parameters
    ----------
    what : str
        What is wrong with it.
    remedy : str
        What the user can do about it.
    result : object, optional
        Its value if it were supported, so that the operations behind it are checked too.
    """

    def __init__(self, what: str, remedy: str, result: object = None) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy, self.result = what, remedy, result


def missing(operation: str, result: object = None) -> Refused:
    """Refuse a call that requires an operation which the IR does not have."""
    remedy = "use a form that docs/importing.md lists as supported"
    return Refused(f"requires {operation}, which is not in the IR", remedy, result)
