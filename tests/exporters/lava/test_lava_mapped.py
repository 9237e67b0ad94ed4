"""Networks on cores: what Lava counts piece by piece is what the reference counts, and sums to the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import HALTING, STEMS, Recipe, build, recipes
from support.lava_support import by_turns, inputs_of
from support.paths import EXAMPLES
from support.random_mappings import mappings, one_core

from stas_neuro.activity import MAPPED_KINDS, Activity
from stas_neuro.chips.catalogue import load_profile
from stas_neuro.compiler import fold
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.ir import Graph, ImageScore, SpikeMatMul
from stas_neuro.mapping import Mapping
from stas_neuro.passes.compute_halted import ComputeHalted
from stas_neuro.passes.late_decisions import DelayDecisions
from stas_neuro.passes.quantise import Quantise
from stas_neuro.placement import place
from stas_neuro.reference import run_reference

Array = np.ndarray


# Tokens halt apart in every mode.
RASTER = Recipe(norm=False, blocks=3, height=6, seed=1, alpha=1.0, beta=-3.0, epsilon=0.3)


def check_equal(graph: Graph, mapping: Mapping, images: Array, gating: str = "core") -> Activity:
    """Lava's record is the reference's; Lava's is given."""
    ours = run_lava(graph, images, mapping=mapping, gating=gating).activity
    theirs = run_reference(graph, images, mapping=mapping, gating=gating).activity
    assert ours.layers == theirs.layers
    for kind, counts in theirs.counts.items():
        differing = np.argwhere(ours.counts[kind] != counts)
        rows = {(ours.layers[row].name, ours.steps[step]) for _, row, step in differing}
        assert not rows, (kind, rows)
    assert ours == theirs
    return ours


def check_conserved(graph: Graph, mapped: Activity, whole: Activity) -> None:
    """Pieces sum to their layer, but for what several cores compute each for itself."""
    repeated = {node.name for node in (*graph.of_type(SpikeMatMul), *graph.of_type(ImageScore))}
    for index, layer in enumerate(whole.layers):
        rows = [row for row, piece in enumerate(mapped.layers) if piece.network_layer == layer.name]
        for kind, counts in whole.counts.items():
            if kind in MAPPED_KINDS:
                continue
            summed = mapped.counts[kind][:, rows].sum(axis=1)
            if layer.name in repeated:
                assert (summed >= counts[:, index]).all()
            else:
                np.testing.assert_array_equal(summed, counts[:, index], err_msg=f"{kind} of {layer.name}")
    counts = mapped.counts
    assert (counts["updates_skipped"] <= counts["updates_gated"]).all()
    for row, layer in enumerate(mapped.layers):
        if layer.kind == "LIF":
            stepped = sum(counts[f"updates_{how}"][:, row] for how in ("active", "inactive", "gated"))
            worked = [label.startswith(layer.phase) for label in mapped.steps]
            np.testing.assert_array_equal(stepped, np.array(worked) * layer.neurons * np.ones_like(stepped))


passes = st.sampled_from((None, Quantise(), Quantise(bits=4, exponents="channel", encoding="bias")))


@settings(max_examples=10)
@given(data=st.data(), recipe=recipes(norm=False), lowering=passes)
def test_lava_counts_random_networks_on_random_cores_as_the_reference_does(
    data: st.DataObject, recipe: Recipe, lowering: Quantise | None
) -> None:
    graph = build(recipe)
    graph = lowering(graph) if lowering else graph
    images = inputs_of(graph, 2, recipe.seed)
    mapped = check_equal(graph, data.draw(mappings(graph)), images)
    check_conserved(graph, mapped, run_lava(graph, images).activity)


@pytest.mark.parametrize(("halting", "form"), list(zip(HALTING, ("Q(K^TV)", "(QK^T)V") * 3, strict=False)))
def test_every_halting_mode_and_form_of_attention_is_counted_by_piece(halting: str, form: str) -> None:
    graph = Quantise()(build(replace(RASTER, halting=halting, form=form)))
    images, mapping = inputs_of(graph, 3), by_turns(graph, 4)
    mapped = check_equal(graph, mapping, images)
    check_conserved(graph, mapped, run_lava(graph, images).activity)
    assert (mapped.total("updates_skipped") > 0) == (halting != "off")
    for kind in ("axon_messages", "hops_x", "hops_y", "chip_crossings", "input_messages"):
        assert mapped.total(kind) > 0


@pytest.mark.parametrize(("stem", "events"), list(zip(STEMS, (False, True) * 5, strict=True)))
def test_every_stem_is_counted_by_piece(stem: str, events: bool) -> None:
    graph = build(Recipe(norm=False, stem=stem, events=events, sdsa=events, membrane=not events, kernel=2))
    graph = Quantise(encoding="graded" if events else "bias")(graph)
    check_equal(graph, by_turns(graph, 3), inputs_of(graph, 2))


def test_late_decisions_are_counted_by_piece() -> None:
    graph = DelayDecisions(late=2)(build(replace(RASTER, time_steps=4)))
    activity = check_equal(graph, by_turns(graph, 4), inputs_of(graph, 3))
    assert activity.late == 2 and activity.total("updates_skipped") > 0


@pytest.mark.parametrize("fixed", (False, True))
def test_tokens_that_are_computed_and_thrown_away_are_counted_by_piece(fixed: bool) -> None:
    graph = ComputeHalted()(Quantise()(build(RASTER)) if fixed else build(RASTER))
    check_equal(graph, by_turns(graph, 4), inputs_of(graph, 2), gating="none")


MODELS = [
    pytest.param("fashion-spikformer", id="spikformer"),
    pytest.param("fashion-spikingformer", id="spikingformer", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("model", MODELS)
def test_a_shipped_model_on_the_cores_of_a_chip(model: str) -> None:
    pytest.importorskip("torch")
    graph = Quantise(bits=8)(fold(EXAMPLES / "models" / model))
    images = np.load(EXAMPLES / "data" / "fashion-mnist-512.npz")["images"][:6]
    images = images.reshape(6, *graph.input.shape).astype(np.int64)
    mapping = place(graph, load_profile("loihi2"), strategy="token-major", groups=7)
    mapped = check_equal(graph, mapping, images)
    check_conserved(graph, mapped, run_lava(graph, images).activity)
    assert 0 < mapped.total("updates_skipped") < mapped.total("updates_gated")


def test_on_one_core_nothing_is_repeated_and_nothing_hops() -> None:
    graph = Quantise()(build(RASTER))
    images = inputs_of(graph, 2)
    mapped, whole = check_equal(graph, one_core(graph), images), run_lava(graph, images).activity
    for kind in set(whole.counts) - set(MAPPED_KINDS):
        np.testing.assert_array_equal(mapped.counts[kind], whole.counts[kind], err_msg=kind)
    assert mapped.total("hops_x") == mapped.total("hops_y") == mapped.total("chip_crossings") == 0
    assert mapped.total("axon_messages") > 0 and mapped.total("input_messages") > 0


def test_the_mapping_of_another_network_is_refused() -> None:
    graph = build(RASTER)
    mapping = by_turns(build(replace(RASTER, blocks=1)), 2)
    with pytest.raises(InputError, match=r"blocks\.1"):
        run_lava(graph, inputs_of(graph, 1), mapping=mapping)
