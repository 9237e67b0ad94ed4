"""What the figures of a price rest on, and the sentence that says it beside every price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stas_neuro.chips.profile import Profile

RESTS_ON: Mapping[str, str] = {
    "published": "published figures",
    "own": "figures of own measurements",
    "assumed": "assumed figures",
}
"""What an entry of a profile can rest on, in the words of the sentence."""
Figures = Mapping[str, tuple[str, ...]]
"""Entries by a key of `RESTS_ON`; every key is there."""


def figures_of(profile: Profile, entries: Iterable[str]) -> Figures:
    """Sort entries of a profile, by "section.name", by what they rest on."""
    found: dict[str, list[str]] = {name: [] for name in RESTS_ON}
    for name in dict.fromkeys(entries):
        entry = profile.entry(name)
        own = "own" if profile.sources[entry.source].own else "published"
        found["assumed" if entry.basis == "assumed" else own].append(name)
    return {name: tuple(names) for name, names in found.items()}


def disclaimer_of(prices: Iterable[Figures]) -> str:
    """Say what prices rest on, after "All figures are"."""
    given = list(prices)
    told = [words for name, words in RESTS_ON.items() if any(figures.get(name) for figures in given)]
    if not told:
        return "estimated, not measured"
    return f"estimated from {' and '.join(filter(None, (', '.join(told[:-1]), told[-1])))}, not measured"
