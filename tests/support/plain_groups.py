"""The search for groups of tokens as its definition says: every change is evaluated from the beginning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from stas_neuro.placement.groups import CoHalting


def first_best_change(
    seen: CoHalting, groups: Sequence[list[int]], pair: tuple[int, int]
) -> tuple[int, tuple[list[int], list[int]]]:
    """Return the first of the best changes of two groups, as `placement.groups` does."""
    a, b = groups[pair[0]], groups[pair[1]]

    def without(group: list[int], token: int) -> list[int]:
        return [other for other in group if other != token]

    changes = [([*without(a, i), j], [*without(b, j), i]) for i, j in product(a, b)]
    if len(a) > 1 and len(b) < seen.largest:
        changes += [(without(a, i), [*b, i]) for i in a]
    if len(b) > 1 and len(a) < seen.largest:
        changes += [([*a, j], without(b, j)) for j in b]
    allowed = [change for change in changes if seen.cores_of(change) <= seen.cores_of((a, b))]
    best = min(allowed, key=seen.total)
    return seen.total(best) - seen.total((a, b)), best
