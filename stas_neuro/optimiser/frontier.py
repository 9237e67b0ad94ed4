"""Which deployments no other one beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto(costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of rows that no other row beats, in the order of their first column.

    A row beats another if none of its costs is higher and one is lower; of equal rows the first is kept.

    Parameters
    ----------
    costs : float (rows, criteria)
        Lower is better; infinity is allowed.
    """
    order = np.lexsort(costs.T[::-1])
    kept: list[int] = []
    front = np.empty((0, costs.shape[1]))
    # In lexical order a row can only be beaten by an earlier one.
    for index in order:
        row = costs[index]
        if not len(front) or not (front <= row).all(axis=1).any():
            kept.append(int(index))
            front = costs[kept]
    return np.array(kept, np.intp)


def spread(total: int, count: int) -> list[int]:
    """Return at most `count` of the numbers below `total`, evenly spread, with the first and the last."""
    chosen = np.linspace(0, total - 1, min(total, count)).round().astype(np.intp)
    return [int(each) for each in chosen]
