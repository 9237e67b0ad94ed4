"""Runs a sweep: submits the steps and cells that can be computed, and stores what comes back."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stas_neuro import __version__
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.files import check_version, json_object, locked_directory, read_bytes, write_atomically
from stas_neuro.sweeper.plan import Plan, Step, chunks
from stas_neuro.sweeper.pools import Pool
from stas_neuro.sweeper.store import CELLS, PART_ROWS, RESULTS, UNKNOWN, Store
from stas_neuro.sweeper.work import Leaves, Perform, Row, compute, error_text, is_made, make_step

SWEEP, STEPS = "sweep.json", "steps"
FORMAT, SCHEMA_VERSION = "stas-neuro sweep", 1
WINDOW = 1024
"""Largest number of groups that wait for their steps."""
CHUNK = 1024
"""Largest number of cells that a worker gets at a time."""
TICK_S = 2.0
"""Longest time between two reports of progress."""
Report = Callable[[int, int], None]
"""Called with the number of cells that have a result, and of all cells."""


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep came to.

    Parameters
    ----------
    cells, failed : int
        Number of cells, and of those that ended with an error.
    computed : int
        Number of cells that this call computed; the others had been computed before.
    error : str or None
        Error of one of the cells that failed.
    results : Path
        The Parquet file, with a row for each cell.
    """

    cells: int
    failed: int
    computed: int
    error: str | None
    results: Path


def run_plan(
    plan: Plan,
    folder: Path,
    perform: Perform,
    pool: AbstractContextManager[Pool],
    *,
    retry: bool = False,
    force: bool = False,
    report: Report | None = None,
) -> Swept:
    """Compute all cells of a plan that have no result yet, and write the results.

    Parameters
    ----------
    plan : Plan
    folder : Path
        Where results and steps are stored. One call at a time works there. A call goes on where an earlier
        one ended, for whatever reason.
    perform : callable
        Does a step.
    pool : context manager of Pool
        Entered only where there is something to compute.
    retry : bool
        Whether cells that failed are computed again.
    force : bool
        Whether the results of another plan in the folder are removed. Steps that are the same are kept.
    report : callable, optional
        Called after each result, and at least every two seconds.

    Raises
    ------
    InputError
        If the folder has the results of another plan, is in use, or cannot be written.
    """
    with locked_directory(folder, "a sweep"):
        _claim(folder, plan, force=force)
        steps = folder / STEPS
        steps.mkdir(exist_ok=True)
        _clean(steps, plan)
        with Store(folder, plan) as store:
            if retry:
                store.forget_failed()
            before = store.done
            if before < plan.count:
                with pool as entered:
                    _Run(plan, steps, perform, entered, store, report).all()
            return Swept(
                cells=plan.count,
                failed=store.failed,
                computed=plan.count - before,
                error=store.first_error,
                results=store.export(),
            )


def _claim(folder: Path, plan: Plan, *, force: bool) -> None:
    """Write which sweep a folder is of; refuse one of another sweep, or remove its results."""
    path, digest = folder / SWEEP, plan.digest()
    if path.exists():
        document = json_object(read_bytes(path), str(path), "choose another directory")
        check_version(document, SCHEMA_VERSION, str(path))
        if document.get("plan") == digest and document.get("tool_version") == __version__:
            return
        if not force:
            what = f"{folder} has the results of another sweep: its file, its input or stas-neuro has changed"
            remedy = "choose another directory, or use --force: it keeps the steps that are the same"
            raise InputError(what, remedy)
        shutil.rmtree(folder / CELLS, ignore_errors=True)
        (folder / RESULTS).unlink(missing_ok=True)
    document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "tool_version": __version__}
    document |= {
        "plan": digest,
        "cells": plan.count,
        "axes": {each.name: len(each.values) for each in plan.columns},
    }
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def _clean(steps: Path, plan: Plan) -> None:
    """Remove what steps that were interrupted have left, except trainings of the plan, which continue."""
    left = list(steps.glob(".*"))
    if any(path.name.startswith(".train-") for path in left):
        kept = {f".{step.name}" for step in plan.all_steps() if step.kind == "train"}
        left = [path for path in left if path.name not in kept]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


@dataclass(eq=False)
class _Group:
    """Neighbouring cells with the same stored steps."""

    cells: range
    steps: tuple[Step, ...]
    unfinished: int = 0
    """Number of cells that are being computed."""
    drained: bool = False
    """Whether all of its cells have been handed out, or have failed with a step."""


@dataclass
class _Run:
    """The state of a run: groups wait for steps, then their cells are handed out in chunks."""

    plan: Plan
    folder: Path
    perform: Perform
    pool: Pool
    store: Store
    report: Report | None
    active: set[_Group] = field(default_factory=set)
    blocked: dict[str, set[_Group]] = field(default_factory=dict)
    """By the name of a step that is being made: the groups that wait for it."""
    failed: dict[str, str] = field(default_factory=dict)
    """Errors of steps, by name."""
    steps: deque[tuple[Step, tuple[Step, ...]]] = field(default_factory=deque)
    """Steps that can be made, each with those that it needs."""
    cells: deque[Iterator[tuple[_Group, Leaves]]] = field(default_factory=deque)
    """Cells that can be computed, in chunks."""
    running: dict[Future[Any], Step | tuple[_Group, Leaves]] = field(default_factory=dict)

    def all(self) -> None:
        """Compute everything that is missing."""
        groups = self.groups()
        while True:
            while len(self.active) < WINDOW and (group := next(groups, None)) is not None:
                self.active.add(group)
                self.advance(group)
            self.submit()
            if not self.running:
                return
            done, _ = wait(self.running, timeout=TICK_S, return_when=FIRST_COMPLETED)
            for future in done:
                self.finish(self.running.pop(future), future)
            if self.report is not None:
                self.report(self.store.done, self.plan.count)

    def groups(self) -> Iterator[_Group]:
        """Yield the groups that have cells without a result."""
        missing = (self.store.state == UNKNOWN).reshape(-1, self.plan.group_size).any(axis=1)
        for number in np.flatnonzero(missing).tolist():
            first = number * self.plan.group_size
            yield _Group(range(first, first + self.plan.group_size), self.plan.steps(first))

    def advance(self, group: _Group) -> None:
        """Ask for the steps of a group that can be made, or for its cells if all have been made."""
        waits = False
        for step in group.steps:
            if step.name in self.failed:
                self.fail(group, self.failed[step.name])
                return
            if step.name in self.blocked:
                self.blocked[step.name].add(group)
                waits = True
            elif not is_made(self.folder, step):
                needed = tuple(each for each in group.steps if each.name in step.needs)
                waits = True
                if all(is_made(self.folder, each) for each in needed):
                    self.steps.append((step, needed))
                    self.blocked[step.name] = {group}
        if not waits:
            self.cells.append(self.chunks(group))

    def fail(self, group: _Group, error: str) -> None:
        """Give all cells of a group the error of one of its steps."""
        self.active.discard(group)
        for others in self.blocked.values():
            others.discard(group)
        for cells in chunks(self.store.missing(group.cells), PART_ROWS):
            self.store.add([Row(cell, 0.0, error, {}) for cell in cells])

    def chunks(self, group: _Group) -> Iterator[tuple[_Group, Leaves]]:
        """Hand out the cells of a group that have no result."""
        leaf = self.plan.leaf
        for cells in chunks(iter(list(self.store.missing(group.cells))), CHUNK):
            options = ({} if leaf is None else self.plan.options(cell, leaf.name) for cell in cells)
            group.unfinished += len(cells)
            name = None if leaf is None else leaf.name
            yield group, Leaves(kind=name, steps=group.steps, cells=tuple(zip(cells, options, strict=True)))
        group.drained = True
        if not group.unfinished:
            self.active.discard(group)

    def submit(self) -> None:
        """Keep all workers busy, with one more task for each to begin with at once."""
        room = 2 * self.pool.slots - len(self.running)
        while room > 0 and (self.steps or self.cells):
            if self.steps:
                step, needed = self.steps.popleft()
                call = self.pool.submit(make_step, self.folder, step, self.perform, needed)
                self.running[call] = step
            elif (task := next(self.cells[0], None)) is None:
                self.cells.popleft()
                continue
            else:
                call = self.pool.submit(compute, self.folder, task[1], self.perform)
                self.running[call] = task
            room -= 1

    def finish(self, task: Step | tuple[_Group, Leaves], future: Future[Any]) -> None:
        """Take the result of a task, or its error."""
        if future.cancelled():
            what = "the workers are gone: the connection to their scheduler was lost"
            raise CheckFailed(what, "start it, and the same command again: it continues")
        error = future.exception()
        if isinstance(task, Step):
            if error is not None:
                self.failed[task.name] = f"{task.kind}: {error_text(error)}"
            for group in self.blocked.pop(task.name):
                self.advance(group)
            return
        group, leaves = task
        if error is None:
            rows = future.result()
        elif self.pool.died(error) and len(leaves.cells) > 1:
            rows = []  # one of the cells may be at fault: try each by itself
        else:
            rows = [Row(cell, 0.0, error_text(error), {}) for cell, _ in leaves.cells]
        self.store.add(rows)
        rest = leaves.cells[len(rows) :]
        if rest:
            size = len(rest) if error is None else 1
            self.cells.appendleft(
                iter(
                    [(group, replace(leaves, cells=rest[at : at + size])) for at in range(0, len(rest), size)]
                )
            )
        group.unfinished -= len(rows)
        if not group.unfinished and group.drained:
            self.active.discard(group)
