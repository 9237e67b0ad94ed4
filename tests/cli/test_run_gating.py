"""Runs on cores and with each gating, by the API and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.cli_support import Place, make_checkpoint, make_place, stas

from stas_neuro import api
from stas_neuro.activity import read_activity
from stas_neuro.bundle import load_bundle
from stas_neuro.data import load_data
from stas_neuro.errors import InputError
from stas_neuro.mapping import Mapping

GATINGS = ("silent", "none", "core", "power")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("gating"), 4)


@pytest.fixture(scope="module")
def placed(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("placed") / "placed.stas"
    options = ("--bits", "8", "--placement", "token-major", "--groups", "2", "-o", path)
    done = stas("compile", place.checkpoint, *options)
    assert done.code == 0, done.err
    return path


LAYERS = {"backend": "lava", "granularity": "layer"}


@pytest.mark.parametrize("backend", [{"backend": "reference"}, LAYERS, {"backend": "lava"}])
@pytest.mark.parametrize("arithmetic", ["float", "fixed"])
def test_no_gating_changes_a_result(
    place: Place, placed: Path, backend: dict[str, str], arithmetic: str
) -> None:
    bundle, data = load_bundle(placed), load_data(str(place.data))
    assert bundle.mapping is not None
    runs = {
        gating: api.run(bundle, data, arithmetic=arithmetic, gating=gating, **backend) for gating in GATINGS
    }
    for run in runs.values():
        assert np.allclose(run.logits, runs["silent"].logits, rtol=0, atol=1e-12)
        assert np.array_equal(run.visits, runs["silent"].visits)
        assert run.activity.cores == bundle.mapping.cores
    gated = runs["silent"].activity.total("updates_gated")
    assert gated > 0
    assert runs["none"].activity.total("updates_gated") == 0
    assert runs["none"].activity.total("synops") > runs["silent"].activity.total("synops")
    assert runs["none"].activity.total("axon_messages") > runs["silent"].activity.total("axon_messages")
    assert 0 < runs["core"].activity.total("updates_skipped") <= gated
    assert runs["power"].activity == runs["core"].activity
    assert runs["silent"].activity.total("updates_skipped") == 0


def test_all_backends_count_the_same_on_cores(place: Place, placed: Path) -> None:
    bundle, data = load_bundle(placed), load_data(str(place.data))
    for gating in ("none", "core"):
        ours, layers, chips = (
            api.run(bundle, data, arithmetic="fixed", gating=gating, **backend).activity
            for backend in ({"backend": "reference"}, LAYERS, {"backend": "lava", "granularity": "chip"})
        )
        assert ours == layers == chips


def test_run_counts_on_the_cores_of_a_bundle(place: Place, placed: Path, tmp_path: Path) -> None:
    common = ("--data", place.data, "--arithmetic", "fixed")
    done = stas("run", placed, *common, "--gating", "core", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    record = read_activity(tmp_path / "run" / "activity.json")
    assert (document["gating"], document["cores"]) == ("core", len(record.cores))
    assert record.total("updates_skipped") > 0
    by_layer = stas("run", placed, *common, "--no-mapping", "--json").json
    assert (by_layer["gating"], by_layer["cores"]) == ("silent", 0)
    assert by_layer["accuracy"] == document["accuracy"]


def test_a_mapping_may_be_given(place: Place, placed: Path) -> None:
    bundle, data = load_bundle(placed), load_data(str(place.data))
    graph = bundle.of("fixed")
    assert api.run(graph, data, limit=1).activity.cores == ()
    assert api.run(graph, data, limit=1, mapping=bundle.mapping).activity.cores
    assert api.run(bundle, data, limit=1, mapping=None).activity.cores == ()


def test_what_cannot_be_gated_is_refused(place: Place, placed: Path, tmp_path: Path) -> None:
    done = stas("run", place.bundle, "--data", place.data, "--gating", "core")
    assert done.code == 2
    assert "gating core requires a run on cores" in done.err
    done = stas("run", placed, "--data", place.data, "--gating", "core", "--no-mapping")
    assert done.code == 2
    bundle, data = load_bundle(placed), load_data(str(place.data))
    assert bundle.mapping is not None
    pieces = bundle.mapping.pieces[1:]
    other = Mapping(profile="loihi2", strategy="token-major", cores=bundle.mapping.cores, pieces=pieces)
    with pytest.raises(InputError, match="the mapping holds"):
        api.run(bundle, data, mapping=other)
    with pytest.raises(InputError, match="there is no gating"):
        api.run(bundle, data, gating="off")
    block = tmp_path / "block.stas"
    done = stas("compile", make_checkpoint(tmp_path / "model"), "--accumulate", "block", "-o", block)
    assert done.code == 0, done.err
    done = stas("run", block, "--data", place.data, "--gating", "none")
    assert done.code == 2
    assert "comes back in the next model step" in done.err
