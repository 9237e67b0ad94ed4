"""The commands on integer programs: compile --bits, run --arithmetic fixed, and both lowerings to Lava."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.cli_support import fine, make_checkpoint, make_data, stas

import stas_neuro
from stas_neuro.chips import load_profile
from stas_neuro.data import load_data
from stas_neuro.ir import FixedConv2d, Stage

IMAGES = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that halts within steps, and images."""
    home = tmp_path_factory.mktemp("integers")
    make_checkpoint(home / "model", accumulate="block", epsilon=0.5)
    make_data(home / "data.npz", IMAGES)
    return home


def logits(run: Path) -> np.ndarray:
    with np.load(run / "outputs.npz") as outputs:
        return np.array(outputs["logits"])


def test_a_bundle_holds_the_program_that_the_api_makes(home: Path, tmp_path: Path) -> None:
    data = load_data(str(home / "data.npz"))
    options = ("--bits", "6", "--calibrate", home / "data.npz", "--profile", "loihi2")
    for name in ("bundle", "bundle.zip"):
        document = fine("compile", home / "model", *options, "-o", tmp_path / name, "--json").json
        assert (document["bits"], document["off_core"]) == (6, [])
        bundle = stas_neuro.load_bundle(tmp_path / name)
        assert bundle.quantised is not None and bundle.quantised.stage == Stage.QUANTISED
        assert set(bundle.sha256) == {
            "graph.json", "tensors.safetensors", "quantised.json", "quantised.safetensors"
        }  # fmt: skip
        arithmetic = load_profile("loihi2").arithmetic
        assert bundle.quantised == stas_neuro.quantise(bundle.graph, data, bits=6, arithmetic=arithmetic)


def test_what_runs_beside_the_cores_is_told(home: Path, tmp_path: Path) -> None:
    options = ("--bits", "8", "--input-encoding", "bias", "-o", tmp_path / "bundle")
    told = fine("compile", home / "model", *options)
    assert "off the cores: stem.conv0" in told.out
    assert '"off_core": [\n  "stem.conv0"\n ]' in (tmp_path / "bundle/manifest.json").read_text()
    bundle = stas_neuro.load_bundle(tmp_path / "bundle")
    assert bundle.quantised is not None
    assert [node.name for node in bundle.quantised.of_type(FixedConv2d) if node.off_core] == ["stem.conv0"]
    trace = stas_neuro.run(bundle, load_data(str(home / "data.npz")), arithmetic="fixed")
    assert trace.activity.counts["cpu_operations"].sum() > 0


def test_both_lowerings_give_what_the_reference_gives(home: Path, tmp_path: Path) -> None:
    fine("compile", home / "model", "--bits", "7", "--backend", "lava-stock", "-o", tmp_path / "bundle")
    common = ("run", tmp_path / "bundle", "--data", home / "data.npz", "--arithmetic", "fixed")
    documents = {}
    for name, options in {
        "reference": (),
        "own": ("--backend", "lava"),
        "stock": ("--backend", "lava-stock"),
    }.items():
        documents[name] = fine(*common, *options, "-o", tmp_path / name, "--json").json
        assert documents[name]["arithmetic"] == "fixed" and "dtype" not in documents[name]
        assert np.array_equal(logits(tmp_path / name), logits(tmp_path / "reference"))
    assert documents["stock"]["backend"] == "lava-stock"
    assert len({document["token_ratio"] for document in documents.values()}) == 1
    assert documents["stock"]["token_ratio"] < 1
    # The pipeline of stock processes is deeper, which its price shows.
    steps = {
        name: fine("estimate", tmp_path / name, "--profile", "loihi2", "--json").json["hardware_steps"]
        for name in ("own", "stock")
    }
    assert steps["stock"] > steps["own"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("compile", "model", "--backend", "lava-stock", "-o", "new"),
            "backend lava-stock requires an integer program",
        ),
        (
            ("compile", "model", "--profile", "loihi1", "-o", "new"),
            "profile affects the integer program, and no bits are given; give bits",
        ),
        (
            ("compile", "model", "--bits", "8", "--profile", "cmos45", "-o", "new"),
            "cmos45 has no cores for the integer program: an operation count has no cores; use",
        ),
        (
            ("run", "plain", "--data", "data.npz", "--backend", "nothing"),
            "there is no backend 'nothing'; use one of reference, fast, lava, lava-stock",
        ),
        (
            ("run", "plain", "--data", "data.npz", "--arithmetic", "fixed"),
            "has no integer program; compile it",
        ),
        (
            ("run", "plain", "--data", "data.npz", "--backend", "lava-stock"),
            "the graph is folded, but the backend lava-stock runs only integer programs; compile with --bits",
        ),
    ],
)
def test_what_does_not_go_together(
    arguments: tuple[str, ...], expected: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    if not (home / "plain").exists():
        fine("compile", "model", "-o", "plain")
    done = stas(*arguments)
    assert done.code == 2 and expected in done.err and done.err.count("\n") == 1
