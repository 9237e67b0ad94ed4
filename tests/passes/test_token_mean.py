"""Means over tokens: their 1/N is in units, and what layers bring ends on the neurons behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.ir_random import Recipe, build, images_for
from support.random_mappings import one_core

from stas_neuro.analysis import neuron_layers, placed_with
from stas_neuro.ir import ALIGN, FixedLIF, Graph, Kind
from stas_neuro.mapping import needed
from stas_neuro.passes import Quantise
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
