"""Traffic between all pairs of cores, and their places, as the definitions say: in dense matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.ir import Graph
from stas_neuro.mapping import CoreLocation
from stas_neuro.mapping.reach import Reach, join
from stas_neuro.mapping.routes import index_of, merged
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.limits import Limits
from stas_neuro.placement.packing import Core
from stas_neuro.placement.tiles import _LEAST_PLACES, _site, near_slots, row_major_sites
from stas_neuro.placement.traffic import Traffic, _rates
from support.plain_tiles import plain_assign

Matrix = NDArray[np.float64]


def dense(traffic: Traffic) -> Matrix:
    """Return the messages from each core to each other, (cores, cores)."""
    found = np.zeros((traffic.cores, traffic.cores))
    found[traffic.source, traffic.target] = traffic.messages
    return found


def sparse(matrix: Matrix) -> Traffic:
    """Return the pairs of a matrix (cores, cores)."""
    source, target = np.nonzero(matrix)
    return Traffic(len(matrix), source, target, matrix[source, target])


def plain_traffic(
    graph: Graph, demands: Sequence[LayerDemand], cores: Sequence[Core], seen: Activity | None
) -> Matrix:
    """Add up what each core needs of each layer."""
    traffic = np.zeros((len(cores), len(cores)))
    homes = {each.name: np.zeros((each.positions, each.features), dtype=np.intp) for each in demands}
    for number, core in enumerate(cores):
        for name, region in core.pieces.items():
            homes[name][region.index] = number
    rates = {name: of_layer[:, None] for name, of_layer in _rates(graph, demands, seen).items()}
    reach = Reach(graph)
    for number, core in enumerate(cores):
        needs: dict[object, object] = {}
        for name, region in core.pieces.items():
            for need, values in reach.of(name, tuple(region.positions), region.features).items():
                join(needs, need, values)  # type: ignore[arg-type]
        taken = merged(needs)  # type: ignore[arg-type]
        for name in (each for each in homes if each in taken):
            index, _ = index_of(taken[name])
            of_values = np.broadcast_to(rates[name], homes[name].shape)[index]
            traffic[:, number] += np.bincount(homes[name][index].ravel(), of_values.ravel(), len(cores))
    return traffic


def plain_sites(chips: Sequence[int], traffic: Matrix, limits: Limits) -> tuple[CoreLocation, ...]:
    """Place the cores of each chip by the rows and columns of the matrix."""
    sites = list(row_major_sites(chips, limits))
    if limits.mesh is None:
        return tuple(sites)
    both = traffic + traffic.T
    for chip in sorted(set(chips)):
        here, away = (np.flatnonzero((np.asarray(chips) == chip) == own) for own in (True, False))
        slots = near_slots(max(_LEAST_PLACES, 4 * len(here)), limits.mesh)
        places = np.array([(site.x, site.y) for site in (_site(0, slot, limits) for slot in slots)])
        distance = np.abs(places[:, None] - places).sum(axis=2).astype(float)
        flow = both[np.ix_(here, here)]
        np.fill_diagonal(flow, 0)
        found = plain_assign(flow, distance, both[np.ix_(here, away)].sum(axis=1))
        for core, slot in zip(here, found, strict=True):
            sites[core] = _site(chip, slots[slot], limits)
    return tuple(sites)
