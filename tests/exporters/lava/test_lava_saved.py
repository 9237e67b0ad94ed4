"""What a package for Lava may hold: every network that is exported, and nothing that cannot be run."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.ir_random import Recipe, build, recipes

from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.package import write_package
from stas_neuro.exporters.lava.saved import load_network, save_network
from stas_neuro.exporters.lava.standalone import main
from stas_neuro.ir import Graph
from stas_neuro.passes import DelayDecisions, Quantise

FLOAT = build(Recipe(norm=False, stem="learned", blocks=1))
FIXED = Quantise()(build(Recipe(norm=False, blocks=2)))
Document = dict[str, Any]


@settings(max_examples=30)
@given(recipe=recipes(norm=False))
def test_every_network_that_is_exported_survives_its_files(recipe: Recipe) -> None:
    graphs = [build(recipe)]
    with suppress(InputError):  # random weights need not have integers that fit
        graphs.append(Quantise()(graphs[0]))
    if recipe.halting in ("raster", "time"):
        graphs.append(DelayDecisions(1)(graphs[0]))
    for graph in graphs:
        with tempfile.TemporaryDirectory() as directory:
            save_network(graph, Path(directory))
            assert load_network(Path(directory)) == graph


@pytest.fixture(params=["float", "fixed"])
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_network({"float": FLOAT, "fixed": FIXED}[request.param], tmp_path)
    return tmp_path


def edit(directory: Path, change: Callable[[Document], object]) -> None:
    path = directory / "network.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def top(**changes: object) -> Callable[[Document], object]:
    return lambda document: document["graph"].update(changes)


def node(document: Document, op: str) -> Document:
    found: Document = next(
        each for each in document["graph"]["nodes"] if each["type"].removeprefix("Fixed") == op
    )
    return found


def attribute(op: str, key: str, value: object) -> Callable[[Document], object]:
    return lambda document: node(document, op).__setitem__(key, value)


def edge(port: str, key: str, value: object) -> Callable[[Document], object]:
    def change(document: Document) -> None:
        next(each for each in document["graph"]["edges"] if each["dst_port"] == port)[key] = value

    return change


def twice(document: Document) -> None:
    document["graph"]["nodes"].append(document["graph"]["nodes"][0])


def in_a_circle(document: Document) -> None:
    for each in document["graph"]["edges"]:
        each["delay"] = 0


def without_edges(document: Document) -> None:
    edges = document["graph"]["edges"]
    document["graph"]["edges"] = [each for each in edges if each["dst_port"] != "x"]


CHANGES: dict[str, tuple[Callable[[Document], object], str]] = {
    "no graph": (lambda d: d.pop("graph"), r"network\.json: is None, it must be an object"),
    "no nodes": (lambda d: d["graph"].pop("nodes"), r"network\.json: has no 'nodes'; export the network ag"),
    "key": (top(layer=[]), r"network\.json: has an unknown key 'layer'"),
    "list": (top(edges={}), r"edges: is \{\}, it must be a list"),
    "text": (lambda d: node(d, "Conv2d").update(name=3), "name is 3; it must be a text"),
    "number": (lambda d: d["graph"]["preprocessing"].update(mean=["0"]), r"preprocessing mean is \('0',\)"),
    "bool": (top(time_steps=True), "time_steps is True; use a whole number"),
    "stage": (top(stage="exact"), "stage: is 'exact', it must be one of traced"),
    "steps": (top(time_steps=10**9), "time_steps is 1000000000; use a whole number, 1 to 1024"),
    "beyond a machine": (top(time_steps=2**63), r"graph\.time_steps: is 9223372036854"),
    "no classes": (top(classes=[]), "name every class"),
    "escape": (
        lambda d: d["graph"]["classes"].__setitem__(0, "\x1b[2J"),
        r"the class '\\x1b\[2J' does not print",
    ),
    "classes": (
        lambda d: d["graph"]["classes"].pop(),
        "the number of logits is 3, the number of classes is 2",
    ),
    "deviation": (lambda d: d["graph"]["preprocessing"].update(std=[0, 1]), r"preprocessing std is \(0, 1\)"),
    "channels": (lambda d: d["graph"]["preprocessing"].update(std=[1.0]), "preprocessing std has 1 channels"),
    "op": (lambda d: d["graph"]["nodes"][1].update(type="__init__"), "there is no node type '__init__'"),
    "two inputs": (
        lambda d: d["graph"]["nodes"].append(node(d, "Input") | {"name": "b"}),
        "has 2 .*Input nodes",
    ),
    "twice": (twice, "input: 2 nodes have this name"),
    "path": (lambda d: d["graph"]["nodes"][1].update(name="../../x"), r"'\.\./\.\./x'.* is no node name"),
    "phase": (attribute("HaltingScore", "phase", "end"), "HaltingScore is in phase end; it runs in step"),
    "attribute": (attribute("Conv2d", "kernels", 3), r"nodes\.\d+: has an unknown key 'kernels'"),
    "kernel": (attribute("Conv2d", "kernel", 10**6), r"kernel is 1000000; it must be in 1\.\.64"),
    "padding": (attribute("SpikeMaxPool", "padding", 7), r"padding 7 reaches the kernel \d"),
    "heads": (attribute("SpikeMatMul", "heads", 4), "4 heads do not divide 6 channels"),
    "blocks": (attribute("Readout", "blocks", 3), "readout:z2: is not connected"),
    "many blocks": (attribute("Readout", "blocks", 2**31), r"blocks is 2147483648; it must be in 1\.\.1024"),
    "lags": (attribute("HaltAccumulate", "lags", [1]), "lags"),
    "image": (attribute("Input", "shape", [2, 10**9, 4]), "has 8000000000 values"),
    "source": (edge("z", "src", "nobody"), "there is no node nobody"),
    "source port": (edge("z", "src_port", "q"), "has no output 'q'"),
    "end port": (edge("z", "dst_port", "q"), "has no input 'q'"),
    "delay": (edge("z", "delay", 1), "is delayed; only alive, total and token masks may be"),
    "order": (in_a_circle, "is a cycle; delay one of its edges by a step"),
    "edges": (without_edges, ":x: is not connected"),
    "times": (attribute("Tokens", "phase", "end"), "tokens"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_network_that_cannot_be_run_is_refused(case: str, package: Path) -> None:
    change, message = CHANGES[case]
    edit(package, change)
    with pytest.raises(InputError, match=message) as caught:
        load_network(package)
    assert str(package) in caught.value.what and caught.value.remedy.startswith("export the network again")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vth", 2**17, r"vth is 131072; it must be in \d\.\.131071"),
        ("dv", -1, "dv is -1"),
    ],
)
def test_integers_are_those_of_a_core(key: str, value: object, message: str, tmp_path: Path) -> None:
    save_network(FIXED, tmp_path)
    edit(tmp_path, attribute("LIF", key, value))
    with pytest.raises(InputError, match=message):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("graph", "key", "change", "message"),
    [
        (FLOAT, "head/weight", None, r"head/weight: the tensor \(3, 6\) is missing"),
        (FLOAT, "head/other", lambda _: np.zeros(1), "head/other: no node has this tensor"),
        (FLOAT, "head/weight", lambda w: w[:, :1], r"has shape \(3, 1\), its node says \(3, 6\)"),
        (FLOAT, "head/weight", lambda w: w.astype(np.float32), "is float32 in a folded graph"),
        (FLOAT, "head/weight", lambda w: np.full(w.shape, "a"), "is <U1 in a folded graph"),
        (FLOAT, "head/weight", lambda w: w * np.nan, "18 of 18 values are NaN or infinite"),
        (FLOAT, "head/weight", lambda w: w * 1e40, r"the largest allowed is 1e\+12"),
        (FLOAT, "head/weight", lambda w: w.astype(object), r"'head/weight': has dtype .*O"),
        (FIXED, "head/weight", lambda w: w + np.int16(600), r"head/weight: .*-256\.\.255"),
        (FIXED, "head/weight_exp", lambda e: e + np.int16(30), r"head/weight_exp: .*-8\.\.7"),
        (FIXED, "head/bias", lambda b: b.astype(np.int64), "is int64 in a quantised graph"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    graph: Graph, key: str, change: Callable[[np.ndarray], np.ndarray] | None, message: str, tmp_path: Path
) -> None:
    save_network(graph, tmp_path)
    arrays = dict(graph.tensors)
    if change is None:
        del arrays[key]
    else:
        arrays[key] = change(arrays.get(key, np.zeros(0)))
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_network(tmp_path)


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"format": "other"}])
def test_other_files_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    save_network(FLOAT, tmp_path)
    edit(tmp_path, lambda document: document.update(change))
    with pytest.raises(InputError, match=r"network\.json: is .* this program reads version 3"):
        load_network(tmp_path)
    (tmp_path / "network.json").write_text("{")
    with pytest.raises(InputError, match=r"network\.json: is not JSON"):
        load_network(tmp_path)


@pytest.mark.parametrize("name", ["network.json", "weights.npz"])
def test_only_regular_files_are_read(name: str, package: Path) -> None:
    path = package / name
    path.unlink(missing_ok=True)
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path), lambda p: os.symlink(p, p)):
        make(path)
        with pytest.raises(InputError, match=name):
            load_network(package)
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_damaged_file_is_one_line_on_standard_error(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(package / "images.npz", images=np.zeros((1, 2, 4, 6), np.uint8))
    content = (package / "weights.npz").read_bytes()
    for damaged in (
        content[:-40],
        content[: len(content) // 2],
        b"PK",
        b"",
        content[:200] + b"?" + content[201:],
    ):
        (package / "weights.npz").write_bytes(damaged)
        assert main(package, [str(package / "images.npz")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {package / 'weights.npz'}: ") and error.count("\n") == 1, error
        assert error.endswith("; export the network again\n")


IMAGES = np.zeros((2, 2, 4, 6), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        (
            {"pictures": IMAGES},
            (),
            "no array named images; its arrays are pictures; name the arrays images and labels",
        ),
        ({"images": IMAGES[:0]}, (), "no images; .* at least one"),
        ({"images": np.array(5)}, (), r"images have shape \(\)"),
        (
            {"images": IMAGES[:, :, :, :5]},
            (),
            r"images have shape \(2, 2, 4, 5\), the network takes \(B, 2, 4",
        ),
        ({"images": IMAGES[:, :1]}, (), r"images have shape \(2, 1, 4, 6\), the network takes"),
        ({"images": IMAGES * np.nan}, (), "NaN or infinite values; remove them"),
        ({"images": np.full((2, 3, 2, 4, 6), 1e300)}, (), r"pixels are beyond 1e\+12; scale"),
        ({"images": IMAGES.astype(object)}, (), r"'images': has dtype .*O.*; write it with numpy\.savez"),
        (
            {"images": IMAGES, "labels": np.zeros(3, int)},
            (),
            r"labels are int64 of shape \(3,\) for 2 images",
        ),
        ({"images": IMAGES, "labels": np.zeros(2)}, (), "labels are float64"),
        ({"images": IMAGES}, ("--limit", "-1"), "--limit is -1; run at least 1 image"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    arrays: dict[str, np.ndarray],
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_network(FLOAT, tmp_path)
    np.savez(tmp_path / "images.npz", **arrays)
    assert main(tmp_path, [str(tmp_path / "images.npz"), *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.startswith("error: ") and error.count("\n") == 1


def test_windows_that_no_memory_holds_are_refused(tmp_path: Path) -> None:
    """The IR limits values; what a process holds of them, a window for each place, can be much more."""
    image, conv = FLOAT.input, FLOAT.node("stem.conv0")
    changed = (
        replace(image, shape=(2, 256, 256)),
        replace(conv, kernel=64, padding=32, stride=1),  # type: ignore[call-arg]
    )
    nodes = tuple(next((each for each in changed if each.name == node.name), node) for node in FLOAT.nodes)
    tensors = {**FLOAT.tensors, "stem.conv0/weight": np.zeros((3, 2, 64, 64))}
    graph = replace(FLOAT, nodes=nodes, tensors=tensors)
    with pytest.raises(
        InputError, match=r"stem\.conv0: its process would hold 2 x 64 x 64 x 257 x 257 values"
    ):
        write_package(graph, tmp_path / "package")
    save_network(graph, tmp_path)
    with pytest.raises(InputError, match=r"a process holds at most 268435456"):
        load_network(tmp_path)


def test_networks_beyond_a_package_are_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stas_neuro.exporters.lava.runnable.MOST_NODES", 2)
    with pytest.raises(
        InputError, match=r"no package can hold the network: graph: has \d+ nodes; .*; export a"
    ):
        write_package(FLOAT, tmp_path / "package")
    assert not list(tmp_path.iterdir())
