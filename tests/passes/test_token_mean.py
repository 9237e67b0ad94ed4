"""Means over tokens: their 1/N is in units, and what layers bring ends on the neurons behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from support.ir_random import Recipe, build, images_for
from support.random_mappings import one_core

from stas_neuro.analysis import neuron_layers, placed_with
from stas_neuro.ir import ALIGN, FixedLIF, FixedTokenMean, Graph, IRError, Kind, Node
from stas_neuro.mapping.routes import needed
from stas_neuro.passes import Quantise
from stas_neuro.passes.sums import rounding_shift
from stas_neuro.placement.demands import demands_of
from stas_neuro.reference import run_reference

TOKENS = 6


def graph_of(**changes: Any) -> Graph:
    return build(Recipe(norm=False, halting="off", fire=">", **changes))


@pytest.mark.parametrize("head", ["mean", "mean-first"])
def test_the_threshold_behind_a_mean_is_in_the_unit_of_the_sum(head: str) -> None:
    quantised, units = Quantise(9).explained(graph_of(head=head))
    layer, lif = units["neck.fc"], quantised.node("neck.lif")
    assert isinstance(lif, FixedLIF)
    behind = TOKENS if head == "mean" else 1
    assert (lif.vth << ALIGN) * layer.scale.unit / behind == pytest.approx(lif.threshold, rel=1e-9)
    # What the layer takes are counts of spikes, or sixths of them.
    np.testing.assert_allclose(layer.column_unit, 1 if head == "mean" else 1 / TOKENS)
    mean = quantised.types["neck.mean", "y"]
    assert mean.shape == (1, 6) and mean.kind is (Kind.CURRENT if head == "mean" else Kind.NUMBER)


def test_a_mean_of_the_residual_stream_leaves_one_unit_to_all_that_is_added() -> None:
    quantised, units = Quantise().explained(graph_of(head="mean", membrane=True))
    added = ["stem.conv2", *(f"blocks.{block}.{name}" for block in (0, 1) for name in ("proj", "fc2"))]
    (unit,) = {units[name].scale.unit for name in added}
    for name, tokens in (("neck.lif", TOKENS), ("blocks.1.in_lif", 1)):
        lif = quantised.node(name)
        assert isinstance(lif, FixedLIF)
        assert (lif.vth << ALIGN) * unit / tokens == pytest.approx(lif.threshold, rel=0.01)


def test_the_synapses_of_all_tokens_end_on_the_neurons_behind_their_mean() -> None:
    graph = graph_of(head="mean")
    assert placed_with(graph, graph.node("neck.fc")) == "neck.lif"
    layers = neuron_layers(graph)
    assert layers["neck.lif"] == (1, 6) and "neck.fc" not in layers
    (demand,) = [demand for demand in demands_of(graph, 8) if demand.name == "neck.lif"]
    assert demand.synapse_bits.tolist() == [TOKENS * 6 * 8] and demand.shared_bits == 6 * 8
    taken = needed(graph, "neck.lif", (0,), (2, 3))
    assert all(values.all() for values in taken.values())  # a layer takes all features of every token

    images = images_for(graph, 2)
    alone, mapped = (
        run_reference(graph, images, mapping=mapping).activity for mapping in (None, one_core(graph))
    )
    synops = [
        run.counts["synops"][:, run.layer_index(name)]
        for run, name in ((alone, "neck.fc"), (mapped, "neck.fc@0"))
    ]
    assert synops[0].any() and np.array_equal(*synops)


# Means that round ---------------------------------------------------------------------------------------

MANY = {"pool": False, "height": 12, "width": 17, "head": "mean", "membrane": True}
"""So many tokens that 20 bits of state do not hold the sum of a residual stream over them."""


def means(graph: Graph) -> list[FixedTokenMean]:
    return list(graph.of_type(FixedTokenMean))


@pytest.mark.parametrize("tokens", [1, 2, 3, 64, 196, 256, 257])
def test_a_sum_of_rounded_tokens_is_not_larger_than_what_one_brings(tokens: int) -> None:
    shift = rounding_shift(tokens)
    assert tokens <= 2**shift < 2 * tokens


@pytest.mark.parametrize("membrane", [True, False])
def test_a_mean_rounds_where_the_sum_over_tokens_does_not_fit(membrane: bool) -> None:
    graph = graph_of(**MANY | {"membrane": membrane, "height": 24, "width": 24})
    assert [mean.x_shift for mean in means(Quantise()(graph))] == [0]
    quantised, units = Quantise(state_bits=20).explained(graph)
    (mean,) = means(quantised)
    tokens = graph.source_type(graph.inputs(graph.node(mean.name))["x"]).shape[0]
    assert tokens == 576 and mean.x_shift == 10
    # The neurons behind it have a threshold like those that read each token, whatever the number of tokens.
    unit = units["blocks.0.proj" if membrane else "neck.fc"].scale.unit
    own = quantised.node("neck.lif")
    assert isinstance(own, FixedLIF)
    assert (own.vth << ALIGN) * unit * 2**mean.x_shift / tokens == pytest.approx(own.threshold, rel=0.01)
    if membrane:
        other = quantised.node("blocks.1.in_lif")
        assert isinstance(other, FixedLIF)
        assert own.vth == round(other.vth * tokens / 2**mean.x_shift)


@pytest.mark.parametrize("seed", range(6))
def test_rounded_means_are_close_to_those_of_the_float_network(seed: int) -> None:
    """Of the integers that they read: a token is rounded by less than a tenth of the threshold."""
    graph = graph_of(**MANY, seed=seed)
    quantised, units = Quantise(9, state_bits=20).explained(graph)
    (mean,) = means(quantised)
    assert mean.x_shift
    unit = units["blocks.0.proj"].scale.unit
    seen: dict[str, np.ndarray] = {}

    def take(node: Node, inputs: Mapping[str, np.ndarray]) -> None:
        if node.name in ("neck.mean", "neck.lif"):
            seen[node.name] = inputs["x"]

    run_reference(quantised, images_of(graph), observe=take)
    x, y = seen["neck.mean"], seen["neck.lif"]
    tokens = x.shape[1]
    wanted, got = x.mean(1, keepdims=True) * unit, y * unit * 2**mean.x_shift / tokens
    lif = quantised.node("neck.lif")
    assert isinstance(lif, FixedLIF)
    assert np.abs(x).max() * unit > lif.threshold / 2  # there is something to round
    assert np.abs(got - wanted).max() <= 2**mean.x_shift / 2 * unit < lif.threshold / 10


def images_of(graph: Graph, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, images_for(graph, count).shape)


def test_what_is_rounded_is_added_up_before() -> None:
    """The synapses of a layer cannot end on the neurons behind a mean that rounds: it has its own."""
    graph = graph_of(**MANY | {"membrane": False, "height": 24, "width": 24})
    plain, rounded = Quantise()(graph), Quantise(state_bits=20)(graph)
    assert placed_with(plain, plain.node("neck.fc")) == "neck.lif"
    assert placed_with(rounded, rounded.node("neck.fc")) == ""
    assert neuron_layers(rounded)["neck.fc"] == (576, 6)
    images = images_of(graph)
    alone, mapped = (
        run_reference(rounded, images, mapping=mapping).activity for mapping in (None, one_core(rounded))
    )
    synops = [
        run.counts["synops"][:, run.layer_index(name)]
        for run, name in ((alone, "neck.fc"), (mapped, "neck.fc@0"))
    ]
    assert synops[0].any() and np.array_equal(*synops)


def test_given_scales_say_which_means_round() -> None:
    graph = graph_of(**MANY)
    quantised, units = Quantise(5, state_bits=20).explained(graph)
    (mean,) = means(quantised)
    scales = {name: layer.scale for name, layer in units.items()}
    assert Quantise(5, scales=scales, rounded=(mean.name,))(graph) == quantised
    with pytest.raises(IRError, match=r"neck\.mean: the sum over tokens can reach "):
        Quantise(5, scales=scales)(graph)


def test_a_stream_that_does_not_fit_by_itself_is_refused_for_that() -> None:
    """Not for the sum over tokens, which rounding makes small enough."""
    graph = graph_of(**MANY)
    weight = graph.tensors["blocks.0.proj/weight"] * 1e5
    large = dataclasses.replace(graph, tensors=dict(graph.tensors) | {"blocks.0.proj/weight": weight})
    with pytest.raises(IRError, match=r"^blocks\.0\.proj: its weights need exponents up to") as caught:
        Quantise()(large)
    assert len(caught.value.problems) == 1
