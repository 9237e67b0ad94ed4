"""What a package for Lava may hold: every network that is exported, and nothing that cannot be run."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.ir_random import Recipe, build, recipes
from support.lava_support import by_turns

import stas_neuro
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.build import build_network
from stas_neuro.exporters.lava.cores import cores_of
from stas_neuro.exporters.lava.failure import LavaFailure
from stas_neuro.exporters.lava.network import Network
from stas_neuro.exporters.lava.package import SHARED, write_package
from stas_neuro.exporters.lava.rules import KINDS, LARGEST_WINDOW, MOST_STEPS, check_network
from stas_neuro.exporters.lava.standalone import main
from stas_neuro.ir import Graph, Kind
from stas_neuro.mapping import routes
from stas_neuro.passes import DelayDecisions, Quantise

FLOAT = build(Recipe(norm=False, stem="learned", blocks=1))
FIXED = Quantise()(build(Recipe(norm=False, blocks=2)))
Document = dict[str, Any]


@settings(max_examples=30)
@given(recipe=recipes(norm=False))
def test_every_network_that_is_exported_passes(recipe: Recipe) -> None:
    graph = build(recipe)
    networks = [build_network(graph)]
    with suppress(InputError):  # random weights need not have integers that fit
        networks.append(build_network(Quantise()(graph)))
    if recipe.halting in ("raster", "time"):
        networks.append(build_network(DelayDecisions(1)(graph)))
    mapping = by_turns(graph, 2)
    cores = cores_of(graph, mapping, routes(graph, mapping), gated=True)
    for network in (*networks, replace(networks[0], cores=cores)):
        check_network(network)


def test_kinds_are_those_of_the_ir() -> None:
    assert set(KINDS) == set(map(str, Kind))


@pytest.fixture(params=["float", "fixed"])
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    build_network({"float": FLOAT, "fixed": FIXED}[request.param]).save(tmp_path)
    return tmp_path


def edit(directory: Path, change: Callable[[Document], object]) -> None:
    path = directory / "network.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def layer(document: Document, op: str) -> Document:
    found: Document = next(each for each in document["layers"] if each["op"] == op)
    return found


def param(op: str, key: str, value: object) -> Callable[[Document], object]:
    return lambda document: layer(document, op)["params"].__setitem__(key, value)


def wire(port: str, key: str, value: object) -> Callable[[Document], object]:
    def change(document: Document) -> None:
        next(each for each in document["wires"] if each["dst_port"] == port)[key] = value

    return change


def twice(document: Document) -> None:
    document["layers"].append(document["layers"][0])


def upside_down(document: Document) -> None:
    document["layers"].reverse()


def without_wires(document: Document) -> None:
    document["wires"] = [each for each in document["wires"] if each["dst_port"] != "x"]


CHANGES: dict[str, tuple[Callable[[Document], object], str]] = {
    "no layers": (lambda d: d.pop("layers"), r"network\.json: has no 'layers'; export the network again"),
    "key": (lambda d: d.update(layer=[]), r"network\.json: has an unknown key 'layer'"),
    "list": (lambda d: d.update(wires={}), r"wires: is \{\}, it must be a list"),
    "text": (lambda d: d["layers"][2].update(name=3), r"layers\.2\.name: is 3, it must be a text"),
    "number": (
        lambda d: d["preprocessing"].update(mean=["0"]),
        r"preprocessing\.mean\.0: is '0', it must be a",
    ),
    "bool": (lambda d: d.update(time_steps=True), r"time_steps: is True, it must be a whole number"),
    "arithmetic": (lambda d: d.update(arithmetic="exact"), "arithmetic: is 'exact', it must be one of float"),
    "steps": (lambda d: d.update(time_steps=10**9), rf"time_steps: .* whole number in 1\.\.{MOST_STEPS}"),
    "beyond a machine": (
        lambda d: d.update(time_steps=2**63),
        r"network\.json: time_steps: is 9223372036854",
    ),
    "no classes": (lambda d: d.update(classes=[]), "classes: there is none"),
    "escape": (
        lambda d: d["classes"].__setitem__(0, "\x1b[2J"),
        r"classes\.0: is '\\x1b\[2J', it must be a text",
    ),
    "classes": (lambda d: d["classes"].pop(), r"x: has shape \(3,\), it must be \(2,\)"),
    "deviation": (
        lambda d: d["preprocessing"].update(std=[0, 1]),
        r"preprocessing\.std\.0: is 0\.0, it must",
    ),
    "channels": (lambda d: d["preprocessing"].update(std=[1.0]), r"preprocessing\.std: has 1 numbers for 2"),
    "op": (lambda d: d["layers"][1].update(op="__init__"), r"op: is '__init__', which is no process"),
    "two inputs": (lambda d: d["layers"][1].update(op="Input"), "layers: 2 are of op Input, it must be 1"),
    "twice": (twice, r"layers\.input: 2 have the name"),
    "path": (lambda d: d["layers"][1].update(name="../../x"), r"layers: '\.\./\.\./x' is no name of one"),
    "phase": (
        lambda d: layer(d, "HaltingScore").update(phase="end"),
        "phase: is 'end', it must be one of step",
    ),
    "parameter": (param("Conv2d", "kernels", 3), r"kernels: is unknown"),
    "kernel": (param("Conv2d", "kernel", 10**6), rf"kernel: .* whole number in 1\.\.{LARGEST_WINDOW}"),
    "padding": (param("SpikeMaxPool", "padding", 7), r"padding: is 7, the kernel \d"),
    "heads": (param("SpikeMatMul", "heads", 4), r"heads: is 4, which does not divide 6 channels"),
    "blocks": (param("Readout", "blocks", 3), r"readout\.z2: is not connected"),
    "many blocks": (param("Readout", "blocks", 2**31), r"blocks: .* whole number in 1\.\.4096"),
    "lags": (param("HaltAccumulate", "lags", [1]), r"lags: is unknown"),
    "image": (param("Input", "shape", [2, 10**9, 4]), r"shape: .* list of 3 whole numbers in 1\.\."),
    "other image": (
        param("Input", "shape", [2, 9, 6]),
        r"input\.y\.shape: is \(2, 4, 6\), it must be \(2, 9",
    ),
    "sends": (
        lambda d: layer(d, "Tokens")["outputs"]["y"].update(shape=[1, 2]),
        r"tokens\.y\.shape: is \(1, 2\), it must be",
    ),
    "kind": (lambda d: layer(d, "Add")["outputs"]["y"].update(kind="x"), r"y\.kind: is 'x', it must be one"),
    "port": (
        lambda d: layer(d, "Add")["outputs"].update(q={"kind": "mask", "shape": []}),
        r"q\.shape: is \(\)",
    ),
    "source": (wire("z", "src", "nobody"), r"wires\.\d+: there is no layer 'nobody'"),
    "source port": (wire("z", "src_port", "q"), r"wires\.\d+: .* has no 'q'"),
    "end port": (wire("z", "dst_port", "q"), r"wires\.\d+: .* has no 'q'"),
    "delay": (wire("z", "delay", 1), r"wires\.\d+\.delay: is 1, it must be a whole number in 0\.\.0"),
    "order": (upside_down, r"comes after .*: order the layers, or delay the wire by a step"),
    "wires": (without_wires, r": is not connected"),
    "times": (
        lambda d: layer(d, "Tokens").update(phase="end"),
        r"wires\.\d+: .* sends in other steps than .* receives in: mend their phases",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_network_that_cannot_be_run_is_refused(case: str, package: Path) -> None:
    change, message = CHANGES[case]
    edit(package, change)
    with pytest.raises(LavaFailure, match=message) as caught:
        Network.load(package)
    assert str(package) in caught.value.what and caught.value.remedy.startswith("export the network again")
    assert caught.value.line.isprintable()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lags", [1], r"lags: has 1 numbers, it must have 2"),
        ("late", 0, r"late: is 0, it must be a whole number in 1\.\."),
        ("mode", "block", "mode: is 'block', it must be one of raster, time"),
    ],
)
def test_late_decisions_that_cannot_be_made_are_refused(
    key: str, value: object, message: str, tmp_path: Path
) -> None:
    build_network(DelayDecisions(1)(FIXED)).save(tmp_path)
    edit(tmp_path, param("LateHaltAccumulate", key, value))
    with pytest.raises(LavaFailure, match=message):
        Network.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vth", 2**17, r"vth: is 131072, it must be a whole number in 0\.\.131071"),
        ("dv", -1, "dv: is -1"),
        ("fire", ">=", "fire: is '>=', it must be one of >"),
    ],
)
def test_integers_are_those_of_a_core(key: str, value: object, message: str, tmp_path: Path) -> None:
    build_network(FIXED).save(tmp_path)
    edit(tmp_path, param("LIF", key, value))
    with pytest.raises(LavaFailure, match=message):
        Network.load(tmp_path)


@pytest.mark.parametrize(
    ("graph", "key", "change", "message"),
    [
        (FLOAT, "head/weight", None, "head/weight: is missing"),
        (FLOAT, "head/other", lambda _: np.zeros(1), "head/other: is of no layer"),
        (FLOAT, "head/weight", lambda w: w[:, :1], r"is float64 of shape \(3, 1\), it must be float64 of"),
        (FLOAT, "head/weight", lambda w: w.astype(np.float32), "is float32 of shape"),
        (FLOAT, "head/weight", lambda w: w * np.nan, r"holds values outside -1e\+12..1e\+12, or NaN"),
        (FLOAT, "head/weight", lambda w: w * 1e40, r"holds values outside -1e\+12"),
        (FLOAT, "head/weight", lambda w: w.astype(object), r"'head/weight': holds .*O"),
        (FIXED, "head/weight", lambda w: w + np.int16(600), r"holds values outside -256..255"),
        (FIXED, "head/weight_exp", lambda e: e + np.int16(30), r"holds values outside -8..7"),
        (FIXED, "head/bias", lambda b: b.astype(np.int64), "is int64 of shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    graph: Graph, key: str, change: Callable[[np.ndarray], np.ndarray] | None, message: str, tmp_path: Path
) -> None:
    network = build_network(graph)
    network.save(tmp_path)
    arrays = dict(network.tensors)
    if change is None:
        del arrays[key]
    else:
        arrays[key] = change(arrays.get(key, np.zeros(0)))
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(LavaFailure, match=message):
        Network.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("head/piece", np.zeros(2, np.int64), r"is int64 of shape \(2,\), it must be whole of shape \(3,\)"),
        ("head/piece", np.full(3, 2**40), r"holds numbers outside 0\.\.2"),
        ("head/piece", np.zeros(3), "is float64 of shape"),
        ("head/wakers", np.ones((1, 2), np.bool_), "head/piece: is missing"),
        ("head/other", np.zeros(3), "is of no layer"),
        ("../x/piece", np.zeros(3), "is of no layer"),
        ("head/sends", np.zeros(3), r"has shape \(3,\)"),
    ],
)
def test_cores_that_do_not_fit_are_refused(key: str, array: np.ndarray, message: str, tmp_path: Path) -> None:
    replace(build_network(FLOAT), cores={key: array}).save(tmp_path)
    with pytest.raises(LavaFailure, match=message):
        Network.load(tmp_path)


@pytest.mark.parametrize("name", ["network.json", "weights.npz", "cores.npz"])
def test_only_regular_files_are_read(name: str, package: Path) -> None:
    path = package / name
    path.unlink(missing_ok=True)
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path), lambda p: os.symlink(p, p)):
        make(path)
        with pytest.raises(LavaFailure, match=name):
            Network.load(package)
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
        ({"pictures": IMAGES}, (), "holds no images; give an npz file with an array named images"),
        ({"images": IMAGES[:0]}, (), r"images have shape \(0, 2, 4, 6\); give images as README"),
        ({"images": np.array(5)}, (), r"images have shape \(\)"),
        (
            {"images": IMAGES[:, :, :, :5]},
            (),
            r"images have shape \(2, 2, 4, 5\), the network takes \(B, 2, 4",
        ),
        ({"images": IMAGES[:, :1]}, (), r"images have shape \(2, 1, 4, 6\), the network takes"),
        ({"images": IMAGES * np.nan}, (), "pixels hold NaN or infinite values; remove them"),
        ({"images": np.full((2, 3, 2, 4, 6), 1e300)}, (), r"float pixels are in 1e\+300\.\.1e\+300; scale"),
        ({"images": IMAGES.astype(object)}, (), r"'images': holds .*O.*; give an npz file that numpy"),
        (
            {"images": IMAGES, "labels": np.zeros(3, int)},
            (),
            r"labels are int64 of shape \(3,\), images have",
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
    build_network(FLOAT).save(tmp_path)
    np.savez(tmp_path / "images.npz", **arrays)
    assert main(tmp_path, [str(tmp_path / "images.npz"), *arguments]) == 2
    error = capsys.readouterr().err
    with pytest.raises(LavaFailure, match=message):
        raise LavaFailure(error, "")
    assert error.startswith("error: ") and error.count("\n") == 1


def test_networks_beyond_a_package_are_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stas_neuro.exporters.lava.rules.MOST_STEPS", 2)
    with pytest.raises(InputError, match=r"no package can hold the network: time_steps: is 3, .*; export a"):
        write_package(FLOAT, tmp_path / "package")
    assert not list(tmp_path.iterdir())


def test_shared_modules_need_numpy_alone() -> None:
    """An exported package has copies of them, and neither stas-neuro nor tomli beside it."""
    for name in SHARED:
        tree = ast.parse((Path(stas_neuro.__file__).parent / name).read_text())
        for node in tree.body:
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            roots = {str(each).partition(".")[0] for each in names}
            assert roots <= {*sys.stdlib_module_names, "numpy"}, (name, roots)
