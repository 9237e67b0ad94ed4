"""A chip that a run has no price on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A run without a price on a chip: its profile, and the reason."""

    profile: str
    reason: str
