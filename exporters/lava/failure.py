"""What goes wrong when a network runs on Lava."""

from __future__ import annotations


class LavaFailure(RuntimeError):
    """A run that ended without a result: what happened, what to do about it, and the detail to look at.

    `detail` is the traceback of the process model that failed, or the end of the runtime's log; may be empty.
    """

    def __init__(self, what: str, remedy: str, detail: str = "") -> None:
        super().__init__(what, remedy, detail)
        self.what = what
        self.remedy = remedy
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" + (f"\n{self.detail}" if self.detail else "")
