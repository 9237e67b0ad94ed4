"""The certificate as a document: its hashes, its fields, and the command that writes and shows it."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli_support import fine, make_checkpoint, make_data, stas
from support.paths import ROOT

from stas_neuro import __version__, compiler
from stas_neuro.bundle import load_bundle
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.exporters.lava.saved import save_network
from stas_neuro.ir import FixedLIF
from stas_neuro.verifier import check_certificate, verify

DOCS = (ROOT / "docs" / "verify.md").read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_checkpoint(directory / "checkpoint")
    make_data(directory / "data.npz", 4)
    fine("compile", directory / "checkpoint", "--bits", "8", "-o", directory / "b")
    fine("verify", directory / "b", "--data", directory / "data.npz", "--limit", "3", "-o", directory / "c")
    return directory


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_certificate_holds_the_hashes_of_what_it_is_about(home: Path) -> None:
    document = json.loads((home / "c").read_bytes())
    check_certificate(document)
    assert document["passed"] and document["images"] == 3 and document["tool_version"] == __version__
    assert document["source_sha256"] == {
        name: digest((home / "checkpoint" / name).read_bytes()) for name in compiler.CHECKPOINT_FILES
    }
    files = sorted(path.name for path in (home / "b").iterdir() if path.name != "manifest.json")
    assert document["bundle_sha256"] == {name: digest((home / "b" / name).read_bytes()) for name in files}
    assert len(files) == 4
    with np.load(home / "data.npz") as arrays:
        images = arrays["images"][:3, None]
        assert document["data"]["images_sha256"] == digest(images.tobytes())
        assert document["data"]["labels_sha256"] == digest(arrays["labels"][:3].astype(np.int64).tobytes())
        assert (document["data"]["shape"], document["data"]["dtype"]) == ([3, 1, 8, 8], "uint8")
    again = verify(home / "b", load_data(str(home / "data.npz")), limit=3).to_json()
    assert json.loads(json.dumps(again)) == document  # nothing in it depends on the day
    fewer = verify(home / "b", load_data(str(home / "data.npz")), limit=2).to_json()
    assert fewer["data"]["images_sha256"] != document["data"]["images_sha256"]
    of_checkpoint = verify(home / "checkpoint", noise_of(home), limit=1).to_json()
    assert of_checkpoint["source_sha256"] == document["source_sha256"]
    assert of_checkpoint["bundle_sha256"] == {} and of_checkpoint["data"]["labels_sha256"] is None


def test_a_certificate_is_written_and_replaces_only_another_one_if_told(home: Path, tmp_path: Path) -> None:
    result = verify(home / "b", load_data(str(home / "data.npz")), limit=3)
    result.write(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == (home / "c").read_bytes()
    with pytest.raises(InputError, match="c exists; choose another path or use --force"):
        result.write(tmp_path / "c")
    result.write(tmp_path / "c", force=True)
    (tmp_path / "other").write_text("{}")
    with pytest.raises(InputError, match="other exists and is not a certificate"):
        result.write(tmp_path / "other", force=True)
    assert (tmp_path / "other").read_text() == "{}"


def noise_of(home: Path) -> LabelledImages:
    return replace(load_data(str(home / "data.npz")), labels=None)


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value of a document."""
    pairs = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, value in pairs:
        yield from leaves(value, (*path, key))
        if not isinstance(value, dict | list):
            yield (*path, key)


def test_any_change_of_a_certificate_is_found(home: Path) -> None:
    document = json.loads((home / "c").read_bytes())
    places = list(leaves(document))
    assert len(places) > 500
    for path in places[::7]:
        changed = copy.deepcopy(document)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = "changed"
        problem: type[Exception] = InputError if path[0] in ("format", "schema_version") else CheckFailed
        with pytest.raises(problem):
            check_certificate(changed)
    check_certificate(dict(reversed(document.items())))  # the order of fields says nothing
    with pytest.raises(
        InputError, match="'stas-neuro run' version 1, not 'stas-neuro certificate' version 1"
    ):
        check_certificate({"format": "stas-neuro run", "schema_version": 1})


def test_every_field_of_a_certificate_is_documented(home: Path) -> None:
    document = json.loads((home / "c").read_bytes())
    data = ("source_sha256", "bundle_sha256", "left_out")  # by names of files and of parts
    fields = {key for path in leaves(document) if path[0] not in data for key in path if isinstance(key, str)}
    assert {"differing_by_step", "headroom_bits", "lowering", "first", "labels_sha256"} <= fields
    assert all(f"`{field}`" in DOCS for field in fields | set(data)), fields


def test_the_command_shows_integers_beside_floats(home: Path) -> None:
    arguments = ("verify", home / "b", "--data", home / "data.npz", "--limit", "2")
    shown = fine(*arguments).out
    document = fine(*arguments, "--json").json
    check_certificate(document)
    for heading in ("The float network: 2 images", "The integer program: 2 images", "Effect of integers"):
        assert heading in shown
    assert len(re.findall(r" equal$", shown, re.M)) == 5
    tightest = min(document["saturation"]["layers"], key=lambda layer: layer["headroom_bits"])
    assert re.search(rf"smallest first.*\n.*\n{re.escape(tightest['layer'])} +{tightest['largest']} ", shown)
    hashes = {**document["source_sha256"], **document["bundle_sha256"]}.values()
    assert all(digest in shown for digest in (*hashes, document["certificate_sha256"]))
    assert document["data"]["images_sha256"] in shown and document["data"]["labels_sha256"] in shown
    assert "all requirements met" in shown
    only = fine(*arguments, "--arithmetic", "fixed").out
    assert "The integer program" in only and "The float" not in only and "Effect of integers" not in only


def test_the_command_fails_where_integers_differ(home: Path) -> None:
    graph = load_bundle(home / "b").of("fixed")
    lif = graph.node("blocks.0.k_lif")
    assert isinstance(lif, FixedLIF)
    changed = replace(lif, vth=lif.vth // 2)
    (home / "package").mkdir()
    save_network(
        replace(graph, nodes=tuple(changed if each is lif else each for each in graph.nodes)),
        home / "package",
    )
    arguments = ("verify", home / "b", "--data", home / "data.npz", "--limit", "1")
    done = stas(*arguments, "--lava-package", home / "package", "-o", home / "failed")
    assert done.code == 1 and done.err.count("\n") == 1
    assert re.search(r"Lava's fixed network .* the graph.*: blocks\.0\.k_lif: vth is ", done.err)
    assert re.search(
        r"Lava, in-process integer differs .*first at image 0, layer blocks\.0\.k_lif, ", done.err
    )
    assert "Lava's package DIFFERS from the graph: blocks.0.k_lif: vth" in done.out
    assert "NOT all requirements met" in done.out
    document = json.loads((home / "failed").read_bytes())
    check_certificate(document)
    assert document["passed"] is False
    save_network(graph, home / "package")
    shown = fine(*arguments, "--lava-package", home / "package").out
    assert "Lava's package says what the graph says" in shown


def test_a_certificate_is_replaced_by_force_only(home: Path, tmp_path: Path) -> None:
    arguments = ("verify", home / "b", "--data", home / "data.npz", "--limit", "1", "-o")
    refused = stas(*arguments, home / "c")
    assert refused.code == 2 and "--force" in refused.err
    (tmp_path / "other").write_text("[1]")
    for path in (tmp_path / "other", tmp_path):
        refused = stas(*arguments, path, "--force")
        assert refused.code == 2 and "exists and is not a certificate" in refused.err
    assert "written to" in fine(*arguments, tmp_path / "c", "--arithmetic", "fixed").out
    fine(*arguments, tmp_path / "c", "--arithmetic", "float", "--force")
    assert [part["arithmetic"] for part in json.loads((tmp_path / "c").read_bytes())["parts"]] == ["float"]


def test_a_bundle_without_integers_says_so(home: Path, tmp_path: Path) -> None:
    fine("compile", home / "checkpoint", "-o", tmp_path / "b")
    assert load_bundle(tmp_path / "b").quantised is None
    done = stas("verify", tmp_path / "b", "--data", home / "data.npz", "--arithmetic", "fixed")
    assert done.code == 2 and "the bundle has no integer program" in done.err
