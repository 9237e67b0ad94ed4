"""Assignment of cores to chips and tiles, so that cores with much traffic are close to each other.

This is the quadratic assignment problem: minimise the sum of traffic x hops. Cores are exchanged, two at a
time, until no exchange lowers the cost.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from stas_neuro.mapping import CoreLocation
from stas_neuro.placement.limits import Limits
from stas_neuro.placement.traffic import Traffic

_RANDOM_STARTS = 15
_LEAST_PLACES = 600
"""Places tried for the cores of a chip (or four per core, if more): the nearest ones of a larger chip."""
Matrix = NDArray[np.float64]


def chips_of(domains: Sequence[object], cores_per_chip: int) -> list[int]:
    """Return the chip of each core: chips are filled in order, and a domain stays on one chip if it fits.

    Cores of a domain are consecutive in `domains`. A domain larger than a chip begins on a new chip.
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


def row_major_sites(chips: Sequence[int], limits: Limits) -> tuple[CoreLocation, ...]:
    """Return locations that fill the tiles of each chip row by row, in order; all tile 0,0 without a mesh."""
    seen: dict[int, int] = {}
    sites = []
    for chip in chips:
        sites.append(_site(chip, seen.get(chip, 0), limits))
        seen[chip] = seen.get(chip, 0) + 1
    return tuple(sites)


def near_sites(chips: Sequence[int], traffic: Traffic, limits: Limits) -> tuple[CoreLocation, ...]:
    """Return locations of the cores on the tiles of their chips with a low sum of traffic x hops.

    Messages to other chips leave by tile 0,0.

    Parameters
    ----------
    chips : sequence of int (cores,)
    traffic : Traffic
    limits : Limits
    """
    sites = list(row_major_sites(chips, limits))
    if limits.mesh is None:
        return tuple(sites)
    for chip, here, both in traffic.by_chip(np.asarray(chips, np.intp)):
        slots = near_slots(max(_LEAST_PLACES, 4 * len(here)), limits.mesh)
        nearest = [_site(0, slot, limits) for slot in slots]
        places = np.array([(site.x, site.y) for site in nearest])
        distance = np.abs(places[:, None] - places).sum(axis=2).astype(float)
        away = np.flatnonzero(np.asarray(chips) != chip)
        flow, outward = (np.take(both, cores, axis=1) for cores in (here, away))
        np.fill_diagonal(flow, 0)
        slot_of = assign(flow, distance, outward.sum(axis=1))
        for core, slot in zip(here, slot_of, strict=True):
            sites[core] = _site(chip, slots[slot], limits)
    return tuple(sites)


def near_slots(count: int, mesh: tuple[int, int, int]) -> list[int]:
    """Return the `count` slots of a chip nearest to tile 0,0, ascending; all slots if there are fewer.

    Slots are numbered by their tiles in row-major order.
    """
    x, y, per_tile = mesh
    if x * y * per_tile <= count:
        return list(range(x * y * per_tile))
    tiles: list[int] = []
    for hops in itertools.count():
        if len(tiles) * per_tile >= count:
            break
        tiles += [(hops - column) * x + column for column in range(max(0, hops - y + 1), min(x, hops + 1))]
    of_tiles = (range(tile * per_tile, tile * per_tile + per_tile) for tile in tiles)
    return sorted(itertools.islice(itertools.chain.from_iterable(of_tiles), count))


def assign(flow: Matrix, distance: Matrix, outward: NDArray[np.float64]) -> NDArray[np.intp]:
    """Assign n cores to m >= n places with a low sum of flow x distance; deterministic.

    The result is the best of exchanges that start from the order of the places and from some random orders.

    Parameters
    ----------
    flow : float (n, n)
        Symmetric, with a diagonal of 0.
    distance : float (m, m)
        Symmetric, with a diagonal of 0.
    outward : float (n,)
        Further traffic of each core with place 0, in either direction.

    Returns
    -------
    int (n,)
        Place of each core.
    """
    spare = len(distance) - len(flow)
    flow, outward = np.pad(flow, (0, spare)), np.pad(outward, (0, spare))  # empty places hold silent cores
    rng = np.random.default_rng(0)
    starts = [np.arange(len(distance)), *(rng.permutation(len(distance)) for _ in range(_RANDOM_STARTS))]
    found: list[NDArray[np.intp]] = [exchange(flow, distance, outward, start) for start in starts]
    best = min(found, key=lambda places: cost(flow, distance, outward, places))
    return best[: len(best) - spare]


def exchange(
    flow: Matrix, distance: Matrix, outward: NDArray[np.float64], start: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Exchange pairs of cores until no exchange lowers the cost: each core with its best partner in turn.

    Parameters as for `assign`, but with as many cores as places; `start` is the place of each core.
    """
    places: NDArray[np.intp] = np.array(start, dtype=np.intp)
    apart = distance[np.ix_(places, places)]
    gate = distance[0, places]
    busy = np.flatnonzero(flow.any(axis=1))
    between, of_core = flow[busy], np.zeros(len(flow))
    of_core[busy] = (between * apart[busy]).sum(axis=1)
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
                of_core[busy] = (between * apart[busy]).sum(axis=1)
    return places


def cost(flow: Matrix, distance: Matrix, outward: NDArray[np.float64], places: NDArray[np.intp]) -> float:
    """Return the sum of traffic x distance of an assignment, counting each pair once."""
    inside = (flow * distance[np.ix_(places, places)]).sum() / 2
    return float(inside + outward @ distance[0, places])


def _site(chip: int, slot: int, limits: Limits) -> CoreLocation:
    """Return the location of a slot of a chip: tiles in row-major order, each with its cores."""
    if limits.mesh is None:
        return CoreLocation(chip=chip)
    x, _, per_tile = limits.mesh
    tile = slot // per_tile
    return CoreLocation(chip=chip, x=tile % x, y=tile // x)
