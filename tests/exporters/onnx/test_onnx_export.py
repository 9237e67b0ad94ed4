"""ONNX models: onnxruntime, which shares no arithmetic with the reference, gives the same spikes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fixed_random import fixed_graphs, pixels_for, quantised_at_random
from support.ir_random import HALTING, Recipe, build, graphs, images_for
from support.nir_graphs import small_graph
from support.onnx_runs import as_taken, run_evaluator, run_onnxruntime
from support.paths import ROOT

from stas_neuro.bundle import Provenance, load_bundle, save_bundle
from stas_neuro.compiler import compile
from stas_neuro.errors import InputError
from stas_neuro.exporters.onnx import refusals as limits
from stas_neuro.exporters.onnx.forms import FORMS
from stas_neuro.exporters.onnx.model import make_model
from stas_neuro.exporters.onnx.refusals import refusals
from stas_neuro.exporters.onnx.write import write_onnx
from stas_neuro.importers.onnx_importer import read_onnx
from stas_neuro.ir import (
    LIF,
    Array,
    Conv2d,
    Edge,
    FixedConv2d,
    FixedInput,
    FixedLIF,
    FixedLinear,
    FixedOutput,
    FixedReadout,
    FixedSynaptic,
    Graph,
    Integrate,
    LateHaltAccumulate,
    Phase,
    Preprocessing,
    Stage,
    Tokens,
    op_of,
)
from stas_neuro.passes import DelayDecisions
from stas_neuro.reference import run_reference
from stas_neuro.targets import CannotExpress, convert

FEW = settings(max_examples=8, deadline=None)
"""Starting onnxruntime takes longer than running a network of this size."""
MODELS = sorted(path.parent.name for path in (ROOT / "examples/models").glob("*/config.json"))
VARIED = (
    Recipe(norm=False, halting="raster", stem="late-learned", events=True, tau=3.0),
    Recipe(norm=False, halting="time", stem="mean", iand=True, qk=True),
    Recipe(norm=False, halting="rectangular", sdsa=True, fire=">", groups=3),
    Recipe(norm=False, halting="block", stem="sum", membrane=True, readout="rate"),
    Recipe(norm=False, halting="image", stem="sps", membrane=True, form="(QK^T)V", dilated=True, biases=True),
    Recipe(
        norm=False, halting="off", shrink="pool", head="mean", oblong=True, readout="last-state", outlast=True
    ),
)
"""Between them every operation but two, every halting policy, and every form of a value."""


def images_of(graph: Graph, count: int = 3, seed: int = 0) -> Array:
    make: Callable[..., Array] = pixels_for if graph.stage == Stage.QUANTISED else images_for
    return make(graph, count, seed)


def check_run(graph: Graph, run: Callable[..., Any] = run_onnxruntime) -> None:
    """Compare all spikes and logits; integers in every bit."""
    images = images_of(graph)
    ours = run_reference(graph, images, record_spikes=True)
    theirs = run(make_model(graph), as_taken(graph, images))
    assert theirs.spikes.keys() == ours.spikes.keys()
    for name, spikes in ours.spikes.items():
        assert theirs.spikes[name].dtype == np.uint8
        assert np.array_equal(theirs.spikes[name], spikes), name
    assert theirs.logits.dtype == np.float64
    if graph.stage == Stage.QUANTISED:
        assert np.array_equal(theirs.logits, ours.logits)
    else:
        assert np.allclose(theirs.logits, ours.logits, rtol=1e-9, atol=1e-9)


def in_integers(recipe: Recipe) -> Graph:
    return quantised_at_random(build(dataclasses.replace(recipe, height=4, width=3)), seed=3)


@given(graph=graphs())
@FEW
def test_floats_run_in_onnxruntime(graph: Graph) -> None:
    check_run(graph)


@given(graph=st.one_of(fixed_graphs(), fixed_graphs(membrane=True, mixed=True)))
@FEW
def test_integers_run_in_onnxruntime(graph: Graph) -> None:
    check_run(graph)


@pytest.mark.slow
@given(graph=st.one_of(graphs(), fixed_graphs()))
@settings(max_examples=300, deadline=None)
def test_many_graphs_run_in_onnxruntime(graph: Graph) -> None:
    check_run(graph)


@pytest.mark.parametrize("halting", ["raster", "time"])
@pytest.mark.parametrize("late", [1, 3])
def test_late_decisions_run_in_onnxruntime(halting: str, late: int) -> None:
    recipe = Recipe(norm=False, halting=halting, seed=1, time_steps=4, alpha=1.0, epsilon=0.3)
    for graph in (build(recipe), in_integers(recipe)):
        delayed = DelayDecisions(late)(graph)
        assert delayed.of_type(LateHaltAccumulate)
        check_run(delayed)


def test_varied_graphs_run_in_onnxruntime_and_reach_every_form() -> None:
    seen = {LateHaltAccumulate}  # the test before
    for recipe in (*VARIED, dataclasses.replace(VARIED[0], norm=True)):
        graph = build(recipe)
        check_run(graph)
        if not recipe.norm:
            check_run(in_integers(recipe))
        seen |= {op_of(node) for node in graph.nodes}
    assert seen == set(FORMS)
    assert {recipe.halting for recipe in VARIED} == set(HALTING)


@pytest.mark.parametrize("recipe", VARIED, ids=lambda recipe: recipe.halting)
def test_the_evaluator_that_defines_onnx_agrees(recipe: Recipe) -> None:
    check_run(build(recipe), run_evaluator)
    check_run(in_integers(recipe), run_evaluator)


def operators(model: onnx.ModelProto, name: str) -> set[str]:
    """Give the operators in the function of a node."""
    (kind,) = [node.op_type for node in nodes_of(model.graph) if node.name == name]
    return {node.op_type for function in model.functions if function.name == kind for node in function.node}


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g)


@pytest.mark.parametrize("seed", range(3))
def test_integers_use_bytes_where_bounds_prove_it(seed: int) -> None:
    graph = in_integers(Recipe(norm=False, halting="off", seed=seed, membrane=seed == 1))
    model = make_model(graph)
    layers = [node for node in graph.nodes if isinstance(node, FixedSynaptic)]
    used = {
        node.name: bool(operators(model, node.name) & {"ConvInteger", "MatMulInteger"}) for node in layers
    }
    for node in layers:
        x = graph.source_type(graph.inputs(node)["x"])
        assert x.bound is not None
        assert used[node.name] == (x.low >= 0 and x.bound <= 255 and node.weight_bits <= 8)
    assert set(used.values()) == {True, False}


def test_products_that_pass_an_int32_are_int64() -> None:
    step: dict[str, Any] = {"phase": Phase.STEP, "scope": "block0"}
    end: dict[str, Any] = {"phase": Phase.END, "scope": "head"}
    nodes = (
        FixedInput(name="input", phase=Phase.ONCE, scope="stem", shape=(1, 2, 2), encoding="graded"),
        FixedConv2d(
            name="conv", **step, in_channels=1, out_channels=2, kernel=1, stride=1, padding=0, bias=True,
            weight_bits=8, bias_exp=0,
        ),
        FixedLIF(name="lif", **step, threshold=1.0, fire=">", dv=1, vth=2**16),
        Tokens(name="tokens", **step),
        FixedReadout(
            name="readout", **end, mode="mean-field", blocks=1, z_shift=0, z_limit=1, divide_bits=0, y_shift=0
        ),
        FixedLinear(
            name="head", **end, in_features=2, out_features=2, bias=True, weight_bits=8, bias_exp=0
        ),
        FixedOutput(name="output", **end, unit=1.0),
    )  # fmt: skip
    ports = pairwise(nodes)
    edges = [Edge(a.name, a.OUTPUTS[0], b.name, "z0" if b.name == "readout" else "x") for a, b in ports]
    weights = {"conv": [[[[254]]], [[[-254]]]], "head": [[2, 0], [0, 2]]}
    tensors = {f"{name}/weight": np.array(weight, np.int16) for name, weight in weights.items()}
    for name in weights:
        tensors |= {f"{name}/{param}": np.zeros(2, np.int16) for param in ("weight_exp", "bias")}
    graph = Graph(
        stage=Stage.QUANTISED, time_steps=2, nodes=nodes, edges=tuple(edges), tensors=tensors,
        classes=("a", "b"), preprocessing=Preprocessing((0.0,), (1.0,)),
    )  # fmt: skip
    bright = np.full((1, 1, 2, 2), 255)
    trace = run_reference(graph, bright, record_spikes=True, record_states=True)
    kept = trace.states["lif"][:, 0].astype(np.int64) * 4095
    assert kept.max() > 2**31 and kept.min() < -(2**31) and trace.spikes["lif"].any()
    given = run_onnxruntime(make_model(graph), bright.astype(np.uint8))
    assert np.array_equal(given.spikes["lif"], trace.spikes["lif"])
    check_run(graph)


@pytest.mark.parametrize("recipe", VARIED[:1] + VARIED[5:], ids=("events", "windows"))
def test_float32_is_exact_where_floats_are_short(recipe: Recipe) -> None:
    # Weights and images of few bits and no scores: every sum is exact in float32 too, whatever its order.
    graph = build(dataclasses.replace(recipe, halting="off", tau=2.0, stem="one-step", head="tokens"))
    graph = dataclasses.replace(
        graph, tensors={name: np.round(tensor * 8) / 8 for name, tensor in graph.tensors.items()}
    )
    images = np.round(images_of(graph) * 4) / 4
    model = make_model(graph, dtype=np.float32)
    assert "Conv" in operators(model, graph.of_type(Conv2d)[0].name)
    theirs = run_onnxruntime(model, images.astype(np.float32))
    ours = run_reference(graph, images, record_spikes=True)
    assert all(np.array_equal(theirs.spikes[name], spikes) for name, spikes in ours.spikes.items())
    assert theirs.logits.dtype == np.float32
    assert np.allclose(theirs.logits, ours.logits, rtol=1e-5)


def test_logits_alone() -> None:
    graph = build(VARIED[0])
    images = images_of(graph)
    alone = run_onnxruntime(make_model(graph, spikes=False), images)
    assert not alone.spikes
    assert np.array_equal(alone.logits, run_onnxruntime(make_model(graph), images).logits)


def test_nodes_are_named_as_in_the_graph_and_time_is_not_unrolled() -> None:
    graph = build(VARIED[0])
    longer = build(dataclasses.replace(VARIED[0], time_steps=50))
    nodes = [[node.name for node in nodes_of(make_model(each).graph)] for each in (graph, longer)]
    assert nodes[0] == nodes[1]
    assert {node.name for node in graph.nodes} <= set(nodes[0])


@pytest.mark.parametrize("name", MODELS)
def test_shipped_models(name: str, tmp_path: Path) -> None:
    bundle = compile(ROOT / "examples/models" / name, bits=8)
    for graph in (bundle.of("float"), bundle.of("fixed")):
        check_run(graph)
        path = tmp_path / f"{graph.stage}.onnx"
        write_onnx(graph, path)
        assert read_onnx(path) == graph


def test_a_stem_behind_what_its_steps_are_reduced_to_is_refused() -> None:
    graph = build(Recipe(norm=False, stem="mean", events=True))
    lif = next(node for node in graph.of_type(LIF) if node.phase == Phase.STEM)
    (reduced,) = graph.of_type(Integrate)
    again = dataclasses.replace(lif, name="again")
    last = dataclasses.replace(reduced, name="last", mode="max")
    edges = [
        dataclasses.replace(edge, src="last", src_port="y") if edge.src == reduced.name else edge
        for edge in graph.edges
    ]
    edges += [Edge(reduced.name, "y", "again", "x"), Edge("again", "s", "last", "x")]
    late = dataclasses.replace(graph, nodes=(*graph.nodes, again, last), edges=tuple(edges))
    (problem,) = refusals(late)
    assert str(problem).startswith("again: is a step of the stem and depends on an Integrate")


def test_weights_beyond_what_a_file_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_bundle(small_graph(), tmp_path / "b.zip", Provenance(source="test"))
    size = sum(tensor.nbytes for tensor in small_graph().tensors.values())
    monkeypatch.setattr(limits, "WEIGHTS_LIMIT", size - 1)
    with pytest.raises(CannotExpress, match=f"has {size} bytes of weights, a file holds {size - 1}"):
        convert(load_bundle(tmp_path / "b.zip"), "onnx", tmp_path / "out.onnx")


def test_convert_writes_a_file(tmp_path: Path) -> None:
    graph, path = small_graph(), tmp_path / "out.onnx"
    save_bundle(graph, tmp_path / "b.zip", Provenance(source="test"))
    bundle = load_bundle(tmp_path / "b.zip")
    convert(bundle, "onnx", path)
    check = run_onnxruntime(onnx.load(path), images_of(graph))
    assert check.spikes.keys() == {"lif"}
    with pytest.raises(InputError, match=r"out\.onnx exists; choose another path or use --force"):
        convert(bundle, "onnx", path)
    before = path.read_bytes()
    convert(bundle, "onnx", path, force=True)
    assert path.read_bytes() == before
    (tmp_path / "data.onnx").write_bytes(b"\x08\x08\x12\x07another")
    with pytest.raises(InputError, match="exists and is no ONNX file of stas-neuro"):
        convert(bundle, "onnx", tmp_path / "data.onnx", force=True)
    with pytest.raises(InputError, match="onnx has no use for dt"):
        convert(bundle, "onnx", tmp_path / "other.onnx", dt=1e-3)
