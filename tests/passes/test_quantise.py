"""From a folded graph to integers: what they stand for, that they fit, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, images_for, recipes

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    ALIGN,
    STATE_LIMIT,
    Array,
    Conv2d,
    FixedConv2d,
    FixedHaltingScore,
    FixedLIF,
    FixedLinear,
    FixedSynaptic,
    Graph,
    IRError,
    Linear,
    Node,
    Range,
    SpikeMatMul,
    Stage,
    membrane_range,
)
from stas_neuro.passes import LayerScale, LayerUnits, Quantise, Statistics
from stas_neuro.reference import run_reference
from stas_neuro.reference.statistics import sample_statistics

FOLDED = {"norm": False, "dtype": "float64"}


def pixels(graph: Graph, count: int, seed: int = 0) -> Array:
    """Random pixels that a graph takes, int64."""
    return np.random.default_rng(seed).integers(0, 256, images_for(graph, count).shape)


def normalised(graph: Graph, raw: Array) -> Array:
    mean, std = (np.array(getattr(graph.preprocessing, key))[:, None, None] for key in ("mean", "std"))
    return (raw / 255 - mean) / std


def first_input(graph: Graph, images: Array, name: str) -> Array:
    """What reaches a neuron in its first step."""
    seen: list[Array] = []

    def take(node: Node, inputs: Mapping[str, Array]) -> None:
        if node.name == name:
            seen.append(inputs["x"])

    run_reference(graph, images, observe=take)
    return seen[0]


def synapses(graph: Graph) -> list[FixedConv2d | FixedLinear]:
    return [node for node in graph.nodes if isinstance(node, FixedSynaptic)]


@settings(max_examples=40)
@given(
    recipes(**FOLDED),
    st.integers(2, 9),
    st.sampled_from(("layer", "channel")),
    st.sampled_from(("graded", "bias")),
    st.integers(23, 24),
)
def test_every_folded_graph_has_an_integer_form(
    recipe: Recipe, bits: int, exponents: str, encoding: str, state_bits: int
) -> None:
    graph = build(recipe)
    chosen = Quantise(bits, exponents=exponents, encoding=encoding, state_bits=state_bits)  # type: ignore[arg-type]
    quantised = chosen(graph)
    assert quantised.stage == Stage.QUANTISED
    assert [node.name for node in quantised.nodes] == [node.name for node in graph.nodes]
    limit = 2 ** (state_bits - 1) - 1
    for node in synapses(quantised):
        weight, powers = quantised.tensor(node, "weight"), quantised.tensor(node, "weight_exp")
        assert not (weight % 2 ** (9 - bits)).any()
        assert exponents == "channel" or len(set(powers.tolist())) == 1
        y = quantised.types[node.name, "y"]
        assert y.bound is not None and max(y.bound, -y.low) <= limit
    for lif in quantised.of_type(FixedLIF):
        x = quantised.source_type(quantised.inputs(lif)["x"])
        assert x.bound is not None
        assert -limit <= x.low and x.bound <= limit
    first = synapses(quantised)[0]
    assert isinstance(first, FixedConv2d)
    assert first.off_core == (encoding == "bias") == first.off_core


@pytest.mark.parametrize(("tau", "decay_input"), [(2.0, True), (3.0, False), (math.inf, False)])
def test_the_integers_stand_for_the_weights(tau: float, decay_input: bool) -> None:
    """At nine bits each weight is held to half a step, and each bias to half of its own."""
    graph = build(Recipe(seed=3, **FOLDED, fire=">", tau=tau, decay_input=decay_input))
    quantised, units = Quantise(9).explained(graph)
    for node in synapses(quantised):
        layer = units[node.name]
        delta = np.array(layer.scale.deltas)[:, None] * layer.divisor / layer.column_unit
        weight = graph.tensor(node, "weight").reshape(len(delta), -1)
        held = quantised.tensor(node, "weight").reshape(len(delta), -1) * delta
        inside = np.abs(weight) <= 255 * delta
        assert inside.mean() > 0.9
        assert (np.abs(held - weight) <= delta / 2 * (1 + 1e-9))[inside].all()
        if layer.black is None and not layer.offset:
            step = layer.scale.unit * layer.divisor * 2**node.bias_exp
            bias = quantised.tensor(node, "bias") * step
            assert np.abs(bias - graph.tensor(node, "bias")).max() <= step / 2 * (1 + 1e-9)


def test_input_that_does_not_decay_changes_only_the_unit_of_weights() -> None:
    """Weights half as large bring as much to neurons that do not halve their input."""
    recipe = Recipe(seed=3, **FOLDED)
    graph, other = build(recipe), build(dataclasses.replace(recipe, decay_input=False))
    nodes = [
        dataclasses.replace(node, scale=node.scale / 2) if isinstance(node, SpikeMatMul) else node
        for node in other.nodes
    ]
    halved = {key: tensor if key.startswith("head/") else tensor / 2 for key, tensor in other.tensors.items()}
    quantised = Quantise(8)(graph)
    same = Quantise(8)(dataclasses.replace(other, nodes=tuple(nodes), tensors=halved))
    assert quantised.tensors.keys() == same.tensors.keys()
    for key, tensor in quantised.tensors.items():
        np.testing.assert_array_equal(tensor, same.tensors[key], err_msg=key)
    for a, b in zip(quantised.of_type(FixedLIF), same.of_type(FixedLIF), strict=True):
        assert (a.vth, a.dv) == (b.vth, b.dv)


def test_neurons_without_leak_keep_their_membranes() -> None:
    quantised = Quantise(8)(build(Recipe(seed=3, **FOLDED, tau=math.inf, decay_input=False)))
    assert {lif.dv for lif in quantised.of_type(FixedLIF)} == {0}


def test_the_threshold_is_that_of_the_weights() -> None:
    """A membrane of the float threshold is the integer threshold: their units agree."""
    graph = build(Recipe(seed=5, **FOLDED, fire=">"))
    quantised, units = Quantise(8).explained(graph)
    checked = 0
    for lif in quantised.of_type(FixedLIF):
        layer = units.get(quantised.inputs(lif)["x"].src)
        if layer is not None:
            assert (lif.vth << ALIGN) * layer.scale.unit == pytest.approx(lif.threshold, rel=1e-9)
            checked += 1
    assert checked >= 8
    later = Quantise(8)(build(Recipe(seed=5, **FOLDED, fire=">=")))
    for a, b in zip(quantised.of_type(FixedLIF), later.of_type(FixedLIF), strict=True):
        if quantised.inputs(a)["x"].src in units:
            assert b.vth == a.vth - 1


@settings(max_examples=20)
@given(recipes(**FOLDED, fire=">", tau=2.0, stem="one-step", events=False), st.integers(0, 1000))
def test_a_first_layer_holds_the_normalisation_and_its_border(recipe: Recipe, seed: int) -> None:
    """What the first neurons get from pixels is what they get from normalised images, borders included."""
    graph = build(recipe)
    quantised, units = Quantise(9).explained(graph)
    raw = pixels(graph, 2, seed)
    got = first_input(quantised, raw, "stem.lif0")
    wanted = first_input(graph, normalised(graph, raw), "stem.lif0")
    layer, conv = units["stem.conv0"], graph.node("stem.conv0")
    assert isinstance(conv, Conv2d)
    real = got * layer.scale.unit * layer.divisor
    # Each of the kernel's taps may be off by half a step, or more where it was clipped, at up to 255.
    steps = np.abs(
        quantised.tensor(conv, "weight").reshape(conv.out_channels, -1)
        * np.array(layer.scale.deltas)[:, None] * layer.divisor / layer.column_unit
        - graph.tensor(conv, "weight").reshape(conv.out_channels, -1)
    ).sum(1).max()  # fmt: skip
    spread = np.abs(normalised(graph, raw)).max()
    node = quantised.node("stem.conv0")
    assert isinstance(node, FixedConv2d)
    rounding = layer.scale.unit * layer.divisor * (2**node.bias_exp + 2**ALIGN)
    assert np.abs(real - wanted).max() <= steps * spread + rounding + 1e-9


def test_a_sample_chooses_scales_with_less_error_on_it() -> None:
    """With few bits, the sample's scales bring outputs closer than those that suit the weights alone."""
    rng = np.random.default_rng(0)
    graph = build(Recipe(seed=11, **FOLDED, channels=2, head_dim=3, heads=3, fire=">"))
    x = normalised(graph, rng.integers(0, 256, images_for(graph, 64).shape))
    sample = sample_statistics(graph, x)
    better = worse = 0
    for bits in (3, 4, 5):
        plain = Quantise(bits).explained(graph)
        chosen = Quantise(bits, statistics=sample.statistics).explained(graph)
        for name, seen in sample.statistics.items():
            errors = [_output_error(graph, name, *made, seen) for made in (plain, chosen)]
            better += errors[1] < errors[0] * (1 - 1e-9)
            worse += errors[1] > errors[0] * (1 + 1e-9)
    assert better > 10 and worse == 0, (better, worse)


def _output_error(
    graph: Graph, name: str, quantised: Graph, units: Mapping[str, LayerUnits], seen: Statistics
) -> float:
    layer = units[name]
    weight = graph.tensor(name, "weight")
    matrix = weight.reshape(len(weight), -1)
    held = quantised.tensor(name, "weight").reshape(matrix.shape) * np.array(layer.scale.deltas)[:, None]
    difference = matrix - held * layer.divisor / layer.column_unit
    return float(seen.square_output(difference).sum())


def test_statistics_are_those_of_live_inputs() -> None:
    graph = build(Recipe(seed=2, **FOLDED, halting="raster", epsilon=0.3))
    images = images_for(graph, 5)
    sample = sample_statistics(graph, images)
    seen: list[Array] = []

    def take(node: Node, inputs: Mapping[str, Array]) -> None:
        if isinstance(node, Linear) and node.name == "blocks.1.q":
            alive = inputs["alive"]
            seen.extend(inputs["x"][image, token] for image, token in zip(*np.nonzero(alive), strict=True))

    run_reference(graph, images, observe=take)
    rows = np.array(seen)
    assert 0 < len(rows) < 5 * graph.tokens * graph.time_steps
    np.testing.assert_allclose(sample.statistics["blocks.1.q"].mean, rows.mean(0)[None])
    np.testing.assert_allclose(sample.statistics["blocks.1.q"].second, [rows.T @ rows / len(rows)])


def test_given_scales_are_kept() -> None:
    graph = build(Recipe(seed=4, **FOLDED))
    quantised, units = Quantise(5).explained(graph)
    scales = {name: layer.scale for name, layer in units.items()}
    assert Quantise(5, scales=scales)(graph) == quantised
    moved = {name: array * 1.001 for name, array in graph.tensors.items()}
    again = Quantise(5, scales=scales).explained(dataclasses.replace(graph, tensors=moved))[1]
    assert {name: layer.scale for name, layer in again.items()} == scales


@pytest.mark.parametrize("alpha", [0.0, 0.3, -1.0, 8.0])
def test_the_table_of_scores_is_the_sigmoid(alpha: float) -> None:
    for membrane in (False, True):
        graph = build(Recipe(seed=6, **FOLDED, alpha=alpha, beta=-1.0, halting="block", membrane=membrane))
        quantised = Quantise(8)(graph)
        for node in quantised.of_type(FixedHaltingScore):
            table = quantised.tensor(node, "table")
            bits = next(a.score_bits for a in quantised.accumulators)  # type: ignore[attr-defined]
            rising = np.sign(alpha) * np.diff(table.astype(int))
            assert (rising >= 0).all()
            assert table.min() >= 0 and table.max() <= 2**bits
            if not membrane:  # z counts spikes: every entry is a value that z can have
                z = node.low + np.arange(node.entries)
                wanted = np.rint(2**bits / (1 + np.exp(-(alpha * z - 1.0))))
                assert np.array_equal(table, wanted)


def test_a_folded_graph_is_asked_for() -> None:
    with pytest.raises(InputError, match="the graph is traced, only a folded one can be quantised; fold it"):
        Quantise()(build(Recipe()))


@pytest.mark.parametrize(("option", "value"), [("bits", 0), ("bits", 1), ("bits", 10), ("state_bits", 25)])
def test_options_out_of_range(option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{option} is {value}.*; use"):
        Quantise(**{option: value})  # type: ignore[arg-type]


def changed(graph: Graph, tensor: str, factor: float, *, channel: int | None = None, add: float = 0) -> Graph:
    """The graph with a tensor, or a channel of it, times a factor."""
    values = graph.tensors[tensor].copy()
    at = slice(None) if channel is None else channel
    values[at] = values[at] * factor + add
    return dataclasses.replace(graph, tensors=dict(graph.tensors) | {tensor: values})


NEARLY_DEAD = (1e-4, -1e-7, 1e-200, 5e-324, 0.0)


@pytest.mark.parametrize("exponents", ["layer", "channel"])
@pytest.mark.parametrize(
    ("layer", "options"),
    [
        ("stem.conv0", {}),
        ("stem.conv1", {"stem": "mean"}),
        ("blocks.0.q", {}),
        ("blocks.0.fc1", {"fire": ">"}),
        ("blocks.0.proj", {"membrane": True}),
    ],
)
def test_weights_too_small_for_a_core_become_0(layer: str, options: dict[str, str], exponents: str) -> None:
    """Whatever their size, of a layer by itself and of one whose sum with others drives neurons."""
    graph = build(Recipe(seed=1, **FOLDED, **options))  # type: ignore[arg-type]
    for factor in NEARLY_DEAD:
        nearly = changed(graph, f"{layer}/weight", factor)
        quantised, units = Quantise(exponents=exponents).explained(nearly)  # type: ignore[arg-type]
        own, node = units[layer], quantised.node(layer)
        assert isinstance(node, FixedConv2d | FixedLinear)
        delta = np.array(own.scale.deltas)[:, None] * own.divisor / own.column_unit
        held = quantised.tensor(layer, "weight").reshape(len(delta), -1) * delta
        weight = nearly.tensor(layer, "weight").reshape(held.shape)
        # The rest of what is asked of integers holds: at worst a weight is off by a step, or it was clipped.
        inside = np.abs(weight) <= 254 * delta
        assert inside.mean() > 0.9
        assert (np.abs(held - weight) <= delta * (1 + 1e-9))[inside].all()
        assert abs(factor) > 1e-9 or not held.any()
        if own.black is None:
            step = own.scale.unit * own.divisor * 2**node.bias_exp
            bias = quantised.tensor(layer, "bias") * step
            assert np.abs(bias - nearly.tensor(layer, "bias")).max() <= step / 2 * (1 + 1e-9)
        one = changed(graph, f"{layer}/weight", factor, channel=0)
        assert Quantise(exponents=exponents)(one).stage == Stage.QUANTISED  # type: ignore[arg-type]


def test_a_head_of_small_weights_classifies_as_before() -> None:
    """No threshold binds its unit: it can be as fine as it has to be."""
    graph = build(Recipe(seed=3, **FOLDED, fire=">"))
    raw = pixels(graph, 32)
    wanted = run_reference(Quantise()(graph), raw).predictions
    assert len(set(wanted.tolist())) > 1
    for factor in (1e-5, 1e-9, 1e-30):
        small = changed(changed(graph, "head/weight", factor), "head/bias", factor)
        got = run_reference(Quantise()(small), raw).predictions
        assert (got == wanted).mean() > 0.9, factor


@pytest.mark.parametrize(("alpha", "beta"), [(5e-324, 0.5), (1e12, -1.0), (0.7, 1e3), (-0.7, -1e12)])
def test_scores_that_are_the_same_all_over_have_a_table(alpha: float, beta: float) -> None:
    for membrane in (False, True):
        graph = build(Recipe(seed=6, **FOLDED, alpha=alpha, beta=beta, membrane=membrane))
        quantised = Quantise(8)(graph)
        for node in quantised.of_type(FixedHaltingScore):
            table = quantised.tensor(node, "table").astype(int)
            one = 2 ** next(a.score_bits for a in quantised.accumulators)  # type: ignore[attr-defined]
            if abs(beta) > 1:
                assert (table == (one if beta > 0 else 0)).all()


TOO_WIDE = r"its weights need exponents up to \d+, a core has -8\.\.7"
WEIGHTS, BIASES = "; lower its weights, or the scale", "; lower its biases, or the shift or mean"


@pytest.mark.parametrize(
    ("tensor", "factor", "add", "what"),
    [
        ("blocks.0.q/weight", 1e6, 0, TOO_WIDE + WEIGHTS),
        ("blocks.0.q/weight", 1e11, 0, TOO_WIDE + WEIGHTS),
        ("blocks.0.q/bias", 1, 1e6, rf"a bias is 3.2\d*e\+07, a core holds up to 524160{BIASES}"),
        ("blocks.0.q/bias", 1, -1e11, rf"a bias is 3.2\d*e\+12, a core holds up to 524160{BIASES}"),
        ("stem.conv0/weight", 1e6, 0, rf"a bias is .*, a core holds up to 524160{WEIGHTS}"),
        ("blocks.0.q/weight", 1e4, 0, "membranes can reach .*; use fewer inputs a neuron or smaller weights"),
    ],
)
@pytest.mark.parametrize("exponents", ["layer", "channel"])
def test_what_is_too_large_is_named_once_with_its_remedy(
    tensor: str, factor: float, add: float, what: str, exponents: str
) -> None:
    graph = changed(build(Recipe(seed=1, **FOLDED)), tensor, factor, add=add)
    layer = tensor.split("/")[0]
    with pytest.raises(IRError, match=rf"^{re.escape(layer)}: {what}") as caught:
        Quantise(exponents=exponents)(graph)  # type: ignore[arg-type]
    assert str(caught.value).count(layer) == 1


def test_biases_cost_no_weights_that_matter() -> None:
    """What a large bias leaves of the exponents has to hold the weights beside it."""
    graph = build(Recipe(seed=1, **FOLDED))
    graph = changed(changed(graph, "blocks.0.fc1/weight", 0.05), "blocks.0.fc1/bias", 1, channel=0, add=4000)
    told = r"^blocks\.0\.fc1: beside biases of up to \S+ times .* a core has -8\.\.7; lower its biases"
    with pytest.raises(IRError, match=told):
        Quantise(bits=2)(graph)


def test_overflow_names_layer_bound_and_remedy() -> None:
    """Given exponents that are too large, the graph cannot be made: nothing wraps on a chip."""
    graph = build(Recipe(seed=1, **FOLDED))
    units = Quantise(8).explained(graph)[1]
    scales = {name: layer.scale for name, layer in units.items()}
    own = scales["blocks.0.fc1"]
    scales["blocks.0.fc1"] = LayerScale(own.unit, tuple(7 for _ in own.exponents))
    weight = graph.tensor("blocks.0.fc1", "weight") * 2.0 ** (7 - own.exponents[0])
    tensors = dict(graph.tensors) | {"blocks.0.fc1/weight": weight}
    with pytest.raises(
        IRError, match=r"blocks\.0\.fc1: .* can reach .*24 bits with sign; lower its weight_exp"
    ):
        Quantise(8, scales=scales)(dataclasses.replace(graph, tensors=tensors))


def test_the_range_of_a_membrane_is_reached_and_never_left() -> None:
    rng = np.random.default_rng(0)
    node = FixedLIF(
        name="lif", phase="step", scope="b", tau=2.0, threshold=1.0, fire=">", dv=2048, vth=3  # type: ignore[arg-type]
    )  # fmt: skip
    bounds = membrane_range(node, Range(-1000, 700), 6)
    assert bounds.high <= STATE_LIMIT
    lowest = highest = 0
    for inputs in [np.full(6, -1000), np.full(6, 700), *rng.integers(-1000, 701, (300, 6))]:
        v = 0
        for value in inputs:
            v = (abs(v) * 2048 >> 12) * (1 if v > 0 else -1) + int(value)
            lowest, highest = min(lowest, v), max(highest, v)
            if v > 3 << ALIGN:
                v = 0
    assert bounds.low == lowest and bounds.high >= highest > bounds.high - (3 << ALIGN)
