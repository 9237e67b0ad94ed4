"""The search for groups of tokens as its definition says: every change is evaluated from the beginning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from stas_neuro.placement.groups import CoHalting


def plain_changes(
    seen: CoHalting, groups: Sequence[list[int]], one: int, others: Sequence[int]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the best changes of one group with others, as `placement.groups._best_changes` does."""
    pairs = [(min(one, other), max(one, other)) for other in others]
    return {pair: _best(seen, groups[pair[0]], groups[pair[1]]) for pair in pairs}


def _best(seen: CoHalting, a: list[int], b: list[int]) -> tuple[int, int]:
    """Return what the first of the best changes of two groups changes, and its number."""

    def without(group: list[int], token: int) -> list[int]:
        return [other for other in group if other != token]

    changes = [([*without(a, i), j], [*without(b, j), i]) for i, j in product(a, b)]
    changes += [(without(a, i), [*b, i]) for i in a]
    changes += [([*a, j], without(b, j)) for j in b]
    allowed = [
        number
        for number, change in enumerate(changes)
        if all(0 < len(group) <= seen.largest for group in change)
        and seen.cores_of(change) <= seen.cores_of((a, b))
    ]
    best = min(allowed, key=lambda number: seen.total(changes[number]))
    return seen.total(changes[best]) - seen.total((a, b)), best
