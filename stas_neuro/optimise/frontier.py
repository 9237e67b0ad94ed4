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


def spread(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return the indices of at most `count` values, evenly spread in rank, with the first and the last."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.unique(np.linspace(0, len(values) - 1, count).round().astype(np.intp))
