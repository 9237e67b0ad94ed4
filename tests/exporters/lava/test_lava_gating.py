"""Cores of halted tokens stand still inside Lava: no result changes, and what is skipped is not computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, recipes
from support.lava_support import by_turns, inputs_of
from support.random_mappings import mappings, one_core

from stas_neuro.activity import Activity
from stas_neuro.activity.layers import layers_of
from stas_neuro.energy.gating import stepping, turns
from stas_neuro.energy.timing import hardware_steps
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.processes.neurons import LIFModel, PyLIFModelFixed, PyLIFModelFloat
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.ir import LIF, Graph, Stage
from stas_neuro.mapping import Mapping
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

Array = np.ndarray
# Tokens halt apart in every mode.
RECIPE = Recipe(norm=False, blocks=3, height=6, seed=1, alpha=1.0, beta=-3.0, epsilon=0.3, time_steps=4)


def check_same_results(graph: Graph, mapping: Mapping, images: Array) -> Trace:
    """Run gated and not; both traces are equal but for what was skipped, and the gated one is given."""
    options: dict[str, Any] = {"mapping": mapping, "record_spikes": True}
    options["record_states"] = graph.stage == Stage.QUANTISED
    silent = run_lava(graph, images, **options)
    gated = run_lava(graph, images, gating="core", **options)
    np.testing.assert_array_equal(gated.logits, silent.logits)
    np.testing.assert_array_equal(gated.visits, silent.visits)
    assert gated.spikes.keys() == silent.spikes.keys()
    for name, spikes in silent.spikes.items():
        np.testing.assert_array_equal(gated.spikes[name], spikes, err_msg=name)
    for name, states in silent.states.items():
        live = visited(graph, silent, name)
        shown = live.reshape(*live.shape, *(1,) * (states.ndim - live.ndim))
        np.testing.assert_array_equal(gated.states[name] * shown, states * shown, err_msg=name)
    for kind, counts in silent.activity.counts.items():
        if kind != "updates_skipped":
            np.testing.assert_array_equal(gated.activity.counts[kind], counts, err_msg=kind)
    assert silent.activity.total("updates_skipped") == 0
    return gated


def visited(graph: Graph, trace: Trace, name: str) -> Array:
    """Whether each token of a node's step is visited, bool (B, steps, N); all, where no mask reaches it."""
    node = graph.node(name)
    if isinstance(node, LIF) and "alive" in graph.inputs(node):
        return trace.visits[:, :, int(node.scope.removeprefix("block"))]
    return np.ones((len(trace.visits), 1), np.bool_)


def skipped_by_visits(graph: Graph, mapping: Mapping, trace: Trace) -> dict[str, Array]:
    """Neurons of each LIF's piece that no step is due for, int (B, T).

    No piece on its core that has its turn in the same hardware step has a live token.
    """
    turn = {layer.name: (layer.phase, layer.stage) for layer in layers_of(graph)}
    skipped = {}
    for piece in mapping.pieces:
        node = graph.node(piece.layer)
        if not isinstance(node, LIF) or "alive" not in graph.inputs(node):
            continue
        idle = np.ones(trace.visits.shape[:2], np.bool_)
        for other in mapping.pieces:
            if other.core == piece.core and turn[other.layer] == turn[piece.layer]:
                if "alive" in graph.inputs(graph.node(other.layer)):
                    block = int(graph.node(other.layer).scope.removeprefix("block"))
                    idle &= ~trace.visits[:, :, block][:, :, list(other.positions)].any(axis=2)
                else:
                    idle &= False
        skipped[piece.name] = idle * piece.neurons
    return skipped


def check_skipped(graph: Graph, mapping: Mapping, trace: Trace) -> None:
    wanted = skipped_by_visits(graph, mapping, trace)
    activity: Activity = trace.activity
    steps = [activity.step_index(f"step{t + 1}") for t in range(graph.time_steps)]
    for index, layer in enumerate(activity.layers):
        counted = activity.counts["updates_skipped"][:, index]
        if layer.name in wanted:
            np.testing.assert_array_equal(counted[:, steps], wanted[layer.name], err_msg=layer.name)
        else:
            assert not counted.any(), layer.name
    assert (activity.counts["updates_skipped"] <= activity.counts["updates_gated"]).all()


@pytest.mark.parametrize(
    ("halting", "fixed"),
    [("raster", 0), ("rectangular", 1), ("block", 0), ("block", 1), ("time", 1), ("image", 0), ("image", 1)],
)
def test_cores_without_live_tokens_stand_still_and_nothing_else_changes(halting: str, fixed: int) -> None:
    graph = build(replace(RECIPE, halting=halting))
    graph = Quantise()(graph) if fixed else graph
    mapping = by_turns(graph, 4)
    gated = check_same_results(graph, mapping, inputs_of(graph, 3))
    check_skipped(graph, mapping, gated)
    skipped, held = (gated.activity.total(f"updates_{kind}") for kind in ("skipped", "gated"))
    # Cores stand still once all their tokens have halted: with the image, which halts as a whole, at once.
    assert skipped > 0 and (skipped < held) == (halting != "image")


passes = st.sampled_from((None, Quantise(), Quantise(bits=4, exponents="channel", encoding="bias")))


@settings(max_examples=8)
@given(data=st.data(), recipe=recipes(norm=False), lowering=passes)
def test_gating_changes_no_result_of_random_networks_on_random_cores(
    data: st.DataObject, recipe: Recipe, lowering: Quantise | None
) -> None:
    graph = build(recipe)
    graph = lowering(graph) if lowering else graph
    mapping = data.draw(mappings(graph))
    check_skipped(graph, mapping, check_same_results(graph, mapping, inputs_of(graph, 2, recipe.seed)))


@pytest.mark.parametrize("fixed", (False, True))
def test_neurons_of_closed_cores_are_not_integrated_at_all(fixed: bool) -> None:
    """What the models really integrate, neuron by neuron, is what they do not count as skipped."""
    graph = build(RECIPE)
    graph = Quantise()(graph) if fixed else graph
    model = PyLIFModelFixed if fixed else PyLIFModelFloat
    integrate, neurons = model._integrate, []

    def observed(self: Any, v: Array, x: Array) -> None:
        neurons.append(v.size)
        integrate(self, v, x)

    images, mapping = inputs_of(graph, 2), by_turns(graph, 4)
    with patch.object(model, "_integrate", observed):
        activity = run_lava(graph, images, mapping=mapping, gating="core").activity
    # Raster: none wakes again within an image, and nothing is made up.
    kinds = ("updates_active", "updates_inactive", "updates_gated")
    assert sum(neurons) == sum(map(activity.total, kinds)) - activity.total("updates_skipped")
    assert activity.total("updates_skipped") > 0


@pytest.mark.parametrize("halting", ("raster", "rectangular", "block", "time", "image"))
def test_what_stood_still_is_what_pricing_derives_from_the_record(halting: str) -> None:
    graph = Quantise()(build(replace(RECIPE, halting=halting)))
    activity = run_lava(graph, inputs_of(graph, 3), mapping=by_turns(graph, 4), gating="core").activity
    ticks = hardware_steps(activity, "raster")
    stepped, turn = stepping(activity, ticks).stepped, turns(activity, ticks)
    for row, layer in enumerate(activity.layers):
        if layer.kind != "LIF" or layer.phase != "step":
            continue
        for step in range(graph.time_steps):
            at = activity.step_index(f"step{step + 1}")
            still = ~stepped[:, layer.core, turn[row, at]]
            counted = activity.counts["updates_skipped"][:, row, at]
            np.testing.assert_array_equal(counted, still * layer.neurons, err_msg=layer.name)
    assert activity.total("updates_skipped") > 0


@pytest.mark.parametrize("fixed", (False, True))
def test_a_core_that_wakes_makes_up_for_its_leaks(fixed: bool) -> None:
    """Without them tokens that revive in mode block do other things."""
    graph = build(replace(RECIPE, halting="block"))
    graph = Quantise()(graph) if fixed else graph
    images, mapping = inputs_of(graph, 6), by_turns(graph, graph.tokens)
    silent = run_lava(graph, images, mapping=mapping, record_spikes=True)
    with patch.object(LIFModel, "_make_up", lambda self, awake: None):
        forgetful = run_lava(graph, images, mapping=mapping, gating="core", record_spikes=True)
    assert any((forgetful.spikes[name] != spikes).any() for name, spikes in silent.spikes.items())
    check_same_results(graph, mapping, images)


def test_one_core_stands_still_only_when_every_token_has_halted() -> None:
    graph = Quantise()(build(RECIPE))
    mapping = one_core(graph)
    gated = check_same_results(graph, mapping, inputs_of(graph, 6))
    check_skipped(graph, mapping, gated)


def test_both_runtimes_gate_alike() -> None:
    graph = Quantise()(build(replace(RECIPE, halting="block")))
    images, mapping = inputs_of(graph, 2), by_turns(graph, 4)
    runs = [
        run_lava(graph, images, mapping=mapping, gating="core", runtime=runtime)
        for runtime in ("in-process", "multiprocess")
    ]
    np.testing.assert_array_equal(runs[0].logits, runs[1].logits)
    assert runs[0].activity == runs[1].activity
    assert runs[0].activity.total("updates_skipped") > 0


def test_gating_needs_cores() -> None:
    graph = build(RECIPE)
    with pytest.raises(InputError, match=r"gating is core, the run is on no cores; give a mapping"):
        run_lava(graph, inputs_of(graph, 1), gating="core")


def test_pieces_that_hear_of_other_visits_keep_a_core_going() -> None:
    """Layers of two blocks have no turn together in lowered models; a graph made by hand may have them."""
    graph = build(replace(RECIPE, blocks=2, beta=-1.0))
    mixed = tuple(
        replace(edge, src=graph.accumulators[1].name, delay=1)
        if (edge.dst, edge.dst_port) == ("blocks.1.q_lif", "alive")
        else edge
        for edge in graph.edges
    )
    images = inputs_of(graph, 3)
    skipped = []
    for network in (graph, replace(graph, edges=mixed)):
        runs = [
            run(network, images, mapping=one_core(network), gating="core")
            for run in (run_lava, run_reference)
        ]
        assert runs[0].activity == runs[1].activity
        skipped.append(runs[0].activity.total("updates_skipped"))
    assert skipped[0] > skipped[1] > 0
