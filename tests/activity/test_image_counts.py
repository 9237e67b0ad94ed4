"""How the image is counted: in every step that takes it, and alike in floats and integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.fixed_random import pixels_for
from support.ir_random import STEMS, Recipe, build
from support.random_mappings import one_core

from stas_neuro.activity import Activity
from stas_neuro.activity.layers import layers_of
from stas_neuro.chips import load_profile
from stas_neuro.energy import estimate
from stas_neuro.energy.pricing import op_count
from stas_neuro.energy.savings import at_every_step
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.exporters.lava.stock import lower_stock, run_stock
from stas_neuro.ir import Array, Conv2d, FixedInput, Graph, Phase
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference

STEPS = 3
IMAGES = 2
SYNAPTIC = ("macs", "synops", "synops_unary", "cpu_operations")


def recipe_of(stem: str, **choices: object) -> Recipe:
    plain: dict[str, object] = {"norm": False, "stem": stem, "time_steps": STEPS, "height": 4, "width": 4}
    return Recipe(**plain | choices)  # type: ignore[arg-type]


def synapses_driven(graph: Graph, images: Array) -> Array:
    """Synapses of the first convolution that nonzero pixels drive, one window at a time, (images,)."""
    conv = graph.of_type(Conv2d)[0]
    _, height, width = graph.types[conv.name, "y"].shape
    padded = np.pad(images != 0, [(0, 0), (0, 0), *[(conv.padding,) * 2] * 2])
    driven = np.zeros(len(images), np.int64)
    for row in range(height):
        for column in range(width):
            top, left = row * conv.stride, column * conv.stride
            window = padded[:, :, top : top + conv.kernel, left : left + conv.kernel]
            driven += window.sum(axis=(1, 2, 3)) * conv.out_channels
    return driven


def of_phase(activity: Activity, phase: str) -> list[int]:
    return [index for index, label in enumerate(activity.steps) if label.rstrip("0123456789") == phase]


@pytest.mark.parametrize(("stem", "membrane"), list(zip(STEMS, (False, True) * 5, strict=True)))
def test_the_first_layer_works_in_every_step_of_its_neurons(stem: str, membrane: bool) -> None:
    """Its result is a current, which is gone after a step: neurons that run T times need it T times."""
    graph = Quantise()(build(recipe_of(stem, membrane=membrane)))
    pixels = pixels_for(graph, IMAGES)
    driven = synapses_driven(graph, pixels)
    phase = str(graph.node("stem.lif0").phase)
    assert phase == {"one-step": "once", "sps": "step"}.get(stem, "stem")
    for activity in (run_reference(graph, pixels).activity, run_lava(graph, pixels).activity):
        macs = activity_of_layer(activity, "macs", "stem.conv0")
        steps = of_phase(activity, phase)
        assert len(steps) == (1 if phase == "once" else STEPS)
        np.testing.assert_array_equal(macs[:, steps], np.repeat(driven[:, None], len(steps), axis=1))
        assert macs.sum() == macs[:, steps].sum()
    row = next(layer for layer in layers_of(graph) if layer.name == "stem.conv0")
    assert (row.phase, row.stage) == (phase, 0)


def activity_of_layer(activity: Activity, kind: str, layer: str) -> Array:
    return activity.counts[kind][:, activity.layer_index(layer)]


def test_the_first_layer_of_spikformer_4_384_counts_as_in_the_literature() -> None:
    """A 3x3 convolution of 3 to 48 channels at 32x32, in each of 4 steps, without taps beyond the border."""
    recipe = recipe_of("sps", channels=3, height=32, width=32, time_steps=4, blocks=1, halting="off")
    graph = build(recipe)
    conv = graph.of_type(Conv2d)[0]
    images = np.ones((1, 3, 32, 32))
    activity = run_reference(graph, images).activity
    dense = 3 * conv.out_channels * (32 * 3 - 2) ** 2
    assert activity.per_layer("macs")[activity.layer_index(conv.name)] == 4 * dense
    assert dense * 48 // conv.out_channels == 1_272_384


@pytest.mark.parametrize("stem", ["one-step", "sps", "max"])
def test_pixels_are_sent_to_cores_in_every_step_of_the_neurons_that_take_them(stem: str) -> None:
    graph = Quantise()(build(recipe_of(stem)))
    pixels = pixels_for(graph, IMAGES)
    phase = str(graph.node("stem.lif0").phase)
    mapping = one_core(graph)
    for activity in (
        run_reference(graph, pixels, mapping=mapping).activity,
        run_lava(graph, pixels, mapping=mapping).activity,
    ):
        sent = activity.counts["input_messages"].sum(axis=1)
        steps = of_phase(activity, phase)
        nonzero = (pixels != 0).sum(axis=(1, 2, 3))
        np.testing.assert_array_equal(sent[:, steps], np.repeat(nonzero[:, None], len(steps), axis=1))
        assert sent.sum() == sent[:, steps].sum()


def test_bias_currents_are_computed_and_written_once() -> None:
    graph = Quantise(encoding="bias")(build(recipe_of("sps")))
    pixels = pixels_for(graph, IMAGES)
    activity = run_reference(graph, pixels).activity
    operations = activity_of_layer(activity, "cpu_operations", "stem.conv0")
    np.testing.assert_array_equal(operations[:, activity.step_index("once")], synapses_driven(graph, pixels))
    assert operations.sum() == operations[:, activity.step_index("once")].sum()
    placed = run_reference(graph, pixels, mapping=one_core(graph)).activity
    assert placed.counts["input_messages"].sum() == placed.counts["input_messages"][:, :, 0].sum() > 0


@pytest.mark.parametrize("encoding", ["graded", "bias"])
def test_a_stem_at_every_step_has_the_first_layer_of_one_that_runs_so(encoding: str) -> None:
    """The first layer alone is the same in both: the membranes behind it are not."""
    once, every = (Quantise(encoding=encoding)(build(recipe_of(stem))) for stem in ("one-step", "sps"))
    every = replace(every, tensors={**every.tensors, **first_layer(once)})
    pixels = pixels_for(once, IMAGES)
    derived = at_every_step(run_reference(once, pixels, mapping=one_core(once)).activity)
    counted = run_reference(every, pixels, mapping=one_core(every)).activity
    for kind in (*SYNAPTIC, "input_messages"):
        for label in ("once", "step1", "step2", "step3"):
            ours, theirs = (
                record.counts[kind][:, [row.network_layer == "stem.conv0" for row in record.layers]]
                for record in (derived, counted)
            )
            at = derived.step_index(label), counted.step_index(label)
            np.testing.assert_array_equal(ours[:, :, at[0]], theirs[:, :, at[1]], err_msg=f"{kind} {label}")


def first_layer(graph: Graph) -> dict[str, Array]:
    return {key: tensor for key, tensor in graph.tensors.items() if key.startswith("stem.conv0/")}


def test_stock_processes_do_as_many_products_of_pixels_as_the_record_counts() -> None:
    graph = Quantise()(build(recipe_of("sps", halting="off", head_dim=2)))
    ones = {key: np.full_like(t, 2) for key, t in first_layer(graph).items() if key.endswith("/weight")}
    graph = replace(graph, tensors={**graph.tensors, **ones})  # a weight of 0 needs no synapse
    pixels = pixels_for(graph, IMAGES)
    stock, own = run_stock(lower_stock(graph), pixels).activity, run_reference(graph, pixels).activity
    steps = of_phase(own, "step")
    np.testing.assert_array_equal(
        activity_of_layer(stock, "macs", "stem.lif0")[:, of_phase(stock, "step")],
        activity_of_layer(own, "macs", "stem.conv0")[:, steps],
    )
    assert not activity_of_layer(stock, "synops_unary", "stem.lif0").any()


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("stem", STEMS)
def test_integers_count_a_layer_as_floats_do(stem: str, events: bool) -> None:
    """What is a real number in the float network is a product in both, or their prices differ by kind."""
    folded = build(recipe_of(stem, events=events, membrane=not events, seed=3))
    quantised = Quantise()(folded)
    pixels = pixels_for(quantised, 4)
    floats = run_reference(folded, pixels / 255.0).activity
    integers = run_reference(quantised, pixels).activity
    for kind, other in (("macs", "synops"), ("synops", "macs")):
        for row, layer in enumerate(floats.layers):
            if floats.per_layer(kind)[row] and layer.kind in ("Conv2d", "Linear"):
                assert not integers.per_layer(other)[row], f"{layer.name} counts {other}, in floats {kind}"


def brightness(value: int) -> tuple[Graph, Array]:
    graph = Quantise()(build(recipe_of("one-step", halting="off")))
    silent = {key: np.zeros_like(t) for key, t in graph.tensors.items() if key.startswith("stem.conv0/")}
    return replace(graph, tensors={**graph.tensors, **silent}), np.full(
        (1, *graph.input.shape), value, np.uint8
    )


@pytest.mark.parametrize("profile", ["cmos45", "loihi1", "loihi2"])
def test_a_pixel_costs_the_same_whatever_its_value(profile: str) -> None:
    """A bright pixel is one operand of a product, not as many accumulations."""
    dark, bright = (run_reference(*brightness(value)).activity for value in (1, 200))
    assert dark.total("macs") == bright.total("macs") > 0
    assert op_count(dark) == op_count(bright)
    assert estimate(dark, profile).dynamic_energy_j == estimate(bright, profile).dynamic_energy_j


def test_the_operation_count_of_integers_takes_a_product_as_a_mac() -> None:
    graph = Quantise()(build(recipe_of("sps")))
    activity = run_reference(graph, pixels_for(graph, IMAGES)).activity
    head = activity.layer_index("head")
    assert activity.per_layer("macs")[head] > 0  # it takes the readout, a sum of weighted values
    other = activity.total("readout_macs") + activity.total("cpu_operations")
    picojoules = 4.6 * (activity.total("macs") + other) + 0.9 * activity.total("synops_unary")
    assert op_count(activity, "silent").value == pytest.approx(picojoules * 1e-12 / IMAGES)


@pytest.mark.parametrize("profile", ["loihi1", "loihi2"])
def test_a_chip_prices_the_image_of_integers_as_that_of_floats(profile: str) -> None:
    folded = build(recipe_of("sps", halting="off"))
    quantised = Quantise()(folded)
    pixels = pixels_for(quantised, IMAGES)
    costs = [
        next(event for event in estimate(activity, load_profile(profile)).events if event.event == "macs")
        for activity in (
            run_reference(folded, pixels.astype(float)).activity,
            run_reference(quantised, pixels).activity,
        )
    ]
    assert costs[0].count == costs[1].count
    assert costs[0].energy_j == costs[1].energy_j


def test_phases_of_quantised_inputs_are_what_the_tests_rest_on() -> None:
    graph = Quantise()(build(recipe_of("sps")))
    assert isinstance(graph.input, FixedInput)
    assert graph.input.phase == graph.node("stem.conv0").phase == Phase.ONCE
