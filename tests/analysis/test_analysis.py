"""Facts derived from random graphs and their records, each against another way to the same fact."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from support.ir_random import Recipe, build, images_for, recipes

from stas_neuro import activity, analysis
from stas_neuro.activity.layers import layers_of
from stas_neuro.exporters.lava.schedule import connections
from stas_neuro.ir import Graph, HaltingScore, ImageScore, Node
from stas_neuro.passes import FoldBatchNorm, Quantise
from stas_neuro.reference import run_reference
from stas_neuro.scopes import block_of, scope_of


@settings(max_examples=40, deadline=None)
@given(recipes(norm=False))
def test_facts_of_halting_agree_with_what_a_run_visits(recipe: Recipe) -> None:
    graph = build(recipe)
    accumulators = graph.accumulators
    visits = run_reference(graph, images_for(graph, 2)).visits
    for block in range(graph.blocks):
        accumulator, mask = analysis.accumulator_of(graph, block), analysis.visit_mask(graph, block)
        if mask is None:
            assert visits[:, :, block].all()
        else:
            assert accumulator is not None and mask.dst == accumulator.name
            assert analysis.mask_heard(graph, accumulator) == analysis.place_of(mask)
    for accumulator in accumulators:
        block = analysis.own_block(graph, accumulator)
        assert analysis.accumulator_of(graph, block) is accumulator
        score = graph.node(graph.inputs(accumulator)["score"].src)
        assert isinstance(score, HaltingScore | ImageScore)
        assert analysis.score_mask(graph, score) == graph.inputs(accumulator).get("alive")
    if recipe.halting in ("time", "image"):  # so that the first block stands for all of them
        assert (visits == visits[:, :, :1]).all()


@settings(max_examples=40, deadline=None)
@given(recipes(norm=False))
def test_facts_of_neurons_and_stages_agree_with_the_table_of_layers(recipe: Recipe) -> None:
    graph = build(recipe)
    rows = layers_of(graph)
    assert analysis.stages_of(graph) == {node.name: _spikes_before(graph, node) for node in graph.nodes}
    assert analysis.spiking_stages(graph) == activity.stages_in(rows, "step")
    assert activity.record_halts(rows) == (graph.halting != "off")
    owners = activity.neuron_rows(rows)
    for row, owner in zip(rows, owners, strict=True):
        assert rows[owner].name == analysis.neurons_of(graph, graph.node(row.name)) == activity.owner_of(row)
        assert owners[owner] == owner  # it keeps its own
    assert {rows[owner].name for owner in owners} == set(analysis.neuron_layers(graph))


def test_a_phase_without_layers_has_no_stages() -> None:
    rows = [row for row in layers_of(build(Recipe(norm=False))) if row.phase == "step"]
    assert activity.stages_in(rows, "once") == 0
    assert activity.stages_in(rows, "step") > 1


def test_what_is_beside_the_cores_is_named() -> None:
    graph = FoldBatchNorm()(build(Recipe(readout="rate", halting="off")))
    assert analysis.beside_cores(graph) == []
    program = Quantise(encoding="bias")(graph)
    convolution = next(node.name for node in program.nodes if hasattr(node, "bias_map"))
    assert analysis.beside_cores(program) == [convolution, program.readout.name]
    assert not {convolution, program.readout.name} & analysis.neuron_layers(program).keys()


@pytest.mark.parametrize("halting", ["raster", "rectangular", "block", "time"])
def test_lava_looks_up_the_scores_of_visits_only(halting: str) -> None:
    graph = build(Recipe(norm=False, halting=halting))
    wires = {(edge.dst, edge.dst_port): (edge.src, edge.src_port, edge.delay) for edge in connections(graph)}
    for score in graph.of_type(HaltingScore):
        mask = analysis.score_mask(graph, score)
        assert wires.get((score.name, "alive")) == (None if mask is None else analysis.place_of(mask))


@pytest.mark.parametrize("block", [0, 7, 1023])
def test_a_scope_names_its_block(block: int) -> None:
    assert block_of(scope_of(block)) == block
    assert block_of("stem") is None and block_of("blocks") is None


def _spikes_before(graph: Graph, node: Node) -> int:
    """Count the nodes that fire on the longest path back from a node within its phase."""
    phase = analysis.waited_for_in(graph, node)
    found, ways = {node.name: 0}, [node]
    while ways:
        here = ways.pop()
        for edge in graph.inputs(here).values():
            source = graph.node(edge.src)
            fired = found[here.name] + source.traits.fires
            # Again only with more spikes than before: the number of paths doubles at every sum.
            longer = fired > found.get(source.name, -1)
            if longer and not edge.delay and analysis.waited_for_in(graph, source) == phase:
                found[source.name] = fired
                ways.append(source)
    return max(found.values())
