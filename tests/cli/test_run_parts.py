"""Long runs: continued after an interruption; sums over all images, and counts of each on request."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli_support import fine, make_checkpoint, make_data, stas

from stas_neuro import api
from stas_neuro.activity import hash_images, read_activity, record
from stas_neuro.activity.record import sample_of
from stas_neuro.cli import report, unfinished
from stas_neuro.cli.runs import labelled_run
from stas_neuro.errors import InputError

IMAGES = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bundle that has integers and is on cores, and data."""
    home = tmp_path_factory.mktemp("runs")
    make_data(home / "data.npz", IMAGES)
    make_checkpoint(home / "model")
    options = ("--bits", 8, "--calibrate", home / "data.npz", "--placement", "token-major")
    fine("compile", home / "model", *map(str, options), "-o", home / "net.stas")
    return home


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make batches and samples small, and keep each batch."""
    monkeypatch.setattr("stas_neuro.fast.execution._BATCH", 8)
    monkeypatch.setattr("stas_neuro.fast.execution._FEW_VALUES", 0)
    monkeypatch.setattr("stas_neuro.api._AT_ONCE", 8)
    monkeypatch.setattr(record, "SAMPLE", 10)
    monkeypatch.setattr(unfinished, "INTERVAL_S", 0.0)


def run(home: Path, name: str, *options: str) -> Any:
    return fine(
        "run", home / "net.stas", "--data", home / "data.npz", "-o", home / name, "--json", *options
    ).json


def outputs(path: Path) -> dict[str, Any]:
    with np.load(path / "outputs.npz") as arrays:
        return dict(arrays)


def same(a: Path, b: Path) -> None:
    one, other = outputs(a), outputs(b)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
    first, second = (read_activity(next(path.glob("activity.*"))) for path in (a, b))
    assert first == second and first.origin == second.origin


BACKENDS = [("reference", "float"), ("reference", "fixed"), ("fast", "fixed"), ("lava", "fixed")]


@pytest.mark.parametrize(("backend", "arithmetic"), BACKENDS)
def test_an_interrupted_run_is_continued(
    home: Path, monkeypatch: pytest.MonkeyPatch, backend: str, arithmetic: str
):
    options = ("--backend", backend, "--arithmetic", arithmetic)
    name = f"{backend}-{arithmetic}"
    whole = run(home, f"{name}-whole", *options)
    add, calls = unfinished.UnfinishedRun.add, []

    def interrupted(self: Any, part: Any) -> None:
        add(self, part)
        calls.append(part)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(unfinished.UnfinishedRun, "add", interrupted)
    command = ("run", home / "net.stas", "--data", home / "data.npz", "-o", home / name, *options)
    stopped = stas(*command)
    assert stopped.code == 130
    assert "interrupted; continue with the same command and --resume" in stopped.err
    done = sum(len(part.arrays["", "logits"]) for part in calls)
    assert 0 < done < IMAGES
    refused = stas(*command)
    assert refused.code == 2 and "use --resume to continue it, or --force to replace it" in refused.err
    priced = stas("estimate", home / name, "--profile", "loihi2")
    assert priced.code == 2 and "the run was interrupted; continue it with run --resume" in priced.err
    other = stas(*command, "--resume", "--gating", "none")
    assert other.code == 2 and "was begun with gating silent, not none" in other.err
    calls.clear()
    calls.extend([None] * 9)  # so that it is not interrupted again
    continued = fine(*command, "--resume", "--json").json
    assert sum(len(part.arrays["", "logits"]) for part in calls[9:]) == IMAGES - done
    assert {**continued, "wall_time_s": 0, "images_per_s": 0} == {
        **whole,
        "wall_time_s": 0,
        "images_per_s": 0,
    }
    same(home / f"{name}-whole", home / name)
    assert not (home / name / "parts").exists()
    again = stas(*command, "--resume")
    assert again.code == 2 and "has no unfinished run; start it without --resume" in again.err


@pytest.mark.parametrize(("backend", "arithmetic"), BACKENDS)
def test_sums_and_samples_are_those_of_all_counts(home: Path, backend: str, arithmetic: str):
    name = f"{backend}-{arithmetic}"
    options = ("--backend", backend, "--arithmetic", arithmetic)
    short = run(home, f"{name}-sums", *options)
    long = run(home, f"{name}-images", *options, "--per-image", "--activity", "parquet")
    for field in ("accuracy", "token_ratio", "neurobench", "images"):
        assert short[field] == long[field]
    sums, every = (
        read_activity(home / f"{name}-{rest}") for rest in ("sums/activity.json", "images/activity.parquet")
    )
    assert (sums.images, sums.all_images, every.images, every.whole) == (10, IMAGES, IMAGES, None)
    for kind in every.counts:
        np.testing.assert_array_equal(sums.sums(kind), every.sums(kind), err_msg=kind)
        np.testing.assert_array_equal(sums.counts[kind], every.counts[kind][sample_of(IMAGES)], err_msg=kind)
    np.testing.assert_array_equal(sums.visits, every.visits[sample_of(IMAGES)])
    assert sums.token_ratio == every.token_ratio


def test_what_there_is_to_resume(home: Path):
    refused = stas("run", home / "net.stas", "--data", home / "data.npz", "--resume")
    assert refused.code == 2 and "--resume needs the directory of a run; name it with -o" in refused.err
    refused = stas("run", home / "net.stas", "--data", home / "data.npz", "--resume", "-o", home / "nowhere")
    assert refused.code == 2 and "nowhere: has no unfinished run" in refused.err
    assert not (home / "nowhere").exists()


def test_prices_of_both_forms_are_equal(home: Path):
    prices = []
    for form in ("json", "parquet"):
        run(home, form, "--arithmetic", "fixed", "--per-image", "--activity", form)
        prices.append(fine("estimate", home / form, "--profile", "loihi2", "--json").json)
    assert json.dumps(prices[0]) == json.dumps(prices[1])


def test_a_report_finds_the_images_of_a_long_run_by_its_sample(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, path = tmp_path / "data.npz", tmp_path / "run"
    data.write_bytes((home / "data.npz").read_bytes())
    fine("run", home / "net.stas", "--data", data, "-o", path)
    run = labelled_run("long", path)
    hashed: list[int] = []

    def counted(images: Any) -> tuple[str, ...]:
        hashed.append(len(images))
        return hash_images(images)

    monkeypatch.setattr("stas_neuro.api.hash_images", counted)
    found = report._own_data(run, path)
    assert found is not None and len(found) == IMAGES and hashed == [10]
    with np.load(data) as arrays:
        changed = dict(arrays)
    changed["images"][run.activity.numbers[-1]] ^= 1
    np.savez(data, **changed)
    assert report._own_data(run, path) is None


def test_two_runs_do_not_share_a_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    count = api.run

    def counted(*given: Any, **words: Any) -> Any:
        for options in ((), ("--resume",), ("--force",)):
            place = ("run", home / "net.stas", "--data", home / "data.npz", "-o", home / "two")
            done = stas(*place, *options)
            assert done.code == 2
            tried.append(done.err)
        return count(*given, **words)

    monkeypatch.setattr(api, "run", counted)
    run(home, "two")
    assert len(tried) == 3
    assert f"{home / 'two'}: another run is running there (process {os.getpid()}); wait" in tried[0]
    assert [path.name for path in home.iterdir() if path.name.startswith(".")] == []


def test_a_run_that_fails_leaves_no_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **words: Any) -> Any:
        raise InputError("it fails", "do something else")

    monkeypatch.setattr(api, "run", fail)
    assert stas("run", home / "net.stas", "--data", home / "data.npz", "-o", home / "new" / "one").code == 2
    assert not (home / "new").exists()


def test_a_run_that_could_not_be_written_is_refused_before_any_work(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*given: Any, **words: Any) -> Any:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(api, "run", work)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    place = ("run", home / "net.stas", "--data", home / "data.npz", "-o", home / "none")
    done = stas(*place, "--activity", "parquet")
    assert done.code == 2 and "parquet cannot be used here" in done.err and "pip install" in done.err
