"""Placement on cores: every neuron once, no limit exceeded, domains apart, reasons where nothing fits."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, graphs, images_for
from support.paths import ROOT
from support.plain_traffic import dense, plain_sites, plain_traffic

from stas_neuro import api, compiler
from stas_neuro.activity import Activity, Origin
from stas_neuro.activity.layers import builder_for
from stas_neuro.analysis import neuron_layers
from stas_neuro.bundle import Provenance, load_bundle, save_bundle
from stas_neuro.chips import Profile, load_profile
from stas_neuro.energy import Deployment, estimate
from stas_neuro.energy.gating import stepping
from stas_neuro.energy.timing import hardware_steps
from stas_neuro.errors import InputError
from stas_neuro.ir import Conv2d, Graph
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.check import check_mapping
from stas_neuro.mapping.routes import routes
from stas_neuro.passes import DelayDecisions, FoldBatchNorm, Quantise
from stas_neuro.placement import (
    OBJECTIVES,
    STRATEGIES,
    DoesNotFit,
    core_steps,
    place,
    utilisation,
)
from stas_neuro.placement.demands import demands_of, tokens_by_block
from stas_neuro.placement.inputs import Inputs
from stas_neuro.placement.limits import limits_of
from stas_neuro.placement.packing import Packer
from stas_neuro.placement.strategies import Block
from stas_neuro.placement.task import Task
from stas_neuro.placement.tiles import near_sites
from stas_neuro.placement.traffic import traffic_between
from stas_neuro.reference import run_reference

LOIHI1 = load_profile("loihi1")
LOIHI2 = load_profile("loihi2")
_NEURON = dataclasses.replace(LOIHI2.time["neuron_update_active"], value=1.0, low=1.0, high=1.0, unit="us")
SLOW = dataclasses.replace(
    LOIHI2, time={**LOIHI2.time, "neuron_update_active": _NEURON, "neuron_update_inactive": _NEURON}
)
"""Neurons that take as long as a network with many more of them."""
SHIPPED = ROOT / "examples" / "models" / "fashion-spikformer"


def chip(profile: Profile = LOIHI1, **limits: int) -> Profile:
    """A profile with other limits; memory in bytes."""
    entries = dict(profile.limits)
    for name, value in limits.items():
        unit = "B" if name == "synaptic_memory_per_core" else "1"
        entries[name] = dataclasses.replace(entries[name], value=value, low=value, high=value, unit=unit)
    return dataclasses.replace(profile, limits=entries)


SMALL = chip(SLOW, cores_per_chip=20, tiles_x=3, tiles_y=2)


def seen_of(graph: Graph, seed: int = 0, images: int = 20) -> Activity:
    """Visits at random that only become fewer in an image."""
    shape = (images, graph.tokens)
    lives = np.random.default_rng(seed).integers(1, graph.time_steps * graph.blocks + 1, shape)
    order = np.arange(graph.time_steps * graph.blocks).reshape(1, graph.time_steps, graph.blocks, 1)
    return builder_for(graph, images).build(order < lives[:, None, None, :])


@pytest.fixture(scope="module")
def spikformer() -> Graph:
    return compiler.fold(SHIPPED)


@settings(max_examples=12)
@given(
    graph=graphs(norm=False),
    strategy=st.sampled_from(STRATEGIES),
    minimise=st.sampled_from(OBJECTIVES),
    sharing=st.booleans(),
    quantised=st.booleans(),
    data=st.data(),
)
def test_every_neuron_is_placed_once_and_no_limit_exceeded(
    graph: Graph, strategy: Any, minimise: Any, sharing: bool, quantised: bool, data: st.DataObject
) -> None:
    if quantised:
        graph = Quantise(bits=8)(graph)
    profile = chip(
        neurons_per_core=data.draw(st.integers(8, 60)),
        synaptic_memory_per_core=data.draw(st.integers(60, 2000)),
        input_axons_per_core=data.draw(st.integers(40, 600)),
        output_axons_per_core=data.draw(st.integers(20, 600)),
        cores_per_chip=data.draw(st.integers(3, 128)),
    )
    word = dataclasses.replace(profile.capabilities["weight_sharing"], value="yes" if sharing else "no")
    profile = dataclasses.replace(profile, capabilities={**profile.capabilities, "weight_sharing": word})
    groups = data.draw(st.none() | st.integers(1, max(tokens_by_block(graph).values())))
    options: dict[str, Any] = {"strategy": strategy, "groups": groups, "seen": seen_of(graph)}
    try:
        mapping = place(graph, profile, minimise=minimise, **options)
    except DoesNotFit as error:
        assert error.reasons
        told = "\n".join((str(error), *error.lines))  # the message names the worst, where they are many
        for reason in error.reasons:
            assert reason.needed > reason.limit
            assert reason.where in told and reason.excess in told
        return
    check_mapping(graph, mapping)
    use = utilisation(graph, mapping, profile)
    for resource, used in use.used.items():
        assert used.max() <= use.limits[resource], resource
    assert mapping == place(graph, profile, minimise=minimise, **options)
    sites = [(site.chip, site.x, site.y) for site in mapping.cores]
    assert all(sites.count(site) <= profile.limit("cores_per_tile") for site in sites)
    assert max(map([site.chip for site in mapping.cores].count, range(mapping.chips))) <= use.cores_per_chip
    check_domains(graph, mapping)


def check_domains(graph: Graph, mapping: Mapping) -> None:
    """A core is of one part of the network, and of one group of tokens in a block cut by them."""
    for core in range(len(mapping.cores)):
        pieces = [piece for piece in mapping.pieces if piece.core == core]
        scopes = {graph.node(piece.layer).scope for piece in pieces}
        assert len(scopes) == 1
        scope = scopes.pop()
        if scope.startswith("block") and mapping.strategy != "channel-major":
            tokens = tokens_by_block(graph)[scope]
            with_tokens = {neuron_layers(graph)[piece.layer][0] == tokens for piece in pieces}
            assert len(with_tokens) == 1 or tokens == 1


@pytest.mark.parametrize("groups", [4, 10])
def test_the_shipped_model_takes_as_many_cores_in_each_strategy(spikformer: Graph, groups: int) -> None:
    seen = seen_of(spikformer)
    placed = {name: place(spikformer, LOIHI2, strategy=name, groups=groups, seen=seen) for name in STRATEGIES}
    assert {len(mapping.cores) for mapping in placed.values()} == {10 + 2 * groups}
    token_groups = {piece.positions for piece in placed["token-major"].of_layer("blocks.0.q_lif")}
    assert len(token_groups) == groups
    assert {len(piece.positions) for piece in placed["channel-major"].of_layer("blocks.0.q_lif")} == {49}


def test_by_default_blocks_take_the_fewest_cores_in_the_most_groups(spikformer: Graph) -> None:
    """A token has 512 neurons in a block: 49 of them fill 4 cores of 8192, with 16, 16, 16 and 1 at most."""
    mapping = place(spikformer, LOIHI2)
    assert mapping == place(spikformer, LOIHI2, groups=4)
    assert [p.neurons // 64 for p in mapping.of_layer("blocks.0.q_lif")] == [13, 12, 12, 12]


def test_it_learns_only_from_runs_of_the_same_network() -> None:
    graph = build(Recipe(norm=False))
    images = np.random.default_rng(0).random((2, *graph.input.shape))
    seen = api.run(graph, images).activity
    integers = Quantise()(graph)
    for network in (graph, DelayDecisions(1)(graph), integers):
        place(network, LOIHI2, strategy="halting-aware", seen=seen)
    other = dataclasses.replace(graph, tensors={key: -value for key, value in graph.tensors.items()})
    with pytest.raises(InputError, match=r"'the run to learn from' ran the network .*; give a run of this"):
        place(other, LOIHI2, seen=seen)
    with pytest.raises(InputError, match=r"'the run to learn from' ran the network .*; give a run of this"):
        place(Quantise(bits=4)(graph), LOIHI2, seen=api.run(integers, images).activity)
    by_time = build(Recipe(norm=False, halting="time"))
    unsaid = dataclasses.replace(seen, origin=Origin())
    with pytest.raises(InputError, match=r"and 'the network' ran different networks: .*; give a run of this"):
        place(by_time, LOIHI2, seen=unsaid)


def test_halting_aware_steps_fewer_cores_than_scan_order_on_the_visits_it_learned_from() -> None:
    graph = build(Recipe(norm=False, height=6, width=6, pool=False, stride=1, time_steps=4))
    profile = chip(LOIHI2, neurons_per_core=200)
    seen = seen_of(graph, images=40)
    assert seen.visits is not None
    for objective, figure in zip(OBJECTIVES, ("stepped", "neurons"), strict=True):
        for groups in (2, 7):
            options: dict[str, Any] = {"groups": groups, "seen": seen, "minimise": objective}
            scan = place(graph, profile, strategy="token-major", **options)
            aware = place(graph, profile, strategy="halting-aware", **options)
            assert len(aware.cores) <= len(scan.cores)
            stepped = [getattr(core_steps(graph, m, seen.visits), figure).sum() for m in (aware, scan)]
            assert stepped[0] < stepped[1]


def test_a_group_takes_the_cores_that_it_takes_among_others() -> None:
    graph = build(Recipe(norm=False, height=4, width=4))
    limits = limits_of(chip(LOIHI2, neurons_per_core=24))
    coupled = dataclasses.replace(limits, core={**limits.core, "output axons": 1 << 20})
    layers = [demand for demand in demands_of(graph, 8) if demand.scope == "block0"]
    tokens = tokens_by_block(graph)["block0"]
    alone, among = (
        Block(Packer(graph, each, Inputs(graph)), "block0", layers, tokens, "core-steps", {})
        for each in (limits, coupled)
    )
    for size in range(1, tokens - 1):
        ours, theirs = ([core.pieces for core in block._first_group(size, 3)] for block in (alone, among))
        assert ours == theirs and len(ours) > (size == tokens - 2)


@pytest.mark.parametrize("objective", ["core-steps", "neuron-updates"])
@pytest.mark.parametrize(("on", "axons"), [(LOIHI2, False), (LOIHI1, True)])
def test_blocks_alike_are_placed_as_each_by_itself(
    objective: Any, on: Profile, axons: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build(Recipe(seed=5, norm=False, blocks=3, height=4, width=4))
    rng = np.random.default_rng(0)
    seen = builder_for(graph, 6).build(
        rng.random((6, graph.time_steps, graph.blocks, graph.tokens)) < 0.5  # each block otherwise
    )
    profile = chip(on, neurons_per_core=40)
    assert axons == ("input axons" in limits_of(profile).core)
    options: dict[str, Any] = {"strategy": "halting-aware", "groups": 4, "seen": seen}
    packed: list[str] = []
    first_group = Block._first_group

    def counted(block: Block, size: int, groups: int) -> Any:
        packed.append(block.scope)
        return first_group(block, size, groups)

    monkeypatch.setattr(Block, "_first_group", counted)
    mapping = place(graph, profile, minimise=objective, **options)
    assert len(set(packed)) == (graph.blocks if axons else 1)
    monkeypatch.setattr(Block, "_needs", lambda block: block.scope)
    assert place(graph, profile, minimise=objective, **options) == mapping
    assert len(set(packed)) == graph.blocks


@settings(max_examples=25, deadline=None)
@given(graph=graphs(), per_chip=st.integers(3, 12), data=st.data())
def test_traffic_and_tiles_are_those_of_the_whole_matrix(
    graph: Graph, per_chip: int, data: st.DataObject
) -> None:
    profile = chip(SLOW, neurons_per_core=data.draw(st.integers(8, 40)), cores_per_chip=per_chip)
    limits, demands = limits_of(profile), demands_of(graph, 8)
    seen = data.draw(st.sampled_from([None, seen_of(graph)]))
    groups = data.draw(st.integers(1, max(tokens_by_block(graph).values())))
    task = Task(graph, profile, demands, "token-major", groups, seen, "cores")
    try:
        packing = task.pack(limits)
    except DoesNotFit:
        return
    traffic = traffic_between(task.inputs, demands, packing.cores, seen)
    matrix = plain_traffic(graph, demands, packing.cores, seen)
    np.testing.assert_array_equal(dense(traffic), matrix)
    assert not (traffic.messages * 2**20 % 1).any()  # so that sums are exact in any order
    assert near_sites(packing.chips, traffic, limits) == plain_sites(packing.chips, matrix, limits)


def test_a_single_group_is_divided_in_the_order_of_visits() -> None:
    """Each layer needs several cores; every other token halts at once."""
    graph = build(Recipe(seed=3, norm=False, blocks=2, height=4, width=4, pool=False))
    order = np.arange(graph.time_steps * graph.blocks).reshape(1, graph.time_steps, graph.blocks, 1)
    lives = np.where(np.arange(graph.tokens) % 2, 1, 5)
    seen = builder_for(graph, 4).build(np.repeat(order < lives, 4, axis=0))
    profile = chip(LOIHI2, neurons_per_core=graph.tokens // 2 * 6)
    scan, learned = (
        place(graph, profile, strategy=strategy, groups=1, seen=seen)
        for strategy in ("token-major", "halting-aware")
    )
    assert len(scan.cores) == len(learned.cores)
    steps = [core_steps(graph, mapping, seen.visits).stepped.sum() for mapping in (scan, learned)]
    assert steps[1] < 0.8 * steps[0]


@settings(max_examples=10)
@given(recipe=st.builds(Recipe, norm=st.just(False), seed=st.integers(0, 99),
                        halting=st.sampled_from(("raster", "rectangular", "time", "off")),
                        sdsa=st.booleans()),
       strategy=st.sampled_from(("channel-major", "token-major")), groups=st.integers(1, 6))  # fmt: skip
def test_core_steps_are_those_that_prices_derive_from_a_run(
    recipe: Recipe, strategy: Any, groups: int
) -> None:
    graph = build(recipe)
    mapping = place(graph, chip(LOIHI2, neurons_per_core=40), strategy=strategy, groups=groups)
    trace = run_reference(graph, images_for(graph, 5), mapping=mapping)
    found = core_steps(graph, mapping, trace.visits)
    derived = stepping(trace.activity, hardware_steps(trace.activity, "raster")).stepped.sum(axis=2)
    blocks = [
        core
        for core in range(len(mapping.cores))
        if any(p.core == core and graph.node(p.layer).scope.startswith("block") for p in mapping.pieces)
    ]
    np.testing.assert_array_equal(found.stepped[:, blocks], derived[:, blocks])


def test_every_reason_is_told_at_once(spikformer: Graph) -> None:
    small = chip(neurons_per_core=4, synaptic_memory_per_core=100, input_axons_per_core=300, fan_in=200)
    with pytest.raises(DoesNotFit) as caught:
        place(spikformer, small)
    reasons = {(reason.layer, reason.resource): reason for reason in caught.value.reasons}
    # One feature of fc2 takes 128 weights of a byte, and an exponent of half a byte.
    memory = reasons["blocks.0.fc2_lif", "synaptic memory"]
    assert (memory.needed, memory.limit) == (128 * 8 + 4, 800)
    lines = {line.partition(": ")[0]: line for line in caught.value.lines}
    assert list(lines) == list(dict.fromkeys(reason.layer for reason in caught.value.reasons))
    for reason in caught.value.reasons:
        assert reason.excess in lines[reason.layer]
    assert "synaptic memory 129 of 100 bytes (use fewer weight bits" in lines["blocks.0.fc2_lif"]
    # The message names the three that are farthest beyond their limits.
    worst = sorted(caught.value.reasons, key=lambda reason: reason.needed / reason.limit)[-3:]
    assert f"{len(reasons)} reasons" in str(caught.value) and all(str(r) in str(caught.value) for r in worst)
    assert sum(str(reason) in str(caught.value) for reason in caught.value.reasons) == 3
    # A neuron of the attention takes its head's q of one token, all k of that head and v of one feature.
    assert reasons["blocks.1.attn_lif", "fan-in"].needed == 16 + 49 * 16 + 49
    assert reasons["blocks.1.attn_lif", "input axons"].needed == 16 + 49 * 16 + 49
    assert reasons["stem.rpe_lif", "fan-in"].needed == 7 * 7 * 64
    assert ("stem.lif0", "synaptic memory") not in reasons
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reasons) == (str(caught.value), caught.value.reasons)


def test_too_many_chips_are_a_reason(spikformer: Graph) -> None:
    with pytest.raises(DoesNotFit, match=r"the network: chips 3 of 2 \(use a smaller network"):
        place(spikformer, chip(LOIHI2, cores_per_chip=8, chips=2))


def test_limits_that_nobody_published_are_not_checked_and_told(spikformer: Graph) -> None:
    use = utilisation(spikformer, place(spikformer, LOIHI2), LOIHI2)
    assert {"input_axons_per_core", "output_axons_per_core", "fan_in"} == set(use.unchecked)
    assert set(use.limits) == {"neurons", "synaptic memory"}
    assert use.used["input axons"].max() > 4096


def test_cores_without_shared_weights_are_those_that_their_memory_fills(spikformer: Graph) -> None:
    use = utilisation(spikformer, place(spikformer, LOIHI2), LOIHI2)
    bits = sum(
        each.memory(np.arange(each.positions), (0, each.features), sharing=False)
        for each in demands_of(spikformer)
    )
    assert use.cores_unshared == -(-bits // (8 * use.limits["synaptic memory"]))
    assert use.cores_unshared > len(use.cores)
    no = dataclasses.replace(LOIHI2.capabilities["weight_sharing"], value="no")
    other = dataclasses.replace(LOIHI2, capabilities={**LOIHI2.capabilities, "weight_sharing": no})
    apart = place(spikformer, other)
    assert use.cores_unshared <= len(apart.cores)
    assert utilisation(spikformer, apart, other).cores_unshared is None


def test_utilisation_is_counted_from_the_mapping(spikformer: Graph) -> None:
    mapping = place(spikformer, LOIHI2, groups=4)
    use = utilisation(spikformer, mapping, LOIHI2)
    core = mapping.of_layer("blocks.1.q_lif")[1].core
    assert use.used["neurons"][core] == 12 * 512
    weights = 12 * 64 * 64  # q, k, v, proj and twice two of fc1 and fc2
    exponents = (4 + 2 + 1) * 64  # fc1 has 128 features
    attention = 64 * 16 * 6  # K^T V: 16 integers up to 49 for each feature
    total = (5 - 1) * 64 * 64 + 2 * 2 * 64 * 64
    assert total == 8 * 64 * 64
    assert weights == 12 * 64 * 64
    bits = 8 * total + 4 * exponents + attention
    assert use.used["synaptic memory"][core] == -(-bits // 8)
    assert use.used["input axons"].tolist() == routes(spikformer, mapping).input_axons.tolist()


def test_without_weight_sharing_each_position_has_its_own_real_taps() -> None:
    graph = build(Recipe(norm=False, height=4, width=5, stride=1, kernel=3, pool=False))
    conv = next(node for node in graph.nodes if isinstance(node, Conv2d))
    owner = next(o for o in demands_of(graph) if o.positions == 20)
    everywhere = np.arange(20)
    taps = sum(
        3 * 3 - (3 if y in (0, 3) else 0) - (3 if x in (0, 4) else 0) + (y in (0, 3) and x in (0, 4))
        for y in range(4)
        for x in range(5)
    )
    copies = owner.memory(everywhere, (0, 1), sharing=False)
    shared = owner.memory(everywhere, (0, 1), sharing=True)
    assert copies == conv.in_channels * taps * 8 + 4
    assert shared == conv.in_channels * 9 * 8 + 4


def test_options_that_cannot_be_are_refused(spikformer: Graph) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"strategy": "row-major"}, "there is no placement 'row-major'"),
        ({"strategy": "halting-aware"}, "halting-aware learns from visits"),
        ({"groups": 50}, "50 groups of 49 tokens"),
        ({"bits": 10}, "weights have 10 bits, loihi2 holds at most 9"),
        ({"seen": seen_of(build(Recipe()))}, "visits are of"),
    ]
    for options, what in cases:
        with pytest.raises(InputError, match=what):
            place(spikformer, LOIHI2, **options)
    with pytest.raises(InputError, match="cmos45 has no cores"):
        place(spikformer, load_profile("cmos45"))


@pytest.mark.parametrize("form", ["net", "net.zip"])
def test_a_bundle_keeps_the_mapping_and_finds_damage(form: str, tmp_path: Path) -> None:
    graph = FoldBatchNorm()(build(Recipe()))
    quantised = Quantise(bits=8)(graph)
    mapping = place(quantised, LOIHI2, groups=2)
    origin = Provenance(source="model/")
    save_bundle(graph, tmp_path / form, origin, quantised=quantised, mapping=mapping)
    bundle = load_bundle(tmp_path / form)
    assert bundle.mapping == mapping
    assert "mapping.json" in bundle.sha256
    save_bundle(graph, tmp_path / "plain", origin)
    assert load_bundle(tmp_path / "plain").mapping is None
    if form == "net":
        (tmp_path / form / "mapping.json").unlink()
        with pytest.raises(InputError, match=r"has no mapping\.json"):
            load_bundle(tmp_path / form)
        (tmp_path / form / "mapping.json").write_text("{}")
        with pytest.raises(InputError, match=r"mapping\.json does not match its SHA-256"):
            load_bundle(tmp_path / form)


def test_a_mapping_of_another_network_is_refused(tmp_path: Path) -> None:
    graph, other = (build(Recipe(norm=False, height=height)) for height in (4, 6))
    save_bundle(graph, tmp_path / "net", Provenance(source="x"), mapping=place(other, LOIHI2, groups=1))
    with pytest.raises(InputError, match=r"mapping\.json: the mapping holds"):
        load_bundle(tmp_path / "net")


def packed(graph: Graph, profile: Profile, **options: Any) -> tuple[int, int]:
    """Cores of a placement, and the neurons of the fullest."""
    mapping = place(graph, profile, **options)
    check_mapping(graph, mapping)
    use = utilisation(graph, mapping, profile)
    assert not use.exceeded()
    return len(mapping.cores), int(use.used["neurons"].max())


def test_a_network_is_spread_over_a_number_of_cores() -> None:
    graph = FoldBatchNorm()(build(Recipe(blocks=2, height=6, width=6)))
    fewest, fullest = packed(graph, LOIHI2)
    for cores in (fewest, fewest + 2, fewest + 6):
        used, neurons = packed(graph, LOIHI2, cores=cores)
        assert fewest <= used <= cores and neurons <= fullest
        # With a neuron less on a core it would need more of them, or not fit.
        tight = chip(LOIHI2, neurons_per_core=neurons - 1)
        assert packed(graph, tight)[0] > cores
    with pytest.raises(
        InputError, match=f"needs {fewest} cores of loihi2, cores is {fewest - 1}; give at least"
    ):
        place(graph, LOIHI2, cores=fewest - 1)
    with pytest.raises(InputError, match=f"8 groups of each block need more than {fewest} cores of loihi2"):
        place(graph, LOIHI2, cores=fewest, groups=8)


def test_contexts_take_the_place_of_neurons() -> None:
    graph = FoldBatchNorm()(build(Recipe()))
    small = chip(LOIHI2, neurons_per_core=60)
    one, two = (
        place(graph, small, deployment=Deployment(mode="stream", contexts=contexts)) for contexts in (1, 2)
    )
    assert max(utilisation(graph, two, small).used["neurons"]) <= 30
    assert len(two.cores) > len(one.cores)
    record = run_reference(graph, images_for(graph, 1), mapping=two).activity
    estimate(record, small, Deployment(mode="stream", contexts=2, schedule="raster"))
    with pytest.raises(InputError, match=r"61 contexts .* a core has 60 neurons"):
        place(graph, small, deployment=Deployment(mode="stream", contexts=61))


@pytest.mark.parametrize(("minimise", "mode"), [("energy", "single"), ("latency", "stream")])
def test_the_number_of_cores_is_that_of_the_cheapest_price(minimise: Any, mode: Any) -> None:
    """Against the price of a run on each number of cores."""
    graph = FoldBatchNorm()(build(Recipe(blocks=2, height=6, width=6, heads=2, head_dim=2)))
    images = images_for(graph, 3)
    seen = run_reference(graph, images).activity
    options = Deployment(mode=mode)
    chosen = place(graph, SMALL, seen=seen, minimise=minimise, deployment=options)

    def cost(mapping: Mapping) -> float:
        found = estimate(run_reference(graph, images, mapping=mapping).activity, SMALL, options)
        total = found.energy_j if minimise == "energy" else found.latency_s
        assert total is not None
        return total.value

    fewest = place(graph, SMALL, seen=seen)
    assert len(chosen.cores) > len(fewest.cores)
    best = cost(chosen)
    assert best < 0.8 * cost(fewest)
    others = [
        cost(place(graph, SMALL, seen=seen, cores=cores))
        for cores in (2, 4, 8, 16)
        if cores >= len(fewest.cores)
    ]
    assert best <= 1.1 * min(others)
    # At most this number.
    limited = place(
        graph, SMALL, seen=seen, minimise=minimise, deployment=options, cores=len(chosen.cores) - 1
    )
    assert len(limited.cores) < len(chosen.cores)
    # Without a run all neurons are taken to fire.
    assert len(place(graph, SMALL, minimise=minimise, deployment=options).cores) > len(fewest.cores)


def test_equal_prices_take_the_fewer_cores_and_unknown_ones_are_refused() -> None:
    graph = FoldBatchNorm()(build(Recipe()))
    flat = {
        name: dataclasses.replace(entry, value=0.0, low=0.0)
        if name.startswith(("neuron", "state"))
        else entry
        for name, entry in SLOW.time.items()
    }
    barrier = dataclasses.replace(flat["barrier"], value=1.0, low=1.0, high=1.0, unit="s")
    chip = dataclasses.replace(SLOW, time={**flat, "barrier": barrier})
    # Every hardware step takes as long as the barrier.
    assert place(graph, chip, minimise="latency") == place(graph, chip)
    rest = {name: entry for name, entry in SLOW.power.items() if name != "static"}
    unknown = dataclasses.replace(
        SLOW, power=rest, unavailable={**SLOW.unavailable, "power.static": "nobody measured it"}
    )
    with pytest.raises(InputError, match=r"energy cannot be minimised on loihi2: .*nobody measured it"):
        place(graph, unknown, minimise="energy")
    record = run_reference(graph, images_for(graph, 1), mapping=place(graph, SLOW)).activity
    with pytest.raises(InputError, match="learns from a run without cores"):
        place(graph, SLOW, seen=record, minimise="energy")
