"""The errors a user meets: one line that says what is wrong and what to do about it."""

from __future__ import annotations


class StasError(Exception):
    """What a user can act on: what is wrong, in one line, and its remedy.

    Parameters
    ----------
    what : str
        What is wrong: names the node, file or entry, its value and the limit.
    remedy : str
        What the user does about it; keyword only.

    Attributes
    ----------
    exit_code : int
        What the command line exits with.
    """

    exit_code: int = 1

    def __init__(self, what: str, *, remedy: str) -> None:
        # Both are handed to Exception, so that an error pickled from a worker process arrives whole.
        super().__init__(what, remedy)
        self.what = " ".join(what.split())
        self.remedy = " ".join(remedy.split())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by keyword: Exception's own would pass `remedy` by position."""
        return _rebuild, (type(self), self.what, self.remedy)

    def __str__(self) -> str:
        """`what; remedy`, on one line whatever the parts hold."""
        return f"{self.what}; {self.remedy}"


class InputError(StasError):
    """A file, option or model that cannot be worked with (exit code 2)."""

    exit_code = 2


class CheckFailed(StasError):
    """A check that ran and did not pass: a divergence, an op the target lacks (exit code 1)."""

    exit_code = 1


def _rebuild(cls: type[StasError], what: str, remedy: str) -> StasError:
    return cls(what, remedy=remedy)
