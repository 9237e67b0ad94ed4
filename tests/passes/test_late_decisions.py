"""Late halting decisions: against arrival simulated message by message, and raster halting; refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fixed_random import fixed_graphs, pixels_for
from support.ir_random import Recipe, build, images_for, recipes
from support.late_decisions_oracle import arrivals, last_visit, weights_in_raster_order

from stas_neuro.analysis import spiking_stages
from stas_neuro.bundle import Provenance, load_bundle, save_bundle
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    Array,
    FixedHaltAccumulate,
    Graph,
    HaltAccumulate,
    IRError,
    LateHaltAccumulate,
    Node,
    Readout,
)
from stas_neuro.ir.text import parse_graph, print_graph
from stas_neuro.passes import (
    DelayDecisions,
    PassError,
    PipelineExit,
    Quantise,
    run_passes,
    schedule_decisions,
)
from stas_neuro.passes.compute_halted import ComputeHalted
from stas_neuro.passes.late_decisions import arrival_lags
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

CHAINED = st.sampled_from(("raster", "time"))
SHARES = st.floats(0, 1)
"""How late decisions are, between a hardware step and all that there are."""
HALTING_APART = Recipe(
    norm=False, blocks=3, height=6, seed=1, time_steps=4, alpha=1.0, beta=-3.0, epsilon=0.3
)
"""Tokens of this network halt at visits of their own."""


def chained(**fixed: Any) -> st.SearchStrategy[Recipe]:
    """Recipes whose halting goes on from one model step to the next."""
    return CHAINED.flatmap(lambda halting: recipes(halting=halting, **fixed))


def late_by(graph: Graph, share: float) -> int:
    return 1 + round(share * (spiking_stages(graph) - 2))


class Watched:
    """A run of a graph, with the scores that reached accumulators and the weights that reached Readout."""

    def __init__(self, graph: Graph, images: Array) -> None:
        self.scores: dict[str, list[Array]] = {}
        self.weights: dict[str, list[Array]] = {}
        self.trace: Trace = run_reference(graph, images, observe=self._observe, chunk=len(images))

    def _observe(self, node: Node, inputs: Mapping[str, Array]) -> None:
        if isinstance(node, HaltAccumulate):
            self.scores.setdefault(node.name, []).append(inputs["score"])
        elif isinstance(node, Readout):
            for port, value in inputs.items():
                if port.startswith("p"):
                    self.weights.setdefault(port, []).append(value)


# Simulated arrival --------------------------------------------------------------------------------------


def check_against_arrivals(graph: Graph, share: float, images: Array) -> Trace:
    late = late_by(graph, share)
    run = Watched(DelayDecisions(late)(graph), images)
    first = graph.accumulators[0]
    fixed = isinstance(first, FixedHaltAccumulate)
    limit, one = (first.limit, 1 << first.score_bits) if fixed else (1 - first.epsilon, 1)
    scores = np.stack([run.scores[node.name] for node in graph.accumulators], axis=1)
    masks, made = arrivals(graph, late, scores, limit)
    by_block = masks[:, :1] if first.mode == "time" else masks[:, :-1]
    wanted = np.broadcast_to(by_block.transpose(2, 0, 1, 3), run.trace.visits.shape)
    np.testing.assert_array_equal(run.trace.visits, wanted)
    weights = weights_in_raster_order(made, masks, limit, one, last_visit(graph))
    ports = [f"p{graph.blocks - 1}"] if first.mode == "time" else [f"p{k}" for k in range(graph.blocks)]
    for k, port in enumerate(ports if run.weights else ()):
        np.testing.assert_array_equal(np.stack(run.weights[port]), weights[:, k], err_msg=port)
    if run.weights:
        np.testing.assert_allclose(weights.sum(axis=(0, 1)), one, rtol=1e-12)
    return run.trace


@settings(max_examples=25)
@given(recipe=chained(norm=False), share=SHARES)
def test_decisions_are_those_of_simulated_arrival(recipe: Recipe, share: float) -> None:
    graph = build(recipe)
    check_against_arrivals(graph, share, images_for(graph, 3, recipe.seed))


@pytest.mark.slow
@settings(max_examples=1000, derandomize=False)
@given(recipe=chained(norm=False), share=SHARES)
def test_many_decisions_are_those_of_simulated_arrival(recipe: Recipe, share: float) -> None:
    graph = build(recipe)
    check_against_arrivals(graph, share, images_for(graph, 3, recipe.seed))


@settings(max_examples=20)
@given(data=st.data(), share=SHARES)
def test_decisions_of_integers_are_those_of_simulated_arrival(data: st.DataObject, share: float) -> None:
    graph = data.draw(fixed_graphs(halting=data.draw(CHAINED)))
    check_against_arrivals(graph, share, pixels_for(graph, 3))


@pytest.mark.parametrize(("halting", "kinds"), [("raster", 6), ("time", 3)])
def test_every_delay_against_simulated_arrival(halting: str, kinds: int) -> None:
    graph = build(dataclasses.replace(HALTING_APART, halting=halting))
    images = images_for(graph, 6)
    found = {
        check_against_arrivals(graph, share, images).visits.tobytes()
        for share in np.linspace(0, 1, spiking_stages(graph) - 1)
    }
    # The oracle was asked about decisions that differ from each other and from those of raster halting.
    assert len(found | {run_reference(graph, images).visits.tobytes()}) >= kinds


# Lags -----------------------------------------------------------------------------------------------------


@given(recipe=chained())
def test_without_delay_nothing_is_late(recipe: Recipe) -> None:
    graph = build(recipe)
    lags = arrival_lags(graph, spiking_stages(graph))
    assert not any(lag for each in lags.values() for lag in each)
    assert {len(each) for each in lags.values()} == {len(graph.accumulators)}


def test_lags_of_a_known_network() -> None:
    # Spikes added: v, attention, projection and two layers, then the accumulator are six stages a block.
    graph = build(HALTING_APART)
    assert spiking_stages(graph) == 18
    assert [node.lags for node in DelayDecisions(1)(graph).accumulators] == [(0, 0, 0), (0, 0, 0), (0, 0, 1)]
    # A step every 7: the last score is in 18 steps after the beginning of its step, the third beginning then.
    assert arrival_lags(graph, 7) == {"halt0": (0, 1, 0), "halt1": (0, 0, 0), "halt2": (0, 1, 2)}
    assert arrival_lags(graph, 1)["halt2"] == (5, 11, 17)


@settings(max_examples=40)
@given(recipe=chained(norm=False), seed=st.integers(0, 99))
def test_scores_that_are_all_in_time_give_raster_halting(recipe: Recipe, seed: int) -> None:
    graph = build(recipe)
    in_time = with_lags(graph, 0)
    images = images_for(graph, 3, seed)
    ours, raster = (run_reference(g, images, record_spikes=True) for g in (in_time, graph))
    np.testing.assert_array_equal(ours.logits, raster.logits)
    np.testing.assert_array_equal(ours.visits, raster.visits)
    for name, spikes in raster.spikes.items():
        np.testing.assert_array_equal(ours.spikes[name], spikes)
    assert dataclasses.replace(ours.activity, late=0) == raster.activity


def with_lags(graph: Graph, lag: int) -> Graph:
    count = len(graph.accumulators)
    nodes = (
        LateHaltAccumulate(**vars(node), late=1, lags=(lag,) * count)
        if isinstance(node, HaltAccumulate)
        else node
        for node in graph.nodes
    )
    return dataclasses.replace(graph, nodes=tuple(nodes))


def test_a_full_pipeline_shorter_than_its_blocks_decides_as_rectangular_halting() -> None:
    # No score comes back from a higher block in time, so that a block knows itself and those below it.
    full = DelayDecisions(17)(build(HALTING_APART))
    rectangular = build(dataclasses.replace(HALTING_APART, halting="rectangular"))
    images = images_for(full, 16)
    ours, theirs = run_reference(full, images), run_reference(rectangular, images)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    assert 0.3 < ours.token_ratio < 0.9


def test_late_decisions_only_add_visits_before_the_network_feels_them() -> None:
    # The first block's second step is the first that may come too late, and nobody has felt that before.
    graph = build(HALTING_APART)
    images = images_for(graph, 16)
    raster, late = (run_reference(g, images).visits[:, :2, :2] for g in (graph, DelayDecisions(17)(graph)))
    assert (late >= raster).all()
    assert (late != raster).any()


# The pass and its graphs --------------------------------------------------------------------------------


@pytest.mark.parametrize("halting", ["raster", "time"])
def test_delaying_and_quantising_commute(halting: str) -> None:
    graph = build(dataclasses.replace(HALTING_APART, halting=halting))
    delayed = run_passes(graph, [DelayDecisions(4), Quantise()])
    assert delayed == run_passes(graph, [Quantise(), DelayDecisions(4)])
    assert delayed.late == 4
    trace = run_reference(delayed, pixels_for(delayed, 2))
    assert trace.activity.late == 4


@pytest.mark.parametrize(
    ("halting", "late", "what", "remedy"),
    [
        ("rectangular", 1, "halting is rectangular", "schedule pipelined"),
        ("block", 1, "halting is block", "schedule pipelined"),
        ("off", 1, "halting is off", "schedule pipelined"),
        ("raster", 0, "decisions 0 hardware steps late, in model steps of 18", "use 1 to 17"),
        ("raster", 18, "decisions 18 hardware steps late", "use 1 to 17"),
    ],
)
def test_what_cannot_be_delayed_is_refused(halting: str, late: int, what: str, remedy: str) -> None:
    graph = build(dataclasses.replace(HALTING_APART, halting=halting))
    with pytest.raises(PassError) as caught:
        run_passes(graph, [DelayDecisions(late)])
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_halted_tokens_are_computed_before_decisions_are_delayed() -> None:
    # Without gates before blocks a model step has fewer stages, and other scores are there in time.
    raster = build(HALTING_APART)
    computed = ComputeHalted()(raster)
    assert spiking_stages(computed) < spiking_stages(raster)
    check_against_arrivals(computed, 0.6, images_for(computed, 4))
    with pytest.raises(InputError, match="9 hardware steps late") as caught:
        ComputeHalted()(DelayDecisions(9)(raster))
    assert "gating silent" in caught.value.remedy


def test_decisions_are_delayed_once() -> None:
    delayed = DelayDecisions(2)(build(HALTING_APART))
    with pytest.raises(InputError, match="2 hardware steps late already"):
        DelayDecisions(3)(delayed)


def test_schedules() -> None:
    raster = build(HALTING_APART)
    block = build(dataclasses.replace(HALTING_APART, halting="block"))
    assert schedule_decisions(raster, "raster") is raster
    assert schedule_decisions(block, "pipelined") is block
    assert schedule_decisions(raster, "pipelined-stale") == DelayDecisions(17)(raster)
    assert schedule_decisions(raster, "pipelined-stale", 3) == DelayDecisions(3)(raster)
    refused: list[tuple[Graph, str, int | None, str]] = [
        (raster, "pipelined", None, "use the schedule pipelined-stale"),
        (raster, "raster", 3, "use the schedule pipelined-stale"),
        (block, "pipelined-stale", None, "use the schedule pipelined"),
        (raster, "serial", None, "use one of raster"),
    ]
    for graph, schedule, late, remedy in refused:
        with pytest.raises(InputError) as caught:
            schedule_decisions(graph, schedule, late)
        assert remedy in caught.value.remedy


def changed(graph: Graph, name: str, **attributes: Any) -> Graph:
    nodes = (dataclasses.replace(n, **attributes) if n.name == name else n for n in graph.nodes)
    return dataclasses.replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("halting", "attributes", "what"),
    [
        ("raster", {"late": 3}, "late is 3, that of halt0 is 2"),
        ("raster", {"lags": (0, 1)}, "has 2 lags with late 2 and 3 accumulators"),
        ("raster", {"lags": (0, -1, 0)}, "lags is (0, -1, 0)"),
        ("raster", {"lags": (0, 1.5, 0)}, "a tuple of int"),
        ("raster", {"late": -1}, "late is -1"),
        ("time", {"late": 0}, "late is 0; it must be at least 1"),
        ("time", {"mode": "raster"}, "mode raster with 3 blocks"),
        ("raster", {"closes": 1}, "closes is None, None, 1 in the order of the blocks"),
    ],
)
def test_the_ir_refuses_odd_lags(halting: str, attributes: dict[str, Any], what: str) -> None:
    delayed = DelayDecisions(2)(build(dataclasses.replace(HALTING_APART, halting=halting)))
    last = delayed.accumulators[-1].name
    with pytest.raises(IRError) as caught:
        changed(delayed, last, **attributes)
    assert what in f"{caught.value.what}; {caught.value.remedy}"


@pytest.mark.parametrize("closes", [(2, 2, 2), (2, 1, 1), (4, 3, 3), (None, None, 3), (0, 0, 0)])
def test_late_decisions_take_caps_that_end_visits_for_good(closes: tuple[int | None, ...]) -> None:
    assert [node.closes for node in capped(closes).accumulators] == list(closes)


@pytest.mark.parametrize("closes", [(1, 2, 2), (2, 1, 2), (3, 2, 1), (None, None, 2), (1, None, None)])
def test_late_decisions_refuse_caps_after_which_tokens_would_visit(closes: tuple[int | None, ...]) -> None:
    with pytest.raises(IRError, match="close all accumulators behind the first that closes"):
        capped(closes)


def capped(closes: tuple[int | None, ...]) -> Graph:
    """Late decisions of three blocks and four model steps with caps given by accumulator."""
    by_name = {f"halt{block}": step for block, step in enumerate(closes)}
    graph = build(HALTING_APART)
    nodes = (
        dataclasses.replace(node, closes=by_name[node.name]) if isinstance(node, HaltAccumulate) else node
        for node in graph.nodes
    )
    return DelayDecisions(2)(dataclasses.replace(graph, nodes=tuple(nodes)))


def test_other_modes_have_no_late_decisions() -> None:
    graph = build(dataclasses.replace(HALTING_APART, halting="block", blocks=1))
    with pytest.raises(IRError, match="late is 1 in mode block"):
        with_lags(graph, 0)


def test_accumulators_are_late_alike() -> None:
    graph, delayed = build(HALTING_APART), DelayDecisions(2)(build(HALTING_APART))
    nodes = (delayed.node(node.name) if node.name == "halt0" else node for node in graph.nodes)
    with pytest.raises(IRError, match="late is 0, that of halt0 is 2"):
        dataclasses.replace(graph, nodes=tuple(nodes))


def test_totals_of_late_decisions_have_a_proved_bound() -> None:
    quantised = run_passes(build(HALTING_APART), [Quantise(), DelayDecisions(2)])
    last = quantised.accumulators[-1]
    score = quantised.types[quantised.inputs(last)["score"].src, "h"]
    total = quantised.types[last.name, "total"]
    assert total.shape == (4 * 3, quantised.tokens)
    assert total.bound == score.bound
    with pytest.raises(IRError, match="its total can reach"):
        # 3 x 2^10 scores of 2^14 add up to more than 24 bits hold.
        long = dataclasses.replace(quantised, time_steps=2**10)
        changed(long, "halt0", score_bits=14)


@settings(max_examples=10)
@given(data=st.data(), share=SHARES, fixed=st.booleans())
def test_text_and_bundles_keep_late_decisions(
    data: st.DataObject, share: float, fixed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folded = build(data.draw(chained(norm=False, height=4, width=3)))
    delayed = DelayDecisions(late_by(folded, share))(folded)
    assert parse_graph(print_graph(delayed), delayed.tensors) == delayed
    path = tmp_path_factory.mktemp("bundle") / "late.stas"
    quantised = Quantise()(delayed) if fixed else None
    save_bundle(delayed, path, Provenance(source="a test"), quantised=quantised)
    loaded = load_bundle(path)
    assert loaded.graph == delayed
    assert loaded.quantised == quantised


def test_halting_by_image_is_pipelined_but_never_late() -> None:
    graph = build(Recipe(norm=False, halting="image"))
    with pytest.raises(InputError, match=r"the whole image waits .* use the schedule pipelined, in which"):
        schedule_decisions(graph, "pipelined-stale")
    assert schedule_decisions(graph, "pipelined") == PipelineExit()(graph)
    assert schedule_decisions(graph, "raster") == graph
