"""Activity of networks on cores: pieces add up to layers, messages are those of every single neuron."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, graphs, images_for
from support.naive_messages import naive_messages
from support.random_mappings import mappings, one_core

from stas_neuro.activity import KINDS, MAPPED_KINDS, Activity
from stas_neuro.activity.layers import layers_of
from stas_neuro.analysis import extent, neuron_layers
from stas_neuro.chips import load_profile
from stas_neuro.energy.gating import stepping, turns
from stas_neuro.energy.timing import hardware_steps
from stas_neuro.errors import InputError
from stas_neuro.ir import LIF, Graph, ImageScore, Linear, Phase, SpikeMatMul
from stas_neuro.mapping import CoreLocation, Mapping, Piece
from stas_neuro.placement import place
from stas_neuro.reference import run_reference

SMALL: dict[str, Any] = {"channels": 1, "height": 3, "width": 3, "time_steps": 2, "head_dim": 2}


def _by_layer(activity: Activity, kind: str) -> dict[str, np.ndarray]:
    """Sum the rows of each layer of the network, (images, steps)."""
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((), np.int64))
    for row, layer in enumerate(activity.layers):
        sums[layer.network_layer] = sums[layer.network_layer] + activity.counts[kind][:, row]
    return sums


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_pieces_add_up_to_the_layers(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    mapping = data.draw(mappings(graph))
    images = images_for(graph, 2)
    whole = run_reference(graph, images)
    mapped = run_reference(graph, images, mapping=mapping)
    assert np.array_equal(whole.logits, mapped.logits)
    assert np.array_equal(whole.visits, mapped.visits)
    products = {node.name for node in graph.of_type(SpikeMatMul)}
    of_images = {node.name for node in graph.of_type(ImageScore)}
    for kind in set(KINDS) - set(MAPPED_KINDS):
        parts = _by_layer(mapped.activity, kind)
        for row, layer in enumerate(whole.activity.layers):
            expected = whole.activity.counts[kind][:, row]
            if layer.name in products:
                assert (parts[layer.name] >= expected).all()
            elif layer.name in of_images and kind != "score_lookups":
                # Each core that decides for tokens adds up all classes.
                cores = sum(row.network_layer == layer.name for row in mapped.activity.layers)
                assert np.array_equal(parts[layer.name], cores * expected)
            else:
                assert np.array_equal(parts[layer.name], expected), (kind, layer.name)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_one_core_does_what_the_layers_do(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    images = images_for(graph, 2)
    whole = run_reference(graph, images).activity
    alone = run_reference(graph, images, mapping=one_core(graph)).activity
    for kind in set(KINDS) - set(MAPPED_KINDS):
        assert np.array_equal(whole.counts[kind], alone.counts[kind]), kind
    for kind in ("hops_x", "hops_y", "chip_crossings"):
        assert alone.total(kind) == 0
    assert alone.total("axon_messages") > 0


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_every_neuron_is_updated_in_each_of_its_steps(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    mapping = data.draw(mappings(graph))
    run = run_reference(graph, images_for(graph, 2), mapping=mapping, gating="core").activity
    steps = {Phase.ONCE: 1, Phase.END: 1, Phase.STEM: graph.time_steps, Phase.STEP: graph.time_steps}
    updates = sum(run.counts[f"updates_{what}"] for what in ("active", "inactive", "gated"))
    for row, layer in enumerate(run.layers):
        if layer.kind == "LIF":
            node = graph.node(layer.of)
            assert (updates[:, row].sum(axis=1) == layer.neurons * steps[node.phase]).all()
    skipped, gated = run.counts["updates_skipped"], run.counts["updates_gated"]
    assert (skipped <= gated).all()


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_messages_are_those_of_every_single_neuron(data: st.DataObject) -> None:
    graph = data.draw(graphs(**SMALL))
    mapping = data.draw(mappings(graph, cores=4))
    images = images_for(graph, 2)
    run = run_reference(graph, images, mapping=mapping)
    expected = naive_messages(graph, images, mapping)
    found: Counter[tuple[str, str, str, int]] = Counter()
    for kind in ("axon_messages", "hops_x", "hops_y", "chip_crossings", "input_messages"):
        for image, row, step in np.argwhere(run.activity.counts[kind]):
            key = kind, run.activity.layers[row].name, run.activity.steps[step], int(image)
            found[key] = int(run.activity.counts[kind][image, row, step])
    assert found == expected


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_linear_layers_take_is_what_was_sent(data: st.DataObject) -> None:
    """A Linear that alone takes a layer's spikes does a synaptic operation a message and feature."""
    graph = data.draw(graphs())
    mapping = data.draw(mappings(graph))
    run = run_reference(graph, images_for(graph, 2), mapping=mapping).activity
    sent = _by_layer(run, "axon_messages")
    for node in graph.of_type(Linear):
        source = graph.node(graph.inputs(node)["x"].src)
        if isinstance(source, LIF) and len(graph.consumers(source)) == 1:
            taken: Any = 0
            for row, layer in enumerate(run.layers):
                if layer.of == node.name:
                    taken = taken + run.counts["synops"][:, row] // layer.out_features
            assert np.array_equal(taken, sent[source.name])


@pytest.mark.parametrize("form", ["Q(K^TV)", "(QK^T)V"])
def test_cores_repeat_the_first_product_of_attention(form: str) -> None:
    graph = build(Recipe(form=form, norm=False, heads=2, head_dim=3, blocks=1, halting="off", seed=3))
    spikes: dict[str, np.ndarray] = {}
    product = graph.of_type(SpikeMatMul)[0]

    def observe(node: Any, inputs: Any) -> None:
        if node.name == product.name:
            spikes.update({port: inputs[port][0] for port in "qkv"})

    pieces = ((range(0, 2), (0, 2)), (range(0, 2), (2, 6)), (range(2, 6), (0, 2)), (range(2, 6), (2, 6)))
    mapping = _cut(graph, "blocks.0.attn_lif", pieces)
    run = run_reference(graph, images_for(graph, 1), mapping=mapping, observe=observe).activity
    q, k, v = (spikes[port] for port in "qkv")
    for index, (tokens, (first, end)) in enumerate(pieces):
        synops = unary = 0
        for j in range(first, end):
            head = range(j // 3 * 3, j // 3 * 3 + 3)
            if form == "Q(K^TV)":
                synops += sum(k[n, i] * v[n, j] for n in range(len(k)) for i in head)
                synops += sum(q[n, i] for n in tokens for i in head)
                continue
            for n in tokens:
                scores = [sum(q[n, i] * k[m, i] for i in head) for m in range(len(k))]
                if j == max(first, head[0]):
                    synops += sum(scores)
                    unary += sum(scores)
                synops += sum((score != 0) * v[m, j] for m, score in enumerate(scores))
                unary += sum(score * v[m, j] for m, score in enumerate(scores))
        row = run.layer_index(f"{product.name}@{1 + index}")
        assert run.counts["synops"][0, row, run.step_index("step3")] == synops > 0
        expected = synops if form == "Q(K^TV)" else unary
        assert run.counts["synops_unary"][0, row, run.step_index("step3")] == expected


def _cut(graph: Graph, layer: str, parts: Any) -> Mapping:
    """Put one layer in parts on cores 1, 2, ..., the others on core 0."""
    pieces = [piece for piece in one_core(graph).pieces if piece.layer != layer]
    for index, (positions, features) in enumerate(parts):
        pieces.append(Piece(layer=layer, core=1 + index, positions=tuple(positions), features=features))
    sites = tuple(CoreLocation(x=index) for index in range(1 + len(parts)))
    return Mapping(profile="loihi2", strategy="token-major", cores=sites, pieces=tuple(pieces))


def test_rows_say_what_a_piece_holds() -> None:
    graph = build(Recipe(norm=False))
    tokens, dim = extent(graph, graph.node("blocks.0.q_lif"))
    rest = (1, *range(3, tokens))
    parts = [((0, 2), (0, 4)), ((0, 2), (4, dim)), (rest, (0, dim))]
    mapping = _cut(graph, "blocks.0.q_lif", parts)
    run = run_reference(graph, images_for(graph, 1), mapping=mapping).activity
    assert run.cores == mapping.cores
    rows = {layer.name: layer for layer in run.layers}
    piece, neurons = rows["blocks.0.q@2"], rows["blocks.0.q_lif@2"]
    assert (piece.core, piece.of, piece.placed_with) == (2, "blocks.0.q", "blocks.0.q_lif@2")
    assert (piece.neurons, piece.in_features, piece.out_features) == (2 * (dim - 4), dim, dim - 4)
    assert piece.weights == dim * (dim - 4)
    assert (neurons.neurons, neurons.placed_with, neurons.core) == (2 * (dim - 4), "", 2)
    for layer in layers_of(graph):
        assert sum(row.neurons for row in run.layers if row.of == layer.name) == layer.neurons


def test_a_mapping_of_another_network_is_refused() -> None:
    graph = build(Recipe(norm=False))
    whole = one_core(graph)
    fewer = Mapping(profile="loihi2", strategy="token-major", cores=whole.cores, pieces=whole.pieces[1:])
    with pytest.raises(InputError, match=f"holds 0 neurons of {whole.pieces[0].layer}"):
        run_reference(graph, images_for(graph, 1), mapping=fewer)
    with pytest.raises(InputError, match="keeps no neurons of this network"):
        run_reference(build(Recipe(norm=False, blocks=1)), images_for(graph, 1), mapping=whole)


def test_a_core_stands_still_when_all_its_tokens_have_halted() -> None:
    graph = build(Recipe(norm=False, halting="raster", beta=0.5, seed=1, time_steps=4))
    tokens, _ = neuron_layers(graph)["blocks.1.q_lif"]
    first, rest = tuple(range(tokens // 2)), tuple(range(tokens // 2, tokens))
    pieces = []
    for layer, (positions, features) in neuron_layers(graph).items():
        whole = (tuple(range(positions)),)
        groups = (first, rest) if layer.startswith("blocks") else whole
        for core, group in enumerate(groups):
            where = core if layer.startswith("blocks") else 2
            pieces.append(Piece(layer=layer, core=where, positions=group, features=(0, features)))
    sites = (CoreLocation(), CoreLocation(x=1), CoreLocation(x=2))
    mapping = Mapping(profile="loihi2", strategy="token-major", cores=sites, pieces=tuple(pieces))
    images = images_for(graph, 6)
    run = run_reference(graph, images, mapping=mapping, gating="core")
    assert run.activity.total("updates_skipped") > 0
    for core, group in enumerate((first, rest)):
        row = run.activity.layer_index(f"blocks.1.q_lif@{core}")
        halted = ~run.visits[:, :, 1, group].any(axis=2)
        steps = [run.activity.step_index(f"step{step}") for step in range(1, 5)]
        skipped = run.activity.counts["updates_skipped"][:, row][:, steps]
        assert np.array_equal(skipped, halted * run.activity.layers[row].neurons)
    silent = run_reference(graph, images, mapping=mapping).activity
    assert silent.total("updates_skipped") == 0
    for kind in set(KINDS) - {"updates_skipped"}:
        assert np.array_equal(silent.counts[kind], run.activity.counts[kind])


@pytest.mark.parametrize("halting", ["raster", "rectangular", "time", "image"])
def test_prices_let_those_cores_stand_still_that_did(halting: str) -> None:
    graph = build(Recipe(norm=False, halting=halting, beta=0.5, seed=1, time_steps=4, height=6))
    mapping = place(graph, load_profile("loihi2"), strategy="token-major", groups=3)
    run = run_reference(graph, images_for(graph, 6), mapping=mapping, gating="core").activity
    ticks = hardware_steps(run, "raster")
    stepped, turn = stepping(run, ticks).stepped, turns(run, ticks)
    assert run.total("updates_skipped") > 0
    for row, layer in enumerate(run.layers):
        for step in range(len(run.steps)):
            gated, skipped = (run.counts[f"updates_{how}"][:, row, step] for how in ("gated", "skipped"))
            if gated.any():
                assert np.array_equal(skipped, gated * ~stepped[:, layer.core, turn[row, step]])
