"""ONNX files of stas-neuro, read back bit for bit; refused where hostile, or where parts disagree."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support.cli_support import fine, stas
from support.fixed_random import fixed_graphs
from support.ir_random import Recipe, build, graphs
from support.nir_graphs import small_graph

import stas_neuro
from stas_neuro.bundle import Provenance, hash_network, load_bundle, save_bundle
from stas_neuro.compiler import replay
from stas_neuro.errors import InputError
from stas_neuro.exporters.onnx.origin import KEY
from stas_neuro.exporters.onnx.write import write_onnx
from stas_neuro.importers import onnx_file
from stas_neuro.importers.onnx_file import read_model
from stas_neuro.importers.onnx_importer import read_onnx
from stas_neuro.ir import Graph
from stas_neuro.passes import DelayDecisions, Quantise

TINY = Recipe(norm=False, channels=1, height=3, width=3, time_steps=2, blocks=1)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx") / "network.onnx"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    write_onnx(build(TINY), path)
    return path.read_bytes()


@given(
    graph=st.one_of(graphs(), fixed_graphs()),
    dtype=st.sampled_from(("float32", "float64")),
    spikes=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_a_round_trip_is_the_same_graph(graph: Graph, dtype: str, spikes: bool, scratch: Path) -> None:
    scratch.unlink(missing_ok=True)
    write_onnx(graph, scratch, dtype=dtype, spikes=spikes)
    again = read_onnx(scratch)
    assert again == graph
    assert hash_network(again) == hash_network(graph)


def test_late_decisions_are_read_back(scratch: Path) -> None:
    graph = Quantise()(DelayDecisions(2)(build(Recipe(norm=False, seed=1))))
    scratch.unlink(missing_ok=True)
    write_onnx(graph, scratch)
    assert read_onnx(scratch) == graph


Change = Callable[[onnx.ModelProto], None]


def changed(content: bytes, change: Change, path: Path) -> Path:
    model = onnx.ModelProto.FromString(content)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def metadata(model: onnx.ModelProto) -> onnx.StringStringEntryProto:
    (entry,) = [each for each in model.metadata_props if each.key == KEY]
    return entry


def document(change: Callable[[dict[str, object]], object]) -> Change:
    """Change the metadata as data."""

    def on(model: onnx.ModelProto) -> None:
        entry = metadata(model)
        content = json.loads(entry.value)
        change(content)
        entry.value = json.dumps(content)

    return on


def attribute(kind: str, name: str, value: object) -> Change:
    """Change an attribute of the nodes of a type in the metadata."""

    def on(content: dict[str, object]) -> None:
        graph = content["graph"]
        assert isinstance(graph, dict)
        for node in graph["nodes"]:
            if node["type"] == kind:
                node[name] = value

    return document(on)


def function(model: onnx.ModelProto, name: str) -> onnx.FunctionProto:
    return next(each for each in model.functions if each.name == name)


def scan(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "Scan")


def constant(model: onnx.ModelProto) -> None:
    """Change the threshold of neurons."""
    for node in function(model, "LIF_form1").node:
        for each in node.attribute:
            if each.name == "value" and each.t.raw_data == np.float64(0.7).tobytes():
                each.t.CopyFrom(numpy_helper.from_array(np.float64(0.8)))


def initializer(model: onnx.ModelProto, name: str = "head/weight") -> onnx.TensorProto:
    return next(each for each in model.graph.initializer if each.name == name)


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(initializer(model))


def typed(model: onnx.ModelProto) -> None:
    tensor = initializer(model)
    tensor.float_data.extend([1.0])
    tensor.ClearField("raw_data")


def negative(model: onnx.ModelProto) -> None:
    del initializer(model).dims[:]
    initializer(model).dims.extend([-1, -len(initializer(model).raw_data) // 8])


DISAGREES: dict[str, tuple[Change, str]] = {
    "a threshold": (constant, "function LIF_form1: computes something else than the metadata stas_neuro say"),
    "an operator": (
        lambda m: setattr(function(m, "Add_form1").node[0], "op_type", "Sub"),
        "function Add_form1: computes something else",
    ),
    "a function too many": (
        lambda m: m.functions.append(helper.make_function("stas_neuro", "Odd", ["x"], ["x"], [], [])),
        "function Odd: is none that",
    ),
    "the function of a node": (
        lambda m: setattr(scan(m).attribute[0].g.node[1], "op_type", "LIF_form2"),
        "node blocks.0.q: computes something else",
    ),
    "a node too few": (lambda m: m.graph.node.pop(), "node output: is missing"),
    "an output": (lambda m: m.graph.output.pop(), "inputs, outputs or versions are not what"),
    "a version": (lambda m: setattr(m, "ir_version", 9), "inputs, outputs or versions are not what"),
    "tau in the metadata": (attribute("LIF", "tau", 3.0), "function LIF_form1: computes something else"),
    "steps in the metadata": (
        document(lambda d: d["graph"].update(time_steps=3)),  # type: ignore[attr-defined]
        "node steps: computes something else",
    ),
    "a dtype in the metadata": (
        document(lambda d: d.update(dtype="float32")),
        "function Conv2d_form1: computes",
    ),
}


@pytest.mark.parametrize("name", DISAGREES)
def test_a_file_that_disagrees_with_its_metadata_is_refused(
    name: str, written: bytes, tmp_path: Path
) -> None:
    change, text = DISAGREES[name]
    path = changed(written, change, tmp_path / "a.onnx")
    assert path.read_bytes() != written
    with pytest.raises(InputError, match=f"a.onnx: .*{text}.*; convert the bundle again"):
        read_onnx(path)


def test_weights_are_those_of_the_initialisers(written: bytes, tmp_path: Path) -> None:
    weights = np.arange(18.0).reshape(3, 6)

    def change(model: onnx.ModelProto) -> None:
        initializer(model).CopyFrom(numpy_helper.from_array(weights, "head/weight"))

    graph = read_onnx(changed(written, change, tmp_path / "a.onnx"))
    assert np.array_equal(graph.tensor("head", "weight"), weights)
    assert dataclasses.replace(graph, tensors=build(TINY).tensors) == build(TINY)


DAMAGED: dict[str, tuple[Change, str]] = {
    "another version": (
        document(lambda d: d.update(schema_version=2)),
        "schema_version is 2, this version supports 1; use the version",
    ),
    "no JSON": (lambda m: setattr(metadata(m), "value", "{"), "metadata stas_neuro: is not JSON"),
    "metadata twice": (lambda m: m.metadata_props.append(metadata(m)), "metadata stas_neuro are there twice"),
    "an unknown field": (document(lambda d: d.update(odd=1)), "metadata stas_neuro: odd: "),
    "an invalid graph": (attribute("LIF", "tau", -1.0), "invalid graph: .*tau is -1.0"),
    "a weight twice": (twice, "initializer.head/weight: is there twice"),
    "no raw data": (typed, "initializer.head/weight: has 0 bytes of raw_data, its shape .* takes 144"),
    "a negative shape": (negative, r"initializer.head/weight: has the shape \(-1, -18\)"),
    "another type": (
        lambda m: setattr(initializer(m), "data_type", TensorProto.STRING),
        "initializer.head/weight: has the data type 8",
    ),
    "a weight too few": (lambda m: m.graph.initializer.pop(0), "invalid graph: .*the tensor .* is missing"),
    "external data": (
        lambda m: setattr(initializer(m), "data_location", TensorProto.EXTERNAL),
        "has a tensor whose values are in another file",
    ),
    "external data in a function": (
        lambda m: (
            next(n for n in function(m, "LIF_form1").node if n.op_type == "Constant")
            .attribute[0]
            .t.external_data.add(key="location", value="/etc/passwd")
        ),
        "has a tensor whose values are in another file",
    ),
    "no metadata": (
        lambda m: m.ClearField("metadata_props"),
        "was not written by stas-neuro .*; use open_model, which converts networks of ReLUs",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused(name: str, written: bytes, tmp_path: Path) -> None:
    change, text = DAMAGED[name]
    with pytest.raises(InputError, match=text):
        read_onnx(changed(written, change, tmp_path / "a.onnx"))


def nested(depth: int) -> bytes:
    """Put graphs into attributes of nodes of graphs."""
    inner = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g, node.attribute, graph.node
            inner = tag + varint(len(inner)) + inner
    return b"\x3a" + varint(len(inner)) + inner


def varint(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


HOSTILE: dict[str, tuple[bytes, str]] = {
    "text": (b"# network\n", "is damaged|is no ONNX file"),
    "a length beyond the end": (b"\x3a\xff\xff\xff\xff\x0f", "a field is longer than what holds it"),
    "a number without end": (b"\x08" + b"\xff" * 12, "a number has no end"),
    "a group": (b"\x3b\x3c", "has a field of the wire type 3"),
    "deep nesting": (nested(30), "has messages nested more than 64 deep"),
    "many nodes": (b"\x3a" + varint(4000) + b"\x0a\x00" * 2000, "has more than 1000 parts"),
    "many names": (
        b"\x3a" + varint(4003) + b"\x0a" + varint(4000) + b"\x0a\x00" * 2000,
        "more than 1000 parts",
    ),
    "many packed numbers": (
        b"\x3a" + varint(20008) + b"\x2a" + varint(20004) + b"\x3a" + varint(20000) + b"\x00" * 20000,
        "has more than 1000 parts",
    ),
    "a name that is no text": (b"\x12\x02\xff\xfe", "has a text that is not UTF-8"),
    "nothing": (b"", "was not written by stas-neuro"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, text = HOSTILE[name]
    monkeypatch.setattr(onnx_file, "PARTS_LIMIT", 1000)
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match=f"a.onnx: .*({text})"):
        read_onnx(tmp_path / "a.onnx")


def test_a_file_of_another_program_is_parsed(tmp_path: Path) -> None:
    add = helper.make_node("Add", ["x", "x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(helper.make_graph([add], "other", ends[:1], ends[1:]))
    onnx.save(model, tmp_path / "a.onnx")
    assert read_model(tmp_path / "a.onnx") == model
    with pytest.raises(InputError, match=r"a\.onnx: was not written .*; give the steps to convert its ReLUs"):
        stas_neuro.open_model(tmp_path / "a.onnx")


def test_the_command_line_converts_and_compiles_again(tmp_path: Path) -> None:
    graph = small_graph()
    save_bundle(graph, tmp_path / "b.zip", Provenance(source="test"), quantised=Quantise()(graph))
    for arithmetic in ("float", "fixed"):
        path = tmp_path / f"{arithmetic}.onnx"
        fine("convert", tmp_path / "b.zip", "--to", "onnx", "-o", path, "--arithmetic", arithmetic)
    fine("compile", tmp_path / "float.onnx", "-o", tmp_path / "again.zip")
    again = load_bundle(tmp_path / "again.zip")
    assert again.graph == graph == stas_neuro.open_model(tmp_path / "float.onnx")
    assert set(again.provenance.source_sha256) == {"float.onnx"}
    with pytest.raises(InputError, match=r"imported from .*float\.onnx; import and compile it again"):
        replay(again)
    assert read_onnx(tmp_path / "fixed.onnx") == Quantise()(graph)
    done = stas("compile", tmp_path / "fixed.onnx", "-o", tmp_path / "fixed.zip")
    assert done.code == 2 and "quantised already" in done.err
    done = stas("compile", tmp_path / "float.onnx", "--dt", "1", "-o", tmp_path / "c.zip")
    assert done.code == 2 and "is an ONNX file; leave --dt out" in done.err
    with pytest.raises(InputError, match="dt: not an option for an ONNX file of stas-neuro; leave it out"):
        stas_neuro.open_model(tmp_path / "float.onnx", dt=1.0)
