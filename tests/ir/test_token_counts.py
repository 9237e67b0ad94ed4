"""Graphs with several numbers of tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.ir_random import Recipe, build

from stas_neuro.analysis import neuron_layers
from stas_neuro.chips import load_profile
from stas_neuro.ir import Graph, IRError, Kind, ValueType
from stas_neuro.mapping.routes import needed
from stas_neuro.placement import place
from stas_neuro.placement.demands import tokens_by_block


def shrinking(**changes: object) -> Graph:
    return build(dataclasses.replace(Recipe(norm=False, shrink="pool", height=6), **changes))  # type: ignore[arg-type]


def test_a_map_has_the_type_of_its_tokens() -> None:
    graph = shrinking()
    assert graph.types["stem.tokens", "y"].shape == (9, 6)
    assert graph.types["shrink.map", "y"] == ValueType(Kind.SPIKE, (6, 3, 3), graph.input.phase, 1)
    assert graph.tokens == 4


def test_a_map_of_another_number_of_tokens_is_refused() -> None:
    graph = shrinking()
    nodes = tuple(
        dataclasses.replace(node, height=2) if node.name == "shrink.map" else node for node in graph.nodes
    )
    with pytest.raises(IRError) as caught:
        dataclasses.replace(graph, nodes=nodes)
    assert [problem.where for problem in caught.value.problems] == ["shrink.map:x"]
    assert "has 9 tokens, a map of 2 x 3 holds 6" in str(caught.value)


def test_blocks_that_halt_together_have_one_number_of_tokens() -> None:
    graph = shrinking(halting="block")
    edges = tuple(
        dataclasses.replace(edge, src="stem.tokens")
        if (edge.dst, edge.dst_port) == ("blocks.1.gate", "x")
        else edge
        for edge in graph.edges
    )
    with pytest.raises(IRError) as caught:
        dataclasses.replace(graph, edges=edges)
    problems = {problem.where: str(problem) for problem in caught.value.problems}
    assert "has shape (4,) beside x (9, 6)" in problems["blocks.1.gate:mask"]
    assert "blocks that halt together have the same N" in problems["blocks.1.gate:mask"]


def test_each_block_is_cut_by_its_own_tokens() -> None:
    graph = shrinking(halting="off", height=6, width=6)
    assert tokens_by_block(graph) == {"block0": 9, "block1": 4}
    placed = place(graph, load_profile("loihi2"), groups=9)
    assert {len(piece.positions) for piece in placed.of_layer("blocks.0.q_lif")} == {1}
    assert {len(piece.positions) for piece in placed.of_layer("blocks.1.q_lif")} == {1}
    assert neuron_layers(graph)["shrink.fc_lif"] == (9, 7)
    assert [len(piece.positions) for piece in placed.of_layer("shrink.fc_lif")] == [9]


def test_a_slice_keeps_kind_and_bound() -> None:
    types = shrinking().types
    assert types["shrink.currents", "y"].kind is Kind.CURRENT and types["shrink.currents", "y"].shape == (
        9,
        7,
    )
    assert types["shrink.spikes", "y"] == dataclasses.replace(types["shrink.fc_lif", "s"], shape=(9, 6))
    assert types["shrink.channels", "y"].shape == (6, 3, 3)


@pytest.mark.parametrize(
    ("start", "stop", "where", "what"),
    [
        (3, 3, "shrink.spikes", "start 3 is not below stop 3"),
        (-1, 5, "shrink.spikes", "start is -1; it must be at least 0"),
        (2, 8, "shrink.spikes:x", "has 7 channels, the slice ends at 8"),
    ],
)
def test_a_slice_is_of_channels_that_are_there(start: int, stop: int, where: str, what: str) -> None:
    graph = shrinking()
    nodes = tuple(
        dataclasses.replace(node, start=start, stop=stop) if node.name == "shrink.spikes" else node
        for node in graph.nodes
    )
    with pytest.raises(IRError) as caught:
        dataclasses.replace(graph, nodes=nodes)
    assert where in str(caught.value) and what in str(caught.value)


def test_a_piece_behind_a_slice_needs_the_channels_of_the_layer_by_their_numbers_there() -> None:
    graph = shrinking(halting="off")
    taken = needed(graph, "shrink.fc_lif", (4,), (2, 3))  # the first channel is left out
    wanted = np.zeros((9, 8), np.bool_)
    wanted[4, 3] = True
    np.testing.assert_array_equal(taken["shrink.fc"], wanted)
