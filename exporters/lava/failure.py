"""What goes wrong when a network runs on Lava."""

from __future__ import annotations

from .documents import one_line


class LavaFailure(RuntimeError):
    """A run that ended without a result: what happened, what to do about it, and the detail to look at.

    `detail` is the traceback of the process model that failed, or the end of the runtime's log; may be empty.
    """

    def __init__(self, what: str, remedy: str, detail: str = "") -> None:
        super().__init__(what, remedy, detail)
        self.what = what
        self.remedy = remedy
        self.detail = detail

    @property
    def line(self) -> str:
        """What happened and what to do about it, on one line that can be printed."""
        return one_line(f"{self.what}; {self.remedy}")

    def __str__(self) -> str:
        return self.line + (f"\n{self.detail}" if self.detail else "")
