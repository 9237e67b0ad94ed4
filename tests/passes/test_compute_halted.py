"""Gating none: halted tokens computed and thrown away change no result, and cost what a live one does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, images_for, recipes

from stas_neuro.errors import InputError
from stas_neuro.ir import LIF, Gate, Graph, IRError
from stas_neuro.passes import ComputeHalted, Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

UNCHANGED = ("raster", "rectangular", "time", "image", "off")


def _pixels(graph: Graph, count: int) -> Any:
    frames = () if graph.input.phase == "once" else (graph.time_steps,)
    return np.random.default_rng(0).integers(0, 256, (count, *frames, *graph.input.shape))


def check_equal(graph: Graph, images: Any) -> tuple[Trace, Trace]:
    """Both runs have the same results, and the same spikes of live tokens."""
    computed = ComputeHalted()(graph)
    # Without skipping rows both multiply the same matrices, whose rounding hangs on their size.
    gated, all_tokens = (
        run_reference(each, images, record_spikes=True, skip=False) for each in (graph, computed)
    )
    assert np.array_equal(gated.logits, all_tokens.logits)
    assert np.array_equal(gated.visits, all_tokens.visits)
    assert all_tokens.activity.total("updates_gated") == 0
    for name, spikes in gated.spikes.items():
        block = graph.node(name).scope.removeprefix("block")
        if block.isdigit() and spikes.ndim == 4:
            live = gated.visits[:, :, int(block)] if graph.accumulators else ...
            assert np.array_equal(spikes[live], all_tokens.spikes[name][live])
    names = [[layer.name for layer in trace.activity.layers] for trace in (gated, all_tokens)]
    assert names[0] == names[1]
    updates = [
        sum(trace.activity.total(f"updates_{how}") for how in ("active", "inactive", "gated"))
        for trace in (gated, all_tokens)
    ]
    assert updates[0] == updates[1]
    return gated, all_tokens


@settings(max_examples=40, deadline=None)
@given(recipes(), st.sampled_from(UNCHANGED))
def test_results_are_equal(recipe: Recipe, halting: str) -> None:
    graph = build(Recipe(**(vars(recipe) | {"halting": halting})))
    check_equal(graph, images_for(graph, 3))


@settings(max_examples=15, deadline=None)
@given(recipes(norm=False), st.sampled_from(UNCHANGED), st.sampled_from(("graded", "bias")))
def test_results_of_integers_are_equal(recipe: Recipe, halting: str, encoding: Any) -> None:
    try:
        graph = Quantise(encoding=encoding)(build(Recipe(**(vars(recipe) | {"halting": halting}))))
    except IRError:
        return  # no integers fit: nothing to compare
    check_equal(graph, _pixels(graph, 3))


def test_halting_saves_nothing_then() -> None:
    graph = build(Recipe(norm=False, halting="raster", beta=0.5, seed=1, time_steps=4))
    gated, computed = check_equal(graph, images_for(graph, 8))
    assert not gated.visits.all()
    assert computed.activity.total("synops") > gated.activity.total("synops")
    assert computed.activity.total("updates_active") > gated.activity.total("updates_active")
    # Scores and the readout's weights are those of visits.
    for kind in ("score_lookups", "readout_macs"):
        assert computed.activity.total(kind) == gated.activity.total(kind)


def test_masks_are_left_only_where_tokens_meet() -> None:
    graph = ComputeHalted()(build(Recipe(norm=False)))
    gates = [node.name for node in graph.of_type(Gate)]
    assert gates == [f"blocks.{block}.attn.{port}_gate" for block in (0, 1) for port in "kv"]
    assert not any("alive" in graph.inputs(node) for node in graph.of_type(LIF))
    assert ComputeHalted()(graph) == graph


def test_a_network_without_halting_stays_as_it_is() -> None:
    graph = build(Recipe(halting="off"))
    assert ComputeHalted()(graph) == graph


def test_mode_block_is_refused() -> None:
    with pytest.raises(InputError, match="comes back in the next model step"):
        ComputeHalted()(build(Recipe(halting="block")))
