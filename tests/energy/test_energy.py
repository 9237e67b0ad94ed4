from __future__ import annotations

import re
from dataclasses import fields, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ir_random
from support.energy_runs import LAYERS, check_conservation, run, without
from support.paths import ROOT

from stas_neuro.activity import KINDS, Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.chips import CannotRun, MissingEntry, Profile, list_profiles, load_profile
from stas_neuro.choices import MODES, STEMS
from stas_neuro.energy import (
    GATINGS,
    PRICES,
    SCHEDULES,
    Comparison,
    CoreCost,
    Deployment,
    Estimate,
    EventCost,
    Gating,
    Interval,
    LayerCost,
    Saving,
    Schedule,
    ScheduleCost,
    Split,
    StepCost,
    TokenCost,
    Totals,
    estimate,
)
from stas_neuro.energy.packing import pack
from stas_neuro.errors import InputError
from stas_neuro.ir import LIF
from stas_neuro.reference import run_reference

DOCS = ROOT / "docs" / "energy.md"
UNLATE: tuple[Schedule, ...] = ("raster", "pipelined")
# What silent gating adds to the record, by hand. Four hardware steps (2 stages x 2 model steps) each step all
# 8 + 2 neurons: the LIF idles 8 of 16 times in either model step, the halting unit 2 of 4 and 3 of 4 times.
IDLE = 8 + 8 + 2 + 3
GATE_MESSAGES = 2 + 1
GATE_SYNOPS = GATE_MESSAGES * 4


def test_loihi1_by_hand() -> None:
    cost = estimate(run(), "loihi1")
    updates = 72.3 * 7 + 52 * (5 + 4 + IDLE)
    halting = 95.9 * 3 + 72.3 * 3 + 18.5 * GATE_MESSAGES + 23.6 * GATE_SYNOPS
    dynamic = 23.6 * (24 + 8) + updates + 18.5 * 4 + halting
    assert cost.dynamic_energy_j.value == pytest.approx(dynamic * 1e-12)
    assert cost.halting_energy_j.value == pytest.approx(halting * 1e-12)
    # Everything is on one core, which does all of a hardware step one after another, then the barrier, and
    # the processors that manage the chip.
    first = 3.5 * (24 + 8) + 8.4 * 5 + 5.3 * 3 + 11.6 * (3 + 2) + 5.3 * 2
    second = (11.9 + 8.4) * 2 + 5.3 * 8
    third = 3.5 * (8 + 4) + 8.4 * 2 + 5.3 * (2 + 4) + 11.6 * (1 + 1) + 5.3 * 2
    fourth = (11.9 + 8.4) * 1 + 5.3 * (1 + 8)
    seconds = (first + second + third + fourth + 4 * (465 + 9700)) * 1e-9
    assert (cost.cores, cost.chips, cost.hardware_steps) == (1, 1, 4)
    assert cost.latency_s is not None and cost.latency_s.value == pytest.approx(seconds)
    assert cost.static_power_w == Interval(0.47e-3, pytest.approx(0.064e-3), pytest.approx(1.69e-3))
    assert cost.static_energy_j is not None and cost.static_energy_j.value == pytest.approx(0.47e-3 * seconds)
    total = dynamic * 1e-12 + (0.47e-3 + 22.1e-3) * seconds
    assert cost.energy_j is not None and cost.energy_j.value == pytest.approx(total)
    assert cost.op_count_energy_j.value == pytest.approx(0.9e-12 * 32)


def test_loihi2_by_hand() -> None:
    """Graded spikes, so 16 operations in the first step; synapses, neurons, messages and barrier overlap."""
    cost = estimate(run(), "loihi2")
    dynamic = 23.6 * (16 + 8 + GATE_SYNOPS) + 72.3 * (7 + 3) + 52 * (5 + 4 + IDLE)
    dynamic += 18.5 * (4 + 3) + 95.9 * 3
    assert cost.dynamic_energy_j.value == pytest.approx(dynamic * 1e-12)
    assert cost.latency_s is not None
    assert cost.latency_s.value == pytest.approx(4 * 1.78e-6)  # ten neurons of 4 ns are far below the barrier
    # low: the slower of ten or fewer neurons and a barrier of 200 ns. high: one after another.
    assert cost.latency_s.low == pytest.approx(4 * 200e-9)
    first = 1.18 * (16 + 8) + 6.1 * (5 + 3 + 2) + 6.39 * (3 + 2)
    second = (7.28 + 6.1) * 2 + 6.1 * 8
    third = 1.18 * (8 + 4) + 6.1 * (2 + 6 + 2) + 6.39 * (1 + 1)
    fourth = (7.28 + 6.1) * 1 + 6.1 * (1 + 8)
    assert cost.latency_s.high == pytest.approx((first + second + third + fourth + 4 * 2200) * 1e-9)
    assert cost.static_power_w == Interval(0.285, 0.23, 0.46)
    assert cost.management_energy_j is None
    assert "not published apart" in cost.unavailable["management_energy_j"]
    assert cost.energy_j is not None and cost.static_energy_j is not None
    assert cost.energy_j.value == pytest.approx(cost.dynamic_energy_j.value + 0.285 * 4 * 1.78e-6)


def test_the_operation_count_refuses_time_and_static_power() -> None:
    cost = estimate(run(), "cmos45")
    assert cost.dynamic_energy_j.value == pytest.approx(0.9e-12 * (24 + 8))
    for name in ("energy_j", "latency_s", "static_energy_j", "static_power_w", "management_energy_j"):
        assert getattr(cost, name) is None
        assert "an operation count has no" in cost.unavailable[name]
    assert (cost.cores, cost.chips, cost.hardware_steps) == (None, None, None)
    assert cost.unavailable["updates_active"] == "an operation count leaves neuron updates out"
    assert [event.event for event in cost.events] == ["synops"]


@pytest.mark.parametrize("profile", list_profiles())
def test_what_is_free_is_told(profile: str) -> None:
    told = " ".join(estimate(run(), profile).assumptions)
    for free in ("hops", "residuals", "pooling", "integration over time", "K^T V", "second product"):
        assert free in told, free
    assert "a product of two spikes (attention, gates of channels) is priced as one" in told


def test_pilotnet_on_loihi2_agrees_with_silicon() -> None:
    """lava-dl's measured PilotNet LIF: 66.9 to 68.4 uJ a step; 62.3 to 65.5 predicted, nothing was tuned."""
    neurons, synops = 158_509, 2_290_000
    layer = Layer(name="net", kind="LIF", scope="net", neurons=neurons, out_features=1, stage=0)
    costs = []
    for kind in ("updates_inactive", "updates_active"):
        builder = ActivityBuilder([layer], ("step1",), images=1)
        builder.add("synops", "net", "step1", synops)
        builder.add(kind, "net", "step1", neurons)
        costs.append(estimate(builder.build(), "loihi2").dynamic_energy_j)
    assert costs[0].value == pytest.approx(62.3e-6, rel=1e-3)
    assert costs[1].value == pytest.approx(65.5e-6, rel=1e-3)
    assert costs[0].low < 66.9e-6 < 68.4e-6 < costs[1].high


def beside_the_cores(*, halting: bool = True) -> Activity:
    """The run above, with an input that a processor computes and a readout that divides."""
    record = run(halting=halting)
    layers = (
        Layer(name="conv", kind="Conv2d", scope="stem", neurons=8, placed_with="lif", phase="once", stage=0),
        *record.layers,
        Layer(name="readout", kind="Readout", scope="head", neurons=0, phase="end", stage=0),
    )
    builder = ActivityBuilder(layers, record.steps, images=1)
    for kind, counts in record.counts.items():
        for row, step in zip(*np.nonzero(counts[0]), strict=True):
            builder.add(kind, record.layers[row].name, int(step), int(counts[0, row, step]))
    builder.add("cpu_operations", "conv", "once", 50)
    builder.add("cpu_operations", "readout", "step2", 8)
    return builder.build(record.visits)


@pytest.mark.parametrize("profile", ["cmos45", "loihi1", "loihi2"])
def test_the_processor_beside_the_cores_adds_its_energy_and_its_time(profile: str) -> None:
    plain, cost = (
        estimate(replace(record, counts=counts), profile)
        for record in [beside_the_cores()]
        for counts in (dict(record.counts) | {"cpu_operations": 0 * record.counts["synops"]}, record.counts)
    )
    loaded = load_profile(profile)
    each = loaded.corners("energy.cpu_operation")[1]
    assert cost.dynamic_energy_j.value == pytest.approx(plain.dynamic_energy_j.value + 58 * each)
    assert cost.halting_energy_j.value == pytest.approx(plain.halting_energy_j.value + 8 * each)
    events = {event.event: event for event in cost.events}
    assert (events["cpu_operations"].count, events["readout_divisions"].count) == (50, 8)
    assert (events["cpu_operations"].halting, events["readout_divisions"].halting) == (False, True)
    if profile == "cmos45":
        return
    assert cost.latency_s is not None and plain.latency_s is not None
    assert plain.busiest_core_time_share is not None and cost.busiest_core_time_share is not None
    for corner, took in zip(("low", "value", "high"), loaded.corners("time.cpu_operation"), strict=True):
        added = getattr(cost.latency_s, corner) - getattr(plain.latency_s, corner)
        assert added == pytest.approx(58 * took)
    # The busiest core decides as much time as before, of more.
    assert cost.busiest_core_time_share == pytest.approx(
        plain.busiest_core_time_share * plain.latency_s.value / cost.latency_s.value
    )
    check_conservation(cost)


def test_divisions_of_a_readout_are_no_cost_of_halting_where_nothing_halts() -> None:
    cost = estimate(beside_the_cores(halting=False), "loihi1")
    assert {event.event: event.count for event in cost.events}["cpu_operations"] == 58
    assert cost.halting_energy_j.value == 0
    with pytest.raises(MissingEntry, match=r"energy\.cpu_operation"):
        estimate(beside_the_cores(), without(load_profile("loihi1"), "energy.cpu_operation"))


def test_gating_modes() -> None:
    modes = ("silent", "none", "core")
    silent, none, core = (
        estimate(run(), "loihi2-gated-whatif", Deployment(gating=gating)) for gating in modes
    )  # type: ignore[arg-type]
    counts = {
        cost.gating: {event.event: event.count for event in cost.events} for cost in (silent, none, core)
    }
    assert counts["silent"]["updates_inactive"] == 5 + 4
    assert counts["silent"]["updates_idle"] == IDLE
    # Gated neurons active, with the 2 synops an update of either step; nobody needs a gate.
    assert counts["none"]["updates_active"] == 7 + 4
    assert counts["none"]["synops"] == 24 + 2 * 4
    assert "gate_messages" not in counts["none"]
    assert counts["core"]["updates_inactive"] == 5
    assert "updates_idle" not in counts["core"]
    assert core.dynamic_energy_j.value < silent.dynamic_energy_j.value
    assert core.latency_s is not None and silent.latency_s is not None
    assert core.latency_s.high < silent.latency_s.high  # idle neurons; else all is below the barrier
    assert any("what-if" in line for line in core.assumptions)
    assert any(line.startswith("estimate of gating none") for line in none.assumptions)
    exact = estimate(run(halting=False), "loihi1", Deployment(gating="none"))
    assert not any("estimate of" in line for line in exact.assumptions)


@pytest.mark.parametrize(
    ("profile", "gating", "remedy"),
    [
        ("loihi2", "core", "silent, or the profile loihi2-gated-whatif"),
        ("loihi1", "power", "silent"),
        ("spinnaker1", "power", "core"),
        ("cpu", "power", "core"),
    ],
)
def test_what_a_chip_cannot_gate_is_refused(profile: str, gating: Any, remedy: str) -> None:
    message = f"cores of profile {profile} do not support gating {gating}; use gating {remedy}$"
    with pytest.raises(CannotRun, match=message):
        estimate(run(), profile, Deployment(gating=gating))
    with pytest.raises(InputError, match="gating power requires a run on cores"):
        estimate(run(), "loihi2-gated-whatif", Deployment(gating="power"))


def test_packing_by_hand() -> None:
    loihi = load_profile("loihi1")  # 1024 neurons and 128 KiB of weights a core
    wide = [
        Layer(name="fc", kind="Linear", scope="", neurons=64 * 512, weights=512 * 512, placed_with="a"),
        Layer(name="a", kind="LIF", scope="", neurons=64 * 512, out_features=512),
        Layer(name="b", kind="LIF", scope="", neurons=100, out_features=100),
        Layer(name="c", kind="LIF", scope="", neurons=924, out_features=924),
        Layer(name="none", kind="Gate", scope="", neurons=0),
    ]
    # fc: 256 KiB at 8 bits: two parts of 256 features, four tokens a core, 2 x 16 cores; b and c share one.
    placement = pack(wide, loihi)
    assert placement.neuron_layers == ("a", "b", "c", "none")
    assert [placement.cores_of(owner) for owner in range(4)] == [32, 1, 1, 0]
    assert placement.cores == 33
    assert placement.share[:3].sum(axis=1).tolist() == [1, 1, 1]
    assert placement.chips == 1
    assert pack(wide, loihi, weight_bits=4).cores_of(0) == 32  # 2 tokens of 512 neurons a core
    with pytest.raises(InputError, match="at most 9"):
        pack(wide, loihi, weight_bits=10)
    huge = [Layer(name="x", kind="Linear", scope="", neurons=2, out_features=2, weights=10**6)]
    with pytest.raises(InputError, match="layer x: the weights of one of its 2 features"):
        pack(huge, loihi)
    with pytest.raises(InputError, match="no layer"):
        pack([replace(wide[4])], loihi)


def test_several_chips_need_a_barrier_across_chips() -> None:
    layer = Layer(name="net", kind="LIF", scope="", neurons=130 * 8192, out_features=1, stage=0)
    builder = ActivityBuilder([layer], ("step1",), images=1)
    builder.add("updates_inactive", "net", "step1", layer.neurons)
    cost = estimate(builder.build(), "loihi2")
    assert (cost.cores, cost.chips) == (130, 2)
    assert cost.latency_s is None and cost.energy_j is None
    assert cost.unavailable["latency_s"] == "no barrier across Loihi 2 chips is published"
    assert cost.static_power_w is not None and cost.static_power_w.value == 2 * 0.285
    cost = estimate(builder.build(), "loihi1")
    assert cost.chips == 9 and cost.latency_s is not None
    assert cost.latency_s.value == pytest.approx(2.6e-6 + 9.7e-6 + 1024 * 5.3e-9)


PROFILES = [load_profile(name) for name in ("cmos45", "loihi1", "loihi2", "loihi2-gated-whatif")]
PRICEABLE: list[tuple[Profile, Gating]] = [
    *((profile, gating) for profile in PROFILES for gating in ("silent", "none")),
    (load_profile("loihi2-gated-whatif"), "core"),
]  # type: ignore[assignment, unused-ignore]
# By the run above, which is on no cores and no whole inference.
UNUSED = {
    *("multiply_accumulate", "cpu_operation", "hop_x", "hop_y", "chip_crossing", "io_message"),
    *("state_reset", "gate_message", "neuron_update_microcode"),
}
NEEDED = [
    *(f"energy.{entry}" for entry in sorted({price.entry for price in PRICES} - UNUSED)),
    *(f"time.{entry}" for entry in sorted({price.entry for price in PRICES} - UNUSED)),
    "time.barrier",
    "power.static",
    "power.management",
    "limits.neurons_per_core",
    "limits.synaptic_memory_per_core",
    "limits.cores_per_chip",
    "limits.weight_bits",
]


@pytest.mark.parametrize("entry", NEEDED)
def test_a_missing_entry_is_an_error_not_a_default(entry: str) -> None:
    profile = without(load_profile("loihi1"), entry)
    with pytest.raises(MissingEntry, match=re.escape(f"profile loihi1 has no {entry} ")):
        estimate(run(), profile)


def test_an_entry_that_no_event_needs_may_be_missing() -> None:
    profile = without(load_profile("loihi1"), "energy.multiply_accumulate")
    assert estimate(run(), profile) == estimate(run(), "loihi1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "loihi9"}, "there is no profile 'loihi9'"),
        ({"activity": run().restrict(slice(0, 0))}, "no image"),
        ({"activity": replace(run(), visits=None)}, "no visits"),
        ({"activity": replace(run(), layers=(*LAYERS[:3], replace(LAYERS[3], stage=None)))}, "has no stage"),
        (
            {"activity": replace(run(), layers=(LAYERS[0], replace(LAYERS[1], neurons=3), *LAYERS[2:]))},
            "layer lif updates more than its 3 neurons in step1",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_priced_is_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"activity": run(), "profile": "loihi1"} | changes
    with pytest.raises(InputError, match=re.escape(message)):
        estimate(**arguments)


@st.composite
def records(draw: st.DrawFn) -> Activity:
    """Runs of the small network above whose neurons are each updated once a step."""
    images = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    visits = rng.random((images, 2, 1, 2)) < 0.7
    builder = ActivityBuilder(LAYERS, step_labels(2), images=images)
    for step in (1, 2):
        live = 4 * visits[:, step - 1, 0].sum(axis=1)
        active = rng.integers(0, live + 1)
        for kind, counts in (
            ("updates_active", active),
            ("updates_inactive", live - active),
            ("updates_gated", 8 - live),
            ("spikes_out", rng.integers(0, active + 1)),
        ):
            builder.add(kind, "lif", f"step{step}", counts)
        synops = rng.integers(0, 100, images)
        builder.add("synops", "fc", f"step{step}", synops)
        builder.add("synops_unary", "fc", f"step{step}", synops * 2)
        builder.add("score_lookups", "score", f"step{step}", live // 4)
    builder.add("macs", "fc", "once", rng.integers(0, 50, images))
    return builder.build(visits)


@settings(max_examples=20)
@given(record=records(), priced=st.sampled_from(PRICEABLE))
def test_parts_sum_to_the_whole_and_intervals_hold_their_values(
    record: Activity, priced: tuple[Profile, Gating]
) -> None:
    profile, gating = priced
    cost = estimate(record, profile, Deployment(gating=gating))
    check_conservation(cost)
    spread = cost.dynamic_energy_per_image_j
    singles = [
        estimate(record.restrict(i), profile, Deployment(gating=gating)).dynamic_energy_j.value
        for i in range(record.images)
    ]
    if gating != "none":  # its synops a halted token come from the whole run
        assert spread.worst.value == pytest.approx(max(singles))
        assert spread.median.value == pytest.approx(sorted(singles)[(len(singles) - 1) // 2])
        assert cost.dynamic_energy_j.value == pytest.approx(float(np.mean(singles)))
    if cost.hardware_steps and gating != "core":
        updates = sum(event.count for event in cost.events if event.event.startswith("updates"))
        accumulations = sum(event.count for event in cost.events if event.event == "halt_accumulations")
        assert updates + accumulations == pytest.approx(10 * cost.hardware_steps)


@settings(max_examples=8)
@given(graph=ir_random.graphs())
def test_runs_of_the_reference_are_conserved_and_priced(graph: Any) -> None:
    """Every LIF updates each of its neurons once in every step it runs."""
    activity = run_reference(graph, ir_random.images_for(graph, 2)).activity
    updates = sum(activity.counts[kind] for kind in KINDS if kind.startswith("updates"))
    for node in graph.of_type(LIF):
        layer = activity.layers[activity.layer_index(node.name)]
        runs = [label.rstrip("0123456789") == layer.phase for label in activity.steps]
        expected = np.where(runs, layer.neurons, 0)
        assert (updates[:, activity.layer_index(node.name)] == expected).all()  # type: ignore[index]
    schedules = UNLATE[:1] if any(layer.feedback for layer in activity.layers) else UNLATE
    for (profile, gating), schedule in product(PRICEABLE, schedules):
        check_conservation(estimate(activity, profile, Deployment(gating=gating, schedule=schedule)))


def test_latency_does_not_depend_on_how_images_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {kind: array * (1 + (kind == "synops_unary")) for kind, array in run().counts.items()}
    slow = replace(run(), counts=counts)
    record = run() + run() + slow
    whole = estimate(record, "loihi1")
    monkeypatch.setattr("stas_neuro.energy.latency._CHUNK", 2)
    parts = estimate(record, "loihi1")
    assert parts.latency_per_image_s == whole.latency_per_image_s
    for ours, theirs in zip(parts.steps, whole.steps, strict=True):
        assert ours.latency_s is not None and theirs.latency_s is not None
        assert ours.latency_s.value == pytest.approx(theirs.latency_s.value)
    assert whole.latency_per_image_s is not None
    for image, cost in ((run(), whole.latency_per_image_s.median), (slow, whole.latency_per_image_s.worst)):
        assert estimate(image, "loihi1").latency_s == cost


def test_the_docs_name_every_field_event_and_mode() -> None:
    text = DOCS.read_text()
    documented: dict[str, set[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("| `"):
            documented.setdefault(section, set()).update(re.findall(r"`([\w-]+)`", line.split("|")[1]))
    assert documented["Estimate"] == {field.name for field in fields(Estimate)}
    assert {field.name for field in fields(Totals)} <= documented["Estimate"]
    parts = (EventCost, LayerCost, StepCost, CoreCost, TokenCost)
    assert documented["Parts"] == {field.name for cls in parts for field in fields(cls)}
    assert documented["Schedules"] == {field.name for field in fields(ScheduleCost)}
    assert documented["Split"] == {field.name for field in fields(Split)}
    assert documented["Comparison"] == {field.name for cls in (Comparison, Saving) for field in fields(cls)}
    assert documented["Deployment"] == {field.name for field in fields(Deployment)}
    assert documented["Mode"] == set(MODES) and documented["Stem"] == {"stem", *STEMS}
    assert documented["Gating"] == set(GATINGS)
    assert documented["Schedule"] == set(SCHEDULES)
    rows = re.findall(r"^\| `(\w+)` \| .* \| `(\w+)` \| (\w+) \|$", text, flags=re.MULTILINE)
    assert rows == [(price.event, price.entry, price.unit) for price in PRICES]
    names = set(Comparison.__dataclass_fields__) | {field.name for field in fields(Estimate)}
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)


def test_what_has_no_price_is_not_free() -> None:
    cost, free = estimate(run(), "speck"), estimate(run(), "odin")
    for name in ("energy_j", "dynamic_energy_j", "halting_energy_j", "visit_energy_j"):
        assert getattr(cost, name) is None
        assert "no energy of an event is agreed upon" in cost.unavailable[name]
    assert cost.dynamic_energy_per_image_j is None
    assert (cost.events, cost.layers, cost.steps, cost.cores_breakdown, cost.tokens) == ((),) * 5
    assert cost.op_count_energy_j == free.op_count_energy_j and free.dynamic_energy_j is not None


@pytest.mark.parametrize("membrane", [False, True])
def test_the_running_logits_of_an_image_are_a_cost_of_halting(membrane: bool) -> None:
    recipe = ir_random.Recipe(norm=False, halting="image", readout="rate", membrane=membrane, margin=100.0)
    graph = ir_random.build(recipe)
    activity = run_reference(graph, ir_random.images_for(graph, 2)).activity
    kind = "macs" if membrane else "synops"
    row = [layer.kind for layer in activity.layers].index("ImageScore")
    of_score = activity.counts[kind][:, row].sum() / 2
    estimated = estimate(activity, load_profile("loihi2"))
    events = {event.event: event for event in estimated.events}
    assert of_score > 0 and events[f"score_{kind}"].count == of_score and events[f"score_{kind}"].halting
    assert events[kind].count == activity.total(kind) / 2 - of_score and not events[kind].halting
    assert events["score_lookups"].count == activity.total("score_lookups") / 2 == 3 * graph.tokens
