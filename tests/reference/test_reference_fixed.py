"""The integer reference against the naive oracle and arithmetic done by hand; its options and refusals."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fixed_oracle import assert_is, run_oracle
from support.fixed_random import fixed_graphs, pixels_for, quantised_at_random
from support.ir_random import HALTING, READOUTS, STEMS, Recipe, build, images_for, recipes

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    Array,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedHeadSum,
    FixedIntegrate,
    FixedLIF,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedReadout,
    FixedSpikeMatMul,
    Graph,
    Node,
    Phase,
)
from stas_neuro.passes import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.reference.ops import FIXED_OPERATORS
from stas_neuro.reference.ops.base import NodeContext
from stas_neuro.trace import Trace

AT: Any = {"name": "n", "phase": Phase.STEP, "scope": "s"}
NEURON: Any = {"tau": 2.0, "threshold": 1.0, "fire": ">"}


def equal_to_oracle(graph: Graph, images: Array) -> Trace:
    trace = run_reference(graph, images, record_spikes=True, record_states=True)
    for index, image in enumerate(images):
        assert_is(run_oracle(graph, image), trace, index)
    return trace


def same_run(a: Trace, b: Trace) -> None:
    np.testing.assert_array_equal(a.logits, b.logits)
    np.testing.assert_array_equal(a.visits, b.visits)
    for what in ("spikes", "states"):
        ours, theirs = getattr(a, what), getattr(b, what)
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert a.activity == b.activity


# Against the oracle ---------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(fixed_graphs(), st.integers(0, 99))
def test_random_integers_equal_the_oracle(graph: Graph, seed: int):
    equal_to_oracle(graph, pixels_for(graph, 2, seed))


@settings(max_examples=20)
@given(fixed_graphs(membrane=True, mixed=True), st.integers(0, 99))
def test_random_integers_that_read_currents_equal_the_oracle(graph: Graph, seed: int):
    equal_to_oracle(graph, pixels_for(graph, 2, seed))


@settings(max_examples=25)
@given(
    st.one_of(
        recipes(norm=False, height=4, width=3),
        recipes(norm=False, height=4, width=3, membrane=True, mixed=True),
    ),
    st.integers(2, 9),
    st.sampled_from(("layer", "channel")),
    st.sampled_from(("graded", "bias")),
)
def test_quantised_networks_equal_the_oracle(
    recipe: Recipe,
    bits: int,
    exponents: Literal["layer", "channel"],
    encoding: Literal["graded", "bias"],
):
    graph = Quantise(bits=bits, exponents=exponents, encoding=encoding)(build(recipe))
    equal_to_oracle(graph, pixels_for(graph, 2, recipe.seed))


@pytest.mark.parametrize(("halting", "readout"), list(itertools.product(HALTING, READOUTS)))
def test_every_halting_and_readout(halting: str, readout: str):
    shares = []
    for seed in range(3):
        recipe = Recipe(
            seed=seed, halting=halting, readout=readout, norm=False, height=4, width=3, pool=False,
            time_steps=4, blocks=3, membrane=bool(seed % 2),
        )  # fmt: skip
        graph = quantised_at_random(build(recipe), seed)
        shares.append(equal_to_oracle(graph, pixels_for(graph, 1, seed)).visits.mean())
    # The networks are ones where tokens halt.
    assert (min(shares) < 1) == (halting != "off")


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("events", [False, True])
def test_every_stem(stem: str, events: bool):
    for seed, sdsa in enumerate((False, True)):
        recipe = Recipe(seed=seed, stem=stem, events=events, sdsa=sdsa, norm=False, height=4, width=3)
        graph = quantised_at_random(build(recipe), seed)
        equal_to_oracle(graph, pixels_for(graph, 1, seed))


@settings(max_examples=15)
@given(fixed_graphs(), st.integers(0, 99))
def test_skipping_and_chunks_change_nothing(graph: Graph, seed: int):
    images = pixels_for(graph, 3, seed)
    dense = run_reference(graph, images, skip=False, record_spikes=True, record_states=True)
    same_run(run_reference(graph, images, record_spikes=True, record_states=True), dense)
    same_run(run_reference(graph, images, chunk=2, record_spikes=True, record_states=True), dense)
    unrecorded = run_reference(graph, images, dtype=np.float32)
    np.testing.assert_array_equal(unrecorded.logits, dense.logits)
    assert unrecorded.logits.dtype == np.float64
    assert (unrecorded.spikes, unrecorded.states) == ({}, {})


# By hand --------------------------------------------------------------------------------------------------


def compute(node: Node, inputs: Mapping[str, Any], steps: int = 1, **tensors: Any) -> Array:
    site = NodeContext(
        {name: np.array(value, np.float32) for name, value in tensors.items()}, steps, skip=True
    )
    inputs = {port: np.array(value, np.float32) for port, value in inputs.items()}
    return FIXED_OPERATORS[type(node)](node, inputs, site)[node.OUTPUTS[0]]


def test_synaptic_input_rounds_down_before_it_is_aligned():
    node = FixedLinear(in_features=2, out_features=3, bias=True, weight_bits=8, bias_exp=3, **AT)
    y = compute(
        node,
        {"x": [[[1, 1], [1, 0]]]},
        weight=[[-6, 2], [-6, 2], [-6, 2]],
        weight_exp=[-3, 0, 2],
        bias=[1, -1, 0],
    )
    # -4 >> 3 = -1, -6 >> 3 = -1.
    np.testing.assert_array_equal(y, [[[-64 + 8, -256 - 8, -1024], [-64 + 8, -384 - 8, -1536]]])


def test_halted_tokens_have_no_bias():
    node = FixedLinear(in_features=1, out_features=1, bias=False, weight_bits=9, bias_exp=7, **AT)
    tensors: dict[str, Any] = {"weight": [[3]], "weight_exp": [0], "bias": [5]}
    y = compute(node, {"x": [[[1], [0]]], "alive": [[1, 0]]}, **tensors)
    np.testing.assert_array_equal(y, [[[3 * 64 + 5 * 128], [0]]])


def test_a_convolution_off_the_cores_ends_in_a_bias_current():
    shape: Any = {"in_channels": 1, "out_channels": 1, "kernel": 2, "stride": 1, "padding": 0, "bias": True}
    weight = [[[[2, 0], [0, -1]]]]
    x = [[[[1, 2, 3], [4, 5, 6]]]]
    on = FixedConv2d(weight_bits=9, bias_exp=7, bias_map=(1, 2), **shape, **AT)
    y = compute(on, {"x": x}, weight=weight, weight_exp=[-1], bias=[[[2, -3]]])
    # (2 - 5) >> 1 = -2 and (4 - 6) >> 1 = -1.
    np.testing.assert_array_equal(y, [[[[-128 + 256, -64 - 384]]]])
    off = FixedConv2d(weight_bits=9, bias_exp=7, off_core=True, **shape, **AT)
    y = compute(off, {"x": x}, weight=weight, weight_exp=[0], bias=[1])
    # -192 + 128 = -64 and -128 + 128 = 0, in units of 128.
    np.testing.assert_array_equal(y, [[[[-128, 0]]]])


@pytest.mark.parametrize(("reset", "fire"), [("zero", ">"), ("subtract", ">"), ("subtract", ">=")])
@pytest.mark.parametrize("dv", [0, 1, 1365, 2048, 4095])
def test_neuron_step_by_step(dv: int, reset: str, fire: str):
    node = FixedLIF(**{**NEURON, **AT, "dv": dv, "vth": 100, "reset": reset, "fire": fire})
    spent = 6400 if fire == ">" else 6464
    site = NodeContext({}, steps=9, skip=True)
    v = 0
    # The first step lands on the threshold, which is not above it.
    for x in (6400, 1, 6400, -12345, 7, -3, 20000, 0, 3199):
        spikes = FIXED_OPERATORS[FixedLIF](node, {"x": np.array([[float(x)]])}, site)["s"]
        kept = abs(v) * (4096 - dv) // 4096
        v = (kept if v > 0 else -kept) + x
        assert spikes.item() == (v > 6400)
        v = (0 if reset == "zero" else v - spent) if v > 6400 else v
        assert site.state["v"].item() == v


def test_score_is_looked_up():
    node = FixedHaltingScore(alpha=1.0, beta=0.0, shift=2, low=-2, entries=4, **AT)
    z = [[[value, 99] for value in (-100, -8, -5, -4, -1, 0, 3, 4, 7, 8, 100)]]
    h = compute(node, {"z": z}, table=[1, 5, 9, 20])
    np.testing.assert_array_equal(h, [[1, 1, 1, 5, 5, 9, 9, 20, 20, 20, 20]])


def test_products_and_sums_are_aligned():
    spikes = np.array([[[1, 0], [1, 1]]])
    product = FixedSpikeMatMul(heads=1, form="(QK^T)V", exponent=2, **AT)
    y = compute(product, {"q": spikes, "k": spikes, "v": spikes})
    np.testing.assert_array_equal(y, np.array([[[2, 1], [3, 2]]]) << 8)
    y = compute(FixedMaskedColumnSum(exponent=0, **AT), {"k": spikes, "v": spikes})
    np.testing.assert_array_equal(y, [[2 << 6, 1 << 6]])
    y = compute(FixedHeadSum(heads=2, exponent=1, **AT), {"x": np.array([[[1, 0, 1, 1], [1, 1, 0, 0]]])})
    np.testing.assert_array_equal(y, np.array([[[1, 2], [2, 0]]]) << 7)
    learned = FixedIntegrate(mode="learned", shift=3, **AT)
    y = compute(learned, {"x": [[[[1.0]]], [[[2.0]]]]}, weights=[7, -9])
    np.testing.assert_array_equal(y, [[[-2]]])  # -11 >> 3


def test_weights_of_a_token_sum_to_one():
    node = FixedHaltAccumulate(mode="raster", epsilon=0.01, last_block=True, score_bits=4, limit=15, **AT)
    site = NodeContext({}, steps=3, skip=True)
    state: dict[str, Array] = {}
    weights = []
    for site.step in range(3):
        outputs = FIXED_OPERATORS[FixedHaltAccumulate](
            node, {"score": np.array([[9, 3, 15.0]]), **state}, site
        )
        weights.append(outputs.pop("p"))
        state = outputs
    np.testing.assert_array_equal(weights, [[[9, 3, 16]], [[7, 3, 0]], [[0, 10, 0]]])
    np.testing.assert_array_equal(state["total"], [[18, 9, 15]])


def test_readout_divides_towards_zero():
    node = FixedReadout(mode="rate", blocks=1, z_shift=1, z_limit=4, divide_bits=1, y_shift=0, **AT)
    site = NodeContext({}, steps=3, skip=True)
    outputs = {}
    z = np.array([[[-3.0, 100], [5, -100]], [[0, 1], [9, 0]], [[0, 1], [0, 0]]])[:, None]
    alive = np.array([[1.0, 1], [1, 0], [1, 0]])[:, None]
    for site.step in range(3):
        outputs = FIXED_OPERATORS[FixedReadout](node, {"z0": z[site.step], "alive0": alive[site.step]}, site)
    # Token 0: -2 + 0 + 0 and 4 + 0 + 0, doubled, over 3 visits: -1 and 2. Token 1: 2 and -4, doubled.
    np.testing.assert_array_equal(outputs["y"], [[-1 + 4, 2 - 8]])
    shifted = dataclasses.replace(node, y_shift=3)
    y = compute(shifted, {"z0": [[[-3, 7], [0, 0]]]})
    np.testing.assert_array_equal(y, [[-4 >> 3, 6 >> 3]])


# Options and refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixed", [False, True])
def test_progress_and_observation(fixed: bool):
    graph = build(Recipe(norm=False, stem="max", halting="raster", time_steps=3))
    images = images_for(graph, 5)
    if fixed:
        graph = quantised_at_random(graph, 1)
        images = pixels_for(graph, 5)
    told: list[tuple[int, int]] = []
    seen: dict[str, list[Mapping[str, Array]]] = {}

    def observe(node: Node, inputs: Mapping[str, Array]) -> None:
        seen.setdefault(node.name, []).append(dict(inputs))

    trace = run_reference(
        graph,
        images,
        chunk=2,
        record_spikes=True,
        progress=lambda done, total: told.append((done, total)),
        observe=observe,
    )
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert seen.keys() == {node.name for node in graph.nodes} - {"output"}
    # Three chunks of 3 steps each; a node of the once phase runs once a chunk.
    assert len(seen["blocks.0.fc2"]) == len(seen["stem.lif0"]) == 9
    assert len(seen["stem.conv1"]) == len(seen["head"]) == 3
    spikes, masks = (
        np.concatenate([np.stack([c[port] for c in seen["blocks.1.fc2"][k : k + 3]], 1) for k in (0, 3, 6)])
        for port in ("x", "alive")
    )
    np.testing.assert_array_equal(spikes, trace.spikes["blocks.1.fc2_lif"])
    np.testing.assert_array_equal(masks, trace.visits[:, :, 1])
    assert seen["stem.integrate"][0]["x"].shape == (3, 2, *graph.types["stem.lif0", "s"].shape)
    same_run(trace, run_reference(graph, images, chunk=2, record_spikes=True))


def test_work_of_the_processor_beside_the_cores():
    folded = build(Recipe(norm=False, halting="rectangular", time_steps=2, blocks=2))
    images = pixels_for(folded, 2)
    graded, biased = (Quantise(encoding=encoding)(folded) for encoding in ("graded", "bias"))
    on, off = (run_reference(graph, images).activity for graph in (graded, biased))
    tokens, features = graded.tokens, 6
    step = on.step_index("step2")
    for activity in (on, off):
        divisions = activity.counts["cpu_operations"][:, activity.layer_index("readout")]
        assert divisions.sum() == divisions[:, step].sum() == 2 * tokens * features
    conv = on.layer_index("stem.conv0")
    operations = off.counts["cpu_operations"][:, conv]
    np.testing.assert_array_equal(operations, on.counts["macs"][:, conv])
    assert operations.sum() > 0
    assert not any(off.counts[kind][:, conv].any() for kind in ("synops", "synops_unary", "macs"))
    assert not any(on.counts[kind][:, conv].any() for kind in ("cpu_operations", "synops", "synops_unary"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((2, 2, 4, 6)),
            r"images \(float64\) are not integers 0\.\.255; .*pixels as they are stored",
        ),
        (np.full((2, 2, 4, 6), 256), r"images \(int64\) are not integers 0\.\.255"),
        (np.full((2, 2, 4, 6), -1), "are not integers"),
        (np.zeros((2, 2, 6, 4), np.uint8), r"images have shape \(2, 2, 6, 4\); give \(images, 2, 4, 6\)"),
        (np.zeros((0, 2, 4, 6), np.uint8), "at least 1 image"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Array, message: str):
    with pytest.raises(InputError, match=message):
        run_reference(quantised_at_random(build(Recipe(norm=False)), 0), images)


def test_bytes_are_pixels_too():
    graph = quantised_at_random(build(Recipe(norm=False)), 0)
    images = pixels_for(graph, 2)
    same_run(run_reference(graph, images.astype(np.uint8)), run_reference(graph, images))


def test_float_graphs_have_no_integer_states():
    graph = build(Recipe(norm=False))
    with pytest.raises(
        InputError, match="the graph is folded, it has no integer states; run a quantised graph"
    ):
        run_reference(graph, images_for(graph, 1), record_states=True)
