"""Error raised when a network does not fit a chip."""

from __future__ import annotations

from stas_neuro.errors import InputError


class CannotRun(InputError):
    """A network does not fit a chip, or the chip cannot run it as requested; a comparison skips the chip."""
