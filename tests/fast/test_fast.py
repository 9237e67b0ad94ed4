"""The fast backend against the plain reference: logits, visits, every count, spikes and states are equal."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fixed_random import fixed_graphs, pixels_for, quantised_at_random
from support.ir_random import HALTING, HEADS, READOUTS, SHRINKS, STEMS, Recipe, build, recipes
from support.random_mappings import mappings
from support.traces import same

from stas_neuro.activity import KINDS, Whole
from stas_neuro.analysis import neuron_layers
from stas_neuro.fast import narrow, run_fast
from stas_neuro.ir import (
    Array,
    Edge,
    FixedAdd,
    FixedConv2d,
    FixedHaltingScore,
    FixedLIF,
    FixedTokenMean,
    Graph,
)
from stas_neuro.mapping import CoreLocation, Mapping, Piece
from stas_neuro.passes import ComputeHalted, Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace


def compare(graph: Graph, images: Array, **options: Any) -> Trace:
    """Compare runs with records of spikes and states, without, and with 8-bit products."""
    plain = run_reference(graph, images, record_spikes=True, record_states=True, **options)
    same(run_fast(graph, images, record_spikes=True, record_states=True, eight_bit=False, **options), plain)
    bare = dataclasses.replace(plain, spikes={}, states={})
    same(run_fast(graph, images, eight_bit=True, **options), bare)
    return plain


@settings(max_examples=25)
@given(fixed_graphs(), st.integers(0, 99))
def test_random_integers(graph: Graph, seed: int) -> None:
    compare(graph, pixels_for(graph, 3, seed))


@settings(max_examples=20)
@given(st.data())
def test_random_integers_on_random_cores(data: st.DataObject) -> None:
    graph = data.draw(fixed_graphs())
    mapping = data.draw(mappings(graph))
    gating = data.draw(st.sampled_from(("silent", "core", "power")))
    compare(graph, pixels_for(graph, 2, 1), mapping=mapping, gating=gating)


@settings(max_examples=10)
@given(st.data())
def test_counts_of_some_images_and_sums_over_all(data: st.DataObject) -> None:
    graph = data.draw(fixed_graphs())
    mapping, images = data.draw(mappings(graph)), pixels_for(graph, 4, 1)
    kept = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=4, max_size=4)))
    plain = run_reference(graph, images, mapping=mapping).activity
    batch = run_fast(
        graph, images, mapping=mapping, kept=kept, collect=lambda batches, _: next(iter(batches))
    )
    whole = Whole(
        images=4,
        numbers=kept,
        counts={kind: plain.sums(kind) for kind in KINDS},
        visits=None if plain.visits is None else plain.visits.sum(axis=0),
    )
    assert batch.activity == dataclasses.replace(plain.restrict(kept), whole=whole)


@settings(max_examples=15)
@given(
    recipes(norm=False, height=4, width=3),
    st.integers(2, 9),
    st.sampled_from(("layer", "channel")),
    st.sampled_from(("graded", "bias")),
)
def test_quantised_networks(recipe: Recipe, bits: int, exponents: Any, encoding: Any) -> None:
    graph = Quantise(bits=bits, exponents=exponents, encoding=encoding)(build(recipe))
    compare(graph, pixels_for(graph, 2, recipe.seed))


@settings(max_examples=10)
@given(fixed_graphs(reset="subtract"), st.integers(0, 99))
def test_neurons_that_keep_what_is_above_their_threshold(graph: Graph, seed: int) -> None:
    compare(graph, pixels_for(graph, 2, seed))


@pytest.mark.parametrize(("halting", "readout"), list(itertools.product(HALTING, READOUTS)))
def test_every_halting_and_readout(halting: str, readout: str) -> None:
    shares = []
    for seed in range(2):
        recipe = Recipe(
            seed=seed, halting=halting, readout=readout, norm=False, height=4, width=3, pool=False,
            time_steps=4, blocks=3, membrane=bool(seed % 2),
        )  # fmt: skip
        graph = quantised_at_random(build(recipe), seed)
        plain = compare(graph, pixels_for(graph, 4, seed))
        if halting != "block":  # which it refuses
            compare(ComputeHalted()(graph), pixels_for(graph, 2, seed))
        shares.append(plain.visits.mean())
    assert (min(shares) < 1) == (halting != "off")


@pytest.mark.parametrize("halting", ["raster", "block", "time"])
def test_tokens_that_halt_in_groups(halting: str) -> None:
    shares = []
    for seed in range(3):
        recipe = Recipe(
            seed=seed, halting=halting, norm=False, height=4, width=3, pool=False, time_steps=4, blocks=3
        )
        graph = quantised_at_random(build(recipe), seed)
        groups = tuple(token % 3 for token in range(graph.tokens))
        nodes = [
            dataclasses.replace(node, groups=groups) if isinstance(node, FixedHaltingScore) else node
            for node in graph.nodes
        ]
        plain = compare(dataclasses.replace(graph, nodes=nodes), pixels_for(graph, 4, seed))
        shares.append(plain.visits.mean())
    assert min(shares) < 1


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("rows", [False, True])
def test_every_stem(stem: str, events: bool, rows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with windows of whole rows in all convolutions, or in none."""
    monkeypatch.setattr(narrow, "_WORTH_COPYING", 1 << 40 if rows else -1 << 40)
    for seed, sdsa in enumerate((False, True)):
        recipe = Recipe(seed=seed, stem=stem, events=events, sdsa=sdsa, norm=False, height=4, width=3)
        graph = quantised_at_random(build(recipe), seed)
        compare(graph, pixels_for(graph, 2, seed))


@pytest.mark.parametrize("narrow_first", [False, True])
def test_two_layers_take_the_same_pixels(narrow_first: bool) -> None:
    """On a core they arrive once, for the first of its layers that takes them."""
    recipe = Recipe(stem="sps", norm=False, height=4, width=3, pool=False, events=True, halting="off")
    graph = quantised_at_random(build(recipe), 0)
    wide = next(
        node for node in graph.of_type(FixedConv2d) if graph.inputs(node)["x"].src == graph.input.name
    )
    point = dataclasses.replace(wide, name="point", kernel=(1, 1), padding=(0, 0))
    both = FixedAdd(name="both", phase=wide.phase, scope=wide.scope, a_weight=1, b_weight=1)
    tensors = {f"point/{param}": graph.tensor(wide, param) for param in wide.params(graph.time_steps)}
    tensors["point/weight"] = tensors["point/weight"][:, :, :1, :1]
    edges = [dataclasses.replace(edge, src="both") if edge.src == wide.name else edge for edge in graph.edges]
    edges.append(dataclasses.replace(graph.inputs(wide)["x"], dst="point"))
    edges += [Edge(wide.name, "y", "both", "a"), Edge("point", "y", "both", "b")]
    others = [node for node in graph.nodes if node is not wide]
    nodes = [*((point, wide) if narrow_first else (wide, point)), both, *others]
    graph = dataclasses.replace(graph, nodes=nodes, edges=edges, tensors={**graph.tensors, **tensors})
    pieces = [
        Piece(layer=layer, core=core, positions=tuple(some.tolist()), features=(0, features))
        for layer, (positions, features) in neuron_layers(graph).items()
        for core, some in enumerate(np.array_split(np.arange(positions), 2))
        if len(some)
    ]
    cores = CoreLocation(), CoreLocation(x=1)
    mapping = Mapping(profile="loihi2", strategy="token-major", cores=cores, pieces=tuple(pieces))
    compare(graph, pixels_for(graph, 3), mapping=mapping)


@pytest.mark.parametrize(("shrink", "head"), list(itertools.product(SHRINKS, HEADS)))
def test_every_shape_of_tokens(shrink: str, head: str) -> None:
    for membrane in (False, True):
        recipe = Recipe(halting="off", shrink=shrink, head=head, membrane=membrane, norm=False)
        graph = quantised_at_random(build(recipe), 1)
        compare(graph, pixels_for(graph, 2))


@pytest.mark.parametrize("membrane", [False, True])
def test_means_that_round(membrane: bool) -> None:
    recipe = Recipe(
        norm=False, halting="off", head="mean", membrane=membrane, pool=False, height=24, width=24
    )
    graph = Quantise(state_bits=20)(build(recipe))
    assert all(mean.x_shift for mean in graph.of_type(FixedTokenMean))
    compare(graph, pixels_for(graph, 2))


@pytest.mark.parametrize("name", ["product", "converted", "windows"])
def test_nodes_may_have_any_names(name: str) -> None:
    graph = quantised_at_random(build(Recipe(norm=False)), 0)
    for renamed in ("blocks.0.q_lif", "blocks.0.add0"):
        compare(with_name(graph, renamed, name), pixels_for(graph, 3))


def with_name(graph: Graph, old: str, new: str) -> Graph:
    """Rename a node."""
    return dataclasses.replace(
        graph,
        nodes=[dataclasses.replace(node, name=new) if node.name == old else node for node in graph.nodes],
        edges=[
            dataclasses.replace(
                edge,
                src=new if edge.src == old else edge.src,
                dst=new if edge.dst == old else edge.dst,
            )
            for edge in graph.edges
        ],
    )


def test_neurons_without_the_mask_of_the_layer_before_them() -> None:
    graph = quantised_at_random(build(Recipe(norm=False, time_steps=4)), 1)
    masked = [node.name for node in graph.of_type(FixedLIF) if "alive" in graph.inputs(node)]
    assert masked
    for name in masked:
        edges = [edge for edge in graph.edges if (edge.dst, edge.dst_port) != (name, "alive")]
        compare(dataclasses.replace(graph, edges=edges), pixels_for(graph, 3))
