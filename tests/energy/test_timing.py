from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.energy_runs import run

from stas_neuro.activity import Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.energy import Deployment, Schedule, estimate
from stas_neuro.energy.timing import hardware_steps
from stas_neuro.errors import InputError

UNLATE: tuple[Schedule, ...] = ("raster", "pipelined")


def test_schedules() -> None:
    off = run(halting=False)
    assert [(tick.step, tick.work) for tick in hardware_steps(run(), "raster")] == [
        (1, ((1, 0),)),
        (1, ((1, 1),)),
        (2, ((2, 0),)),
        (2, ((2, 1),)),
    ]
    with pytest.raises(InputError, match="layer halt feeds the next model step"):
        estimate(run(), "loihi1", Deployment(schedule="pipelined"))
    # L = T = 4 with 5 spiking stages a block behind a stem of 5: the published 85 and 28.
    layers = [
        *(Layer(name=f"s{i}", kind="LIF", scope="stem", neurons=1, phase="once", stage=i) for i in range(5)),
        *(Layer(name=f"b{i}", kind="LIF", scope="block", neurons=1, stage=i) for i in range(20)),
    ]
    deep = ActivityBuilder(layers, step_labels(4), images=1).build()
    assert len(hardware_steps(deep, "raster")) == 85
    ticks = hardware_steps(deep, "pipelined")
    assert len(ticks) == 28
    assert ticks[7].work == ((1, 2), (2, 1), (3, 0))
    assert np.bincount([tick.step for tick in ticks]).tolist() == [5, 20, 1, 1, 1]
    raster, pipelined = (estimate(off, "loihi1", Deployment(schedule=schedule)) for schedule in UNLATE)
    assert raster.hardware_steps == pipelined.hardware_steps == 2  # one stage: nothing overlaps
    assert [estimate(record, "loihi1").schedule for record in (run(), off)] == ["raster", "pipelined"]


def deep(late: int, time_steps: int = 3, stages: int = 4) -> Activity:
    """A chain of neurons, one a stage, behind one that is computed once."""
    layers = [
        Layer(name="stem", kind="LIF", scope="stem", neurons=1, phase="once", stage=0),
        *(Layer(name=f"b{i}", kind="LIF", scope="block0", neurons=1, stage=i) for i in range(stages)),
    ]
    layers[-1] = replace(layers[-1], feedback=bool(late))
    return ActivityBuilder(layers, step_labels(time_steps), images=1, late=late).build()


@pytest.mark.parametrize("late", [1, 2, 3])
def test_late_decisions_let_a_model_step_begin_before_the_one_before_has_ended(late: int) -> None:
    record = deep(late)
    ticks = hardware_steps(record, "pipelined-stale")
    assert len(ticks) == 1 + 4 + 2 * (4 - late)
    begun = {step: min(k for k, tick in enumerate(ticks) if (step, 0) in tick.work) for step in (1, 2, 3)}
    assert begun == {1: 1, 2: 1 + 4 - late, 3: 1 + 2 * (4 - late)}
    done = [work for tick in ticks for work in tick.work]
    assert len(done) == len(set(done)) == 1 + 3 * 4  # each stage of each step once
    cost = estimate(record, "loihi1")
    assert (cost.schedule, cost.hardware_steps) == ("pipelined-stale", len(ticks))


def test_a_schedule_that_the_decisions_were_not_made_for_is_refused() -> None:
    with pytest.raises(InputError, match="are 2 hardware steps late, but the schedule is raster"):
        estimate(deep(2), "loihi1", Deployment(schedule="raster"))
    with pytest.raises(InputError, match="are 0 hardware steps late, but the schedule is pipelined-stale"):
        estimate(run(), "loihi1", Deployment(schedule="pipelined-stale"))
    with pytest.raises(InputError, match="4 hardware steps late, a model step has 4"):
        estimate(deep(4), "loihi1")


def test_images_stream_through_a_pipeline_and_wait_for_each_other_elsewhere() -> None:
    record = deep(0)
    piped, raster = (
        estimate(record, "loihi1", Deployment(schedule=schedule)) for schedule in ("pipelined", "raster")
    )
    assert raster.latency_s is not None and raster.throughput_images_per_s is not None
    assert raster.throughput_images_per_s.value == pytest.approx(1 / raster.latency_s.value)
    # One core holds the five neurons, each with one turn in the three hardware steps from image to image.
    assert piped.throughput_images_per_s is not None
    idle = estimate(record, "loihi1", Deployment(schedule="pipelined")).events
    assert idle[0].event == "updates_idle"
    assert piped.throughput_images_per_s.value == pytest.approx(1 / (3 * (465e-9 + 9.7e-6 + 5 * 5.3e-9)))
    assert piped.energy_delay_product_js is not None and piped.energy_j and piped.latency_s
    product = piped.energy_j.value * piped.latency_s.value
    assert piped.energy_delay_product_js.value == pytest.approx(product)
