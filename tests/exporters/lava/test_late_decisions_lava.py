"""Late halting decisions on Lava: the same as the reference, in floats and integers; told apart as data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fixed_random import fixed_graphs, pixels_for
from support.ir_random import Recipe, build, images_for, recipes
from support.paths import EXAMPLES

from stas_neuro import api, compiler
from stas_neuro.analysis import spiking_stages
from stas_neuro.backends import RUNTIMES
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.exporters.lava.saved import load_network, save_network
from stas_neuro.exporters.lava.stock import lower_stock
from stas_neuro.ir import Array, Graph, IRError, LateHaltAccumulate, Stage
from stas_neuro.passes import DelayDecisions, Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace
from stas_neuro.verifier import verify
from stas_neuro.verifier.differences import differences

HALTING_APART = Recipe(norm=False, blocks=3, height=6, seed=1, time_steps=4, beta=-3.0, epsilon=0.3)


def delayed(graph: Graph, share: float) -> Graph:
    return DelayDecisions(1 + round(share * (spiking_stages(graph) - 2)))(graph)


def check(graph: Graph, images: Array) -> Trace:
    """Every number of both, in integers to the last bit."""
    fixed = graph.stage == Stage.QUANTISED
    ours, theirs = (
        run(graph, images, record_spikes=True, record_states=fixed) for run in (run_reference, run_lava)
    )
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0, atol=0 if fixed else 1e-9)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    for what in ("spikes", "states"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        assert mine.keys() == other.keys()
        for name in other:
            np.testing.assert_array_equal(mine[name], other[name], err_msg=f"{what} of {name}")
    assert ours.activity == theirs.activity
    assert ours.activity.late == graph.late > 0
    return ours


@settings(max_examples=20)
@given(data=st.data(), halting=st.sampled_from(("raster", "time")), share=st.floats(0, 1))
def test_lava_decides_late_as_the_reference(data: st.DataObject, halting: str, share: float) -> None:
    recipe = data.draw(recipes(norm=False, halting=halting))
    graph = delayed(build(recipe), share)
    check(graph, images_for(graph, 2, recipe.seed))


@pytest.mark.slow
@settings(max_examples=500, derandomize=False)
@given(data=st.data(), halting=st.sampled_from(("raster", "time")), share=st.floats(0, 1))
def test_lava_decides_late_as_the_reference_on_many_models(
    data: st.DataObject, halting: str, share: float
) -> None:
    recipe = data.draw(recipes(norm=False, halting=halting))
    graph = delayed(build(recipe), share)
    check(graph, images_for(graph, 2, recipe.seed))
    fixed = delayed(data.draw(fixed_graphs(halting=halting)), share)
    check(fixed, pixels_for(fixed, 2))


@settings(max_examples=20)
@given(data=st.data(), halting=st.sampled_from(("raster", "time")), share=st.floats(0, 1))
def test_lava_decides_late_in_integers_as_the_reference(
    data: st.DataObject, halting: str, share: float
) -> None:
    graph = delayed(data.draw(fixed_graphs(halting=halting)), share)
    check(graph, pixels_for(graph, 2))


@pytest.mark.parametrize(
    ("readout", "late"), [("mean-field", 1), ("mean-field", 17), ("last-state", 9), ("rate", 9), ("rate", 17)]
)
def test_tokens_that_halt_apart(readout: str, late: int) -> None:
    graph = DelayDecisions(late)(build(dataclasses.replace(HALTING_APART, readout=readout, alpha=1.0)))
    trace = check(graph, images_for(graph, 4))
    assert len(np.unique(trace.visits.sum((1, 2)))) > 1
    fixed = Quantise()(graph)
    check(fixed, pixels_for(fixed, 2))


def test_both_runtimes_give_the_same() -> None:
    # Each layer is a process: as few as have something late.
    graph = DelayDecisions(9)(build(dataclasses.replace(HALTING_APART, blocks=2)))
    images = images_for(graph, 2)
    here, there = (run_lava(graph, images, runtime=runtime) for runtime in RUNTIMES)
    np.testing.assert_array_equal(here.logits, there.logits)
    np.testing.assert_array_equal(here.visits, there.visits)


@pytest.mark.parametrize("arithmetic", ["float", "fixed"])
@pytest.mark.parametrize("late", [5, 11])
def test_lava_decides_late_on_the_shipped_model(arithmetic: str, late: int) -> None:
    pytest.importorskip("torch")
    folded = compiler.fold(EXAMPLES / "models" / "fashion-spikformer")
    graph = DelayDecisions(late)(folded if arithmetic == "float" else Quantise(bits=8)(folded))
    pixels = np.load(EXAMPLES / "data" / "fashion-mnist-512.npz")["images"][:4]
    check(graph, api.preprocess(graph, pixels.reshape(4, *graph.input.shape)))


@pytest.mark.parametrize("fixed", [False, True])
def test_a_network_that_knows_other_lags_is_told(fixed: bool, tmp_path: Path) -> None:
    raster = build(HALTING_APART)
    if fixed:
        raster = Quantise()(raster)
    graph, other = DelayDecisions(2)(raster), DelayDecisions(9)(raster)
    save_network(graph, tmp_path)
    assert not differences(graph, load_network(tmp_path))
    found = {(each.layer, each.what) for each in differences(graph, other)}
    assert found == {
        *((node.name, "late") for node in graph.accumulators),
        *(
            (node.name, "lags")
            for node, moved in zip(graph.accumulators, other.accumulators, strict=True)
            if node.lags != moved.lags
        ),
    }
    told = {each.what for each in differences(graph, raster)}
    assert {"type", "late", "lags"} <= told


def test_verify_leaves_torch_out_and_says_so() -> None:
    pytest.importorskip("torch")
    graph = DelayDecisions(9)(build(HALTING_APART))
    images = np.random.default_rng(0).random((3, *graph.input.shape))
    result = verify(graph, images)
    assert result.passed
    assert "pipelined-stale" in result.left_out["torch"]
    runs = {agreement.run for part in result.parts for agreement in part.agreements}
    assert runs == {"Lava, in-process", "reference"}
    with pytest.raises(InputError, match="torch cannot run the network"):
        verify(graph, images, model=EXAMPLES / "models" / "fashion-spikformer")


def test_verify_finds_a_lag_that_is_ignored() -> None:
    graph = DelayDecisions(9)(build(HALTING_APART))
    images = np.random.default_rng(0).random((6, *graph.input.shape)) * 3 - 1
    nodes = [
        dataclasses.replace(node, lags=(0, 0, 0)) if isinstance(node, LateHaltAccumulate) else node
        for node in graph.nodes
    ]
    faulty = dataclasses.replace(graph, nodes=tuple(nodes))
    good, bad = (run_lava(graph, images, network=network) for network in (None, faulty))
    assert (good.visits != bad.visits).any()
    assert differences(graph, faulty)


def test_stock_processes_refuse_late_decisions() -> None:
    with pytest.raises(IRError, match="mode raster"):
        lower_stock(Quantise()(DelayDecisions(2)(build(HALTING_APART))))
