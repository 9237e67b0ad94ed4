"""`sweep` gives what the commands give by hand, checks its file as they do, and survives what kills it."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.cli_support import fine, make_checkpoint, make_data, stas

import stas_neuro
from stas_neuro.activity import read_activity
from stas_neuro.cli.runs import join_runs
from stas_neuro.cli.sweep_steps import KINDS
from stas_neuro.sweeper import read_plan

MEASURE = """
import json

def visits(run, factor=1):
    return {"visits": factor * json.loads((run / "run.json").read_text())["token_ratio"]}
"""
CONFIG = """
[compile]
model = "checkpoint"
bits = 8
accumulate = ["raster", "off"]

[run]
data = "data.npz"
limit = 5
arithmetic = "fixed"

[measure]
function = "measure.py:visits"
factor = [1, 2]

[estimate]
profile = ["loihi2", "loihi1"]
gating = [false, "core"]
"""
DURATIONS = ("seconds", "run_wall_time_s", "run_images_per_s", "compile_bundle", "run_bundle")
"""Columns that differ between two sweeps that are the same."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sweep")
    make_checkpoint(home / "checkpoint")
    make_data(home / "data.npz", 9)
    (home / "measure.py").write_text(MEASURE)
    (home / "config.toml").write_text(CONFIG)
    return home


@pytest.fixture(autouse=True)
def _here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    return [{name: row[name] for name in row if name not in DURATIONS} for row in rows]


def test_cells_are_what_the_commands_give(home: Path) -> None:
    done = stas("sweep", "config.toml", "-o", "out", "--jobs", "1", "--json")
    assert done.code == 1 and "8 of 16 cells failed" in done.err and "gating core" in done.err
    assert done.json["cells"] == 16 and done.json["failed"] == 8
    rows = rows_of(home / "out")
    for mode, row in (("raster", rows[0]), ("off", rows[14])):
        fine("compile", "checkpoint", "--bits", "8", "--accumulate", mode, "-o", f"{mode}.stas")
        run = ("--data", "data.npz", "--limit", "5", "--arithmetic", "fixed", "-o", f"{mode}-run")
        ran = fine("run", f"{mode}.stas", *run, "--json").json
        profile = row["estimate.profile"]
        cost = fine("estimate", f"{mode}-run", "--profile", profile, "--json").json
        assert row["compile.accumulate"] == mode and row["error"] is None
        assert (row["run_accuracy"], row["run_token_ratio"]) == (ran["accuracy"], ran["token_ratio"])
        assert row["measure_visits"] == row["measure.factor"] * ran["token_ratio"]
        for name in ("energy_j", "latency_s", "dynamic_energy_j"):
            assert row[f"estimate_{name}"] == cost[name]["value"]
            assert row[f"estimate_{name}_high"] == cost[name]["high"]
        assert row["estimate_cores"] == cost["cores"]
    steps = sorted(path.name.split("-")[0] for path in (home / "out" / "steps").iterdir())
    assert steps == ["compile"] * 2 + ["measure"] * 4 + ["run"] * 2
    (first, *_) = (home / "out" / "steps").glob("compile-*")
    command = json.loads((first / "step.json").read_text())["command"]
    assert command[:3] == ["stas-export", "compile", "checkpoint"] and command[-1] == str(
        first / "bundle.stas"
    )
    again = stas("sweep", "config.toml", "-o", "out", "--json")
    assert again.json["computed"] == 0


def test_the_cells_are_listed_without_computing_any(home: Path) -> None:
    told = fine("sweep", "config.toml", "-o", "listed", "--list").out
    assert "16 cells: 2 x 2 x 2 x 2" in told and "estimate.gating: -, core" in told
    assert not (home / "listed").exists()
    document = fine("sweep", "config.toml", "-o", "listed", "--list", "--json").json
    assert document["cells"] == 16 and document["first"][1]["estimate.gating"] == "core"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("accumulate", "acumulate", "there is no option of compile 'acumulate'; did you mean accumulate"),
        ('"raster", "off"', '"rastr"', 'compile.accumulate = "rastr": .*did you mean raster'),
        ("bits = 8", "bits = 20", r"compile.bits = 20: .*9"),
        ("bits = 8", "bits = 2.5", "compile.bits = 2.5: .*not a valid integer"),
        ("bits = 8", "bits = true", "compile.bits = true; it takes a value"),
        ("bits = 8", "ema = 3", "compile.ema = 3; it is a switch"),
        ('"checkpoint"', '"chekpoint"', "there is no model or file 'chekpoint'"),
        ('data = "data.npz"', "", "run.data is not given"),
        ('"data.npz"', '"date.npz"', "run.data = .*date.npz not found"),
        ('"loihi2", "loihi1"', '"loihi3"', "estimate.profile = .*loihi3.*did you mean loihi2"),
        ("limit = 5", "limit = 5\nbundle = 'x.stas'", "the step compile makes one"),
        ("limit = 5", "limit = 5\nskip = 1", "there is no option of run 'skip'"),
        ("measure.py:visits", "measure.py:visit", "no function in measure.py 'visit'; did you mean visits"),
        ("measure.py:visits", "mesure.py:visits", "is no function of an existing file"),
        ("[compile]", "[compile", "wrong.toml: is not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_before_any_work(
    home: Path, old: str, new: str, message: str
) -> None:
    assert old in CONFIG
    (home / "wrong.toml").write_text(CONFIG.replace(old, new))
    done = stas("sweep", "wrong.toml", "-o", "wrong")
    assert done.code == 2, done.err
    (line, *_) = done.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line
    assert not (home / "wrong").exists()


def test_a_missing_file_and_a_directory_of_something_else_are_refused(home: Path) -> None:
    assert "none.toml" in stas("sweep", "none.toml", "-o", "x").err
    (home / "mine").mkdir(exist_ok=True)
    (home / "mine" / "file").touch()
    done = stas("sweep", "config.toml", "-o", "mine")
    assert done.code == 2 and "mine exists and has no sweep.json" in done.err


def test_a_changed_input_is_another_sweep(home: Path) -> None:
    config = '[run]\nbundle = "one.stas"\ndata = "data.npz"\nlimit = [1, 2]\n'
    (home / "small.toml").write_text(config)
    fine("compile", "checkpoint", "-o", "one.stas")
    fine("sweep", "small.toml", "-o", "small", "--jobs", "1")
    fine("compile", "checkpoint", "--epsilon", "0.4", "-o", "one.stas", "--force")
    done = stas("sweep", "small.toml", "-o", "small", "--jobs", "1")
    assert done.code == 2 and "its file, its input or stas-neuro has changed" in done.err
    assert (
        fine("sweep", "small.toml", "-o", "small", "--jobs", "1", "--force", "--json").json["computed"] == 2
    )


@pytest.mark.parametrize(("arithmetic", "sample"), [("float", 1000), ("fixed", 1000), ("fixed", 5)])
def test_shards_of_a_run_are_joined_to_the_whole(
    home: Path, arithmetic: str, sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a long run has the counts of a sample only."""
    monkeypatch.setattr("stas_neuro.activity.record.SAMPLE", sample)
    fine("compile", "checkpoint", "--bits", "8", "-o", "s.stas", "--force")
    run = ("--data", "data.npz", "--arithmetic", arithmetic, "--force")
    whole = fine("run", "s.stas", *run, "--limit", "8", "-o", "whole", "--json").json
    for first, count in ((0, 3), (3, 1), (4, 4)):
        part = ("--skip", str(first), "--limit", str(count), "--per-image", "-o", f"part{first}")
        fine("run", "s.stas", *run, *part)
    target = home / f"joined-{arithmetic}-{sample}"
    joined = join_runs([home / "part0", home / "part3", home / "part4"], target)
    times = {"wall_time_s", "images_per_s"}
    assert {name: joined[name] for name in joined if name not in times} == {
        name: whole[name] for name in whole if name not in times
    }
    ours, theirs = target, home / "whole"
    one, other = read_activity(ours / "activity.json"), read_activity(theirs / "activity.json")
    assert one == other and one.origin == other.origin
    with np.load(ours / "outputs.npz") as mine, np.load(theirs / "outputs.npz") as their:
        assert set(mine) == set(their)
        for name in mine:
            assert np.array_equal(mine[name], their[name]) or np.allclose(mine[name], their[name], atol=1e-9)


def test_a_sweep_with_shards_gives_what_it_gives_without(home: Path) -> None:
    config = '[compile]\nmodel = "checkpoint"\n[run]\ndata = "data.npz"\nlimit = 7\n'
    config += '[estimate]\nprofile = "loihi2"\n'
    for name, more in (("plain", ""), ("sharded", "shards = 3\n")):
        (home / f"{name}.toml").write_text(more + config)
        fine("sweep", f"{name}.toml", "-o", name, "--jobs", "1")
    ((plain,), (sharded,)) = rows_of(home / "plain"), rows_of(home / "sharded")
    assert plain == {name: sharded[name] for name in plain}


def test_skip_leaves_out_images(home: Path) -> None:
    fine("compile", "checkpoint", "-o", "k.stas", "--force")
    whole = stas_neuro.run(stas_neuro.load_bundle("k.stas"), stas_neuro.load_data("data.npz"))
    done = fine("run", "k.stas", "--data", "data.npz", "--skip", "6", "--json").json
    assert done["images"] == 3 and done["token_ratio"] == whole.visits[6:].mean()
    refused = stas("run", "k.stas", "--data", "data.npz", "--skip", "9")
    assert refused.code == 2 and "--skip 9 leaves none of 9 images" in refused.err


def test_the_python_function_returns_where_the_results_are(home: Path) -> None:
    config = {"compile": {"model": "checkpoint", "epsilon": [0.1, 0.2]}}
    seen: list[tuple[int, int]] = []
    done = stas_neuro.sweep(config, home / "python", jobs=1, report=lambda *counts: seen.append(counts))
    assert (done.cells, done.failed) == (2, 0) and seen[-1] == (2, 2)
    assert pq.read_table(done.results)["compile_options_epsilon"].to_pylist() == [0.1, 0.2]


def test_every_option_of_the_commands_can_be_an_axis() -> None:
    """Options that a sweep gives itself are the only ones that its file cannot have."""
    for name, kind in KINDS.items():
        if name == "measure":
            continue
        command = importlib.import_module(f"stas_neuro.cli.{name}").command
        flags = {max(each.opts, key=len).lstrip("-") for each in command.params}
        unknown = {
            flag for flag in flags if any("no option" in str(each) for each in kind.problems(flag, "x"))
        }
        assert unknown <= {"output", "json", "quiet", "debug", "force", "resume", "full", "skip"}


MANY = """
[compile]
model = "checkpoint"
bits = 8
epsilon = [0.05, 0.3]

[run]
data = "data.npz"
limit = 4
arithmetic = "fixed"

[estimate]
profile = ["loihi1", "loihi2", "truenorth"]
mode = ["single", "stream"]
stem = ["shared", "apart", "folded"]
idle-update = [false, "stepped", "skipped"]
weight-bits = [4, 8]
"""


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "stas_neuro.cli", "sweep", "many.toml", "-o", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *more], start_new_session=True, stderr=subprocess.PIPE, text=True, env=environment
    )


def recorded(folder: Path) -> list[dict[str, Any]]:
    path = folder / "cells" / "journal.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def wait_for(folder: Path, count: int, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 600
    while len(rows := recorded(folder)) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return rows


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes of a group that compute, without the one that was started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[2]) == process.pid and b"spawn_main" in command:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_sweep_of_216_cells_is_killed_twice_and_ends_as_if_it_had_not_been(home: Path) -> None:
    (home / "many.toml").write_text(MANY)
    folder = home / "killed"
    process = started(folder, "--jobs", "2")
    before = wait_for(folder, 40, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = recorded(folder)
    assert 40 <= len(before) <= len(kept) < 216
    process = started(folder, "--jobs", "2")
    wait_for(folder, len(kept) + 40, process)
    os.kill(children(process)[0], signal.SIGKILL)
    errors = process.communicate(timeout=900)[1]
    assert process.returncode in (0, 1), errors
    whole = started(home / "whole-sweep", "--jobs", "2")
    whole.communicate(timeout=900)
    assert whole.returncode == process.returncode
    assert rows_of(folder) == rows_of(home / "whole-sweep")
    assert len(rows_of(folder)) == 216
    seconds = pq.read_table(folder / "results.parquet")["seconds"].to_pylist()
    assert [seconds[row["cell"]] for row in kept] == [row["seconds"] for row in kept]


@pytest.mark.slow
def test_the_same_on_a_cluster_of_two_workers_one_of_which_is_killed(home: Path) -> None:
    from distributed import LocalCluster

    (home / "many.toml").write_text(MANY)
    folder = home / "on-cluster"
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers:
        address = workers.scheduler_address
        process = started(folder, "--scheduler", address)
        wait_for(folder, 40, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kept = recorded(folder)
        process = started(folder, "--scheduler", address)
        wait_for(folder, len(kept) + 20, process)
        os.kill(next(iter(workers.workers.values())).pid, signal.SIGKILL)
        errors = process.communicate(timeout=900)[1]
    assert process.returncode in (0, 1), errors
    if not (home / "whole-sweep").exists():
        started(home / "whole-sweep", "--jobs", "2").communicate(timeout=900)
    assert rows_of(folder) == rows_of(home / "whole-sweep")
    seconds = pq.read_table(folder / "results.parquet")["seconds"].to_pylist()
    assert [seconds[row["cell"]] for row in kept] == [row["seconds"] for row in kept]


def test_a_plan_knows_its_steps_before_they_are_made(home: Path) -> None:
    plan = read_plan(home / "config.toml", KINDS)
    assert [step.kind for step in plan.steps(0)] == ["compile", "run", "measure"]
