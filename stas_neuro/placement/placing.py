"""Placement of a network's neurons on cores."""

from __future__ import annotations

from dataclasses import replace

from stas_neuro.activity import SAME_NETWORK, Activity, Origin, check_facts
from stas_neuro.activity.layers import builder_for
from stas_neuro.bundle import hash_network
from stas_neuro.chips import Profile
from stas_neuro.choices import OBJECTIVES as OBJECTIVES
from stas_neuro.choices import SPREADS as SPREADS
from stas_neuro.choices import STRATEGIES as STRATEGIES
from stas_neuro.choices import Objective, Spread
from stas_neuro.choices import Strategy as Strategy
from stas_neuro.energy import Deployment
from stas_neuro.energy.deployment import DEFAULT
from stas_neuro.errors import InputError, unknown
from stas_neuro.ir import Graph, Stage
from stas_neuro.mapping import Mapping
from stas_neuro.placement.demands import DEFAULT_BITS, demands_of, tokens_by_block, weight_bits
from stas_neuro.placement.limits import limits_of, with_contexts
from stas_neuro.placement.spreading import cheapest, spread_over
from stas_neuro.placement.task import Task
from stas_neuro.placement.tiles import near_sites
from stas_neuro.placement.traffic import traffic_between


def place(  # noqa: PLR0913
    graph: Graph,
    profile: Profile,
    *,
    strategy: Strategy = "token-major",
    groups: int | None = None,
    seen: Activity | None = None,
    minimise: Objective | Spread = "cores",
    cores: int | None = None,
    bits: int = DEFAULT_BITS,
    deployment: Deployment = DEFAULT,
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
        together (for halting-aware), its spikes the traffic between cores, and its counts the energy and
        latency on a number of cores. For an integer program, the record may be of a float run.
    minimise : "cores", "energy", "latency", "core-steps" or "neuron-updates"
        The first three choose the number of cores: the fewest, or those on which an image of `seen` (without
        it, of neurons that all fire in every step) costs the least as deployed. The last two are objectives
        of the groups of halting-aware, on the fewest cores; the others imply core-steps.
    cores : int, optional
        Use at most this number of cores; with "cores" and the last two, spread the network over them.
    bits : int
        Bits of a weight, for a graph that is not quantised.
    deployment : Deployment
        How the network will run: neurons have its `contexts`, and energy and latency are those it gives.

    Raises
    ------
    DoesNotFit
        When the network does not fit the chip, with all reasons.
    InputError
        When options contradict the network, `seen` is a run of another network, the profile has no cores, or
        energy or latency is unknown on every number of cores.
    """
    _check_options(graph, strategy, groups, seen)
    limits = with_contexts(limits_of(profile), deployment.contexts)
    demands = demands_of(graph, weight_bits(graph, bits, profile))
    task = Task(graph, profile, demands, strategy, groups, seen, minimise)
    task.check(limits)
    if minimise in ("energy", "latency"):
        packing = cheapest(task, limits, cores, deployment)
    elif cores is not None:
        packing = spread_over(task, limits, cores)
    else:
        packing = task.pack(limits)
    traffic = traffic_between(task.inputs, demands, packing.cores, seen)
    return packing.mapping(near_sites(packing.chips, traffic, limits))


def _check_options(graph: Graph, strategy: str, groups: int | None, seen: Activity | None) -> None:
    if strategy not in STRATEGIES:
        raise unknown("placement", strategy, STRATEGIES)
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
