"""Places of cores by the definition of the search: each start by itself, in matrices of all places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stas_neuro.placement.tiles import _RANDOM_STARTS

Matrix = NDArray[np.float64]


def plain_assign(flow: Matrix, distance: Matrix, outward: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the first of the best results of all starts; `distance` is that between places."""
    cores, spare = len(flow), len(distance) - len(flow)
    flow, outward = np.pad(flow, (0, spare)), np.pad(outward, (0, spare))
    rng = np.random.default_rng(0)
    starts = [np.arange(len(distance)), *(rng.permutation(len(distance)) for _ in range(_RANDOM_STARTS))]
    found = [plain_exchange(flow, distance, outward, start) for start in starts]
    return min(found, key=lambda places: cost(flow, distance, outward, places))[:cores]


def plain_exchange(
    flow: Matrix, distance: Matrix, outward: NDArray[np.float64], start: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Exchange pairs of cores until no exchange lowers the cost: each core with its best partner in turn.

    Parameters as for `assign`, but with as many cores as places; `start` is the place of each core.
    """
    places: NDArray[np.intp] = np.array(start, dtype=np.intp)
    apart = distance[np.ix_(places, places)]
    gate = distance[0, places]
    of_core = (flow * apart).sum(axis=1)
    tolerance = 1e-9 * cost(flow, distance, outward, start)
    talking = np.flatnonzero(flow.any(axis=1) | (outward > 0))
    idle = 0  # cores in turn that no exchange has lowered the cost of
    while idle < len(talking):
        for core in talking:
            # The exchange changes both cores' distances to all others, but not to each other.
            change = apart @ flow[core] - of_core[core] + flow @ apart[core] - of_core
            change += 2 * flow[core] * apart[core] + (outward[core] - outward) * (gate - gate[core])
            other = int(change.argmin())
            idle = 0 if change[other] < -tolerance else idle + 1
            if idle == len(talking):
                break
            if idle == 0:
                pair, exchanged = [core, other], [other, core]
                places[pair] = places[exchanged]
                gate[pair] = gate[exchanged]
                apart[pair] = apart[exchanged]
                apart[:, pair] = apart[:, exchanged]
                of_core = (flow * apart).sum(axis=1)
    return places


def cost(flow: Matrix, distance: Matrix, outward: NDArray[np.float64], places: NDArray[np.intp]) -> float:
    """Return the sum of traffic x distance of an assignment, counting each pair once."""
    inside = (flow * distance[np.ix_(places, places)]).sum() / 2
    return float(inside + outward @ distance[0, places])
