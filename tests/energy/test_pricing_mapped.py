"""Runs on cores: what is priced of them, and which cores gating lets stand still."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.energy_runs import check_conservation, without
from support.mapped_runs import BARRIER_S, CHIP, CORES, HALTED, run_on_cores
from support.random_models import random_config, random_model

from stas_neuro import api, compiler
from stas_neuro.activity import Activity
from stas_neuro.assets import IMAGES, asset
from stas_neuro.chips import CannotRun, MissingEntry, load_profile
from stas_neuro.data import load_data
from stas_neuro.energy import Deployment, Estimate, Gating, compare, compare_schedules, estimate
from stas_neuro.energy.gating import stepping, turns
from stas_neuro.energy.timing import hardware_steps
from stas_neuro.errors import InputError
from stas_neuro.placement import place


def counts(cost: Estimate) -> dict[str, float]:
    return {event.event: event.count for event in cost.events}


def test_copies_hops_resets_and_what_passes_the_host_are_priced() -> None:
    cost = estimate(HALTED, CHIP)
    told = counts(cost)
    assert "spikes_out" not in told  # each of its copies is
    assert (told["axon_messages"], told["hops_x"], told["hops_y"]) == (12, 12, 6)
    assert (told["chip_crossings"], told["input_messages"], told["output_messages"]) == (2, 5, 3)
    assert told["state_resets"] == 4 + 4 + 2 + 3
    entries = {event.event: event.entry for event in cost.events}
    assert entries["input_messages"] == entries["output_messages"] == "energy.io_message"
    # Five hardware steps, in which all 13 neurons are stepped.
    updates = sum(told[f"updates_{kind}"] for kind in ("active", "inactive", "idle"))
    assert updates + told["halt_accumulations"] == 13 * 5
    assert (cost.cores, cost.chips, cost.hardware_steps) == (4, 2, 5)
    assert (cost.core_steps, cost.core_steps_gated, cost.neuron_updates_gated) == (20, 0, 0)
    check_conservation(cost)


def test_gate_messages_have_hops() -> None:
    told = counts(estimate(HALTED, CHIP))
    # One for each visited token to its core: a hop north from 0,1 to 0,0, and east and south to 1,2.
    assert (told["gate_messages"], told["gate_synops"]) == (3, 12)
    assert (told["gate_hops_x"], told["gate_hops_y"]) == (1, 2 * 1 + 1)
    # With cores gated the second closes once and opens again for the next image.
    told = counts(estimate(HALTED, CHIP, Deployment(gating="core")))
    assert told["core_gates"] == 2
    assert (told["gate_hops_x"], told["gate_hops_y"]) == (1 + 2, 3 + 2)
    assert "core_gates" not in counts(estimate(HALTED, CHIP))


def test_tiles_are_not_checked_on_a_chip_without_a_mesh() -> None:
    chip = load_profile("spinnaker2")
    assert chip.reason("limits.tiles_x") is not None and chip.limit("cores_per_tile") == 4
    graph = compiler.fold(random_model(random_config({"stem": "sps"}, 4), 4))
    mapping = place(graph, chip)
    assert len(mapping.cores) > 4 and {(site.x, site.y) for site in mapping.cores} == {(0, 0)}
    images = np.full((1, *graph.image_shape), 200, np.uint8)
    cost = estimate(api.run(graph, images, mapping=mapping).activity, chip)
    assert cost.cores == len(mapping.cores) and cost.latency_s is not None


def test_a_core_is_stepped_where_a_token_at_work_on_it_lives() -> None:
    cost = estimate(HALTED, CHIP, Deployment(gating="core"))
    by_core = [core.core_steps for core in cost.cores_breakdown if core.core is not None]
    assert by_core == [2, 1, 2, 1]  # both steps; the first; the halting unit in both; the head
    assert (cost.core_steps, cost.core_steps_gated) == (6, 14)
    told = counts(cost)
    stepped = sum(told.get(f"updates_{kind}", 0) for kind in ("active", "inactive", "idle"))
    stepped += told["halt_accumulations"]
    assert stepped == 4 * 3 + 2 * 2 + 3
    assert cost.neuron_updates_gated == 13 * 5 - stepped
    check_conservation(cost)
    # A live token on the same core keeps the others' neurons stepped, as idle ones.
    pieces = [replace(row, core=0) if row.core == 1 else row for row in HALTED.layers]
    shared = counts(estimate(replace(HALTED, layers=tuple(pieces)), CHIP, Deployment(gating="core")))
    assert shared["updates_inactive"] == counts(estimate(HALTED, CHIP))["updates_inactive"]
    assert "core_gates" not in shared


def test_what_reaches_a_core_that_stands_still_is_not_computed() -> None:
    extra = HALTED.counts["synops"].copy()
    extra[0, HALTED.layer_index("fc@1"), HALTED.step_index("step2")] = 7  # keys and values of the other token
    record = replace(HALTED, counts={**HALTED.counts, "synops": extra})
    silent, core = (
        counts(estimate(record, CHIP, Deployment(gating=gating)))["synops"] for gating in ("silent", "core")
    )
    assert silent - core == 7


def test_power_that_cores_do_not_take_while_they_are_gated() -> None:
    core, power = (estimate(HALTED, CHIP, Deployment(gating=gating)) for gating in ("core", "power"))
    assert power.dynamic_energy_j == core.dynamic_energy_j and power.latency_s == core.latency_s
    assert core.static_energy_j and power.static_energy_j and core.latency_s
    # Each hardware step takes as long as the barrier, and 14 of 20 core steps are gated.
    spared = core.static_energy_j.value - power.static_energy_j.value
    left = CHIP.corners("power.static")[1] - CHIP.corners("power.static_gated")[1]
    assert spared == pytest.approx(14 * BARRIER_S * left / CHIP.limit("cores_per_chip"))
    assert spared > 0


def test_a_core_that_is_stepped_again_takes_time_to_wake() -> None:
    slow = replace(CHIP.time["wake"], value=50.0, low=50.0, high=50.0, unit="us")
    chip = replace(CHIP, time={**CHIP.time, "wake": slow})
    none = replace(CHIP, time={**CHIP.time, "wake": replace(slow, value=0.0, low=0.0, high=0.0)})
    woken, awake = (
        estimate(HALTED, profile, Deployment(gating="core")).latency_s for profile in (chip, none)
    )
    assert woken is not None and awake is not None
    # In each of the five hardware steps a core steps that was not stepped in the one before.
    assert woken.high - awake.high == pytest.approx(5 * 50e-6)
    assert estimate(HALTED, chip).latency_s == estimate(HALTED, none).latency_s


@pytest.mark.parametrize(("wake", "spacing"), [(0.0, 4 + 3), (3.0, 4 + 3 + 2 * 3)])
def test_a_pipeline_of_images_does_not_step_gated_cores_either(wake: float, spacing: float) -> None:
    """An image every two hardware steps, a second a neuron: gated, tokens' cores are stepped in the first."""
    halted = run_on_cores([[[1, 1], [0, 0]]], [[[3, 2], [0, 0]]])
    record = replace(halted, layers=tuple(replace(row, feedback=False) for row in halted.layers))
    time = {
        name: replace(entry, value=each, low=each, high=each, unit="s")
        for name, entry in CHIP.time.items()
        for each in [{"wake": wake}.get(name, float(name.startswith("neuron_update")))]
    }
    chip = replace(CHIP, time=time, step_law="sum")
    for gating, expected in (("silent", 4 + 4), ("core", spacing)):
        cost = estimate(record, chip, Deployment(gating=gating))  # type: ignore[arg-type]
        assert cost.schedule == "pipelined" and cost.throughput_images_per_s is not None
        assert 1 / cost.throughput_images_per_s.value == pytest.approx(expected)


@pytest.mark.parametrize("entry", ["hop_x", "hop_y", "chip_crossing", "io_message", "state_reset"])
def test_what_is_priced_only_on_cores_needs_its_entry(entry: str) -> None:
    with pytest.raises(MissingEntry, match=f"energy.{entry} "):
        estimate(HALTED, without(CHIP, f"energy.{entry}"))
    unavailable = {**CHIP.unavailable, f"energy.{entry}": "nobody knows"}
    cost = estimate(HALTED, replace(without(CHIP, f"energy.{entry}"), unavailable=unavailable))
    left_out = [event for event, why in cost.unavailable.items() if why == "nobody knows"]
    assert left_out and not set(left_out) & set(counts(cost))


def test_a_stretch_of_steps_is_no_inference_and_resets_nothing() -> None:
    rows = tuple(replace(row, phase="step") for row in HALTED.layers)
    told = counts(estimate(replace(HALTED, layers=rows), CHIP))
    assert "state_resets" not in told and "output_messages" not in told


def test_none_is_exact_for_a_run_that_held_no_token_back() -> None:
    live = run_on_cores([[[1, 1], [1, 1]]], [[[3, 2], [1, 0]]])
    exact, silent = estimate(live, CHIP, Deployment(gating="none")), estimate(live, CHIP)
    assert not any("estimate of" in line for line in exact.assumptions)
    assert any(
        "estimate of" in line for line in estimate(HALTED, CHIP, Deployment(gating="none")).assumptions
    )
    told = counts(silent)
    gates = {name: told.pop(name) for name in list(told) if name.startswith("gate_")}
    assert counts(exact) == told and gates


@pytest.mark.parametrize("gating", ["silent", "core", "power"])
def test_a_run_that_computed_halted_tokens_is_priced_as_such_only(gating: Gating) -> None:
    live = run_on_cores([[[1, 1], [1, 1]]], [[[3, 2], [1, 0]]])
    computed = replace(live, visits=HALTED.visits)
    cost = estimate(computed, CHIP)
    assert cost == estimate(computed, CHIP, Deployment(gating="none")) and cost.gating == "none"
    assert estimate(HALTED, CHIP).gating == estimate(live, CHIP).gating == "silent"
    with pytest.raises(InputError, match=f"gating is {gating}, .*run --gating none"):
        estimate(computed, CHIP, Deployment(gating=gating))
    # As a baseline it tells what holding halted tokens back saves.
    (row,) = compare(HALTED, {"computed": computed}, [CHIP], Deployment(gating=gating)).rows
    assert row.halting is not None and row.halting.gating == gating
    assert row.without is not None and row.without.energy_j == cost.energy_j
    labels = {"halted": HALTED, "computed": computed}
    assert {row.run for row in compare_schedules(labels, [CHIP], Deployment(gating=gating))} == set(labels)


def test_tokens_pay_for_their_visits() -> None:
    cost = estimate(HALTED, CHIP)
    assert [token.visits for token in cost.tokens] == [2, 1]
    first, second = (token.dynamic_energy_j.value for token in cost.tokens)
    labels = {layer.name: layer.dynamic_energy_j.value for layer in cost.layers}
    alone = replace(HALTED, visits=np.ones_like(HALTED.visits))
    even = estimate(alone, CHIP).tokens
    assert first > second and even[0].dynamic_energy_j == even[1].dynamic_energy_j
    assert first + second == pytest.approx(sum(labels.values()))


@st.composite
def runs(draw: st.DrawFn) -> Activity:
    images, steps = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    visits = np.logical_and.accumulate(rng.random((images, steps, 2)) < 0.7, axis=1)
    return run_on_cores(visits, rng.integers(0, 5, visits.shape))


@settings(max_examples=25, deadline=None)
@given(record=runs(), gating=st.sampled_from(["silent", "none", "core", "power"]))
def test_counts_and_energies_are_conserved(record: Activity, gating: Gating) -> None:
    cost = estimate(record, CHIP, Deployment(gating=gating))
    check_conservation(cost)
    told = counts(cost)
    stepped = sum(told.get(f"updates_{kind}", 0) for kind in ("active", "inactive", "idle"))
    stepped += told.get("halt_accumulations", 0)
    assert cost.neuron_updates_gated is not None and cost.hardware_steps is not None
    assert stepped + cost.neuron_updates_gated == pytest.approx(13 * cost.hardware_steps)
    if gating in ("core", "power"):
        # By hand: each token's core in its visits, the halting unit where anybody visits, the head.
        assert record.visits is not None
        visits = record.visits[:, :, 0]
        expected = visits.sum() + visits.any(axis=2).sum() + record.images
        assert cost.core_steps == pytest.approx(expected / record.images)
        # A core whose token halts closes once and opens again; so does the halting unit once all have.
        closed = (~visits[:, -1]).sum() + (~visits.any(axis=2)[:, -1]).sum()
        assert told.get("core_gates", 0) == pytest.approx(2 * closed / record.images)


def test_images_are_priced_one_by_one() -> None:
    other = run_on_cores([[[1, 1], [1, 1]]], [[[4, 4], [2, 1]]])
    both = estimate(HALTED + other, CHIP, Deployment(gating="power"))
    singles = [estimate(record, CHIP, Deployment(gating="power")) for record in (HALTED, other)]
    for name in ("energy_j", "dynamic_energy_j", "latency_s", "static_energy_j"):
        mean = np.mean([getattr(cost, name).value for cost in singles])
        assert getattr(both, name).value == pytest.approx(mean)
    assert both.core_steps == pytest.approx(np.mean([cost.core_steps or 0 for cost in singles]))


@pytest.mark.slow
def test_what_is_derived_is_what_a_run_with_gated_cores_executes() -> None:
    """The neurons that the reference left out are those of cores that are taken to stand still."""
    graph = compiler.fold(asset("models/fashion-spikformer"))
    data = load_data(str(asset(IMAGES))).select(slice(0, 3))
    cores = place(graph, load_profile("loihi2"), strategy="token-major")
    gated, plain = (api.run(graph, data, mapping=cores, gating=mode).activity for mode in ("core", "silent"))
    ticks = hardware_steps(plain, "raster")
    derived = stepping(plain, ticks)
    held, turn = plain.counts["updates_gated"], turns(plain, ticks)
    on = np.array([row.core or 0 for row in plain.layers])[:, None]
    still = ~derived.stepped[:, on, turn] & (turn >= 0)
    assert (gated.counts["updates_skipped"] == held * still).all()
    assert 0 < gated.total("updates_skipped") < held.sum()
    modes: tuple[Literal["core", "power"], ...] = ("core", "power")
    for mode in modes:  # of one record all modes are priced, whichever it was run with
        deployment = Deployment(gating=mode)
        assert estimate(gated, CHIP, deployment).energy_j == estimate(plain, CHIP, deployment).energy_j


def test_power_is_gated_on_cores_only() -> None:
    rows = tuple(replace(row, core=None) for row in HALTED.layers)
    with pytest.raises(InputError, match="gating power requires a run on cores"):
        estimate(replace(HALTED, layers=rows, cores=()), CHIP, Deployment(gating="power"))


def limited(**values: float) -> Any:
    entries = {name: replace(CHIP.limits[name], value=v, low=v, high=v) for name, v in values.items()}
    return replace(CHIP, limits={**CHIP.limits, **entries})


@pytest.mark.parametrize(
    ("limits", "weight_bits", "what"),
    [
        ({"neurons_per_core": 3}, 8, "core 0 has 4 neurons, the limit is 3"),
        ({"synaptic_memory_per_core": 16 / 1024}, 9, "core 0 has 18 bytes of weights at 9 bits"),
        ({"cores_per_chip": 2}, 8, "core 0: chip 0 has 3 cores, the limit is 2"),
        ({"tiles_y": 2}, 8, "core 1: it is on tile 1,2 of chip 0, in row 3 of tiles, the limit is 2"),
        ({"tiles_x": 1}, 8, "core 1: it is on tile 1,2 of chip 0, in column 2 of tiles, the limit is 1"),
        ({"chips": 1}, 8, "core 0: the cores are on 2 chips, the limit is 1"),
    ],
)
def test_cores_that_the_chip_does_not_have_are_refused(
    limits: dict[str, float], weight_bits: int, what: str
) -> None:
    fits = {name: value * 2 for name, value in limits.items()}
    assert estimate(HALTED, limited(**fits), Deployment(weight_bits=weight_bits)).cores == 4
    with pytest.raises(CannotRun) as refused:
        estimate(HALTED, limited(**limits), Deployment(weight_bits=weight_bits))
    assert what in str(refused.value)
    assert "compile with --placement and --profile loihi2-gated-whatif" in str(refused.value)
    assert "run with --no-mapping" in str(refused.value)
    assert estimate(HALTED, "cmos45").cores is None  # has no cores to be checked


def test_a_tile_holds_so_many_cores() -> None:
    crowded = replace(HALTED, cores=(CORES[0], CORES[0], *CORES[2:]))
    assert estimate(crowded, limited(cores_per_tile=2)).cores == 4
    with pytest.raises(CannotRun, match="tile 0,0 of chip 0 has 2 cores, the limit is 1"):
        estimate(crowded, limited(cores_per_tile=1))
