"""Placement of a network's neurons on cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stas_neuro.activity import SAME_NETWORK, Activity, Origin, builder_for, check_facts
from stas_neuro.bundle import hash_network
from stas_neuro.chips import Profile
from stas_neuro.choices import OBJECTIVES as OBJECTIVES
from stas_neuro.choices import STRATEGIES as STRATEGIES
from stas_neuro.choices import Objective
from stas_neuro.choices import Strategy as Strategy
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph, Stage, block_of
from stas_neuro.mapping import Mapping, Piece
from stas_neuro.placement.demands import DEFAULT_BITS, LayerDemand, demands_of, tokens_by_block, weight_bits
from stas_neuro.placement.groups import scan_groups
from stas_neuro.placement.limits import Limits, limits_of
from stas_neuro.placement.packing import Packer, whole
from stas_neuro.placement.reasons import DoesNotFit, Reason
from stas_neuro.placement.strategies import (
    Block,
    by_features,
    by_tokens,
    fewest_cores,
    pack_layers,
)
from stas_neuro.placement.tiles import chips_of, near_sites
from stas_neuro.placement.traffic import traffic_between


def place(
    graph: Graph,
    profile: Profile,
    *,
    strategy: Strategy = "token-major",
    groups: int | None = None,
    seen: Activity | None = None,
    minimise: Objective = "core-steps",
    bits: int = DEFAULT_BITS,
) -> Mapping:
    """Place a network on the cores of one or more chips (docs/placement.md).

    Parameters
    ----------
    graph : Graph
        A folded or quantised graph.
    profile : Profile
        Profile of the chip.
    strategy : str
        How a network block is cut: channel-major (all tokens, some features), token-major (tokens in scan
        order, all features) or halting-aware (tokens that halt together).
    groups : int, optional
        Number of groups of tokens, or of features, that each block is cut into. Default: the number that
        needs the fewest cores if cut token-major; the largest such number.
    seen : Activity, optional
        Record of a run of this network on representative images. Its visits determine which tokens halt
        together (for halting-aware), its spikes the traffic between cores. For an integer program, the record
        may be of a float run.
    minimise : "core-steps" or "neuron-updates"
        Objective of halting-aware.
    bits : int
        Bits of a weight, for a graph that is not quantised.

    Raises
    ------
    DoesNotFit
        When the network does not fit the chip, with all reasons.
    InputError
        When options contradict the network, `seen` is a run of another network, or the profile has no cores.
    """
    _check_options(graph, strategy, groups, seen)
    limits = limits_of(profile)
    demands = demands_of(graph, weight_bits(graph, bits, profile))
    packer = Packer(graph, limits)
    for demand in demands:
        packer.check(demand)
    if packer.reasons:
        raise DoesNotFit(profile.name, packer.reasons)
    tokens_of = tokens_by_block(graph)
    for scope, layers in _scopes(demands):
        block = block_of(scope)
        if block is None:
            pack_layers(packer, scope, layers, lambda demand: [whole(demand)], "positions")
            continue
        tokens = tokens_of[scope]
        if groups is None:
            groups = fewest_cores(packer, scope, layers, tokens)
        if strategy == "channel-major":
            pack_layers(packer, scope, layers, by_features(groups), "features")
            continue
        parts = min(groups, tokens)
        cut = scan_groups(tokens, parts)
        learns = strategy == "halting-aware" and tokens == graph.tokens
        if learns and seen is not None and seen.visits is not None:
            visits = seen.visits[:, :, block]
            cut = Block(packer, scope, layers, tokens, minimise).learned(parts, visits)
        pack_layers(packer, scope, layers, by_tokens(cut), "positions")
    return _mapping(graph, profile, strategy, groups, limits, demands, packer, seen)


def _check_options(graph: Graph, strategy: str, groups: int | None, seen: Activity | None) -> None:
    if strategy not in STRATEGIES:
        raise InputError(f"no placement is called {strategy!r}", f"use one of {', '.join(STRATEGIES)}")
    most = max(tokens_by_block(graph).values(), default=graph.tokens)
    if groups is not None and not 1 <= groups <= most:
        raise InputError(
            f"{groups} groups of {most} tokens", "give at least 1, at most one a token (--groups)"
        )
    visits = None if seen is None else seen.visits
    if strategy == "halting-aware" and visits is None:
        raise InputError("halting-aware learns from visits, and none are given", "give a --profile-run")
    shape = (graph.time_steps, graph.blocks, graph.tokens)
    if visits is not None and visits.shape[1:] != shape:
        what = f"visits are of {visits.shape[1:]} steps, blocks and tokens, the network has {shape}"
        raise InputError(what, "give a run of this network")
    if seen is not None:
        _check_network(graph, seen)


def _check_network(graph: Graph, seen: Activity) -> None:
    """Refuse a run of another network; a float run is compared with an integer program by their layers."""
    integers = seen.origin.arithmetic is not None and seen.origin.arithmetic.startswith("integers")
    known = integers == (graph.stage == Stage.QUANTISED)
    own = replace(
        builder_for(graph, images=0).build(), origin=Origin(network=hash_network(graph) if known else None)
    )
    try:
        check_facts({"the run to learn from": seen, "the network": own}, SAME_NETWORK)
    except InputError as error:
        raise InputError(error.what, "give a run of this network") from error


def _scopes(demands: Sequence[LayerDemand]) -> list[tuple[str, list[LayerDemand]]]:
    """Group the layers by the part of the network that they belong to, the last part first."""
    scopes = list(dict.fromkeys(demand.scope for demand in reversed(demands)))
    return [(scope, [demand for demand in demands if demand.scope == scope]) for scope in scopes]


def _mapping(
    graph: Graph,
    profile: Profile,
    strategy: str,
    groups: int | None,
    limits: Limits,
    demands: Sequence[LayerDemand],
    packer: Packer,
    seen: Activity | None,
) -> Mapping:
    reasons = [*packer.reasons, *packer.overfull()]
    rank = {demand.name: index for index, demand in enumerate(demands)}
    first = {core.domain: len(rank) for core in packer.cores}
    for core in packer.cores:
        first[core.domain] = min(first[core.domain], *(rank[name] for name in core.pieces))
    cores = sorted(packer.cores, key=lambda core: (first[core.domain], core.domain))
    chips = chips_of([core.domain for core in cores], limits.cores_per_chip)
    if limits.chips is not None and cores and chips[-1] >= limits.chips:
        reasons.append(Reason("", "chips", chips[-1] + 1, limits.chips))
    if reasons:
        raise DoesNotFit(profile.name, reasons)
    pieces = [
        Piece(layer=name, core=number, positions=region.positions, features=region.features)
        for number, core in enumerate(cores)
        for name, region in core.pieces.items()
    ]
    pieces.sort(key=lambda piece: (rank[piece.layer], piece.core))
    traffic = traffic_between(graph, demands, cores, seen)
    return Mapping(
        profile=profile.name,
        strategy=strategy,
        cores=near_sites(chips, traffic, limits),
        pieces=tuple(pieces),
        groups=groups,
    )
