from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from support.ir_random import Recipe, build, graphs, images_for
from support.nir_graphs import nir_graphs, small_graph

from stas_neuro.bundle import Provenance, load_bundle, save_bundle
from stas_neuro.errors import InputError
from stas_neuro.exporters.nir.origin import KEY
from stas_neuro.exporters.nir.write import refusals, write_nir
from stas_neuro.importers.nir_file import read_network_here
from stas_neuro.importers.nir_graph import NirOptions, graph_of
from stas_neuro.ir import LIF, Add, Conv2d, Edge, Graph, Linear, Phase, Readout, SpikeMatMul, SpikeMaxPool
from stas_neuro.reference import run_reference
from stas_neuro.targets import CannotExpress, convert

SMALL = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nir") / "network.nir"


def round_trip(graph: Graph, path: Path, dt: float = 1e-4, options: NirOptions | None = None) -> Graph:
    path.unlink(missing_ok=True)
    write_nir(graph, path, dt=dt)
    return graph_of(read_network_here(path), options or NirOptions())[0]


@given(graph=nir_graphs())
@SMALL
def test_a_round_trip_is_the_same_graph(graph: Graph, scratch: Path) -> None:
    assert not refusals(graph)
    assert round_trip(graph, scratch) == graph


@given(graph=nir_graphs())
@settings(max_examples=15, deadline=None)
def test_other_programs_can_read_it(graph: Graph, scratch: Path) -> None:
    scratch.unlink(missing_ok=True)
    write_nir(graph, scratch, dt=1e-3)
    plain = all(conv.groups == 1 and isinstance(conv.kernel, int) for conv in graph.of_type(Conv2d))
    network = nir.read(scratch, type_check=plain)  # nir 1.0.8 checks no other convolutions
    for lif in graph.of_type(LIF):
        node = network.nodes[lif.name]
        assert np.all(node.tau == lif.tau * 1e-3)
        assert np.all(node.v_threshold == lif.threshold)
        assert np.all(node.r == 1)
        assert not node.v_reset.any() and not node.v_leak.any()
    for layer in graph.of_type(Linear):
        assert np.array_equal(network.nodes[layer.name].weight, graph.tensor(layer, "weight"))


@given(graph=nir_graphs())
@settings(max_examples=15, deadline=None)
def test_without_what_nir_does_not_say_it_computes_the_same(graph: Graph, scratch: Path) -> None:
    # Read as another program's file: no names, phases or time constants of ours.
    scratch.unlink(missing_ok=True)
    write_nir(graph, scratch, dt=1.0)
    network = replace(read_network_here(scratch), metadata={})
    static = graph.input.phase == Phase.ONCE
    ours, notes = graph_of(network, NirOptions(dt=1.0, time_steps=graph.time_steps, static=static))
    assert any("subtract" in note for note in notes)
    images = images_for(graph, 3)
    spikes, others = (run_reference(each, images, record_spikes=True).spikes for each in (graph, ours))
    for name in spikes:
        assert np.array_equal(spikes[name], others[name])


@given(graph=graphs(norm=False))
@settings(max_examples=25, deadline=None)
def test_every_node_that_nir_cannot_say_is_refused(graph: Graph) -> None:
    found = {problem.where for problem in refusals(graph)}
    never = {node.name for node in (*graph.of_type(SpikeMatMul), *graph.of_type(SpikeMaxPool))}
    masked = {node.name for node in graph.nodes if "alive" in graph.inputs(node)}
    accumulators = {node.name for node in graph.accumulators}
    prologue = {node.name for node in graph.nodes if node.phase == Phase.STEM}
    equal = {node.name for node in graph.of_type(LIF) if node.fire == ">=" or node.reset == "subtract"}
    assert found >= never | masked | accumulators | prologue | equal
    assert all(problem.what and problem.remedy for problem in refusals(graph))


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "fires at equality": (lambda n: replace(n, fire=">=") if isinstance(n, LIF) else n, "v >= threshold"),
    "a readout of rates": (lambda n: replace(n, mode="rate") if isinstance(n, Readout) else n, "reads rate"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    change, text = REFUSED[name]
    graph = small_graph()
    changed = replace(graph, nodes=tuple(map(change, graph.nodes)))
    save_bundle(changed, tmp_path / "b.zip", Provenance(source="test"))
    with pytest.raises(CannotExpress, match=text):
        convert(load_bundle(tmp_path / "b.zip"), "nir", tmp_path / "out.nir")


def test_a_sum_of_a_value_with_itself_is_refused() -> None:
    graph = small_graph()
    nodes = list(graph.nodes)
    edges = [edge for edge in graph.edges if edge.dst != "tokens"]
    nodes.append(Add(name="twice", phase=Phase.STEP, scope="block0"))
    edges += [
        Edge("lif", "s", "twice", "a"),
        Edge("lif", "s", "twice", "b"),
        Edge("twice", "y", "tokens", "x"),
    ]
    (problem,) = refusals(replace(graph, nodes=tuple(nodes), edges=tuple(edges)))
    assert str(problem).startswith("twice: adds a value to itself")


def test_a_transformer_is_refused_node_by_node() -> None:
    found = [str(problem) for problem in refusals(build(Recipe(norm=False, halting="raster")))]
    assert any(text.startswith("blocks.0.attn: multiplies spikes") for text in found)
    assert any(text.startswith("halt0: decides on halting") for text in found)
    assert any(text.startswith("blocks.1.q: has a mask of halting") for text in found)
    assert any(text.startswith("stem.pool: is max pooling") for text in found)


def test_convert_writes_a_file(tmp_path: Path) -> None:
    graph, path = small_graph(), tmp_path / "out.nir"
    save_bundle(graph, tmp_path / "b.zip", Provenance(source="test"))
    bundle = load_bundle(tmp_path / "b.zip")
    convert(bundle, "nir", path, dt=2e-3)
    assert nir.read(path).nodes["lif"].tau.flat[0] == 2.0 * 2e-3
    with pytest.raises(InputError, match=r"out\.nir exists; choose another path or use --force"):
        convert(bundle, "nir", path)
    convert(bundle, "nir", path, force=True)
    assert nir.read(path).nodes["lif"].tau.flat[0] == 2.0 * 1e-4
    with pytest.raises(InputError, match="dt is -1"):
        convert(bundle, "nir", tmp_path / "other.nir", dt=-1.0)
    with pytest.raises(InputError, match="lava has no use for dt"):
        convert(bundle, "lava", tmp_path / "package", dt=1e-3)
    (tmp_path / "data.nir").write_bytes(b"\x89HDF\r\n\x1a\nwhatever")
    with pytest.raises(InputError, match="exists and is no NIR file"):
        convert(bundle, "nir", tmp_path / "data.nir", force=True)


def test_another_dt_is_another_network(scratch: Path) -> None:
    graph = small_graph()
    halved = round_trip(graph, scratch, dt=1e-3, options=NirOptions(dt=5e-4))
    assert halved.of_type(LIF)[0].tau == 4.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema_version": 2}, "metadata stas_neuro: schema_version is 2, this version supports 1"),
        ({"dt": 0.0}, "dt is 0.0; give the seconds of a step"),
        ({"blocks": 10**9}, "blocks is 1000000000"),
        ({"time_steps": 10**9}, "time_steps is 1000000000"),
        ({"nodes": [{"name": "lif", "op": "LIF", "phase": "stem", "scope": "x"}]}, "nodes.0.phase"),
        ({"nodes": [{"name": "lif", "op": "LIF", "phase": "end", "scope": "x"}]}, "goes from phase"),
    ],
)
def test_what_a_file_says_of_its_origin_is_checked(change: dict[str, Any], text: str, scratch: Path) -> None:
    scratch.unlink(missing_ok=True)
    write_nir(small_graph(), scratch)
    network = read_network_here(scratch)
    document = json.loads(network.metadata[KEY]) | change
    with pytest.raises(InputError, match=text):
        graph_of(replace(network, metadata={KEY: json.dumps(document)}), NirOptions())
