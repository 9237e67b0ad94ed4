"""Another package adds a backend, an importer, a target and a chip by its entry points."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.cli_support import fine, make_checkpoint, stas

import stas_neuro
from stas_neuro.backends import BACKENDS
from stas_neuro.errors import InputError
from stas_neuro.importers import IMPORTERS
from stas_neuro.ir.text import print_graph
from stas_neuro.targets import TARGETS, CannotExpress, convert

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plugins")
    checkpoint = make_checkpoint(directory / "model")
    fine("compile", checkpoint, "-o", directory / "b.stas")
    shape = stas_neuro.load_bundle(directory / "b.stas").graph.input.shape
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), np.uint8)
    np.savez(directory / "images.npz", images=images)
    return directory


def test_a_backend_of_another_package_runs_like_ours(home: Path, tmp_path: Path) -> None:
    assert BACKENDS.names() == ("reference", "fast", "lava", "lava-stock", "backwards", "broken")
    common = ("run", home / "b.stas", "--data", home / "images.npz")
    fine(*common, "--backend", "backwards", "-o", tmp_path / "theirs")
    fine(*common, "-o", tmp_path / "ours")
    theirs, ours = (np.load(tmp_path / name / "outputs.npz")["logits"] for name in ("theirs", "ours"))
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-9)
    assert json.loads((tmp_path / "theirs" / "run.json").read_text())["backend"] == "backwards"


def test_a_backend_that_cannot_be_made_names_its_package(home: Path) -> None:
    done = stas("run", home / "b.stas", "--data", home / "images.npz", "--backend", "broken")
    assert done.code == 2
    assert done.err == (
        "error: the backend 'broken' of the package an-extension cannot be used: no licence; update that "
        "package, or uninstall it\n"
    )


def test_another_package_cannot_replace_a_backend_of_ours() -> None:
    assert type(BACKENDS.get("reference")).__module__ == "stas_neuro.backends.builtin"


def test_an_importer_of_another_package_opens_what_it_accepts(home: Path, tmp_path: Path) -> None:
    assert IMPORTERS.names() == ("nir", "netx", "onnx", "torch", "graph-text")
    graph = stas_neuro.load_bundle(home / "b.stas").graph
    (tmp_path / "net.ir").write_text(print_graph(graph))
    np.savez(tmp_path / "net.npz", **graph.tensors)
    assert stas_neuro.open_model(f"{tmp_path}/net.ir") == graph
    assert stas_neuro.open_model(f"{tmp_path}/net.ir", importer="graph-text") == graph


def test_a_target_of_another_package_writes_or_refuses_node_by_node(home: Path, tmp_path: Path) -> None:
    assert TARGETS.names() == ("lava", "nir", "netx", "onnx", "layer-list")
    bundle = stas_neuro.load_bundle(home / "b.stas")
    with pytest.raises(
        CannotExpress, match="layer-list cannot express the network: block1: is one block"
    ) as caught:
        convert(bundle, "layer-list", tmp_path / "list.json")
    assert [problem.where for problem in caught.value.problems] == ["block1"]
    done = stas("convert", home / "b.stas", "--to", "nothing", "-o", tmp_path / "x")
    known = "lava, nir, netx, onnx, layer-list"
    assert done.code == 2 and f"there is no target 'nothing'; use one of {known}" in done.err


def test_a_profile_of_another_package_is_in_the_catalogue(home: Path, tmp_path: Path) -> None:
    assert "loihi2-half" in stas_neuro.list_profiles()
    assert stas_neuro.load_profile("loihi2-half").limit("cores_per_chip") == 60
    fine("run", home / "b.stas", "--data", home / "images.npz", "-o", tmp_path / "run")
    cost = fine("estimate", tmp_path / "run", "--profile", "loihi2-half", "--json").json
    assert cost["profile"] == "loihi2-half"


def test_without_the_package_there_is_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "backwards" not in BACKENDS.names()
    with pytest.raises(InputError, match="there is no backend 'backwards'"):
        BACKENDS.get("backwards")
