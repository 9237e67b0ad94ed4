"""Scopes: the part of a network that a node belongs to, and with it the row of its events in a record."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"block([0-9]{1,9})")


def block_of(scope: str) -> int | None:
    """Give the number of the network block that a scope names; None for the rest of the network."""
    named = _BLOCK.fullmatch(scope)
    return int(named[1]) if named else None


def scope_of(block: int) -> str:
    """Name the scope of a network block."""
    return f"block{block}"
