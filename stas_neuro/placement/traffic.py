"""Expected traffic between cores, from a run or, without one, with the same rate for all neurons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.ir import Graph, Phase, block_of
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.packing import Core


def traffic_between(
    graph: Graph, demands: Sequence[LayerDemand], cores: Sequence[Core], seen: Activity | None
) -> NDArray[np.float64]:
    """Return the expected messages per image from each core to each other, float (cores, cores)."""
    traffic = np.zeros((len(cores), len(cores)))
    for demand in demands:
        homes = np.zeros((demand.positions, demand.features), dtype=np.intp)
        for number, core in enumerate(cores):
            if demand.name in core.pieces:
                positions, features = core.pieces[demand.name].index
                homes[positions, features] = number
        rates = np.broadcast_to(_rates(graph, demand, seen)[:, None], homes.shape)
        for number, core in enumerate(cores):
            taken = core.taken.get(demand.name)
            if taken is not None:
                traffic[:, number] += np.bincount(homes[taken], rates[taken], len(cores))
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
