"""Streams of images, against a simulation that follows every image hardware step by hardware step."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ir_random
from support.energy_runs import check_conservation, run
from support.mapped_runs import CHIP, HALTED, run_on_cores

from stas_neuro.activity import Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.chips import CannotRun, load_profile
from stas_neuro.energy import (
    GATINGS,
    SCHEDULES,
    Deployment,
    Estimate,
    compare,
    compare_schedules,
    estimate,
    price,
)
from stas_neuro.energy.early_end import executed_steps
from stas_neuro.energy.timing import hardware_steps
from stas_neuro.errors import InputError
from stas_neuro.mapping import CoreLocation
from stas_neuro.reference import run_reference

LOIHI = load_profile("loihi1")
_IO = replace(LOIHI.time["io_message"], value=0.0, low=0.0)
QUIET = replace(LOIHI, time={**LOIHI.time, "io_message": _IO})
"""Without the time of the processor that receives logits, which a simulation of cores does not show."""
NEURONS, SYNOPS = 5, 7


def chain(once: int, stages: int, steps: int, *, feedback: bool, seed: int = 0) -> Activity:
    """A chain of layers on a core each: a stem computed once, model steps, and a head."""
    names = [f"s{at}" for at in range(once)] + [f"b{at}" for at in range(stages)] + ["head"]
    layers = [
        Layer(
            name=name, kind="LIF", scope="", neurons=NEURONS + at, out_features=1, core=at,
            phase={"s": "once", "b": "step", "h": "end"}[name[0]],
            stage=0 if name == "head" else int(name[1:]), feedback=feedback and name == f"b{stages - 1}",
        )
        for at, name in enumerate(names)
    ]  # fmt: skip
    cores = tuple(CoreLocation(x=at // 4, y=0) for at in range(len(layers)))
    builder = ActivityBuilder(layers, step_labels(steps), images=1, cores=cores)
    rng = np.random.default_rng(seed)
    for layer in layers:
        own = {"once": ["once"], "end": ["end"]}.get(layer.phase, [f"step{at + 1}" for at in range(steps)])
        for label in own:
            active = int(rng.integers(0, layer.neurons + 1))
            builder.add("updates_active", layer.name, label, active)
            builder.add("updates_inactive", layer.name, label, layer.neurons - active)
            synops = int(rng.integers(0, SYNOPS))
            for kind in ("synops", "synops_unary"):
                builder.add(kind, layer.name, label, synops)
    return builder.build()


@dataclass
class Seen:
    """What a simulation saw per image: idle updates, hardware steps, seconds between images, latency in s."""

    idle: float
    steps: float
    spacing_s: float
    latency_s: float


def simulate(activity: Activity, contexts: int, *, pipelined: bool) -> Seen:
    """Follow images through the hardware steps, and watch a stretch in which the pattern repeats."""
    in_phase = {
        name: [layer for layer in activity.layers if layer.phase == name] for name in ("once", "step")
    }
    model_steps = [label for label in activity.steps if label.startswith("step")]
    stages = len(in_phase["step"])
    apart = 1 if pipelined else next(n for n in range(stages, 10**6) if n % contexts == 0)
    turns: dict[tuple[str, str], int] = {}
    for layer in in_phase["once"]:
        turns[layer.name, "once"] = layer.stage or 0
    for at, label in enumerate(model_steps):
        for layer in in_phase["step"]:
            turns[layer.name, label] = len(in_phase["once"]) + at * apart + (layer.stage or 0)
    last = max(turns.values()) + 1
    turns["head", "end"] = last
    images = 8 * contexts
    if pipelined:
        starts = [len(model_steps) * image for image in range(images + 60)]
    else:
        round_ = next(n for n in range(last + 1, 10**6) if n % contexts == 0)
        starts = [round_ * (image // contexts) + image % contexts for image in range(images + contexts)]
    work: dict[int, list[tuple[int, str, str]]] = defaultdict(list)
    for image, start in enumerate(starts):
        for (name, label), turn in turns.items():
            work[start + turn].append((image, name, label))
    # No membrane holds two images: context h mod C of a layer is only ever the image that is there.
    for tick, here in work.items():
        names = [name for _, name, _ in here]
        assert len(names) == len(set(names)), (tick, here)
    first = images // 2 // contexts * contexts
    until = first + 2 * contexts
    window = range(starts[first], starts[until])
    idle, seconds = 0, {}
    for tick in range(starts[-1]):
        busy = [0.0] * len(activity.layers)
        for at, layer in enumerate(activity.layers):
            mine = [label for _, name, label in work[tick] if name == layer.name]
            updated = 0
            for label in mine:
                counted = {
                    kind: int(each[0, at, activity.step_index(label)])
                    for kind, each in activity.counts.items()
                }
                updated += counted["updates_active"] + counted["updates_inactive"]
                busy[at] += 8.4 * counted["updates_active"] + 5.3 * counted["updates_inactive"]
                busy[at] += 3.5 * counted["synops"]
            busy[at] += 5.3 * (layer.neurons - updated)
            idle += (layer.neurons - updated) * (tick in window)
        seconds[tick] = (max(busy) + 465 + 9700) * 1e-9
    reset = max(layer.neurons for layer in activity.layers) * 5.3e-9
    many = until - first
    latencies = [
        sum(seconds[start + n] for n in range(last + 1)) for start in starts[first : first + contexts]
    ]
    return Seen(
        idle / many,
        len(window) / many,
        sum(seconds[tick] for tick in window) / many + reset,
        float(np.mean(latencies)) + reset,
    )


def idle_of(cost: Estimate) -> float:
    return next((event.count for event in cost.events if event.event == "updates_idle"), 0.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 7), st.integers(0, 9))
def test_a_stream_is_what_a_simulation_of_every_image_shows(
    once: int, stages: int, steps: int, contexts: int, seed: int
) -> None:
    record = chain(once, stages, steps, feedback=True, seed=seed)
    cost = estimate(record, QUIET, Deployment(mode="stream", contexts=contexts))
    seen = simulate(record, contexts, pipelined=False)
    assert cost.hardware_steps_per_image == pytest.approx(seen.steps)
    assert idle_of(cost) == pytest.approx(seen.idle)
    assert cost.throughput_images_per_s and cost.latency_s
    assert 1 / cost.throughput_images_per_s.value == pytest.approx(seen.spacing_s)
    assert cost.latency_s.value == pytest.approx(seen.latency_s)
    assert cost.static_energy_j and cost.static_power_w
    assert cost.static_energy_j.value == pytest.approx(cost.static_power_w.value * seen.spacing_s)
    check_conservation(cost)


@pytest.mark.parametrize(("once", "stages", "steps"), [(0, 1, 1), (2, 3, 4), (3, 5, 2)])
def test_a_pipeline_of_images_is_what_a_simulation_shows(once: int, stages: int, steps: int) -> None:
    record = chain(once, stages, steps, feedback=False)
    alone, cost = (estimate(record, QUIET, Deployment(mode=mode)) for mode in ("single", "stream"))  # type: ignore[arg-type]
    seen = simulate(record, 1, pipelined=True)
    assert cost.schedule == "pipelined" and cost.hardware_steps_per_image == seen.steps == steps
    assert idle_of(cost) == pytest.approx(seen.idle) and cost.latency_s and cost.throughput_images_per_s
    assert 1 / cost.throughput_images_per_s.value == pytest.approx(seen.spacing_s)
    assert cost.latency_s.value == pytest.approx(seen.latency_s)
    assert alone.throughput_images_per_s == cost.throughput_images_per_s and alone.latency_s
    assert alone.latency_s.value <= cost.latency_s.value
    check_conservation(cost)


def test_a_stream_of_images_that_wait_costs_what_they_cost_alone() -> None:
    alone, cost = (estimate(HALTED, CHIP, Deployment(mode=mode)) for mode in ("single", "stream"))  # type: ignore[arg-type]
    assert replace(cost, mode="single", assumptions=alone.assumptions) == alone


def test_contexts_are_neurons_of_a_core() -> None:
    record = chain(1, 2, 2, feedback=True)  # the largest layer has 8 neurons
    limit = replace(LOIHI.limits["neurons_per_core"], value=16, low=16, high=16)
    chip = replace(LOIHI, limits={**LOIHI.limits, "neurons_per_core": limit})
    assert estimate(record, chip, Deployment(mode="stream", contexts=2)).cores == 4
    with pytest.raises(
        CannotRun, match=r"core 1 has 6 x 3 contexts = 18 neurons, the limit is 16; .*--contexts 3"
    ):
        estimate(record, chip, Deployment(mode="stream", contexts=3))
    # Without a mapping they are packed onto more cores.
    unplaced = replace(record, cores=(), layers=tuple(replace(row, core=None) for row in record.layers))
    cores = [estimate(unplaced, chip, Deployment(mode="stream", contexts=many)).cores for many in (1, 2, 4)]
    assert cores == [2, 4, 8]  # 5 + 6 and 7 + 8; one each; 4 neurons a core
    with pytest.raises(CannotRun, match="17 contexts of a neuron, a core of loihi1 has 16 neurons"):
        estimate(unplaced, chip, Deployment(mode="stream", contexts=17))


def test_copies_share_a_chip() -> None:
    record = chain(1, 2, 2, feedback=True)
    limit = replace(LOIHI.limits["cores_per_chip"], value=10, low=10, high=10)
    chip = replace(LOIHI, limits={**LOIHI.limits, "cores_per_chip": limit}, static_scope="chip")
    one, two, three, full = (
        estimate(record, chip, Deployment(replicas=many))
        for many in (1, 2, 3, "fill")  # type: ignore[arg-type]
    )
    assert [(cost.replicas, cost.chips, cost.cores) for cost in (one, two, three)] == [
        (1, 1, 4),
        (2, 1, 4),
        (3, 2, 4),
    ]
    assert full == two  # two of four cores fit ten
    assert one.static_energy_j and two.static_energy_j and three.static_energy_j
    # They send their logits to the host one after another, which the chip waits for.
    assert one.latency_s and two.latency_s and one.throughput_images_per_s and two.throughput_images_per_s
    logits = 8 * chip.corners("time.io_message")[1]
    assert two.latency_s.value == pytest.approx(one.latency_s.value + logits)
    assert two.throughput_images_per_s.value == pytest.approx(2 / two.latency_s.value)
    assert one.static_power_w and three.static_power_w
    assert three.static_power_w.value == pytest.approx(2 * one.static_power_w.value)
    assert two.static_energy_j.value == pytest.approx(one.static_power_w.value * two.latency_s.value / 2)
    assert two.dynamic_energy_j == one.dynamic_energy_j
    with pytest.raises(CannotRun, match=r"take .* chips, the limit of loihi1 is"):
        estimate(record, chip, Deployment(replicas=1 << 20))
    with pytest.raises(CannotRun, match="replicas of a network on profile cmos45, which has no cores"):
        estimate(record, "cmos45", Deployment(replicas="fill"))


def test_an_early_end_skips_steps_without_a_live_token() -> None:
    # Three model steps of two stages, and the head; all tokens of the first image halt after the first step.
    record = run_on_cores(
        [[[1, 1], [0, 0], [0, 0]], [[1, 1], [1, 0], [1, 0]]],
        [[[3, 2], [0, 0], [0, 0]], [[1, 1], [1, 0], [1, 0]]],
    )
    whole, early = estimate(record, CHIP), estimate(record, CHIP, Deployment(early_end=True))
    assert whole.hardware_steps == early.hardware_steps == 7
    assert early.hardware_steps_per_image == (3 + 7) / 2
    told = {event.event: event.count for event in early.events}
    whole_told = {event.event: event.count for event in whole.events}
    assert told["exit_messages"] == 1 / 2  # one for both of its steps
    # Four hardware steps in which 13 neurons are not stepped, some of them because their token has halted.
    skipped = idle_of(whole) - idle_of(early) + whole_told["updates_inactive"] - told["updates_inactive"]
    assert skipped == 4 * 13 / 2
    assert whole.latency_s and early.latency_s
    check_conservation(early)
    # An image without an early end costs the same.
    second = record.restrict([1])
    assert estimate(second, CHIP, Deployment(early_end=True)).energy_j == estimate(second, CHIP).energy_j
    assert "exit_messages" not in whole_told
    with pytest.raises(CannotRun, match=r"early_end on profile speck, whose capabilities.processor is: no"):
        estimate(record, "speck", Deployment(early_end=True))


def test_neurons_with_a_program_take_its_time() -> None:
    def seconds(record: Activity, **options: Any) -> float:
        cost = estimate(record, "loihi2", Deployment(microcode=True, **options))
        assert cost.latency_s is not None
        return cost.latency_s.high

    stock, programs = estimate(HALTED, CHIP), estimate(HALTED, CHIP, Deployment(microcode=True))
    told = {event.event: event for event in programs.events}
    # In raster order all neurons of model steps wait; those of the head do not.
    plain = {event.event: event.count for event in stock.events}
    for event, of_programs in (
        ("updates_active", "program_active"),
        ("halt_accumulations", "program_accumulations"),
    ):
        assert told[of_programs].count == plain[event] and event not in told
        assert told[of_programs].entry == "energy.neuron_update_active"
    assert told["updates_idle"].count + told["program_idle"].count == plain["updates_idle"]
    assert told["updates_idle"].count == 3 * 5  # the head's, which count no updates of their own
    assert programs.dynamic_energy_j and stock.dynamic_energy_j
    assert programs.dynamic_energy_j.value == pytest.approx(stock.dynamic_energy_j.value)
    assert programs.halting_energy_j and stock.halting_energy_j
    assert programs.halting_energy_j.value == pytest.approx(stock.halting_energy_j.value)
    assert any("energy.neuron_update_microcode is unavailable" in line for line in programs.assumptions)
    # A profile with a figure of its own.
    entry = replace(CHIP.energy["neuron_update_active"], value=500.0, low=500.0, high=500.0)
    rest = {name: why for name, why in CHIP.unavailable.items() if name != "energy.neuron_update_microcode"}
    own = replace(CHIP, energy={**CHIP.energy, "neuron_update_microcode": entry}, unavailable=rest)
    cost = estimate(HALTED, own, Deployment(microcode=True))
    assert {event.entry for event in cost.events if event.event.startswith("program")} == {
        "energy.neuron_update_microcode"
    }
    # A pipeline of stock neurons has none, and is as fast.
    piped = chain(1, 3, 2, feedback=False)
    piped = replace(piped, cores=(), layers=tuple(replace(row, core=None) for row in piped.layers))
    latency = estimate(piped, "loihi2").latency_s
    assert latency and seconds(piped) == latency.high
    assert seconds(piped, schedule="raster") > latency.high
    with pytest.raises(
        CannotRun, match=r"microcode on profile loihi1, whose capabilities.neuron_programs is: no"
    ):
        estimate(HALTED, "loihi1", Deployment(microcode=True))


def test_a_stem_apart_is_stepped_only_while_it_works() -> None:
    record = chain(2, 3, 2, feedback=True)  # stem of 5 + 6 neurons on two cores; 2 + 6 + 1 hardware steps
    shared, apart = (estimate(record, LOIHI, Deployment(stem=stem)) for stem in ("shared", "apart"))  # type: ignore[arg-type]
    assert idle_of(shared) - idle_of(apart) == 7 * (5 + 6)
    assert apart.core_steps == shared.core_steps - 2 * 7  # type: ignore[operator]
    check_conservation(apart)
    # It sends in the first hardware step of each model step, and is stepped then.
    counts = {kind: counted.copy() for kind, counted in record.counts.items()}
    counts["axon_messages"][0, 0, [record.step_index("step1"), record.step_index("step2")]] = 1
    sending = replace(record, counts=counts)
    assert idle_of(estimate(sending, LOIHI, Deployment(stem="apart"))) == idle_of(apart) + 2 * (5 + 6)
    mixed = replace(record, layers=tuple(replace(row, core=min(row.core or 0, 1)) for row in record.layers))
    with pytest.raises(CannotRun, match="the stem is to be apart, and core 1 has layer b0 too"):
        estimate(mixed, LOIHI, Deployment(stem="apart"))
    # Packed, it gets cores of its own.
    unplaced = replace(record, cores=(), layers=tuple(replace(row, core=None) for row in record.layers))
    cores = [estimate(unplaced, LOIHI, Deployment(stem=stem)).cores for stem in ("shared", "apart")]  # type: ignore[arg-type]
    assert cores == [1, 2]


def test_a_folded_stem_lends_its_neurons_to_the_blocks() -> None:
    layers = [
        Layer(name="a", kind="LIF", scope="stem", neurons=700, out_features=700, phase="once", stage=0),
        Layer(name="b", kind="LIF", scope="stem", neurons=100, out_features=100, phase="once", stage=1),
        Layer(name="c", kind="LIF", scope="block0", neurons=900, out_features=900, stage=0),
    ]
    builder = ActivityBuilder(layers, step_labels(1), images=1)
    for name, label, neurons in (("a", "once", 700), ("b", "once", 100), ("c", "step1", 900)):
        builder.add("updates_active", name, label, neurons)
    record = builder.build()
    shared, folded = (estimate(record, LOIHI, Deployment(stem=stem)) for stem in ("shared", "folded"))  # type: ignore[arg-type]
    assert (shared.cores, folded.cores) == (2, 1)  # 1024 neurons a core: b and c, and a in c's place
    # A core has 100 + max(700, 900) neurons in each of three hardware steps; a model step has 1 of them.
    assert idle_of(shared) == 3 * 1700 - 1700
    assert idle_of(folded) == pytest.approx(3 * 1000 - 1700)
    check_conservation(folded)
    heavy = replace(
        record,
        layers=(replace(layers[0], weights=100 * 1024), *layers[1:2], replace(layers[2], weights=100 * 1024)),
    )
    assert estimate(heavy, LOIHI, Deployment(stem="folded")).cores == 2  # the weights of both do not fit
    with pytest.raises(InputError, match="a folded stem in a run on cores"):
        estimate(HALTED, CHIP, Deployment(stem="folded"))


def test_what_an_idle_neuron_costs_is_priced_both_ways_where_it_is_unknown() -> None:
    stepped, skipped = (
        estimate(run(), "loihi2", Deployment(idle_update=way)) for way in ("stepped", "skipped")
    )  # type: ignore[arg-type]
    cost = estimate(run(), "loihi2")
    assert (cost.idle_update, cost.idle_update_of_chip) == ("stepped", "unknown")
    assert cost.energy_j == stepped.energy_j and stepped.idle_skipped is None
    assert cost.idle_skipped is not None and cost.idle_skipped.energy_j == skipped.energy_j
    assert idle_of(skipped) == 0
    told = {event.event: event.count for event in skipped.events}
    assert told["updates_inactive"] == 3 + 2  # not those of the token that halted
    known = estimate(run(), "loihi1")
    assert (known.idle_update_of_chip, known.idle_skipped) == ("stepped", None)
    assert estimate(run(), "speck").idle_update == "skipped"
    (row,) = compare(run(), {"off": run(halting=False)}, [load_profile("loihi2")]).rows
    forced = compare(
        run(), {"off": run(halting=False)}, [load_profile("loihi2")], Deployment(idle_update="skipped")
    )
    assert row.idle_skipped is not None and row.idle_skipped.energy_saving == forced.rows[0].energy_saving
    assert forced.rows[0].idle_skipped is None


def test_price_is_the_totals_of_an_estimate() -> None:
    for options in (Deployment(), Deployment(mode="stream", contexts=2), Deployment(early_end=True)):
        cost, totals = estimate(HALTED, CHIP, options), price(HALTED, CHIP, options)
        assert (totals.energy_j, totals.latency_s) == (cost.energy_j, cost.latency_s)
        assert (totals.dynamic_energy_j, totals.throughput_images_per_s) == (
            cost.dynamic_energy_j,
            cost.throughput_images_per_s,
        )


def test_a_comparison_applies_contexts_to_the_run_that_halts() -> None:
    options = Deployment(mode="stream", contexts=2)
    (row,) = compare(run(), {"off": run(halting=False)}, [LOIHI], options).rows
    assert row.halting is not None and row.without is not None
    assert (row.halting.contexts, row.halting.mode, row.without.contexts, row.without.mode) == (
        2,
        "stream",
        1,
        "stream",
    )
    assert row.split is not None
    rows = compare_schedules({"it": run(), "off": run(halting=False)}, [LOIHI], options)
    assert [(each.schedule, each.contexts) for each in rows] == [
        ("raster", 2),
        ("raster", 2),
        ("pipelined", 1),
    ]


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ({"gating": "full"}, ["there is no gating 'full'; use one of silent"]),
        ({"schedule": "fast", "mode": "burst"}, ["there is no schedule 'fast'", "there is no mode 'burst'"]),
        ({"contexts": 0}, ["contexts is 0; use 1 to 256"]),
        ({"replicas": 0}, ["replicas is 0; use 1 to"]),
        ({"contexts": 2}, ["2 contexts hold images of a stream; use the mode stream"]),
        (
            {"contexts": 2, "schedule": "pipelined", "early_end": True},
            ["the mode stream", "2 contexts on the schedule pipelined", "do without early_end"],
        ),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused_together(
    options: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(InputError) as refused:
        Deployment(**options)
    assert all(problem in str(refused.value) for problem in problems)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mode": "stream", "contexts": 2}, "2 contexts on the schedule pipelined"),
        ({"early_end": True}, "the run has no halting"),
        ({"early_end": True}, "early_end on the schedule pipelined, whose model steps overlap"),
        ({"mode": "stream", "stem": "folded"}, "the next image needs the neurons of a folded stem"),
    ],
)  # fmt: skip
def test_what_a_run_does_not_allow_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        estimate(run(halting=False), "loihi2", Deployment(**options))


@pytest.mark.parametrize("halting", ["raster", "rectangular", "time", "image"])
def test_an_early_end_follows_the_visits(halting: str) -> None:
    """On random networks: a step without visits ends at once, one that visits the last block does not."""
    recipe = ir_random.Recipe(halting=halting, blocks=2, time_steps=3, epsilon=0.4, beta=-0.5)
    graph = ir_random.build(recipe)
    activity = run_reference(graph, ir_random.images_for(graph, 6)).activity
    assert activity.visits is not None
    ticks = hardware_steps(activity, "raster")
    executed = executed_steps(activity, ticks)
    live = activity.visits.any(axis=3)
    assert live.any() and (halting == "image" or not live.all())
    for step in range(3):
        at = activity.step_index(f"step{step + 1}")
        own = executed[:, [number for number, tick in enumerate(ticks) if tick.step == at]]
        assert (own[:, :-1] >= own[:, 1:]).all()  # it only ends
        assert not own[~live[:, step].any(axis=1)].any()
        assert own[live[:, step, -1]].all()
    cost = estimate(activity, "loihi2", Deployment(early_end=True, schedule="raster"))
    assert cost.hardware_steps_per_image == pytest.approx(executed.sum(axis=1).mean())
    check_conservation(cost)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_every_deployment_is_priced_or_refused(data: st.DataObject) -> None:
    options = {
        "gating": data.draw(st.sampled_from((None, *GATINGS))),
        "schedule": data.draw(st.sampled_from((None, *SCHEDULES))),
        "mode": data.draw(st.sampled_from(("single", "stream"))),
        "contexts": data.draw(st.sampled_from((1, 1, 2, 5))),
        "replicas": data.draw(st.sampled_from((1, 2, "fill"))),
        "early_end": data.draw(st.booleans()),
        "stem": data.draw(st.sampled_from(("shared", "apart", "folded"))),
        "microcode": data.draw(st.booleans()),
        "idle_update": data.draw(st.sampled_from((None, "stepped", "skipped"))),
    }
    record = data.draw(st.sampled_from((run(), run(halting=False), HALTED, chain(2, 2, 3, feedback=True))))
    chip = data.draw(st.sampled_from((CHIP, LOIHI, load_profile("spinnaker2"))))
    try:
        cost = estimate(record, chip, Deployment(**options))
    except InputError:
        return
    check_conservation(cost)
    assert price(record, chip, Deployment(**options)).energy_j == cost.energy_j
    assert estimate(image_by_image(record), chip, Deployment(**options)).to_json() == cost.to_json()


def image_by_image(record: Activity) -> Activity:
    """Lay the counts of each image side by side, where a record has those of all images of a layer."""
    counts = {kind: np.array(counted, order="C") for kind, counted in record.counts.items()}
    for counted in counts.values():
        counted.setflags(write=False)
    laid = replace(record, counts=counts)
    assert record.counts["synops"].flags.f_contiguous and laid.counts["synops"].flags.c_contiguous
    return laid
