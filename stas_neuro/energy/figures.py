"""The basis of the figures behind a price, and the disclaimer that states it with every price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stas_neuro.chips.profile import Profile

RESTS_ON: Mapping[str, str] = {
    "published": "published figures",
    "own": "figures of own measurements",
    "assumed": "assumed figures",
    "set": "figures set by the user",
}
"""Kinds of basis that a profile entry can have, with the wording of the disclaimer."""
Figures = Mapping[str, tuple[str, ...]]
"""Profile entries by basis; has every key of `RESTS_ON`."""


def figures_of(profile: Profile, entries: Iterable[str]) -> Figures:
    """Group entries of a profile, named "section.name", by their basis."""
    found: dict[str, list[str]] = {name: [] for name in RESTS_ON}
    for name in dict.fromkeys(entries):
        entry = profile.entry(name)
        own = "own" if profile.sources[entry.source].own else "published"
        found[entry.basis if entry.basis in ("assumed", "set") else own].append(name)
    return {name: tuple(names) for name, names in found.items()}


def disclaimer_of(prices: Iterable[Figures]) -> str:
    """Return the words that state the basis of prices, to follow "All figures are"."""
    given = list(prices)
    bases = [words for name, words in RESTS_ON.items() if any(figures.get(name) for figures in given)]
    if not bases:
        return "estimated, not measured"
    return f"estimated from {' and '.join(filter(None, (', '.join(bases[:-1]), bases[-1])))}, not measured"
