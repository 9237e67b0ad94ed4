"""Pools of values: what they take, and what a core needs for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support.check_cases import able, found, of_one
from support.ir_random import Recipe, build

from stas_neuro.exporters.lava.stock import lower_stock
from stas_neuro.ir import Graph, IRError, Kind, MaxPool, Node, Phase, Range
from stas_neuro.passes import Quantise
from stas_neuro.reference.ops import OPERATORS
from stas_neuro.reference.ops.base import NodeContext


def shrinking(**changes: Any) -> Graph:
    return build(Recipe(norm=False, halting="off", shrink="pool", blocks=1, **changes))


def rewired(graph: Graph, node: str, source: tuple[str, str]) -> Graph:
    edges = tuple(
        dataclasses.replace(edge, src=source[0], src_port=source[1]) if edge.dst == node else edge
        for edge in graph.edges
    )
    return dataclasses.replace(graph, edges=edges)


def test_padding_is_no_value() -> None:
    x = -1 - np.random.default_rng(0).random((2, 3, 4, 5))
    node = MaxPool(name="pool", phase=Phase.STEP, scope="s", kernel=3, stride=2, padding=1)
    y = OPERATORS[MaxPool](node, {"x": x}, NodeContext({}, steps=1, skip=True))["y"]
    assert y.shape == (2, 3, 2, 3)
    for image, channel, row, column in np.ndindex(y.shape):
        rows, columns = slice(max(2 * row - 1, 0), 2 * row + 2), slice(max(2 * column - 1, 0), 2 * column + 2)
        assert y[image, channel, row, column] == x[image, channel, rows, columns].max()


def test_a_pool_of_values_keeps_their_kind_and_range() -> None:
    graph = shrinking()
    for pool, source in (("shrink.pool", "shrink.conv"), ("shrink.side_pool", "shrink.side_map")):
        kind = Kind.CURRENT if pool == "shrink.pool" else Kind.GRADED
        before, after = graph.types[source, "y"], graph.types[pool, "y"]
        assert (after.kind, after.bound) == (kind, before.bound) and before.kind is kind
        quantised = Quantise()(graph).types
        assert Range(quantised[pool, "y"].low, quantised[pool, "y"].bound or 0) == Range(
            quantised[source, "y"].low, quantised[source, "y"].bound or 0
        )


def test_spikes_are_for_the_pool_of_spikes() -> None:
    with pytest.raises(IRError, match=r"shrink.pool:x: is spike.*MaxPool takes current or graded or number"):
        rewired(shrinking(), "shrink.pool", ("shrink.map", "y"))


def test_the_layers_behind_a_pool_share_the_unit_of_what_they_are_added_to() -> None:
    quantised, units = Quantise().explained(shrinking(membrane=True))
    assert len({units[name].scale.unit for name in ("shrink.conv", "blocks.0.proj", "blocks.0.fc2")}) == 1
    assert [node.a_weight for node in quantised.nodes if node.name.startswith("blocks.0.add")] == [1, 1]  # type: ignore[attr-defined]


def test_a_pool_of_the_image_is_refused() -> None:
    graph = shrinking()
    pool = MaxPool(name="first", phase=Phase.ONCE, scope="stem", kernel=1, stride=1, padding=0)
    nodes: tuple[Node, ...] = (*graph.nodes, pool)
    edges = [
        edge if edge.dst != "stem.conv0" else dataclasses.replace(edge, src="first") for edge in graph.edges
    ]
    edges.append(dataclasses.replace(graph.inputs("stem.conv0")["x"], dst="first"))
    with pytest.raises(IRError, match="first: takes the image, which only a convolution normalises"):
        Quantise()(dataclasses.replace(graph, nodes=nodes, edges=tuple(edges)))


def test_a_core_needs_a_program_for_it() -> None:
    graph = Quantise()(shrinking())
    for able_to, severity in (("yes", "warning"), ("no", "error")):
        findings = found(of_one(graph, able("neuron_programs", able_to)), "neuron programs")
        assert {(f.layer, f.severity) for f in findings} == {
            ("shrink.pool", severity),
            ("shrink.side_pool", severity),
        }
    sent = [finding.layer for finding in found(of_one(graph, "loihi1"), "graded spikes")]
    assert "shrink.pool" in sent


def test_stock_processes_have_none() -> None:
    with pytest.raises(
        IRError, match=r"shrink.pool: it takes the largest of its inputs, which stock neurons"
    ):
        lower_stock(Quantise()(shrinking()))
