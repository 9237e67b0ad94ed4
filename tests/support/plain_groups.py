"""The search for groups of tokens as its definition says: every change is evaluated from the beginning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stas_neuro.placement.groups import CoHalting, Group


def plain_least_changes(seen: CoHalting, group: Group, others: Sequence[Group]) -> NDArray[np.int64]:
    """Return what the best changes with each of others change, as `placement.groups.least_changes` does."""
    return np.array([plain_best_change(seen, group.tokens, other.tokens)[0] for other in others])


def plain_best_change(seen: CoHalting, a: Sequence[int], b: Sequence[int]) -> tuple[int, int]:
    """Return what the first of the best changes of two groups changes, and its number."""

    def without(group: Sequence[int], token: int) -> list[int]:
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
