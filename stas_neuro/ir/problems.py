"""Problems of a graph, gathered so that one error can name them all."""

from __future__ import annotations

from dataclasses import dataclass, field

from stas_neuro.documents import shown
from stas_neuro.errors import InputError

_MOST = 100
"""Problems that the text of an error names."""
_LONGEST = 1000
"""Letters of a problem: longer ones quote what a file should never have held."""


@dataclass(frozen=True)
class Problem:
    """One broken rule: where (node, port or tensor), what (value and limit), and what to do about it."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"


class IRError(InputError):
    """A graph that breaks rules of the IR; `problems` has each of them."""

    problems: tuple[Problem, ...]

    def __init__(self, *problems: Problem) -> None:
        # Each remedy stays beside its problem: the error's own remedy is that of the last one.
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        if (more := len(problems) - _MOST) > 0:
            count = f"{len(problems)} problems, {more} of them not shown: "
        named = [*map(str, problems[: min(len(problems), _MOST) - 1])]
        text = " | ".join([*named, f"{problems[-1].where}: {problems[-1].what}"])
        super().__init__(count + text, remedy=problems[-1].remedy)
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.problems


@dataclass
class Problems:
    """Collects problems; `raise_if_any` ends the collection."""

    found: list[Problem] = field(default_factory=list)

    def add(self, where: str, what: str, remedy: str) -> None:
        """Note one problem."""
        self.found.append(Problem(shown(where, _LONGEST), shown(what, _LONGEST), remedy))

    def raise_if_any(self) -> None:
        """Raise one IRError with everything found, if anything was."""
        if self.found:
            raise IRError(*self.found)
