"""Whole networks on Lava: the same program as the reference, in both runtimes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from support.ir_random import HALTING, READOUTS, STEMS, Recipe, build, images_for, recipes

from stas_neuro.errors import InputError
from stas_neuro.exporters.lava import assemble
from stas_neuro.exporters.lava.execute import run_network
from stas_neuro.exporters.lava.failure import LavaRunError
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.ir import Graph
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace


def assert_same_program(ours: Trace, theirs: Trace) -> None:
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    assert ours.spikes.keys() == theirs.spikes.keys()
    for name, spikes in theirs.spikes.items():
        np.testing.assert_array_equal(ours.spikes[name], spikes, err_msg=name)
    assert ours.activity == theirs.activity


def check(graph: Graph, count: int = 3, seed: int = 0) -> Trace:
    images = images_for(graph, count, seed)
    trace = run_lava(graph, images, record_spikes=True)
    assert_same_program(trace, run_reference(graph, images, record_spikes=True))
    return trace


@pytest.mark.parametrize(("halting", "readout"), list(product(HALTING, READOUTS)))
def test_lava_is_the_reference_in_every_halting_mode_and_readout(halting: str, readout: str) -> None:
    # A network in which tokens, or images, halt apart in every mode and every neuron layer fires.
    recipe = Recipe(norm=False, halting=halting, readout=readout, blocks=3, height=6, seed=1)
    trace = check(build(replace(recipe, alpha=1.0, beta=-3.0, epsilon=0.3, margin=7.5)))
    assert (len(np.unique(trace.visits.sum((1, 2)))) > 1) == (halting != "off")
    assert all(spikes.any() for spikes in trace.spikes.values())


@pytest.mark.parametrize(("stem", "events"), list(zip(STEMS, (False, True) * 5, strict=True)))
def test_lava_is_the_reference_with_every_stem(stem: str, events: bool) -> None:
    check(build(Recipe(norm=False, stem=stem, events=events, sdsa=events, membrane=not events)))


@settings(max_examples=15)
@given(recipe=recipes(norm=False))
def test_lava_is_the_reference_on_random_graphs(recipe: Recipe) -> None:
    check(build(recipe), seed=recipe.seed)


@pytest.mark.slow
@settings(max_examples=400, derandomize=False)
@given(recipe=recipes(norm=False))
def test_lava_is_the_reference_on_many_random_graphs(recipe: Recipe) -> None:
    check(build(recipe), seed=recipe.seed)


def test_single_precision_agrees_with_the_reference_but_for_rounding() -> None:
    graph = build(Recipe(norm=False))
    images = images_for(graph, 4)
    ours = run_lava(graph, images, dtype=np.float32)
    theirs = run_reference(graph, images, dtype=np.float32)
    assert ours.logits.dtype == np.float32
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
    assert (ours.visits == theirs.visits).mean() > 0.99


def test_images_of_a_stream_do_not_see_each_other() -> None:
    graph = build(Recipe(norm=False, stem="learned", halting="rectangular"))
    images = images_for(graph, 4)
    stream = run_lava(graph, images, record_spikes=True)
    alone = [run_lava(graph, image[None], record_spikes=True) for image in images]
    assert_same_program(stream, Trace.concatenate(alone))


def test_progress_is_told_of_each_image() -> None:
    graph = build(Recipe(norm=False))
    heard: list[tuple[int, int]] = []
    run_lava(graph, images_for(graph, 3), progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_spikes_are_recorded_on_request_only() -> None:
    graph = build(Recipe(norm=False))
    assert not run_lava(graph, images_for(graph, 1)).spikes


@pytest.mark.parametrize(
    "images", [np.zeros((2, 2, 9, 6)), np.zeros((0, 2, 4, 6)), np.full((1, 2, 4, 6), np.nan)]
)
def test_images_that_do_not_fit_are_refused(images: np.ndarray) -> None:
    with pytest.raises(LavaRunError, match="images"):
        run_lava(build(Recipe(norm=False)), images)


def test_unknown_runtimes_are_refused() -> None:
    graph = build(Recipe(norm=False))
    with pytest.raises(InputError, match="no runtime 'threads'; use one of in-process, multiprocess"):
        run_lava(graph, images_for(graph, 1), runtime="threads")


def test_an_edge_against_the_order_is_named_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build(Recipe(norm=False))
    undelayed = tuple(replace(edge, delay=0) for edge in graph.edges)
    monkeypatch.setattr(assemble, "connections", lambda graph: undelayed)
    with pytest.raises(LavaRunError, match="mask_in waits for a message that nobody sends"):
        run_network(graph, np.zeros((1, 2, 4, 6)))


def test_graphs_with_batch_norm_are_refused() -> None:
    with pytest.raises(InputError, match=r"is traced.*fold it first"):
        run_network(build(Recipe(norm=True)), np.zeros((1, 2, 4, 6)))


# The multi-process runtime


def test_both_runtimes_give_the_same() -> None:
    graph = build(Recipe(norm=False, stem="max", blocks=1))
    images = images_for(graph, 3)
    heard: list[tuple[int, int]] = []
    ours = run_lava(
        graph,
        images,
        runtime="multiprocess",
        record_spikes=True,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard == [(1, 3), (2, 3), (3, 3)]
    other = run_lava(graph, images, record_spikes=True)
    np.testing.assert_array_equal(ours.logits, other.logits)
    assert_same_program(ours, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(norm=False, halting="rectangular", sdsa=True, membrane=True, readout="rate"),
        Recipe(norm=False, halting="time", readout="last-state", stem="late-mean", events=True),
        Recipe(norm=False, halting="block", stem="sps", blocks=3),
        Recipe(norm=False, halting="off", form="(QK^T)V", dtype="float32"),
    ],
)
def test_both_runtimes_give_the_same_in_every_mode(recipe: Recipe) -> None:
    graph = build(recipe)
    images = images_for(graph, 5)
    ours = run_lava(graph, images, runtime="multiprocess", record_spikes=True)
    assert_same_program(ours, run_lava(graph, images, record_spikes=True))
