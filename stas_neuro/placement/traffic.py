"""Expected traffic between cores, from a run or, without one, with the same rate for all neurons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.ir import Graph, Phase
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.inputs import Inputs, Values, flags, index_of, union
from stas_neuro.placement.packing import Core, Region
from stas_neuro.scopes import block_of

_RATE_UNIT = 2.0**-20
"""Rates are multiples of it, so that sums of messages x hops below 2^31 are exact in whatever order.

Then positions of cores depend neither on the order of a sum nor on the processor that adds.
"""


@dataclass(frozen=True, eq=False)
class Traffic:
    """Expected messages per image between cores: of pairs that have any, as most have none.

    Parameters
    ----------
    cores : int
    source, target : int (pairs,)
        Cores of each pair, once in each direction, by target; a core may send to itself.
    messages : float (pairs,)
    """

    cores: int
    source: NDArray[np.intp]
    target: NDArray[np.intp]
    messages: NDArray[np.float64]

    def by_chip(
        self, chips: NDArray[np.intp]
    ) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]]:
        """Yield each chip, its cores, and their messages with each of the others and with other chips.

        Messages are those in both directions, float (own, own) and (own,). `chips` is the chip of each core,
        int (cores,).
        """
        order = np.argsort(chips, kind="stable")
        numbers, first = np.unique(chips[order], return_index=True)
        place = np.zeros(self.cores, np.intp)
        place[order] = np.arange(self.cores) - np.repeat(first, np.diff([*first, self.cores]))
        crosses = chips[self.source] != chips[self.target]
        outward = np.zeros(self.cores)
        for end in (self.source, self.target):
            outward += np.bincount(end[crosses], self.messages[crosses], self.cores)
        within = np.flatnonzero(~crosses & (self.source != self.target))
        within = within[np.argsort(chips[self.source[within]], kind="stable")]
        ends = np.searchsorted(chips[self.source[within]], [*numbers, numbers[-1] + 1])
        for at, (chip, own) in enumerate(zip(numbers, np.split(order, first[1:]), strict=True)):
            pairs = within[ends[at] : ends[at + 1]]
            flow = np.zeros((len(own), len(own)))
            flow[place[self.source[pairs]], place[self.target[pairs]]] = self.messages[pairs]
            yield int(chip), own, flow + flow.T, outward[own]


def traffic_between(
    inputs: Inputs, demands: Sequence[LayerDemand], cores: Sequence[Core], seen: Activity | None
) -> Traffic:
    """Return the expected messages per image from each core to each other."""
    held: dict[str, list[tuple[int, Region]]] = {each.name: [] for each in demands}
    for number, core in enumerate(cores):
        for name, region in core.pieces.items():
            held[name].append((number, region))
    rates = _rates(inputs.graph, demands, seen)
    senders = {each.name: _Senders.of(each, held[each.name], rates[each.name]) for each in demands}
    sent: dict[tuple[str, Values], tuple[NDArray[np.intp], NDArray[np.float64]]] = {}
    """Cores whose neurons send something, and their messages; many cores need the same values."""
    found = [(np.zeros(0, np.intp), np.zeros(0))]
    targets = [0]
    for number, core in enumerate(cores):
        taken: dict[str, Values] = {}
        for name, region in core.pieces.items():
            for source, values in inputs.of(name, *region.sets).items():
                taken[source] = union(taken.get(source, ()), values)
        for key in taken.items():
            if key[0] in senders:
                if key not in sent:
                    sent[key] = senders[key[0]].messages(key[1])
                found.append(sent[key])
                targets.append(number)
    target = np.repeat(targets, [len(source) for source, _ in found])
    source, messages = (np.concatenate(parts) for parts in zip(*found, strict=True))
    pairs, pair = np.unique(target * len(cores) + source, return_inverse=True)
    summed = np.bincount(pair, messages).astype(np.float64)  # of no pairs at all they would be integers
    return Traffic(len(cores), pairs % len(cores), pairs // len(cores), summed)


@dataclass(frozen=True, eq=False)
class _Senders:
    """The cores of a layer, by position and span of features: spans are on one core at each position.

    Parameters
    ----------
    cores : int (pieces,)
    piece : int (positions, spans)
        Number of the piece that holds each span of features at each position.
    first : int (spans,)
        First feature of each span.
    rates : float (positions,)
    """

    cores: NDArray[np.intp]
    piece: NDArray[np.intp]
    first: NDArray[np.intp]
    features: int
    rates: NDArray[np.float64]

    @staticmethod
    def of(demand: LayerDemand, held: Sequence[tuple[int, Region]], rates: NDArray[np.float64]) -> _Senders:
        first = np.array(sorted({region.features[0] for _, region in held}), np.intp)
        piece = np.zeros((demand.positions, len(first)), np.intp)
        for number, (_, region) in enumerate(held):
            piece[region.index[0], slice(*np.searchsorted(first, region.features))] = number
        return _Senders(np.array([core for core, _ in held]), piece, first, demand.features, rates)

    def messages(self, values: Values) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the cores that send some of the values, and the messages of each."""
        found = np.zeros(len(self.cores))
        for positions, features in values:
            rows = index_of(positions)
            width = np.add.reduceat(flags(features, self.features), self.first, dtype=np.float64)
            messages = self.rates[rows, None] * width
            found += np.bincount(self.piece[rows].ravel(), messages.ravel(), len(found))
        sending = np.flatnonzero(found)
        return self.cores[sending], found[sending]


def _rates(
    graph: Graph, demands: Sequence[LayerDemand], seen: Activity | None
) -> dict[str, NDArray[np.float64]]:
    """Return the expected number of nonzero values that a neuron of each layer sends per image, (positions,).

    With a run, these are the spikes of the layer, distributed over the tokens of a block like its visits, in
    whole units; otherwise one per step.
    """
    if seen is None or not seen.images:
        steps = {each.name: graph.node(each.name).phase in (Phase.STEP, Phase.STEM) for each in demands}
        return {
            each.name: np.full(each.positions, float(graph.time_steps if steps[each.name] else 1))
            for each in demands
        }
    spikes: Counter[str] = Counter()
    for layer, count in zip(seen.layers, seen.counts["spikes_out"].sum(axis=(0, 2)), strict=True):
        spikes[layer.network_layer] += count
    visits = None if seen.visits is None else seen.visits.sum(axis=(0, 1))
    found = {}
    for each in demands:
        weights, block = np.ones(each.positions), block_of(each.scope)
        if visits is not None and block is not None and each.positions == graph.tokens:
            weights = visits[block] if visits[block].any() else weights
        rates = spikes[each.name] / seen.images * weights / weights.sum() / each.features
        found[each.name] = np.asarray(np.rint(rates / _RATE_UNIT) * _RATE_UNIT, dtype=np.float64)
    return found
