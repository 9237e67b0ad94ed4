"""Bundles: round trips, nothing half-written, nothing overwritten unasked, damage told in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import resource
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save
from support.ir_random import Recipe, build, graphs, images_for

import stas_neuro
from stas_neuro import bundle as module
from stas_neuro.bundle import SCHEMA_VERSION, Provenance, hash_network, load_bundle, save_bundle
from stas_neuro.documents import WHOLE_LIMIT
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.passes import DelayDecisions, FoldBatchNorm, Quantise
from stas_neuro.reference import run_reference

FILES = {"manifest.json", "graph.json", "tensors.safetensors"}
SOURCE = Provenance(source="model/", options={"bits": 8, "fold": True, "epsilon": 0.1, "note": None})
FORMS = ("net", "net.zip")


@pytest.fixture(params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


@pytest.fixture(scope="module")
def graph() -> Graph:
    return FoldBatchNorm()(build(Recipe()))


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None], *, rehash: bool = False) -> None:
    """Change the files of a bundle, with matching hashes if asked."""
    if path.is_dir():
        contents = {file.name: file.read_bytes() for file in path.iterdir()}
        shutil.rmtree(path)
    else:
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    if rehash:
        manifest = json.loads(contents["manifest.json"])
        manifest["sha256"] = {
            name: hashlib.sha256(contents[name]).hexdigest() for name in FILES - {"manifest.json"}
        }
        contents["manifest.json"] = json.dumps(manifest).encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        path.mkdir()
        for name, content in contents.items():
            (path / name).write_bytes(content)


def edit_json(name: str, **fields: Any) -> Callable[[dict[str, bytes]], None]:
    def change(contents: dict[str, bytes]) -> None:
        contents[name] = json.dumps(json.loads(contents[name]) | fields).encode()

    return change


# Round trips --------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    graphs(),
    st.sampled_from(FORMS),
    st.text(),
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-WHOLE_LIMIT, WHOLE_LIMIT)),
)
def test_round_trip(graph: Graph, form: str, source: str, options: dict[str, Any]):
    provenance = Provenance(source=source, options=options)
    with tempfile.TemporaryDirectory() as directory:
        save_bundle(graph, Path(directory) / form, provenance)
        bundle = load_bundle(Path(directory) / form)
    assert bundle.graph == graph
    assert bundle.provenance == provenance


def test_a_loaded_graph_runs_as_the_saved_one(graph: Graph, path: Path):
    save_bundle(graph, path, SOURCE)
    images = images_for(graph, 2)
    loaded = load_bundle(str(path)).graph
    np.testing.assert_array_equal(run_reference(loaded, images).logits, run_reference(graph, images).logits)
    with pytest.raises(ValueError, match="read-only"):
        loaded.tensor("head", "bias")[0] = 1


def test_what_is_in_the_files(graph: Graph, tmp_path: Path):
    save_bundle(graph, tmp_path / "net", SOURCE)
    assert {file.name for file in (tmp_path / "net").iterdir()} == FILES
    manifest = json.loads((tmp_path / "net/manifest.json").read_text())
    assert (manifest["format"], manifest["schema_version"]) == ("stas-neuro bundle", 2)
    for name in FILES - {"manifest.json"}:
        assert manifest["sha256"][name] == hashlib.sha256((tmp_path / "net" / name).read_bytes()).hexdigest()
    origin = manifest["provenance"]
    assert (origin["source"], origin["tool_version"]) == ("model/", stas_neuro.__version__)
    assert origin["options"] == {"bits": 8, "fold": True, "epsilon": 0.1, "note": None}
    assert origin["created"].endswith("+00:00")
    document = json.loads((tmp_path / "net/graph.json").read_text())
    assert document["stage"] == "folded"
    assert document["nodes"][0] == {
        "type": "Input", "name": "input", "phase": "once", "scope": "stem", "shape": [2, 4, 6]
    }  # fmt: skip
    assert {"src": "head", "src_port": "y", "dst": "output", "dst_port": "x", "delay": 0} in document["edges"]
    assert load_file(tmp_path / "net/tensors.safetensors").keys() == graph.tensors.keys()


def test_equal_graphs_give_equal_zips(graph: Graph, tmp_path: Path):
    save_bundle(graph, tmp_path / "a.zip", SOURCE)
    save_bundle(graph, tmp_path / "b.zip", SOURCE)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "extracted")
    assert load_bundle(tmp_path / "extracted").graph == graph


# Writing ------------------------------------------------------------------------------------------------


def test_an_existing_bundle_is_replaced_by_force_only(graph: Graph, path: Path):
    save_bundle(graph, path, SOURCE)
    other = build(Recipe(seed=1, norm=False))
    with pytest.raises(InputError, match=r"exists; .*--force"):
        save_bundle(other, path, SOURCE)
    assert load_bundle(path).graph == graph
    save_bundle(other, path, SOURCE, force=True)
    assert load_bundle(path).graph == other
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_force_replaces_nothing_but_bundles(graph: Graph, path: Path):
    def refused() -> None:
        for force in (False, True):
            with pytest.raises(
                InputError, match="exists and is not a bundle of this form; choose another path"
            ):
                save_bundle(graph, path, SOURCE, force=force)

    path.write_text("my thesis")
    refused()
    assert path.read_text() == "my thesis"
    path.unlink()
    path.mkdir()
    (path / "thesis.txt").write_text("my thesis")
    refused()
    (path / "manifest.json").write_text('{"format": "of another tool"}')
    refused()
    assert (path / "thesis.txt").read_text() == "my thesis"


def test_a_directory_is_no_zip_and_a_zip_no_directory(graph: Graph, tmp_path: Path):
    save_bundle(graph, tmp_path / "net", SOURCE)
    os.rename(tmp_path / "net", tmp_path / "net.zip")
    with pytest.raises(InputError, match="is not a bundle of this form"):
        save_bundle(graph, tmp_path / "net.zip", SOURCE, force=True)
    assert load_bundle(tmp_path / "net.zip").graph == graph


def test_an_empty_directory_and_missing_parents_are_no_obstacle(graph: Graph, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "a/b/net", "c/net.zip"):
        save_bundle(graph, tmp_path / name, SOURCE)
        assert load_bundle(tmp_path / name).graph == graph


def test_a_link_to_a_bundle_stays_a_link(graph: Graph, tmp_path: Path):
    save_bundle(graph, tmp_path / "net", SOURCE)
    (tmp_path / "link").symlink_to("net")
    other = build(Recipe(seed=1, norm=False))
    save_bundle(other, tmp_path / "link", SOURCE, force=True)
    assert (tmp_path / "link").is_symlink()
    assert load_bundle(tmp_path / "net").graph == other


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_leaves_what_was_there(graph: Graph, path: Path):
    with (
        files_up_to(4000),
        pytest.raises(InputError, match=rf"{path}.*: File too large; choose a writable path"),
    ):
        save_bundle(graph, path, SOURCE)
    assert list(path.parent.iterdir()) == []
    save_bundle(graph, path, SOURCE)
    with files_up_to(4000), pytest.raises(InputError, match="File too large"):
        save_bundle(build(Recipe(seed=1)), path, SOURCE, force=True)
    assert load_bundle(path).graph == graph
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_failed_replacement_puts_the_old_bundle_back(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "net"
    save_bundle(graph, path, SOURCE)
    rename = Path.rename

    def full(source: Path, target: Path) -> Path:
        if source.name == "new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(InputError, match=r"net: No space left on device; choose a writable path"):
        save_bundle(build(Recipe(seed=1)), path, SOURCE, force=True)
    assert load_bundle(path).graph == graph
    assert [file.name for file in tmp_path.iterdir()] == ["net"]


def test_a_place_that_cannot_be_written(graph: Graph, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for name in ("file/net", "file/net.zip"):
        with pytest.raises(InputError, match=r"file/net.*; choose a writable path"):
            save_bundle(graph, tmp_path / name, SOURCE)


# Damage -------------------------------------------------------------------------------------------------


def flip(contents: dict[str, bytes]) -> None:
    content = bytearray(contents["tensors.safetensors"])
    content[-1] ^= 1
    contents["tensors.safetensors"] = bytes(content)


def truncate(contents: dict[str, bytes]) -> None:
    contents["tensors.safetensors"] = contents["tensors.safetensors"][:-9]


def nan_weights(contents: dict[str, bytes]) -> None:
    from safetensors.numpy import load

    tensors = load(contents["tensors.safetensors"])
    contents["tensors.safetensors"] = save(
        {k: v * (np.nan if k == "head/bias" else 1) for k, v in tensors.items()}
    )


def edit_node(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    """Change the first node of graph.json."""

    def edit(contents: dict[str, bytes]) -> None:
        document = json.loads(contents["graph.json"])
        change(document["nodes"][0])
        contents["graph.json"] = json.dumps(document).encode()

    return edit


DAMAGE: dict[str, tuple[Callable[[dict[str, bytes]], Any], bool, str]] = {
    "no manifest": (lambda c: c.pop("manifest.json"), False, "has no manifest.json; use a bundle"),
    "no graph": (lambda c: c.pop("graph.json"), False, "has no graph.json; copy the bundle again"),
    "no tensors": (lambda c: c.pop("tensors.safetensors"), False, "has no tensors.safetensors"),
    "flipped bit": (flip, False, "SHA-256 in manifest.json; copy"),
    "truncated": (truncate, False, r"tensors.safetensors does not match its SHA-256"),
    "truncated, hash made to fit": (truncate, True, r"tensors.safetensors: .*; copy the bundle again"),
    "other graph": (edit_json("graph.json", time_steps=2), False, r"graph.json does not match its SHA-256"),
    "NaN": (nan_weights, True, r"net.* invalid graph: head/bias: 3 of 3 values are NaN"),
    "other stage": (edit_json("graph.json", stage="done"), True, r"stage: is 'done', it must be one of"),
    "unknown field": (edit_json("graph.json", colour="red"), True, r"graph.json: has an unknown key 'col"),
    "wrong type": (edit_json("graph.json", time_steps="3"), True, r"invalid graph: graph: time_steps is '3'"),
    "nodes that are none": (edit_json("graph.json", nodes=[1]), True, r"nodes.0: is 1, it must be an object"),
    "edges that are none": (edit_json("graph.json", edges=[{"src": ""}]), True, "edges.0: has no 'src_port'"),
    "node type": (edit_node(lambda n: n.update(type="Sofa")), True, "there is no node type 'Sofa'"),
    "no node type": (edit_node(lambda n: n.pop("type")), True, "nodes.0.type: there is no node type None"),
    "node attribute": (edit_node(lambda n: n.update(size=3)), True, "nodes.0: has an unknown key 'size'"),
    "node phase": (edit_node(lambda n: n.update(phase="later")), True, "nodes.0.phase: is 'later', it"),
    "manifest not JSON": (lambda c: c.update({"manifest.json": b"{"}), False, r"manifest.json: is not JSON"),
    "manifest a list": (lambda c: c.update({"manifest.json": b"[]"}), False, "is not a JSON object"),
    "deep JSON": (lambda c: c.update({"manifest.json": b"[" * 10**6}), False, "json: is nested too deeply"),
    "another format": (edit_json("manifest.json", format="a"), False, "is not of a stas-neuro bundle"),
    "version 0": (edit_json("manifest.json", schema_version=0), False, "is not of a stas-neuro bundle"),
    "version text": (edit_json("manifest.json", schema_version="1"), False, "is not of a stas-neuro bundle"),
    "no provenance": (edit_json("manifest.json", provenance={}), False, "manifest.json: provenance.source: "),
    "no hashes": (edit_json("manifest.json", sha256={}), False, r"graph.json does not match its SHA-256"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_told_in_one_line(case: str, graph: Graph, path: Path):
    damage, rehash, message = DAMAGE[case]
    save_bundle(graph, path, SOURCE)
    rewrite(path, damage, rehash=rehash)
    with pytest.raises(InputError, match=message) as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_and_unreadable_files(graph: Graph, tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere does not exist; use a directory or \.zip"):
        load_bundle(tmp_path / "nowhere")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(InputError, match=r"text\.zip is not a readable zip file"):
        load_bundle(tmp_path / "text.zip")
    save_bundle(graph, tmp_path / "net.zip", SOURCE)
    content = (tmp_path / "net.zip").read_bytes()
    for end in (10, len(content) // 2, len(content) - 1):
        (tmp_path / "net.zip").write_bytes(content[:end])
        with pytest.raises(InputError, match="is not a readable zip file"):
            load_bundle(tmp_path / "net.zip")


@settings(max_examples=150)
@given(st.data())
def test_no_flipped_byte_goes_unnoticed(data: st.DataObject):
    """Any change of a zip is refused in an InputError, or changes nothing of the graph."""
    graph = build(Recipe(blocks=1, norm=False))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "net.zip"
        save_bundle(graph, path, SOURCE)
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            assert load_bundle(path).graph == graph


# Versions -----------------------------------------------------------------------------------------------


def test_a_newer_schema_is_refused_with_the_version_needed(graph: Graph, path: Path):
    save_bundle(graph, path, dataclasses.replace(SOURCE, tool_version="7.1.0"))
    rewrite(path, edit_json("manifest.json", schema_version=SCHEMA_VERSION + 1, sha256="in another form"))
    with pytest.raises(
        InputError, match=r"has schema version 3, .* supports is 2; install stas-neuro 7\.1\.0"
    ):
        load_bundle(path)
    rewrite(path, edit_json("manifest.json", provenance="elsewhere"))
    with pytest.raises(InputError, match="install a newer stas-neuro"):
        load_bundle(path)


def test_an_older_schema_is_migrated(graph: Graph, path: Path, monkeypatch: pytest.MonkeyPatch):
    save_bundle(graph, path, SOURCE)
    steps = []

    def rename_head(document: dict[str, Any]) -> dict[str, Any]:
        steps.append(len(steps))
        return document | {"classes": [*document["classes"][:-1], f"migrated {len(steps)}"]}

    monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    monkeypatch.setattr(module, "_MIGRATIONS", {SCHEMA_VERSION: rename_head, SCHEMA_VERSION + 1: rename_head})
    assert load_bundle(path).graph.classes[-1] == "migrated 2"
    # What is written now needs none.
    save_bundle(graph, path, SOURCE, force=True)
    assert load_bundle(path).graph == graph


@pytest.mark.parametrize("late", [0, 2])
def test_bundles_of_version_1_open(late: int, path: Path):
    folded = build(Recipe(norm=False))
    graph = DelayDecisions(late)(folded) if late else folded
    quantised = Quantise()(graph)
    save_bundle(graph, path, SOURCE, quantised=quantised)

    def as_version_1(contents: dict[str, bytes]) -> None:
        for name in ("graph.json", "quantised.json"):
            document = json.loads(contents[name])
            for node in document["nodes"]:
                if node["type"].endswith("HaltAccumulate"):
                    node["type"] = node["type"].replace("Late", "")
                    node |= {"late": node.get("late", 0), "lags": node.get("lags", [])}
            contents[name] = json.dumps(document).encode()
        manifest = json.loads(contents["manifest.json"]) | {"schema_version": 1}
        hashes = {name: hashlib.sha256(contents[name]).hexdigest() for name in manifest["sha256"]}
        contents["manifest.json"] = json.dumps(manifest | {"sha256": hashes}).encode()

    rewrite(path, as_version_1)
    opened = load_bundle(path)
    assert (opened.graph, opened.quantised) == (graph, quantised)
    assert hash_network(opened.graph) == hash_network(folded)


def test_every_older_schema_has_its_migration():
    assert set(module._MIGRATIONS) == set(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("lost", ["quantised.json", "quantised.safetensors", "both hashes"])
def test_half_an_integer_program_is_damage(lost: str, tmp_path: Path):
    folded = build(Recipe(norm=False))
    save_bundle(folded, tmp_path / "b", SOURCE, quantised=Quantise()(folded))
    assert load_bundle(tmp_path / "b").quantised is not None
    if lost == "both hashes":
        manifest = json.loads((tmp_path / "b/manifest.json").read_text())
        for name in ("quantised.json", "quantised.safetensors"):
            del manifest["sha256"][name]
        (tmp_path / "b/manifest.json").write_text(json.dumps(manifest))
    else:
        (tmp_path / "b" / lost).unlink()
    with pytest.raises(InputError, match=r"quantised|SHA-256"):
        load_bundle(tmp_path / "b")
