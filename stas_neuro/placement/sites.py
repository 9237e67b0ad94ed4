"""Cores onto chips and tiles, so that those which send each other much are near.

The quadratic assignment problem: the least sum of traffic x hops. Cores are exchanged, two at a time, from
row-major order on until no exchange is for the better.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from stas_neuro.mapping import Site
from stas_neuro.placement.limits import Limits

Matrix = NDArray[np.float64]


def chips_of(domains: Sequence[object], cores_per_chip: int) -> list[int]:
    """Give the chip of each core: chips are filled in order, cores of one domain stay together if they can.

    Cores of a domain follow one another in `domains`. A domain larger than a chip begins on a new one.
    """
    chips: list[int] = []
    used = 0
    for _, members in groupby(domains):
        size = len(list(members))
        if used and used % cores_per_chip + size > cores_per_chip:
            used = -(-used // cores_per_chip) * cores_per_chip
        chips += [core // cores_per_chip for core in range(used, used + size)]
        used += size
    return chips


def row_major_sites(chips: Sequence[int], limits: Limits) -> tuple[Site, ...]:
    """Put the cores of each chip on its tiles row by row, in their order; all at tile 0,0 without a mesh."""
    seen: dict[int, int] = {}
    sites = []
    for chip in chips:
        sites.append(_site(chip, seen.get(chip, 0), limits))
        seen[chip] = seen.get(chip, 0) + 1
    return tuple(sites)


def near_sites(chips: Sequence[int], traffic: Matrix, limits: Limits) -> tuple[Site, ...]:
    """Put the cores of each chip on its tiles so that few messages make many hops.

    Parameters
    ----------
    chips : sequence of int (cores,)
    traffic : float (cores, cores)
        Messages expected from a core to another. Those to other chips leave by tile 0,0.
    limits : Limits
    """
    sites = list(row_major_sites(chips, limits))
    if limits.mesh is None:
        return tuple(sites)
    x, y, per_tile = limits.mesh
    slots = [_site(0, slot, limits) for slot in range(x * y * per_tile)]
    places = np.array([(slot.x, slot.y) for slot in slots])
    distance = np.abs(places[:, None] - places).sum(axis=2).astype(float)
    both = traffic + traffic.T
    for chip in sorted(set(chips)):
        here = np.flatnonzero(np.asarray(chips) == chip)
        away = np.flatnonzero(np.asarray(chips) != chip)
        flow = both[np.ix_(here, here)]
        np.fill_diagonal(flow, 0)
        slot_of = exchange(flow, distance, both[np.ix_(here, away)].sum(axis=1))
        for core, slot in zip(here, slot_of, strict=True):
            sites[core] = _site(chip, int(slot), limits)
    return tuple(sites)


def exchange(flow: Matrix, distance: Matrix, outward: NDArray[np.float64]) -> NDArray[np.intp]:
    """Assign n cores to m >= n places by exchanges of two, each the best for one of them; deterministic.

    Parameters
    ----------
    flow : float (n, n)
        Symmetric, with a diagonal of 0.
    distance : float (m, m)
        Symmetric, with a diagonal of 0.
    outward : float (n,)
        What each core sends to, or takes from, place 0 besides.

    Returns
    -------
    int (n,)
        Place of each core: cost(places) is not above that of any exchange of two.
    """
    cores, size = len(flow), len(distance)
    flow = np.pad(flow, (0, size - cores))  # places that stay empty hold cores without traffic
    outward = np.pad(outward, (0, size - cores))
    places = np.arange(size)
    tolerance = 1e-12 * max(float(flow.sum()), float(outward.sum()), 1.0) * max(float(distance.max()), 1.0)
    better = True
    while better:
        better = False
        for core in range(cores):
            apart = distance[np.ix_(places, places)]
            # What it costs to exchange this core with each other: both traffics change their distances.
            change = apart @ flow[core] + flow @ apart[core] + 2 * flow[core] * apart[core]
            change -= flow[core] @ apart[core] + (flow * apart).sum(axis=1)
            gate = distance[0, places]
            change += (outward[core] - outward) * (gate - gate[core])
            change[core] = 0
            other = int(change.argmin())
            if change[other] < -tolerance:
                places[[core, other]] = places[[other, core]]
                better = True
    return places[:cores]


def cost(flow: Matrix, distance: Matrix, outward: NDArray[np.float64], places: NDArray[np.intp]) -> float:
    """Give the sum of traffic x distance of an assignment, each pair once."""
    inside = (flow * distance[np.ix_(places, places)]).sum() / 2
    return float(inside + outward @ distance[0, places])


def _site(chip: int, slot: int, limits: Limits) -> Site:
    """Give the place of a slot of a chip: tiles in row-major order, each with its cores."""
    if limits.mesh is None:
        return Site(chip=chip)
    x, _, per_tile = limits.mesh
    tile = slot // per_tile
    return Site(chip=chip, x=tile % x, y=tile // x)
