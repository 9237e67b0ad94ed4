"""Runs that end when their image halts, in a pipeline: which hardware steps and which events are priced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.ir_random import Recipe, build, images_for

from stas_neuro.activity import Activity
from stas_neuro.energy import Deployment, estimate
from stas_neuro.errors import InputError
from stas_neuro.passes import PipelineExit
from stas_neuro.reference import run_reference

STEPS = 12
RECIPE = Recipe(norm=False, halting="image", readout="rate", stem="sps", time_steps=STEPS, blocks=1)


def record(margin: float) -> Activity:
    graph = PipelineExit()(build(replace(RECIPE, margin=margin)))
    return run_reference(graph, images_for(graph, 6)).activity


def exits_after(activity: Activity, steps: list[int]) -> Activity:
    """Return a run whose images exit after these numbers of model steps; blocks compute on anyway."""
    assert activity.visits is not None and activity.visits.all()
    visits = activity.visits.copy()
    for image, last in enumerate(steps):
        visits[image, last:] = False
    return replace(activity, visits=visits)


def stages_of(activity: Activity) -> int:
    return 1 + max(layer.stage or 0 for layer in activity.layers if layer.phase == "step")


@pytest.mark.parametrize("profile", ["loihi1", "loihi2"])
def test_a_run_ends_with_the_decision_of_its_image(profile: str) -> None:
    exits = [1, 2, 3, 5, STEPS - 1, STEPS]
    activity = exits_after(record(1e9), exits)
    whole = estimate(activity, profile)
    ended = estimate(activity, profile, Deployment(early_end=True))
    ends = sum(layer.phase == "end" for layer in activity.layers[-1:])
    before = whole.hardware_steps - (stages_of(activity) + STEPS - 1)
    assert ended.schedule == "pipelined" and before >= ends
    wanted = [before + stages_of(activity) + last - 1 for last in exits]
    assert ended.hardware_steps_per_image == pytest.approx(np.mean(wanted))
    messages = {event.event: event.count for event in ended.events}
    assert messages["exit_messages"] == pytest.approx(5 / 6)  # the last one does not end early
    assert ended.energy_j.value < whole.energy_j.value and ended.latency_s.value < whole.latency_s.value
    # An image that does not exit costs what it costs without.
    last = activity.restrict([5])
    assert estimate(last, profile, Deployment(early_end=True)).energy_j == estimate(last, profile).energy_j


def test_work_after_the_exit_is_not_done() -> None:
    """The synaptic operations are those of rows whose turn comes before the exit, counted by hand."""
    activity = exits_after(record(1e9), [2] * 6)
    stages, done = stages_of(activity), 0
    for row, layer in enumerate(activity.layers):
        for step, label in enumerate(activity.steps):
            counted = int(activity.counts["synops"][:, row, step].sum())
            if layer.phase == "step" and layer.kind != "ImageScore":
                number = int(label.removeprefix("step")) - 1 if label.startswith("step") else 0
                done += counted * (number + (layer.stage or 0) <= 1 + stages - 1)
            elif layer.kind != "ImageScore":
                done += counted
    cost = estimate(activity, "loihi2", Deployment(early_end=True))
    told = {event.event: event.count for event in cost.events}
    assert told["synops"] == pytest.approx(done / 6) and done < activity.total("synops")


def test_the_next_image_of_a_stream_follows_the_exit_or_the_last_frame() -> None:
    activity = record(1e9)
    stages = stages_of(activity)
    assert stages < STEPS - 2  # else no exit comes before the last frame
    both = exits_after(activity, [1, 1, 1, STEPS, STEPS, STEPS])
    early, late = both.restrict([0, 1, 2]), both.restrict([3, 4, 5])
    options = Deployment(early_end=True, mode="stream")
    cost = estimate(both, "loihi2", options)
    parts = [
        estimate(early, "loihi2", Deployment(early_end=True)),
        estimate(late, "loihi2", Deployment(mode="stream")),
    ]
    assert parts[0].hardware_steps_per_image < STEPS == parts[1].hardware_steps_per_image
    for name in ("energy_j", "dynamic_energy_j", "static_energy_j"):
        mean = np.mean([getattr(part, name).value for part in parts])
        assert getattr(cost, name).value == pytest.approx(mean)
    assert cost.hardware_steps_per_image == pytest.approx(
        np.mean([p.hardware_steps_per_image for p in parts])
    )
    alone = estimate(both, "loihi2", Deployment(early_end=True))
    assert alone.throughput_images_per_s == cost.throughput_images_per_s
    assert sum(core.dynamic_energy_j.value for core in cost.cores_breakdown) == pytest.approx(
        cost.dynamic_energy_j.value
    )


def test_tokens_that_halt_apart_do_not_end_a_pipeline() -> None:
    graph = build(Recipe(norm=False, halting="rectangular", time_steps=3))
    activity = run_reference(graph, images_for(graph, 2)).activity
    with pytest.raises(
        InputError, match="whose model steps overlap; use the schedule raster, or halting image"
    ):
        estimate(activity, "loihi2", Deployment(early_end=True))
