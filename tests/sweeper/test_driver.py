"""A sweep computes each step once, survives what it is killed by, and keeps what failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import toy_sweeps
from support.toy_sweeps import many, plan_of, toy

from stas_neuro.documents import shown
from stas_neuro.errors import InputError
from stas_neuro.sweeper import Plan, Swept, cluster, processes, read_plan, run_plan


class Thread:
    """A pool for tests that need no process."""

    slots = 1

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.submit = executor.submit

    def died(self, error: BaseException) -> bool:
        return False


@contextmanager
def thread() -> Iterator[Any]:
    with ThreadPoolExecutor(1) as executor:
        yield Thread(executor)


def swept(plan: Plan, folder: Path, **options: Any) -> Swept:
    return run_plan(plan, folder, toy, thread(), **options)


def table(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a sweep, without durations."""
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    return [{name: row[name] for name in row if name != "seconds"} for row in rows]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "calls"
    path.touch()
    monkeypatch.setenv("TOY_CALLS", str(path))
    monkeypatch.setenv("TOY_KILLED", str(tmp_path / "killed"))
    return path


def counted(calls: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in calls.read_text().splitlines())


def test_cells_are_the_combinations_and_share_their_steps(tmp_path: Path, calls: Path) -> None:
    done = swept(many(5), tmp_path / "out")
    assert (done.cells, done.computed, done.failed, done.error) == (60, 60, 0, None)
    rows = table(tmp_path / "out")
    assert [row["cell"] for row in rows] == list(range(60))
    assert rows[37]["compile.width"] == 2 and rows[37]["compile.depth"] == 3
    assert (rows[37]["run.images"], rows[37]["price.mode"]) == (16, 2)
    assert counted(calls) == {"compile": 6, "run": 12, "price": 60}
    assert swept(many(5), tmp_path / "out").computed == 0
    assert len(calls.read_text().splitlines()) == 78


def test_every_cell_has_what_its_steps_give_alone(tmp_path: Path) -> None:
    swept(many(3), tmp_path / "all")
    rows = table(tmp_path / "all")
    for row in rows[::11]:
        one = plan_of(
            {
                "compile": {"width": row["compile.width"], "depth": row["compile.depth"]},
                "run": {"images": row["run.images"]},
                "price": {"mode": row["price.mode"], "nap": 0},
            }
        )
        swept(one, tmp_path / f"one-{row['cell']}")
        (alone,) = table(tmp_path / f"one-{row['cell']}")
        assert alone == {name: row[name] for name in alone} | {"cell": 0}


def test_shards_are_steps_and_their_join_is_one_more(tmp_path: Path, calls: Path) -> None:
    plan = plan_of({"run": {"images": [1, 2]}, "price": {"mode": [1, 2, 3]}, "shards": 4})
    assert swept(plan, tmp_path / "out").failed == 0
    assert counted(calls) == {"run": 8, "join": 2, "price": 6}


def test_what_failed_is_kept_and_tried_again_only_if_asked(tmp_path: Path, calls: Path) -> None:
    config = {"compile": {"width": [1, 2], "fail": 0}, "price": {"mode": [1, 2, 3], "fail": [0, 1]}}
    folder = tmp_path / "out"
    done = swept(plan_of(config), folder)
    assert (done.computed, done.failed, done.error) == (12, 6, "the toy is broken; repair it")
    errors = [row["error"] for row in table(folder)]
    assert errors == [None, "the toy is broken; repair it"] * 6
    before = len(calls.read_text().splitlines())
    assert swept(plan_of(config), folder).computed == 0
    assert len(calls.read_text().splitlines()) == before
    assert swept(plan_of(config), folder, retry=True).computed == 6
    assert len(calls.read_text().splitlines()) == before + 6
    assert [row["error"] for row in table(folder)] == errors


def test_a_step_that_fails_fails_its_cells_alone(tmp_path: Path, calls: Path) -> None:
    plan = plan_of({"compile": {"fail": [0, 1, 2]}, "run": {"images": [1, 2]}, "price": {"mode": [1, 2]}})
    done = swept(plan, tmp_path / "out")
    assert done.failed == 4 and done.error == "compile: the toy is broken; repair it"
    assert [row["cell"] for row in table(tmp_path / "out") if row["error"]] == [4, 5, 6, 7]
    assert counted(calls) == {"compile": 3, "run": 4, "price": 8}


def test_numbers_that_cannot_be_kept_fail_their_cells_alone(tmp_path: Path) -> None:
    done = swept(plan_of({"price": {"mode": 1, "odd": list(range(len(toy_sweeps.ODD)))}}), tmp_path / "leaf")
    assert (done.computed, done.failed) == (7, 5)
    rows = table(tmp_path / "leaf")
    assert [row["error"] and row["error"].split(";")[0] for row in rows] == [
        None,
        "price_odd is nan",
        "price_odd is -inf",
        "price_odd is 0x8000000000000000",
        f"price_odd is {shown(hex(10**400))}",
        None,
        "price_odd_low is nan",
    ]
    assert [row["price_odd"] for row in rows] == [1.5, None, None, None, None, -(2.0**63), None]


def test_a_step_whose_number_cannot_be_kept_fails_its_cells(tmp_path: Path) -> None:
    done = swept(plan_of({"compile": {"odd": [0, 1]}, "price": {"mode": [1, 2]}}), tmp_path / "stored")
    assert done.failed == 2
    assert [(row["error"] or "").split(";")[0] for row in table(tmp_path / "stored")] == [
        "",
        "",
        "compile: compile_odd is nan",
        "compile: compile_odd is nan",
    ]


def test_another_sweep_is_refused_and_with_force_keeps_the_steps(tmp_path: Path, calls: Path) -> None:
    folder = tmp_path / "out"
    swept(many(2), folder)
    with pytest.raises(InputError, match="has the results of another sweep"):
        swept(many(3), folder)
    assert swept(many(3), folder, force=True).computed == 36
    assert counted(calls) == {"compile": 6, "run": 12, "price": 24 + 36}
    assert len(table(folder)) == 36


def test_only_trainings_of_the_sweep_continue(tmp_path: Path) -> None:
    """A sweep that replaces another removes the trainings that only the other would have continued."""
    kinds = {"train": toy_sweeps.ToyKind("train", None, None, False, ("width", "fail"))}
    plan = read_plan({"train": {"width": [1, 2], "fail": [1]}}, kinds)
    names = {f".{step.name}" for step in plan.all_steps()}
    assert len(names) == 2
    steps = tmp_path / "steps"
    for name in (*names, ".train-of-another", ".run-of-another"):
        (steps / name).mkdir(parents=True)
        (steps / name / "epochs").touch()
    assert swept(plan, tmp_path).failed == 2
    assert {path.name for path in steps.iterdir()} == names
    assert all((steps / name / "epochs").exists() for name in names)


def test_one_sweep_at_a_time_works_in_a_directory(tmp_path: Path) -> None:
    nested: list[str] = []

    def report(done: int, total: int) -> None:
        if not nested:
            with pytest.raises(InputError) as caught:
                swept(many(1), tmp_path / "out")
            nested.append(str(caught.value))

    swept(many(1), tmp_path / "out", report=report)
    assert nested and "a sweep is running there" in nested[0]


def test_a_process_that_dies_costs_only_its_try(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cell kills its process the first time, another one always."""
    monkeypatch.setattr("stas_neuro.sweeper.pools.TRIES", 2)
    plan = plan_of({"run": {"images": 3}, "price": {"kill": [0, 1, 2]}})
    done = run_plan(plan, tmp_path / "out", toy, processes(1))
    fine, once, always = table(tmp_path / "out")
    assert (done.computed, done.failed) == (3, 1)
    assert fine["error"] is None and once["error"] is None and fine["price_number"] == once["price_number"]
    assert always["error"].startswith("the process that computed it died (signal 9), 2 times")


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(Path(toy_sweeps.__file__)), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(toy_sweeps.__file__).parents[1])}
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def journal(folder: Path) -> list[str]:
    path = folder / "cells" / "journal.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def wait_for_rows(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(journal(folder)) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_sweep_that_is_killed_goes_on_without_a_cell_lost_or_computed_twice(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    process = started(folder, 6, 20)
    wait_for_rows(folder, 5, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = [json.loads(line) for line in journal(folder)]
    assert 5 <= len(kept) < 72
    process = started(folder, 6, 20)
    assert not process.communicate(timeout=120)[1] and process.returncode == 0
    swept(many(6), tmp_path / "whole")
    assert table(folder) == table(tmp_path / "whole")
    seconds = pq.read_table(folder / "results.parquet")["seconds"].to_pylist()
    assert [seconds[row["cell"]] for row in kept] == [row["seconds"] for row in kept]


def test_a_cluster_computes_the_same(tmp_path: Path) -> None:
    from distributed import LocalCluster

    plan = many(4)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as workers:
        done = run_plan(plan, tmp_path / "cluster", toy, cluster(workers.scheduler_address))
    swept(plan, tmp_path / "here")
    assert done.failed == 0 and table(tmp_path / "cluster") == table(tmp_path / "here")


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stas_neuro.sweeper.pools.CONNECT_S", 0.3)
    with pytest.raises(InputError, match=r"tcp://127\.0\.0\.1:9: no scheduler answers"):
        run_plan(many(1), tmp_path, toy, cluster("tcp://127.0.0.1:9"))
    with pytest.raises(InputError, match="no scheduler answers"):
        run_plan(many(1), tmp_path, toy, cluster("nonsense://"))
