"""Layers that read currents, and spikes that are added to them, as integers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.ir_random import Recipe, build, images_for, recipes

from stas_neuro.ir import (
    LIF,
    Add,
    Conv2d,
    Edge,
    FixedConv2d,
    FixedLinear,
    FixedSynaptic,
    Graph,
    Input,
    IRError,
    Linear,
    MaxPool,
    Node,
    Output,
    Phase,
    Preprocessing,
    Range,
    Readout,
    Stage,
    Tokens,
)
from stas_neuro.passes import Quantise, with_identity_synapses
from stas_neuro.reference import run_reference

FOLDED = {"norm": False, "dtype": "float64"}
MIXED = Recipe(**FOLDED, membrane=True, mixed=True, halting="off", seed=4)
STEP: dict[str, Any] = {"phase": Phase.STEP, "scope": "stem"}


def chain(*middle: Node, wires: Sequence[tuple[str, str, str]], last: str, seed: int = 0) -> Graph:
    """Nodes between an image of (2, 4, 4) and a head of two classes, connected by (from, to, port)."""
    end: dict[str, Any] = {"phase": Phase.END, "scope": "head"}
    nodes: list[Node] = [
        Input(name="input", phase=Phase.ONCE, scope="stem", shape=(2, 4, 4)),
        *middle,
        Tokens(name="tokens", **STEP),
        Readout(name="readout", **end, mode="rate", blocks=1, normalise=False),
        Linear(name="head", **end, in_features=3, out_features=2, bias=True),
        Output(name="output", **end),
    ]
    ends = [
        (last, "tokens", "x"),
        ("tokens", "readout", "z0"),
        ("readout", "head", "x"),
        ("head", "output", "x"),
    ]
    by_name = {node.name: node for node in nodes}
    edges = [Edge(src, by_name[src].OUTPUTS[0], dst, port) for src, dst, port in (*wires, *ends)]
    rng = np.random.default_rng(seed)
    tensors = {
        f"{node.name}/{param}": rng.normal(0.2, 0.6, shape)
        for node in nodes
        for param, shape in node.params(3).items()
    }
    return Graph(
        stage=Stage.FOLDED,
        time_steps=3,
        nodes=tuple(nodes),
        edges=tuple(edges),
        tensors=tensors,
        classes=("a", "b"),
        preprocessing=Preprocessing((0.5, 0.5), (0.25, 0.25)),
    )


def conv(name: str, into: int = 3) -> Conv2d:
    return Conv2d(
        name=name, **STEP, in_channels=into, out_channels=3, kernel=3, stride=1, padding=1, bias=True
    )


def lif(name: str) -> LIF:
    return LIF(name=name, **STEP, tau=2.0, threshold=1.0, fire=">")


def pool(name: str) -> MaxPool:
    return MaxPool(name=name, **STEP, kernel=3, stride=1, padding=1)


def test_spikes_added_to_currents_get_one_synapse_each() -> None:
    graph = build(MIXED)
    changed = with_identity_synapses(graph)
    added = [node for node in changed.nodes if node.name not in {each.name for each in graph.nodes}]
    assert {type(node).__name__ for node in added} == {"Map", "Conv2d", "Tokens"}
    images = images_for(graph, 3)
    ours, theirs = (run_reference(each, images, record_spikes=True) for each in (graph, changed))
    assert np.array_equal(ours.logits, theirs.logits)
    assert all(np.array_equal(ours.spikes[name], spikes) for name, spikes in theirs.spikes.items())
    for block in range(MIXED.blocks):
        synapses = f"blocks.{block}.add0.b.identity"
        sent = theirs.spikes[f"blocks.{block}.proj_lif"].sum()
        assert sent
        assert theirs.activity.per_layer("synops")[theirs.activity.layer_index(synapses)] == sent
    assert with_identity_synapses(changed) is changed


@settings(max_examples=30)
@given(recipes(norm=False))
def test_networks_without_such_spikes_stay_as_they_are(recipe: Recipe) -> None:
    graph = build(recipe)
    assert with_identity_synapses(graph) is graph


def test_neurons_that_read_pixels_or_spikes_get_synapses() -> None:
    graph = chain(
        conv("conv", 2), lif("first"), dataclasses.replace(lif("second"), threshold=0.6),
        wires=[("input", "conv", "x"), ("conv", "first", "x"), ("first", "second", "x")], last="second",
    )  # fmt: skip
    quantised = Quantise(8)(graph)
    node = quantised.node("second.x.identity")
    assert isinstance(node, FixedConv2d) and node.groups == 3
    assert not quantised.tensor(node, "bias").any()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 4, 4))
    spikes = run_reference(quantised, pixels, record_spikes=True).spikes
    assert 0 < spikes["second"].sum() < spikes["first"].sum()  # half of a spike each: two in a row are needed


def shifts(graph: Graph) -> dict[str, int]:
    return {
        node.name: node.x_shift for node in graph.nodes if isinstance(node, FixedSynaptic) and node.x_shift
    }


@pytest.mark.parametrize("exponents", ["layer", "channel"])
def test_layers_that_read_currents_are_close_to_the_float_network(exponents: Any) -> None:
    graph = build(MIXED)
    quantised, units = Quantise(9, exponents=exponents).explained(graph)
    assert {f"blocks.0.{name}" for name in "qkv"} <= shifts(quantised).keys()
    pixels = np.random.default_rng(1).integers(0, 256, images_for(graph, 8).shape)
    mean, std = (np.array(getattr(graph.preprocessing, key))[:, None, None] for key in ("mean", "std"))
    seen: dict[bool, dict[str, list[np.ndarray]]] = {False: {}, True: {}}
    for fixed, network, images in ((False, graph, (pixels / 255 - mean) / std), (True, quantised, pixels)):

        def take(node: Node, inputs: Any, fixed: bool = fixed) -> None:
            if isinstance(node, LIF | Linear):
                seen[fixed].setdefault(node.name, []).append(inputs["x"].copy())

        run_reference(network, images, observe=take)
    for name in ("blocks.0.q", "blocks.0.k", "blocks.0.v"):
        node, layer = quantised.node(name), units[name]
        assert isinstance(node, FixedLinear)
        # The layer by itself: what its neurons get, of the integers that it read.
        delta = np.array(layer.scale.deltas) * layer.divisor
        x = seen[True][name][0] * layer.column_unit
        weight, bias = graph.tensor(name, "weight"), graph.tensor(name, "bias")
        wanted = x @ weight.T + bias
        got = seen[True][f"{name}_lif"][0] * layer.scale.unit * layer.divisor
        held = quantised.tensor(name, "weight") * delta[:, None] / layer.column_unit
        step = layer.column_unit[0] * 2**node.x_shift
        rounding = np.abs(held).sum(1) * step / 2 + np.abs(held - weight) @ np.abs(x).max((0, 1))
        rounding += layer.scale.unit * layer.divisor * (2**6 + 2**node.bias_exp)
        assert (np.abs(got - wanted) <= rounding + 1e-9).all()
        assert np.abs(held).sum(1).max() * step / 2 < 0.05 * 1.0  # a twentieth of the threshold


@pytest.mark.parametrize("seed", range(4))
def test_inputs_are_rounded_only_as_far_as_weights_need_it(seed: int) -> None:
    quantised = Quantise(8)(build(dataclasses.replace(MIXED, seed=seed)))
    assert shifts(quantised)
    for name in shifts(quantised):
        assert quantised.tensor(name, "weight_exp").min() == -8


def test_scales_with_shifts_are_kept() -> None:
    graph = build(MIXED)
    quantised, units = Quantise(5).explained(graph)
    scales = {name: layer.scale for name, layer in units.items()}
    assert any(scale.x_shift for scale in scales.values())
    assert Quantise(5, scales=scales)(graph) == quantised


WIRES = [
    ("input", "entry", "x"), ("entry", "first", "x"), ("first", "conv_a", "x"), ("first", "conv_b", "x"),
    ("conv_b", "pool", "x"), ("pool", "conv_c", "x"), ("conv_a", "add", "a"), ("conv_c", "add", "b"),
    ("add", "second", "x"),
]  # fmt: skip


def test_currents_get_their_unit_before_the_layers_that_read_them() -> None:
    """The first layer of a sum comes before what another layer of it reads."""
    graph = chain(
        conv("entry", 2), lif("first"), conv("conv_a"), conv("conv_b"), pool("pool"), conv("conv_c"),
        Add(name="add", **STEP), lif("second"), wires=WIRES, last="second",
    )  # fmt: skip
    quantised = Quantise(8)(graph)
    assert [node.name for node in quantised.nodes] == [node.name for node in graph.nodes]
    assert shifts(quantised).keys() == {"conv_c"}
    pixels = np.random.default_rng(0).integers(0, 256, (16, 2, 4, 4))
    integers = run_reference(quantised, pixels, record_spikes=True).spikes["second"]
    floats = run_reference(graph, (pixels / 255 - 0.5) / 0.25, record_spikes=True).spikes["second"]
    assert (integers == floats).mean() > 0.97 and 0.2 < floats.mean() < 0.9


def test_a_sum_that_a_layer_reads_and_adds_to_is_refused() -> None:
    graph = chain(
        conv("entry", 2), pool("pool"), conv("again"), Add(name="add", **STEP), lif("second"),
        wires=[
            ("input", "entry", "x"), ("entry", "pool", "x"), ("pool", "again", "x"), ("entry", "add", "a"),
            ("again", "add", "b"), ("add", "second", "x"),
        ],
        last="second",
    )  # fmt: skip
    with pytest.raises(IRError, match="again: reads a sum of currents that its own output is added to"):
        Quantise(8)(graph)


def test_two_sums_that_read_each_other_are_refused() -> None:
    names = ("a0", "a1", "b0", "b1")
    graph = chain(
        conv("entry", 2), lif("first"), *map(conv, names), pool("pool_a"), pool("pool_b"),
        Add(name="add_a", **STEP), Add(name="add_b", **STEP), lif("lif_a"), lif("lif_b"),
        Add(name="sum", **STEP),
        wires=[
            ("input", "entry", "x"), ("entry", "first", "x"), ("first", "a0", "x"), ("first", "b0", "x"),
            ("a0", "pool_a", "x"), ("b0", "pool_b", "x"), ("pool_b", "a1", "x"), ("pool_a", "b1", "x"),
            ("a0", "add_a", "a"), ("a1", "add_a", "b"), ("b0", "add_b", "a"), ("b1", "add_b", "b"),
            ("add_a", "lif_a", "x"), ("add_b", "lif_b", "x"), ("lif_a", "sum", "a"), ("lif_b", "sum", "b"),
        ],
        last="sum",
    )  # fmt: skip
    with pytest.raises(IRError, match=r"its unit depends on itself: .* read currents of each other"):
        Quantise(8)(graph)


@pytest.mark.parametrize(
    ("value", "bits", "wanted"), [(5, 0, 5), (5, 1, 3), (-5, 1, -2), (7, 2, 2), (-6, 2, -1)]
)
def test_rounding_goes_to_the_nearest_and_up_between_two(value: int, bits: int, wanted: int) -> None:
    assert Range(value, value).rounded(bits) == Range(wanted, wanted)
