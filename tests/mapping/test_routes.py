"""Routes of a mapped network: whose values each core takes, and how far they go."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, graphs
from support.naive_messages import follow, neurons_of
from support.random_mappings import mappings, one_core

from stas_neuro.analysis import extent, neuron_layers
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph, HaltAccumulate, Phase
from stas_neuro.mapping import CoreLocation, Mapping, Piece, parse_mapping
from stas_neuro.mapping.distances import distances, places_of
from stas_neuro.mapping.mapping import LOCATION_LIMIT
from stas_neuro.mapping.routes import needed, routes
from stas_neuro.passes.late_decisions import DelayDecisions

SMALL: dict[str, Any] = {"channels": 1, "height": 3, "width": 3, "time_steps": 2, "head_dim": 2}


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    return graph.types[name, graph.node(name).OUTPUTS[0]].shape


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_axons_are_those_of_every_single_neuron(data: st.DataObject) -> None:
    graph = data.draw(graphs(**SMALL))
    mapping = data.draw(mappings(graph, cores=4))
    home = {(piece.layer, *neuron): piece for piece in mapping.pieces for neuron in neurons_of(piece)}
    into: Counter[int] = Counter()
    copies: Counter[str] = Counter()
    for source in (*neuron_layers(graph), graph.input.name):
        shape = _shape(graph, source)
        for index in np.ndindex(shape):
            ways = follow(graph, source, index, shape, home).values()
            cores = set().union(*(reached for reached, _ in ways))
            into.update(cores)
            copies[source] += len(cores)
    found = routes(graph, mapping)
    assert dict(enumerate(found.input_axons)) == {core: into[core] for core in range(len(mapping.cores))}
    assert found.output_axons.sum() == sum(copies[layer] for layer in neuron_layers(graph))
    for route in found.routes:
        assert route.copies.max() <= len(mapping.cores)
        assert (
            isinstance(graph.node(route.source), HaltAccumulate)
            or (route.block is None)
            or (graph.node(route.source).phase == Phase.ONCE)
        )


@settings(max_examples=10, deadline=None)
@given(graph=graphs(**SMALL), seed=st.integers(0, 2**16))
def test_values_that_are_the_same_along_an_axis_need_what_dense_ones_need(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for node in (node for node in graph.nodes if node.OUTPUTS):
        extents = extent(graph, node)
        shapes = {port: graph.source_type(edge).shape for port, edge in graph.inputs(node).items()}
        for own in ((extents[0], 1), (1, extents[1]), (1, 1), extents):
            wanted = np.broadcast_to(rng.random(own) < 0.5, extents)
            ours, dense = (node.needs(each, shapes) for each in (wanted, np.array(wanted)))
            assert ours.keys() == dense.keys()
            assert all(np.array_equal(ours[port], dense[port]) for port in ours), node


def test_a_linear_takes_its_tokens_and_attention_takes_all_keys() -> None:
    graph = build(Recipe(norm=False, heads=2, head_dim=3, blocks=1, membrane=False))
    tokens, dim = neuron_layers(graph)["blocks.0.q_lif"]
    hidden = needed(graph, "blocks.0.out_lif", (1, 3), (0, 2))
    assert hidden.keys() == {"blocks.0.fc2_lif"}
    assert np.array_equal(np.flatnonzero(hidden["blocks.0.fc2_lif"].any(axis=1)), [1, 3])
    assert hidden["blocks.0.fc2_lif"][[1, 3]].all()
    attended = needed(graph, "blocks.0.attn_lif", (2,), (3, 4))
    assert np.array_equal(np.argwhere(attended["blocks.0.q_lif"]), [(2, 3), (2, 4), (2, 5)])
    assert np.array_equal(np.flatnonzero(attended["blocks.0.k_lif"].all(axis=0)), [3, 4, 5])
    assert attended["blocks.0.k_lif"].sum() == 3 * tokens
    assert attended["blocks.0.v_lif"].sum() == tokens
    # A residual stream keeps nothing: what was added is sent to its reader.
    q = needed(graph, "blocks.0.q_lif", (0,), (0, dim))
    assert q.keys() == {"stem.lif1", "stem.side_lif"}
    # A pooled token is made of a window of neurons.
    assert q["stem.lif1"].any(axis=1).sum() > q["stem.side_lif"].any(axis=1).sum() == 1


def test_hops_go_along_x_and_y_and_chips_stand_in_a_row() -> None:
    cores = (CoreLocation(x=1, y=2), CoreLocation(x=4, y=0), CoreLocation(chip=2, x=3, y=1))
    there = distances(places_of(cores), 1)
    assert there["hops_x"].tolist() == [3, 0, 7]
    assert there["hops_y"].tolist() == [2, 0, 1]
    assert there["chip_crossings"].tolist() == [0, 0, 2]


def test_places_that_no_machine_has_are_refused_and_the_farthest_are_counted_exactly() -> None:
    for far in ({"chip": LOCATION_LIMIT}, {"x": LOCATION_LIMIT}, {"y": LOCATION_LIMIT}):
        with pytest.raises(InputError, match=f"count from 0, to less than {LOCATION_LIMIT}"):
            CoreLocation(**far)
    last = LOCATION_LIMIT - 1
    there = distances(places_of([CoreLocation(x=last, y=last), CoreLocation(chip=last, x=last, y=last)]), 1)
    assert [there[kind][0] for kind in ("hops_x", "hops_y", "chip_crossings")] == [2 * last, 2 * last, last]


def test_a_newer_mapping_is_told_from_a_damaged_one() -> None:
    newer = json.dumps({"schema_version": 2, "routing": []}).encode()
    with pytest.raises(InputError, match="schema_version is 2, this version supports 1"):
        parse_mapping(newer, "mapping.json")
    with pytest.raises(InputError, match=r"mapping\.json: profile: Field required"):
        parse_mapping(newer.replace(b"2", b"1"), "mapping.json")


@pytest.mark.parametrize("blocks", [2, 3])
def test_scores_of_late_decisions_go_to_all_accumulators_at_once(blocks: int) -> None:
    graph = build(Recipe(norm=False, halting="raster", blocks=blocks, time_steps=3))
    names = [node.name for node in graph.accumulators]
    whole = one_core(graph)
    pieces = tuple(
        replace(piece, core=1 + names.index(piece.layer) if piece.layer in names else 0)
        for piece in whole.pieces
    )
    mapping = replace(whole, cores=tuple(CoreLocation(x=x) for x in range(1 + blocks)), pieces=pieces)
    for network, others in ((graph, 1), (DelayDecisions(late=2)(graph), blocks - 1)):
        copies: Counter[str] = Counter()
        for route in routes(network, mapping).routes:
            if route.source in names:
                assert (route.copies == route.copies[0]).all()
                copies[route.source] += int(route.copies[0, 0])
        # The readout's core takes the weight p.
        assert copies == dict.fromkeys(names, others + 1)


def test_what_is_computed_once_is_sent_in_every_model_step_to_tokens_that_are_visited() -> None:
    graph = build(Recipe(norm=False, stem="one-step", halting="raster"))
    found = routes(graph, one_core(graph)).routes
    stem = {(route.phase, route.block) for route in found if route.source == "stem.side_lif"}
    assert stem == {(Phase.STEP, 0)}
    assert {route.tokens is None for route in found if route.source == "stem.side_lif"} == {True}
    pooled = [route for route in found if route.source == "stem.lif1" and route.phase == Phase.STEP]
    assert all(route.tokens is not None and route.tokens.any(axis=0).all() for route in pooled)


def test_a_core_gets_a_value_once_however_many_pieces_take_it() -> None:
    graph = build(Recipe(norm=False, halting="off", blocks=1))
    found = {
        route.source: route for route in routes(graph, one_core(graph)).routes if route.phase == Phase.STEP
    }
    # q, k, v, both sums behind them and the readout take it.
    assert (found["stem.side_lif"].copies == 1).all()
    assert not any(found["stem.side_lif"].hops_x.ravel())


def test_a_mapping_must_be_of_the_graph() -> None:
    graph = build(Recipe(norm=False))
    piece = Piece(layer="nothing", core=0, positions=(0,), features=(0, 1))
    other = Mapping(profile="loihi2", strategy="token-major", cores=(CoreLocation(),), pieces=(piece,))
    with pytest.raises(InputError, match="places nothing, which keeps no neurons"):
        routes(graph, other)


def _mapping(*pieces: tuple[tuple[int, ...], tuple[int, int]]) -> Mapping:
    return Mapping(
        profile="loihi2",
        strategy="token-major",
        cores=(CoreLocation(chip=0),) * len(pieces),
        pieces=tuple(
            Piece(layer="layer", core=core, positions=piece[0], features=piece[1])
            for core, piece in enumerate(pieces)
        ),
    )


def test_two_pieces_cannot_hold_the_same_neuron() -> None:
    _mapping(((0, 1, 5), (0, 2)), ((1, 2), (2, 4)), ((2, 3, 5), (4, 5)))
    with pytest.raises(InputError, match="layer: two pieces hold position 5"):
        _mapping(((0, 1, 5), (0, 2)), ((1, 2), (2, 4)), ((2, 3, 5), (1, 2)))


@pytest.mark.parametrize("piece", [((0, 1 << 25), (0, 1)), ((0,), (0, (1 << 25) + 1)), ((1 << 70,), (0, 1))])
def test_positions_and_features_are_bounded(piece: tuple[tuple[int, ...], tuple[int, int]]) -> None:
    with pytest.raises(InputError, match="is not below 33554432"):
        _mapping(piece)
