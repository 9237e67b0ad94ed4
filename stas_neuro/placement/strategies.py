"""Strategies to cut the layers of a network block into groups, each on its own cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import inf

from stas_neuro.activity import Visits
from stas_neuro.choices import Objective as Objective
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.groups import CoHalting, Groups, candidates, scan_groups
from stas_neuro.placement.packing import Axis, Core, Packer, Region, equal_parts, whole

Cutting = Callable[[LayerDemand], list[Region | None]]
"""Returns the region of a layer in each group, in the order of groups; None for a group without one."""


def by_tokens(groups: Groups) -> Cutting:
    """Return a cutting of layers by groups of tokens; neurons without tokens form a separate group."""
    tokens = sum(map(len, groups))

    def cut(demand: LayerDemand) -> list[Region | None]:
        if demand.positions != tokens:
            return [None] * len(groups) + [whole(demand)]
        return [Region(group, (0, demand.features)) for group in groups]

    return cut


def by_features(groups: int) -> Cutting:
    """Return a cutting of layers by ranges of features whose lengths differ by one at most."""

    def cut(demand: LayerDemand) -> list[Region | None]:
        parts = equal_parts(demand.features, groups)
        positions = range(demand.positions)
        return [Region(positions, (part.start, part.stop)) if part else None for part in parts]

    return cut


def pack_layers(
    packer: Packer, scope: str, layers: Sequence[LayerDemand], cutting: Cutting, axis: Axis
) -> Packer:
    """Pack the layers of a part of the network, in reverse order."""
    for demand in reversed(layers):
        for group, region in enumerate(cutting(demand)):
            if region is not None:
                packer.place(demand, region, (scope, group), axis)
    return packer


def fewest_cores(packer: Packer, scope: str, layers: Sequence[LayerDemand], tokens: int) -> int:
    """Return the number of groups that needs the fewest cores, cut in scan order; the largest such number."""
    best, fewest = 1, inf
    for groups in sorted({-(-tokens // size) for size in range(1, tokens + 1)}):
        trial = packer.fork()
        trial.most = min(fewest, packer.most)
        pack_layers(trial, scope, layers, by_tokens(scan_groups(tokens, groups)), "positions")
        if not trial.reasons and len(trial.cores) <= fewest:
            best, fewest = groups, len(trial.cores)
    return best


@dataclass(frozen=True)
class Block:
    """A network block to be cut by tokens: its layers, and the packer that has placed all later layers.

    `sizes` has what groups of blocks alike need, and is filled: networks repeat their blocks.
    """

    packer: Packer
    scope: str
    layers: Sequence[LayerDemand]
    tokens: int
    minimise: Objective
    sizes: dict[Hashable, list[tuple[int, int]]]

    def learned(self, groups: int, visits: Visits) -> Groups:
        """Group the tokens by visits, bool (images, T, N): the search result that is cheapest when packed.

        It needs no more cores than scan order, and its cost on these visits is not higher. The tokens of a
        single group are put in order: if it needs several cores, tokens next to each other share them.
        """
        scan = scan_groups(self.tokens, groups)
        equal = self._packed(scan)
        if groups == 1:
            return self._cheapest(self._orders(visits), scan, equal, CoHalting(visits, [1], [1]))
        sizes = self._sizes(groups, sum(core.domain[1] < groups for core in equal), len(scan[0]))
        seen = CoHalting(visits, [cores for cores, _ in sizes], [price for _, price in sizes])
        return self._cheapest(candidates(seen, groups), scan, equal, seen)

    def _orders(self, visits: Visits) -> list[Groups]:
        """Return the tokens in one group, ordered by their visits: those with many first, or last."""
        order = CoHalting(visits, [1], [1]).order().tolist()
        return [(tuple(order),), (tuple(reversed(order)),)]

    def _cheapest(
        self, cuts: Sequence[Groups], scan: Groups, equal: Sequence[Core], seen: CoHalting
    ) -> Groups:
        """Return the cheapest cut when packed on no more cores than scan order, or scan order itself."""
        best, least = scan, self._price(equal, seen)
        for cut in cuts:
            cores = self._packed(cut)
            price = self._price(cores, seen)
            if price < least and len(cores) <= len(equal):
                best, least = cut, price
        return best

    def _packed(self, cut: Groups) -> list[Core]:
        trial = pack_layers(self.packer.fork(), self.scope, self.layers, by_tokens(cut), "positions")
        return [core for core in trial.cores if core.domain[0] == self.scope]

    def _sizes(self, groups: int, budget: int, equal: int) -> list[tuple[int, int]]:
        """Return the number of cores of a group of 1, 2, ... tokens packed with others, and its price.

        They are up to the budget of cores.
        """
        key = groups, budget, equal, self._needs()
        if key in self.sizes:
            return self.sizes[key]
        found: list[tuple[int, int]] = []
        for size in range(1, self.tokens - groups + 2):
            cores = self._first_group(size, groups)
            if size > equal and len(cores) + (groups - 1) * found[0][0] > budget:
                break
            found.append((len(cores), self._price(cores, None)))
        self.sizes[key] = found
        return found

    def _needs(self) -> Hashable:
        """Return what decides on the cores of a group: the needs of the layers, and who sends them what.

        The senders matter only where the axons of a core are limited; no other block then has the same.
        """
        if {"input axons", "output axons"} & self.packer.limits.core.keys():
            return self.scope
        first = self.layers[0].stage
        return tuple((demand.needs, demand.stage - first) for demand in self.layers)

    def _first_group(self, size: int, groups: int) -> list[Core]:
        """Return the cores of the first group, of a number of tokens, where the others share the rest."""
        first = tuple(range(size))
        if "output axons" in self.packer.limits.core:  # how many a neuron needs depends on the other groups
            rest = scan_groups(self.tokens - size, groups - 1)
            others = tuple(tuple(size + token for token in group) for group in rest)
            return [core for core in self._packed((first, *others)) if core.domain[1] == 0]
        packer, held = self.packer.fork(), len(self.packer.cores)
        layers = [demand for demand in self.layers if demand.positions == self.tokens]
        pack_layers(
            packer, self.scope, layers, lambda demand: [Region(first, (0, demand.features))], "positions"
        )
        return list(packer.cores[held:])

    def _price(self, cores: Sequence[Core], seen: CoHalting | None) -> int:
        """Return the objective on cores for the given visits, or else for one visit of all tokens.

        Layers without tokens are left out: their steps do not depend on the grouping.
        """
        stages = {demand.name: demand.stage for demand in self.layers if demand.positions == self.tokens}
        costs: Counter[frozenset[int]] = Counter()
        """What each visit of any of some tokens costs, by these tokens."""
        for core in cores:
            at_work: dict[int, list[Region]] = {}
            for name, piece in core.pieces.items():
                if name in stages:
                    at_work.setdefault(stages[name], []).append(piece)
            for pieces in at_work.values():
                tokens = frozenset().union(*(piece.positions for piece in pieces))
                cost = 1 if self.minimise == "core-steps" else sum(piece.neurons for piece in pieces)
                costs[tokens] += cost
        if seen is None:
            return costs.total()
        return sum(cost * seen.visits(list(tokens)) for tokens, cost in costs.items())
