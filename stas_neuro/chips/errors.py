"""Why a chip is not priced."""

from __future__ import annotations

from stas_neuro.errors import InputError


class CannotRun(InputError):
    """A chip cannot hold a network, or cannot run it as asked. Other chips may, so that they are compared."""
