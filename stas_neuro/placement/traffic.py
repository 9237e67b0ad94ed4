"""Expected traffic between cores, from a run or, without one, with the same rate for all neurons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.ir import Graph, Phase, block_of
from stas_neuro.ir.ops.base import Wanted
from stas_neuro.mapping.reach import Need, Reach, join
from stas_neuro.mapping.routes import index_of, merged
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.packing import Core


def traffic_between(
    graph: Graph, demands: Sequence[LayerDemand], cores: Sequence[Core], seen: Activity | None
) -> NDArray[np.float64]:
    """Return the expected messages per image from each core to each other, float (cores, cores)."""
    traffic = np.zeros((len(cores), len(cores)))
    homes = {each.name: np.zeros((each.positions, each.features), dtype=np.intp) for each in demands}
    rates = {each.name: _rates(graph, each, seen)[:, None] for each in demands}
    for number, core in enumerate(cores):
        for name, region in core.pieces.items():
            homes[name][region.index] = number
    reach = Reach(graph)
    sent: dict[tuple[str, bytes], NDArray[np.float64]] = {}
    """Messages of each core's neurons; many cores need the same values."""
    for number, core in enumerate(cores):
        needs: dict[Need, Wanted] = {}
        for name, region in core.pieces.items():
            for need, values in reach.of(name, tuple(region.positions), region.features).items():
                join(needs, need, values)
        taken = merged(needs)
        for name in (each for each in homes if each in taken):
            index, which = index_of(taken[name])
            if (name, which) not in sent:
                home = homes[name][index]
                of_values = np.broadcast_to(rates[name], homes[name].shape)[index]
                sent[name, which] = np.bincount(home.ravel(), of_values.ravel(), len(cores)).astype(
                    np.float64
                )
            traffic[:, number] += sent[name, which]
    return traffic


def _rates(graph: Graph, demand: LayerDemand, seen: Activity | None) -> NDArray[np.float64]:
    """Return the expected number of nonzero values that a neuron sends per image, float (positions,).

    With a run, these are the spikes of the layer, distributed over the tokens of a block like its visits;
    otherwise one per step.
    """
    if seen is None or not seen.images:
        steps = graph.time_steps if graph.node(demand.name).phase in (Phase.STEP, Phase.STEM) else 1
        return np.full(demand.positions, float(steps))
    rows = [index for index, layer in enumerate(seen.layers) if layer.network_layer == demand.name]
    spikes = seen.counts["spikes_out"][:, rows].sum() / seen.images
    weights = np.ones(demand.positions)
    block = block_of(demand.scope)
    if seen.visits is not None and block is not None and demand.positions == graph.tokens:
        visits = seen.visits[:, :, block].sum(axis=(0, 1))
        weights = visits if visits.any() else weights
    return np.asarray(spikes * weights / weights.sum() / demand.features, dtype=np.float64)
