"""Image halting on a pipeline: no step waits for a decision, and no result changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, images_for, recipes

from stas_neuro import run
from stas_neuro.energy.timing import fastest
from stas_neuro.errors import InputError
from stas_neuro.ir import IRError
from stas_neuro.passes import FewerSteps, PipelineExit, Quantise
from stas_neuro.reference import run_reference


def pixels(graph: Any, count: int) -> Any:
    frames = () if graph.input.phase == "once" else (graph.time_steps,)
    return np.random.default_rng(0).integers(0, 256, (count, *frames, *graph.input.shape))


@settings(max_examples=30, deadline=None)
@given(recipes(halting="image", norm=False), st.booleans())
def test_results_are_equal(recipe: Recipe, fixed: bool) -> None:
    graph = build(recipe)
    try:
        graph = Quantise()(graph) if fixed else graph
    except IRError:
        return  # no integers fit: nothing to compare
    overlapping = PipelineExit()(graph)
    images = pixels(graph, 3) if fixed else images_for(graph, 3)
    before, after = (run_reference(each, images, skip=False) for each in (graph, overlapping))
    assert np.array_equal(before.logits, after.logits) and np.array_equal(before.visits, after.visits)
    assert fastest(after.activity) == "pipelined"
    assert graph.time_steps == 1 or fastest(before.activity) == "raster"
    assert PipelineExit()(overlapping) == overlapping


def test_blocks_compute_what_they_would_without_halting() -> None:
    graph = build(Recipe(norm=False, halting="image", readout="rate", time_steps=4, margin=0.0))
    images = images_for(graph, 4)
    trace = run_reference(PipelineExit()(graph), images)
    assert not trace.visits[:, 1:].any()  # the first step is clear enough
    static = run_reference(build(Recipe(norm=False, halting="off", readout="rate", time_steps=4)), images)
    rows = {layer.name: row for row, layer in enumerate(trace.activity.layers)}
    for row, layer in enumerate(static.activity.layers):
        if layer.phase == "step":
            for kind in ("synops", "updates_active", "updates_inactive", "updates_gated"):
                counted = trace.activity.counts[kind][:, rows[layer.name]]
                assert np.array_equal(counted, static.activity.counts[kind][:, row]), (layer.name, kind)
    # The logits are those of a network that ends there.
    first = run_reference(FewerSteps(1)(graph), images[:, :1] if images.ndim == 5 else images)
    assert np.allclose(trace.logits, first.logits, atol=1e-12)


@pytest.mark.parametrize("fixed", [False, True])
def test_lava_computes_the_same(fixed: bool) -> None:
    graph = build(Recipe(norm=False, halting="image", stem="sps", time_steps=3, margin=0.3, seed=2))
    graph = PipelineExit()(Quantise()(graph) if fixed else graph)
    images = np.random.default_rng(1).integers(0, 256, (2, *graph.input.shape)).astype(np.uint8)
    ours = run(graph, images, backend="reference")
    for granularity in ("layer", "auto"):
        lava = run(graph, images, backend="lava", granularity=granularity)
        assert np.array_equal(ours.visits, lava.visits) and ours.activity == lava.activity
        assert np.allclose(ours.logits, lava.logits, rtol=0, atol=0 if fixed else 1e-9)


def test_tokens_that_halt_by_themselves_are_refused() -> None:
    with pytest.raises(InputError, match="halting is rectangular, and only that of a whole image"):
        PipelineExit()(build(Recipe(halting="rectangular")))
