"""A network to be packed onto cores, and the result for given limits of a core."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.choices import Objective, Spread
from stas_neuro.ir import Graph
from stas_neuro.mapping import CoreLocation, Mapping, Piece
from stas_neuro.placement.demands import LayerDemand, tokens_by_block
from stas_neuro.placement.groups import scan_groups
from stas_neuro.placement.inputs import Inputs
from stas_neuro.placement.limits import Limits
from stas_neuro.placement.packing import Core, Packer, whole
from stas_neuro.placement.reasons import DoesNotFit, MoreCores, Reason
from stas_neuro.placement.strategies import Block, by_features, by_tokens, fewest_cores, pack_layers
from stas_neuro.placement.tiles import chips_of
from stas_neuro.scopes import block_of


@dataclass(frozen=True, eq=False)
class Packing:
    """Cores with their contents, in the order of the network, the chip of each, and the groups of a block."""

    task: Task
    cores: Sequence[Core]
    chips: Sequence[int]
    groups: int | None

    def mapping(self, sites: tuple[CoreLocation, ...]) -> Mapping:
        """Return the mapping with the cores at these sites."""
        rank = self.task.rank
        pieces = [
            Piece(layer=name, core=number, positions=tuple(region.positions), features=region.features)
            for number, core in enumerate(self.cores)
            for name, region in core.pieces.items()
        ]
        pieces.sort(key=lambda piece: (rank[piece.layer], piece.core))
        return Mapping(
            profile=self.task.profile.name,
            strategy=self.task.strategy,
            cores=sites,
            pieces=tuple(pieces),
            groups=self.groups,
        )


@dataclass(frozen=True, eq=False)
class Task:
    """A network and the options of its placement; parameters as of `place`."""

    graph: Graph
    profile: Profile
    demands: Sequence[LayerDemand]
    strategy: str
    groups: int | None
    seen: Activity | None
    minimise: Objective | Spread

    @cached_property
    def inputs(self) -> Inputs:
        """What regions of its layers receive, found once for all packings."""
        return Inputs(self.graph)

    @property
    def rank(self) -> dict[str, int]:
        """Place of each layer in the network."""
        return {demand.name: index for index, demand in enumerate(self.demands)}

    def check(self, limits: Limits) -> None:
        """Raise DoesNotFit, with all reasons, where a neuron of a layer fits no core."""
        packer = Packer(self.graph, limits, self.inputs, inf)
        for demand in self.demands:
            packer.check(demand)
        if packer.reasons:
            raise DoesNotFit(self.profile.name, packer.reasons)

    def pack(self, limits: Limits, most: float = inf) -> Packing:
        """Pack the network onto cores within limits.

        Raises DoesNotFit, with all reasons, or MoreCores where it needs more than `most`.
        """
        packer, groups = Packer(self.graph, limits, self.inputs, most), self.groups
        tokens_of = tokens_by_block(self.graph)
        sizes: dict[Hashable, list[tuple[int, int]]] = {}
        for scope, layers in self._scopes():
            block = block_of(scope)
            if block is None:
                pack_layers(packer, scope, layers, lambda demand: [whole(demand)], "positions")
                continue
            tokens = tokens_of[scope]
            if groups is None:
                groups = fewest_cores(packer, scope, layers, tokens)
            if self.strategy == "channel-major":
                pack_layers(packer, scope, layers, by_features(groups), "features")
                continue
            parts = min(groups, tokens)
            cut = scan_groups(tokens, parts)
            learns = self.strategy == "halting-aware" and tokens == self.graph.tokens
            if learns and self.seen is not None and self.seen.visits is not None:
                visits = self.seen.visits[:, :, block]
                free = packer.fork()
                free.most = inf  # what is learned may need fewer cores than what it is compared with
                cut = Block(free, scope, layers, tokens, self._objective, sizes).learned(parts, visits)
            pack_layers(packer, scope, layers, by_tokens(cut), "positions")
        if len(packer.cores) > most:
            raise MoreCores
        return self._packing(packer, groups, limits)

    @property
    def _objective(self) -> Objective:
        return "neuron-updates" if self.minimise == "neuron-updates" else "core-steps"

    def _scopes(self) -> list[tuple[str, list[LayerDemand]]]:
        """Group the layers by the part of the network that they belong to, the last part first."""
        scopes = list(dict.fromkeys(demand.scope for demand in reversed(self.demands)))
        return [(scope, [demand for demand in self.demands if demand.scope == scope]) for scope in scopes]

    def _packing(self, packer: Packer, groups: int | None, limits: Limits) -> Packing:
        reasons = [*packer.reasons, *packer.overfull()]
        rank = self.rank
        first = {core.domain: len(rank) for core in packer.cores}
        for core in packer.cores:
            first[core.domain] = min(first[core.domain], *(rank[name] for name in core.pieces))
        cores = sorted(packer.cores, key=lambda core: (first[core.domain], core.domain))
        chips = chips_of([core.domain for core in cores], limits.cores_per_chip)
        if limits.chips is not None and cores and chips[-1] >= limits.chips:
            reasons.append(Reason("", "chips", chips[-1] + 1, limits.chips))
        if reasons:
            raise DoesNotFit(self.profile.name, reasons)
        return Packing(self, cores, chips, groups)
