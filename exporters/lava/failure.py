"""What goes wrong when a network runs on Lava."""

from __future__ import annotations

from stas_neuro.errors import StasError


class LavaRunError(StasError):
    """A run on Lava that ended without a result.

    `detail` is the traceback of the process model that failed, or the end of the runtime's log; may be empty.
    """

    def __init__(self, what: str, remedy: str, detail: str = "") -> None:
        super().__init__(what, remedy)
        self.detail = detail
