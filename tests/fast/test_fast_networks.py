"""The fast backend on shipped and imported networks, and who takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli_support import fine, make_checkpoint, make_data, stas
from support.imported_network import imported_program
from support.traces import same

import stas_neuro
from stas_neuro import backends
from stas_neuro.assets import IMAGES, asset
from stas_neuro.chips import load_profile
from stas_neuro.errors import InputError
from stas_neuro.fast import execution, run_fast
from stas_neuro.reference import run_reference

SHIPPED = ("fashion-spikformer", "fashion-spikingformer", "fashion-t1")
RECORD: dict[str, Any] = {"record_spikes": True, "record_states": True}


@pytest.mark.parametrize("model", SHIPPED)
def test_shipped_networks_on_cores(model: str) -> None:
    graph = stas_neuro.quantise(stas_neuro.fold(str(asset(f"models/{model}"))))
    mapping = stas_neuro.place(graph, load_profile("loihi2"))
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:5].astype(np.int64)
    for options in ({}, {"mapping": mapping, "gating": "core"}):
        plain = run_reference(graph, images, **RECORD, **options)
        assert plain.spikes and plain.states
        for eight_bit in (False, True):
            same(run_fast(graph, images, eight_bit=eight_bit, **RECORD, **options), plain)


def test_an_imported_network() -> None:
    integers, images = imported_program(6)
    plain = run_reference(integers, images, **RECORD)
    assert all(spikes.any() for spikes in plain.spikes.values()) and plain.spikes and plain.states
    same(run_fast(integers, images, **RECORD), plain)


def test_batches_side_by_side_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, value in (("_BATCH", 3), ("_FEW_VALUES", 0)):
        monkeypatch.setattr(f"stas_neuro.fast.execution.{limit}", value)
    graph = stas_neuro.quantise(stas_neuro.fold(str(asset("models/fashion-t1"))))
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:11].astype(np.int64)
    plain = run_reference(graph, images)
    seen: list[tuple[int, int]] = []
    for workers in (1, 3):
        monkeypatch.setattr("stas_neuro.fast.execution.workers", lambda number=workers: number)
        trace = run_fast(graph, images, progress=lambda done, of: seen.append((done, of)))
        np.testing.assert_array_equal(trace.logits, plain.logits)
        assert trace.activity == plain.activity
    assert seen == 2 * [(3, 11), (6, 11), (9, 11), (11, 11)]


def test_a_sample_is_counted_as_the_reference_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where some batches have no image of the sample, and pixels are bytes."""
    monkeypatch.setattr("stas_neuro.activity.record.SAMPLE", 3)
    for limit, value in (("_BATCH", 2), ("_FEW_VALUES", 0)):
        monkeypatch.setattr(f"stas_neuro.fast.execution.{limit}", value)
    graph = stas_neuro.quantise(stas_neuro.fold(str(asset("models/fashion-t1"))))
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:11]
    fast, plain = (stas_neuro.run(graph, images, backend=name) for name in ("fast", "reference"))
    assert fast.activity == plain.activity and fast.activity.origin == plain.activity.origin
    assert fast.activity.whole is not None and fast.activity.images == 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fast")
    make_checkpoint(home / "model")
    make_data(home / "data.npz", 4)
    fine("compile", home / "model", "--bits", "8", "-o", home / "net.stas")
    return home


def test_images_are_divided_between_workers_where_they_take_long_enough() -> None:
    graph = stas_neuro.quantise(stas_neuro.fold(str(asset("models/fashion-t1"))))
    average = np.mean([np.prod(value.shape) for value in graph.types.values()])
    enough = int(np.ceil(execution._WORTH_DIVIDING / average))
    for images, parts in ((1, 1), (2 * enough - 1, 1), (2 * enough, 2), (3 * enough, 3), (4 * enough, 3)):
        batches = execution.batches_of(graph, images, 3)
        assert (len(batches), batches[0].start) == (parts, 0)
        assert batches[-1].start < images <= batches[-1].stop


def test_a_run_takes_the_fast_backend_for_integers_and_tells(home: Path, tmp_path: Path) -> None:
    common = ("run", home / "net.stas", "--data", home / "data.npz", "--json")
    ran = {
        name: fine(*common, *options, "-o", tmp_path / name).json["backend"]
        for name, options in {
            "float": (),
            "fixed": ("--arithmetic", "fixed"),
            "plain": ("--arithmetic", "fixed", "--backend", "reference"),
            "chosen": ("--arithmetic", "fixed", "--backend", "fast"),
        }.items()
    }
    assert ran == {"float": "reference", "fixed": "fast", "plain": "reference", "chosen": "fast"}
    records = [(tmp_path / name / "activity.json").read_bytes() for name in ("fixed", "plain", "chosen")]
    assert records[0] == records[1] == records[2]


def test_floats_and_other_runtimes_are_refused(home: Path) -> None:
    run = ("run", home / "net.stas", "--data", home / "data.npz", "--backend", "fast")
    assert "runs only integer programs; compile with --bits" in stas(*run).err
    refused = stas(*run, "--arithmetic", "fixed", "--runtime", "multiprocess")
    assert "the backend fast has no runtime multiprocess; use the backend lava" in refused.err
    graph = stas_neuro.load_bundle(home / "net.stas").graph
    with pytest.raises(InputError, match="the fast backend runs only integer programs"):
        run_fast(graph, np.zeros((1, *graph.image_shape)))


def test_without_its_dependencies_the_reference_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = stas_neuro.load_bundle(home / "net.stas").of("fixed")
    assert backends.choose_backend("auto", graph) == "fast"
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert backends.choose_backend("auto", graph) == "reference"
    assert backends.choose_backend("fast", graph) == "fast"
