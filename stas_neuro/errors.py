"""The errors a user meets: one line that says what is wrong and what to do about it."""

from __future__ import annotations

from stas_neuro.documents import one_line


class StasError(Exception):
    """What a user can act on: what is wrong and its remedy, in one line.

    Parameters
    ----------
    what : str
        What is wrong: names the node, file or entry, its value and the limit.
    remedy : str
        What the user does about it.

    Attributes
    ----------
    exit_code : int
        What the command line exits with.
    lines : tuple of str
        All of it, where one line can only name the worst; the command line adds them.
    """

    exit_code: int = 1
    lines: tuple[str, ...] = ()

    def __init__(self, what: str, remedy: str) -> None:
        # Exception keeps both as args, which is what carries them through pickle from a worker process.
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        """Give `what; remedy` on one line that can be printed, also where a part quotes what a file holds."""
        return f"{one_line(self.what)}; {one_line(self.remedy)}"


class InputError(StasError):
    """A file, option or model that cannot be worked with (exit code 2)."""

    exit_code = 2


class CheckFailed(StasError):
    """A check that ran and did not pass: a divergence, a breached limit (exit code 1)."""

    exit_code = 1
