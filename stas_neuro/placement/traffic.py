"""Expected traffic between cores, from a run or, without one, with the same rate for all neurons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.ir import Graph, Phase, block_of
from stas_neuro.ir.ops.base import Wanted
from stas_neuro.mapping.reach import Need, Reach, join
from stas_neuro.mapping.routes import index_of, merged
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.packing import Core


@dataclass(frozen=True, eq=False)
class Traffic:
    """Expected messages per image between cores: of pairs that have any, as most have none.

    Parameters
    ----------
    cores : int
    source, target : int (pairs,)
        Cores of each pair, once in each direction; a core may send to itself.
    messages : float (pairs,)
    """

    cores: int
    source: NDArray[np.intp]
    target: NDArray[np.intp]
    messages: NDArray[np.float64]

    def by_chip(self, chips: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.float64]]]:
        """Yield each chip, its cores and their messages with all cores in both directions, (own, cores).

        `chips` is the chip of each core, int (cores,).
        """
        numbers = np.unique(chips)
        ends = [np.argsort(chips[end], kind="stable") for end in (self.source, self.target)]
        first = [np.searchsorted(chips[self.source][ends[0]], numbers)]
        first += [np.searchsorted(chips[self.target][ends[1]], numbers)]
        place = np.zeros(self.cores, np.intp)
        for at, chip in enumerate(numbers):
            own = np.flatnonzero(chips == chip)
            place[own] = np.arange(len(own))
            sent, got = (
                order[start[at] : start[at + 1] if at + 1 < len(numbers) else None]
                for order, start in zip(ends, first, strict=True)
            )
            both = np.zeros((len(own), self.cores))
            both[place[self.source[sent]], self.target[sent]] = self.messages[sent]
            both[place[self.target[got]], self.source[got]] += self.messages[got]
            yield int(chip), own, both


def traffic_between(
    graph: Graph, demands: Sequence[LayerDemand], cores: Sequence[Core], seen: Activity | None
) -> Traffic:
    """Return the expected messages per image from each core to each other."""
    found: list[tuple[NDArray[np.intp], NDArray[np.float64]]] = []
    homes = {each.name: np.zeros((each.positions, each.features), dtype=np.intp) for each in demands}
    rates = {each.name: _rates(graph, each, seen)[:, None] for each in demands}
    for number, core in enumerate(cores):
        for name, region in core.pieces.items():
            homes[name][region.index] = number
    reach = Reach(graph)
    sent: dict[tuple[str, bytes], tuple[NDArray[np.intp], NDArray[np.float64]]] = {}
    """Cores whose neurons send something, and their messages; many cores need the same values."""
    for core in cores:
        received = np.zeros(len(cores))
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
                messages = np.bincount(home.ravel(), of_values.ravel()).astype(np.float64)
                sources = np.flatnonzero(messages)
                sent[name, which] = sources, messages[sources]
            sources, messages = sent[name, which]
            received[sources] += messages
        senders = np.flatnonzero(received)
        found.append((senders, received[senders]))
    target = np.repeat(np.arange(len(cores)), [len(senders) for senders, _ in found])
    nothing = np.zeros(0, np.intp), np.zeros(0)
    source, messages = (np.concatenate(parts) for parts in zip(*found, nothing, strict=True))
    return Traffic(len(cores), source, target, messages)


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
