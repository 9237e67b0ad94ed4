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
_AT_ONCE = 1 << 22
"""Costs of cores on tiles that are kept at once: 32 MiB."""
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
    x, _, per_tile = limits.mesh
    for chip, here, flow, outward in traffic.by_chip(np.asarray(chips, np.intp)):
        slots = near_slots(max(_LEAST_PLACES, 4 * len(here)), limits.mesh)
        tiles, tile_of = np.unique(np.array(slots) // per_tile, return_inverse=True)
        places = np.stack([tiles % x, tiles // x], axis=1)
        hops = np.abs(places[:, None] - places).sum(axis=2).astype(float)
        for core, slot in zip(here, assign(flow, outward, hops, tile_of), strict=True):
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


def assign(
    flow: Matrix, outward: NDArray[np.float64], hops: Matrix, tile_of: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Assign n cores to m >= n places with a low sum of flow x hops; deterministic.

    The result is the best of exchanges that start from the order of the places and from some random orders.

    Parameters
    ----------
    flow : float (n, n)
        Symmetric, with a diagonal of 0.
    outward : float (n,)
        Further traffic of each core with place 0, in either direction.
    hops : float (tiles, tiles)
        Symmetric, with a diagonal of 0.
    tile_of : int (m,)
        Tile of each place.

    Returns
    -------
    int (n,)
        Place of each core.
    """
    cores, places = len(flow), len(tile_of)
    flow, outward = np.pad(flow, (0, places - cores)), np.pad(outward, (0, places - cores))
    rng = np.random.default_rng(0)  # empty places hold silent cores
    starts = np.array([np.arange(places), *(rng.permutation(places) for _ in range(_RANDOM_STARTS))])
    together = max(1, _AT_ONCE // (places * len(hops)))
    parts = [starts[first : first + together] for first in range(0, len(starts), together)]
    found, costs = zip(*(exchange(flow, outward, hops, tile_of, part) for part in parts), strict=True)
    return np.asarray(np.concatenate(found)[np.concatenate(costs).argmin(), :cores])


def exchange(
    flow: Matrix,
    outward: NDArray[np.float64],
    hops: Matrix,
    tile_of: NDArray[np.intp],
    starts: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Exchange pairs of cores until no exchange lowers the cost: each core with its best partner in turn.

    The starts go side by side. Parameters as for `assign`, but with as many cores as places.

    Parameters
    ----------
    starts : int (starts, cores)
        Places of the cores.

    Returns
    -------
    int (starts, cores), float (starts,)
        Places, and their sums of flow x hops, which count each pair once.
    """
    places, tile = starts.copy(), tile_of[starts]
    run, cores = np.arange(len(starts)), np.arange(len(flow))
    # at[r, a, t]: flow x hops of core a, if it were on tile t and no other core moved; own: where it is.
    at = flow @ hops[tile] + np.multiply.outer(outward, hops[tile_of[0]])
    own = at[run[:, None], cores, tile]
    outside = outward * hops[tile_of[0], tile]
    least = 1e-9 * (own + outside).sum(axis=1) / 2  # smaller changes may be rounding
    talking = np.flatnonzero(flow.any(axis=1) | (outward > 0))
    idle = 0  # cores in turn that no exchange has lowered the cost of
    for a in itertools.cycle(talking):
        here = tile[:, a]
        # The exchange changes both cores' distances to all others, but not to each other.
        change = at[run[:, None], a, tile] + at[run, :, here] + 2 * flow[a] * hops[here[:, None], tile] - own
        partner = change.argmin(axis=1)
        better = np.flatnonzero(change[run, partner] - own[:, a] < -least)
        idle = 0 if len(better) else idle + 1
        if idle == len(talking):
            break
        b, here = partner[better], here[better]
        there = tile[better, b]
        of, moved = np.nonzero(flow[a] - flow[b])
        nearer = (flow[a, moved] - flow[b[of], moved])[:, None]
        at[better[of], moved] += nearer * (hops[there] - hops[here])[of]
        tile[better, a], tile[better, b] = there, here
        places[better, a], places[better, b] = places[better, b], places[better, a]
        own[better] = at[better[:, None], cores, tile[better]]
    return places, (own + outward * hops[tile_of[0], tile]).sum(axis=1) / 2


def _site(chip: int, slot: int, limits: Limits) -> CoreLocation:
    """Return the location of a slot of a chip: tiles in row-major order, each with its cores."""
    if limits.mesh is None:
        return CoreLocation(chip=chip)
    x, _, per_tile = limits.mesh
    tile = slot // per_tile
    return CoreLocation(chip=chip, x=tile % x, y=tile // x)
