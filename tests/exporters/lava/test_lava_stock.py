"""Networks of stock Lava processes, run on Lava, against the integer reference: spike by spike."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.fixed_random import pixels_for, quantised_at_random
from support.ir_random import Recipe, build, recipes
from support.paths import ROOT
from support.random_models import random_model

from stas_neuro.compiler import fold
from stas_neuro.energy import estimate
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.stock import cost_of, lower_stock, round_synaptic_biases, run_stock
from stas_neuro.exporters.lava.stock.execute import execute
from stas_neuro.exporters.lava.stock.lower import StockNetwork
from stas_neuro.exporters.lava.stock.netlist import SPIKE, Graded, Netlist, Signal, Source, Wire, weighted
from stas_neuro.exporters.lava.stock.processes import assembled
from stas_neuro.ir import (
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedLIF,
    FixedLinear,
    FixedTokenMean,
    Graph,
    IRError,
    Node,
    Problems,
    Range,
)
from stas_neuro.models.config import preset
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

Array = np.ndarray
SMALL = Recipe(norm=False, halting="off", height=4, width=4, head_dim=2, time_steps=3)


def lively(recipe: Recipe, **options: Any) -> Graph:
    """A quantised graph whose every LIF fires for about a third of its inputs, and whose tokens halt."""
    graph = round_synaptic_biases(Quantise(**options)(build(recipe)))
    pixels = pixels_for(graph, 4)
    for lif in graph.of_type(FixedLIF):
        currents: list[Array] = []

        def note(node: Node, inputs: Any, name: str = lif.name, currents: list[Array] = currents) -> None:
            currents.extend([inputs["x"]] if node.name == name else [])

        run_reference(graph, pixels, observe=note)
        vth = int(np.quantile(np.concatenate(currents), 0.7)) >> 6
        graph = changed(graph, replace(lif, vth=min(max(vth, 0), 2**17 - 1)))
    for share in (0.4, 0.6, 0.8, 1.0) if graph.accumulators else ():
        for node in graph.of_type(FixedHaltAccumulate):
            graph = changed(graph, replace(node, limit=int(share * 2**node.score_bits)))
        if run_reference(graph, pixels).token_ratio > 0.6:
            break
    return graph


def quantised(recipe: Recipe) -> Graph:
    return round_synaptic_biases(Quantise()(build(recipe)))


def changed(graph: Graph, *nodes: Node) -> Graph:
    new = {node.name: node for node in nodes}
    return replace(graph, nodes=tuple(new.get(node.name, node) for node in graph.nodes))


def assert_equal(network: StockNetwork, images: Array) -> Trace:
    """Require every spike, visit and logit of the reference."""
    stock = run_stock(network, images, record_spikes=True)
    wanted = run_reference(network.graph, images, record_spikes=True)
    assert stock.spikes.keys() == wanted.spikes.keys()
    for name, spikes in wanted.spikes.items():
        np.testing.assert_array_equal(stock.spikes[name], spikes, err_msg=name)
    np.testing.assert_array_equal(stock.visits, wanted.visits)
    np.testing.assert_array_equal(stock.logits, wanted.logits)
    return stock


# Equality


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 0, "stem": "sps", "events": True, "readout": "rate", "blocks": 1},
        {"seed": 2, "halting": "block", "readout": "rate"},
        {"seed": 5, "halting": "block", "sdsa": True, "blocks": 3, "readout": "last-state"},
        {"seed": 1, "halting": "rectangular", "beta": -2.5},
        {"seed": 10, "halting": "rectangular", "stem": "sps", "sdsa": True, "beta": -2.5},
        {"seed": 3, "halting": "block", "qk": True, "head_dim": 3},
        {"seed": 4, "halting": "block", "iand": True},
        {"seed": 4, "stem": "sps", "iand": True, "qk": True},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_spikes_visits_and_logits_are_those_of_the_graph(changes: dict[str, Any]) -> None:
    graph = lively(replace(SMALL, **changes))
    trace = assert_equal(lower_stock(graph), pixels_for(graph, 4))
    assert all(spikes.any() for spikes in trace.spikes.values())
    assert trace.token_ratio < 0.95 or changes.get("halting") is None


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    recipes(
        norm=False,
        membrane=False,
        reset="zero",
        outlast=False,
        height=4,
        width=3,
        heads=2,
        head_dim=2,
        events=False,
        closes=None,
        together=0,
    )
    .filter(lambda recipe: recipe.halting in ("off", "block", "rectangular") and recipe.blocks < 3)
    .filter(lambda recipe: recipe.stem in ("one-step", "sps") and recipe.shrink != "pool"),
    st.integers(0, 2**16),
)
def test_so_are_those_of_random_integers(recipe: Recipe, seed: int) -> None:
    assert_random(recipe, seed)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    recipes(
        norm=False, membrane=False, reset="zero", outlast=False, height=4, width=3, closes=None, together=0
    )
    .filter(lambda recipe: recipe.halting in ("off", "block", "rectangular") and recipe.shrink != "pool")
    .filter(lambda recipe: recipe.stem == "sps" or (recipe.stem == "one-step" and not recipe.events)),
    st.integers(0, 2**16),
)
def test_so_are_those_of_many_random_integers(recipe: Recipe, seed: int) -> None:
    assert_random(recipe, seed)


def assert_random(recipe: Recipe, seed: int) -> None:
    graph = round_synaptic_biases(quantised_at_random(build(recipe), seed))
    encoded = [replace(graph.input, encoding="graded")]  # type: ignore[call-arg]
    encoded += [replace(conv, off_core=False) for conv in graph.of_type(FixedConv2d)]
    graph = changed(graph, *encoded)
    # Stock neurons cannot round what they send.
    assume(not any(mean.x_shift for mean in graph.of_type(FixedTokenMean)))
    assert_equal(lower_stock(graph), pixels_for(graph, 3, seed))


@pytest.mark.parametrize(
    "choices",
    [
        {"accumulate": "block"},
        pytest.param({"accumulate": "rectangular", "attention": "sdsa"}, marks=pytest.mark.slow),
        pytest.param({"accumulate": "off", "stem": "sps"}, marks=pytest.mark.slow),
        pytest.param({"accumulate": "block", "dim": 16, "image_size": 8}, marks=pytest.mark.slow),
        pytest.param(
            {"accumulate": "rectangular", "backbone": "spikformer", "dim": 16, "image_size": 8},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda choices: "-".join(map(str, choices.values())),
)
def test_residual_currents_and_trained_shapes_go_too(choices: dict[str, Any]) -> None:
    config = preset("tiny-spikingformer").replace(
        **{"dim": 8, "image_size": 4, "time_steps": 3, "beta": -1.5} | choices
    )
    graph = round_synaptic_biases(Quantise()(fold(random_model(config, 3))))
    trace = assert_equal(lower_stock(graph), pixels_for(graph, 3))
    assert trace.token_ratio < 1 or config.accumulate == "off" or config.backbone == "spikformer"


@pytest.mark.parametrize("halting", ["block", pytest.param("rectangular", marks=pytest.mark.slow)])
def test_a_token_halts_at_the_limit_and_not_just_below(halting: str) -> None:
    graph = lively(replace(SMALL, seed=2, halting=halting))
    scores = graph.of_type(FixedHaltingScore)[0]
    # What one spike more than the least scores: some tokens have just that after the first block.
    limit = int(graph.tensor(scores, "table")[1 - scores.low])
    images, visits = pixels_for(graph, 2), []
    for at in (limit, limit + 1):
        halting_at = (replace(node, limit=at) for node in graph.of_type(FixedHaltAccumulate))
        visits.append(assert_equal(lower_stock(changed(graph, *halting_at)), images).visits)
    assert (visits[0] != visits[1]).any()


def test_a_rest_of_a_bias_stays_constant_where_a_halted_token_never_comes_back() -> None:
    graph = Quantise()(build(replace(SMALL, halting="rectangular")))
    held = [node for node in graph.of_type(FixedLinear) if "alive" in graph.inputs(node)]
    assert any((graph.tensor(node, "bias") << node.bias_exp & 63).any() for node in held)
    graph = changed(
        graph, *(replace(node, limit=node.limit // 3) for node in graph.of_type(FixedHaltAccumulate))
    )
    trace = assert_equal(lower_stock(graph), pixels_for(graph, 4))
    assert trace.token_ratio < 0.9


def test_a_black_image_and_what_comes_before_it_leave_no_spike_behind() -> None:
    """Biases that fire without an image must do so once an image, not between images."""
    graph = lively(replace(SMALL, seed=8))
    conv, lif = graph.of_type(FixedConv2d)[0], graph.of_type(FixedLIF)[0]
    tensors = {**graph.tensors, f"{conv.name}/bias": np.full_like(graph.tensor(conv, "bias"), 4095)}
    graph = replace(changed(graph, replace(conv, bias_exp=7), replace(lif, vth=8100)), tensors=tensors)
    images = pixels_for(graph, 3)
    images[1] = 0
    trace = assert_equal(lower_stock(graph), images)
    first, second = trace.spikes["stem.lif0"], trace.spikes["stem.lif1"]
    assert first[1].all() and not first[0].all(), "black pixels inhibit nobody"
    assert (second[1] > second[0]).any()


def test_an_image_runs_the_same_alone_and_in_a_stream() -> None:
    graph = lively(replace(SMALL, halting="rectangular", seed=3, blocks=1))
    network, images = lower_stock(graph), pixels_for(graph, 2)
    heard: list[tuple[int, int]] = []
    alone = run_stock(network, images, chunk=1, progress=lambda done, total: heard.append((done, total)))
    together = run_stock(network, images)
    assert heard == [(1, 2), (2, 2)]
    assert alone.activity == together.activity
    np.testing.assert_array_equal(alone.visits, together.visits)
    np.testing.assert_array_equal(alone.logits, together.logits)


def test_one_changed_weight_shows_first_where_it_is() -> None:
    graph = lively(SMALL)
    network, images = lower_stock(graph), pixels_for(graph, 4)
    pipeline = network.pipeline
    mutant = next(s for s in pipeline.synapses if s.dst == "blocks.1.fc2_lif" and s.weights.size > 20)
    weights = mutant.weights.copy()
    weights[weights != 0] = -weights[weights != 0]
    synapses = tuple(replace(s, weights=weights) if s is mutant else s for s in pipeline.synapses)
    broken = replace(network, pipeline=replace(pipeline, synapses=synapses))
    stock = run_stock(broken, images, record_spikes=True)
    wanted = run_reference(graph, images, record_spikes=True)
    differing = [name for name, spikes in wanted.spikes.items() if (stock.spikes[name] != spikes).any()]
    assert differing[0] == "blocks.1.fc2_lif"
    assert set(differing) <= {"blocks.1.fc2_lif", "blocks.1.out_lif"}


# Cost


def test_costs_are_those_of_the_record_and_grow_by_what_stock_processes_need() -> None:
    graph = lively(SMALL)
    # A weight of 0 needs no synapse: give the other backends none to count.
    tensors = {
        key: np.where(t == 0, 2, t) if key.endswith("/weight") else t for key, t in graph.tensors.items()
    }
    graph = replace(graph, tensors={key: t.astype(np.int16) for key, t in tensors.items()})
    network, images = lower_stock(graph), pixels_for(graph, 2)
    cost, stock, own = cost_of(network), run_stock(network, images), run_reference(graph, images)
    layers, steps = stock.activity.layers, graph.time_steps
    assert cost.neurons == sum(layer.neurons for layer in layers)
    assert cost.synapses == sum(layer.weights for layer in layers)
    updates = stock.activity.total("updates_active") + stock.activity.total("updates_inactive")
    assert updates == cost.neurons * steps * len(images)
    assert cost.period == steps
    assert cost.latency == estimate(stock.activity, "loihi2").hardware_steps == cost.depth + steps - 1
    assert 0 < cost.relays < cost.neurons
    # A LIF receives what its layer computes, no more; without halting its bias is constant.
    for layer in ("blocks.0.q", "blocks.0.fc1", "blocks.1.proj"):
        lif = graph.consumers(layer)[0].dst
        for kind in ("synops", "synops_unary"):
            at, wanted = stock.activity.layer_index(lif), own.activity.layer_index(layer)
            np.testing.assert_array_equal(
                stock.activity.counts[kind][:, at], own.activity.counts[kind][:, wanted]
            )
    for lif in ("blocks.0.attn_lif", "blocks.1.out_lif"):
        np.testing.assert_array_equal(
            stock.activity.counts["spikes_out"][:, stock.activity.layer_index(lif)],
            own.activity.counts["spikes_out"][:, own.activity.layer_index(lif)],
        )
    # The image is sent once, and held by the neurons that latch the stem's spikes.
    stem = stock.activity.counts["synops"][:, stock.activity.layer_index("stem.lif0")].sum(axis=0)
    first, second = (stem[stock.activity.step_index(label)] for label in ("step1", "step2"))
    assert first > 0 == second
    assert stock.activity.total("cpu_operations") > 0
    assert network.off_core == ("readout", "head")


# Refusals


def without(graph: Graph, name: str) -> Graph:
    """Remove a node: what takes its output takes its input instead."""
    source = graph.inputs(name)["x"]
    edges = (
        replace(e, src=source.src, src_port=source.src_port) if e.src == name else e
        for e in graph.edges
        if e.dst != name
    )
    tensors = {key: t for key, t in graph.tensors.items() if not key.startswith(f"{name}/")}
    nodes = tuple(node for node in graph.nodes if node.name != name)
    return replace(graph, nodes=nodes, edges=tuple(edges), tensors=tensors)


def test_all_reasons_are_given_at_once() -> None:
    recipe = replace(SMALL, halting="raster", stem="late-max")
    graph = Quantise(encoding="bias")(build(recipe))
    small = {"blocks.1.proj/weight_exp": np.full(4, -8, np.int16)}  # its input will be counts in units of 64
    graph = replace(graph, tensors={**graph.tensors, **small})
    for name in ("blocks.0.q", "blocks.1.attn_lif", "blocks.1.out_lif"):
        graph = without(graph, name)
    with pytest.raises(IRError) as caught:
        lower_stock(graph)
    problems = {problem.where: problem for problem in caught.value.problems}
    assert "bias currents" in problems["input"].what and "graded" in problems["input"].remedy
    assert "integrates" in problems["stem.integrate"].what
    assert "raster" in problems["halt0"].what and "block" in problems["halt0"].remedy
    assert "without a synapse" in problems["blocks.0.q_lif"].what
    assert "unit" in problems["blocks.1.add1"].what
    assert "without a LIF" in problems["blocks.1.attn"].what
    assert "is a current" in problems["blocks.1.proj"].what
    with pytest.raises(IRError, match="it is folded"):
        lower_stock(build(SMALL))


def test_biases_that_halting_holds_back_are_refused_until_they_are_rounded() -> None:
    graph = Quantise()(build(replace(SMALL, halting="block")))
    with pytest.raises(IRError, match=r"blocks\.1\.q/bias: its bias is no multiple of 64"):
        lower_stock(graph)
    rounded = round_synaptic_biases(graph)
    lower_stock(rounded)
    for node in graph.of_type(FixedLinear):
        before = graph.tensor(node, "bias").astype(int) << node.bias_exp
        after_node = rounded.node(node.name)
        assert isinstance(after_node, FixedLinear)
        after = rounded.tensor(node, "bias").astype(int) << after_node.bias_exp
        held = "alive" in graph.inputs(node)
        assert np.abs(after - before).max() <= (64 if held else 0)
        assert not held or not (after % 64).any()


def test_what_a_stock_neuron_cannot_hold_is_refused_by_name() -> None:
    netlist = Netlist(Problems())
    source = Signal(netlist.source("x", 1, Range(0, 2**16), per_step=True), np.array([0]))
    wires = weighted(source, np.array([0]), np.array([0]), np.array([3]))
    netlist.threshold("lif", 1, wires, "s", vth=2**17)
    netlist.add("sums", Graded(), 1, weighted(source, *np.zeros((2, 1), int), np.array([200])), "s")
    found = [(problem.where, problem.what) for problem in netlist.problems.found]
    assert [where for where, _ in found] == ["lif", "lif", "sums"]
    assert all(
        word in what for word, (_, what) in zip(("wraps", "131072", "holds 8388607"), found, strict=True)
    )


def test_a_mean_that_rounds_is_refused() -> None:
    recipe = Recipe(
        norm=False, halting="off", head="mean", fire=">", membrane=True, pool=False, height=24, width=24
    )
    graph = round_synaptic_biases(Quantise(state_bits=20)(build(recipe)))
    with pytest.raises(IRError, match=r"neck\.mean: it rounds the sum of each token .*; use fewer tokens"):
        lower_stock(graph)


def test_images_that_do_not_fit_are_refused() -> None:
    network = lower_stock(quantised(SMALL))
    with pytest.raises(InputError, match="give \\(images, 2, 4, 4\\)"):
        run_stock(network, np.zeros((1, 2, 4, 5), int))
    with pytest.raises(InputError, match=r"not integers 0\.\.255"):
        run_stock(network, np.zeros((1, 2, 4, 4)))


# Parts


@given(st.lists(st.integers(-(2**18), 2**18), min_size=1, max_size=8))
def test_weights_of_any_size_are_sums_of_stock_ones(values: list[int]) -> None:
    netlist = Netlist(Problems())
    source = Signal(netlist.source("x", len(values), SPIKE, per_step=True), np.arange(len(values)))
    each = np.arange(len(values))
    wires = weighted(source, each, each, np.array(values))
    assert all(np.abs(wire.weights).max() <= 255 and 0 <= wire.exp <= 7 for wire in wires)
    np.testing.assert_array_equal(sum(wire.weights << wire.exp for wire in wires), values)


def pipeline_of(weights: Array, exp: int) -> tuple[Netlist, Array]:
    """One graded group of a dense layer, and inputs of 12 steps."""
    netlist = Netlist(Problems())
    out, into = weights.shape
    x = Signal(netlist.source("x", into, Range(0, 7), per_step=True), np.arange(into))
    rows, columns = np.indices(weights.shape).reshape(2, -1)
    netlist.add("y", Graded(), out, [Wire(x, rows, columns, weights.reshape(-1), exp)], "s")
    return netlist, np.random.default_rng(0).integers(0, 8, (into, 12))


@pytest.mark.parametrize(
    ("low", "high", "exp"), [(0, 256, 3), (-255, 1, 0), (-256, 256, 2), (-256, 255, 0), (0, 255, -4)]
)
def test_stock_synapses_hold_all_weights_of_nine_bits(low: int, high: int, exp: int) -> None:
    weights = np.random.default_rng(1).integers(low, high, (5, 6))
    weights[0, 0], weights[1, 1] = low, high - 1
    netlist, x = pipeline_of(weights, exp)
    with assembled(netlist.pipeline(1), {"x": x}, 12) as assembly:
        sent = execute(assembly, 12)["y"]
    sums = weights @ x
    np.testing.assert_array_equal(sent[:, 1:], (sums << exp if exp > 0 else sums >> -exp)[:, :-1])


def test_every_process_is_a_stock_one_and_goes_with_its_run() -> None:
    network = lower_stock(quantised(replace(SMALL, halting="rectangular")))
    inputs = {
        group.name: np.zeros((group.size, 2), int)
        for group in network.pipeline.groups
        if isinstance(group.neuron, Source)
    }
    with assembled(network.pipeline, inputs, 2) as assembly:
        modules = {type(process).__module__ for process in assembly.order}
        process = weakref.ref(assembly.order[0])
    del assembly
    gc.collect()
    assert process() is None, "Lava keeps none of them when the run is over"
    assert modules <= {f"lava.proc.{name}.process" for name in ("sparse", "lif", "graded", "prodneuron")} | {
        "lava.proc.io.source",
        "lava.proc.io.sink",
    }


@pytest.mark.slow
def test_lavas_own_runtime_runs_them_alike() -> None:
    script = ROOT / "tests" / "support" / "stock_runtime.py"
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "equal"
