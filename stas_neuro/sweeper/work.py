"""What a worker process does: makes a stored step, or computes cells from stored steps."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stas_neuro.documents import shown
from stas_neuro.errors import InputError, StasError
from stas_neuro.files import umask
from stas_neuro.sweeper.plan import Options, Step

STEP_FILE = "step.json"
"""File of a stored step with its command and its result; a step without it has not been finished."""
PATIENCE_S = 0.2
"""Time after which a worker hands in the cells that it has computed: no more than that is lost with it."""


@dataclass(frozen=True)
class Made:
    """What a step made: its result, and the path of what later steps read, relative to the step's folder."""

    result: Mapping[str, Any]
    product: str | None = None
    command: tuple[str, ...] = ()


class Perform(Protocol):
    """Does one step, in any process; it is called by its name, so it has to be a function of a module."""

    def __call__(
        self,
        kind: str,
        options: Options,
        made: Mapping[str, Path],
        folder: Path | None,
        part: tuple[int, int] | None,
    ) -> Made:
        """Do a step.

        `made` has what earlier steps made, by kind; of shards by kind and number. Files go to `folder`, which
        is None for leaves.
        """


@dataclass(frozen=True)
class Row:
    """The result of a cell, or its error."""

    cell: int
    seconds: float
    error: str | None
    values: Mapping[str, bool | int | float | str]


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """Cells with the same stored steps: their numbers, and the options of their leaf."""

    kind: str | None
    steps: tuple[Step, ...]
    cells: tuple[tuple[int, Options], ...]


def is_made(folder: Path, step: Step) -> bool:
    """Return whether a step has been finished."""
    return (folder / step.name / STEP_FILE).is_file()


def make_step(folder: Path, step: Step, perform: Perform, before: Sequence[Step]) -> None:
    """Make a step in its folder, which appears when it is complete and on disk.

    Raises
    ------
    StasError
        What the step raises, or a result that cannot be kept.
    """
    if is_made(folder, step):
        return
    with _scratch(folder, step) as scratch:
        begun = time.perf_counter()
        done = perform(step.kind, step.options, _products(folder, before), scratch, step.part)
        document = {
            "command": list(done.command),
            "product": done.product,
            "seconds": time.perf_counter() - begun,
            "result": done.result,
        }
        _check_values(step.kind, done.result)
        text = json.dumps(document, indent=1, allow_nan=False).replace(str(scratch), str(folder / step.name))
        (scratch / STEP_FILE).write_text(text + "\n")
        to_disk(scratch)
        try:
            scratch.rename(folder / step.name)
        except OSError:
            if not is_made(folder, step):  # by another try, whose worker was believed to be dead
                raise
            shutil.rmtree(scratch)
        to_disk(folder, nested=False)


def compute(folder: Path, leaves: Leaves, perform: Perform) -> list[Row]:
    """Compute cells until `PATIENCE_S` is over, at least one; return the rows of the first ones."""
    begun = time.perf_counter()
    rows: list[Row] = []
    shared = _results(folder, leaves.steps)
    made = _products(folder, leaves.steps)
    for cell, options in leaves.cells:
        start = time.perf_counter()
        error, values = None, dict(shared)
        if leaves.kind is not None:
            error, result = _attempt(leaves.kind, options, made, perform)
            values |= flat(leaves.kind, result)
        rows.append(Row(cell, time.perf_counter() - start, error, values))
        if time.perf_counter() - begun > PATIENCE_S:
            break
    return rows


def _attempt(
    kind: str, options: Options, made: Mapping[str, Path], perform: Perform
) -> tuple[str | None, Mapping[str, Any]]:
    """Do the leaf of a cell; return its error, if any, and its result."""
    try:
        result = perform(kind, options, made, None, None).result
        _check_values(kind, result)
        return None, result
    except Exception as error:  # a cell that fails is kept, whatever the reason
        return error_text(error), {}


def error_text(error: BaseException) -> str:
    """Return an error as it is kept with a cell: in the words of the project, others with their type."""
    return str(error) if isinstance(error, StasError) else f"{type(error).__name__}: {error}"


_OF_FILES = ("format", "schema_version", "tool_version")
"""Fields of documents that say nothing about a cell."""
_INT64 = np.iinfo(np.int64)


def flat(kind: str, result: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return the numbers and texts of a result as columns: `estimate_energy_j`, `estimate_energy_j_low`.

    Of nested objects only numbers are taken, of lists nothing; the value of an interval has the name of the
    interval.
    """
    found: dict[str, bool | int | float | str] = {}
    for name, value in ((name, value) for name, value in result.items() if name not in _OF_FILES):
        if isinstance(value, bool | int | float | str):
            found[f"{kind}_{name}"] = value
        elif isinstance(value, Mapping):
            for inner, number in value.items():
                if isinstance(number, bool | int | float):
                    label = f"{kind}_{name}" if inner == "value" else f"{kind}_{name}_{inner}"
                    found[label] = number
    return found


def _check_values(kind: str, result: Mapping[str, Any]) -> None:
    """Raise InputError for a value that neither JSON nor a column of the results can hold."""
    for name, value in flat(kind, result).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} is {value}", f"let {kind} return finite numbers")
        if isinstance(value, int) and not _INT64.min <= value <= _INT64.max:
            what = f"{name} is {shown(hex(value))}"  # in hexadecimal: Python refuses to write long decimals
            raise InputError(what, f"let {kind} return integers that fit int64, or floats")


def to_disk(path: Path, *, nested: bool = True) -> None:
    """Wait until a directory, with `nested` all files and directories in it, is on disk."""
    inside = [each for each in path.rglob("*") if not each.is_symlink()] if nested else []
    for each in (*inside, path):
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _scratch(folder: Path, step: Step) -> Iterator[Path]:
    """Yield the folder that a step is made in; what a training has done there is kept for the next try."""
    if step.kind == "train":
        path = folder / f".{step.name}"
        path.mkdir(exist_ok=True)
        yield path
        return
    path = Path(tempfile.mkdtemp(dir=folder, prefix=f".{step.name}."))
    path.chmod(0o777 & ~umask())
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # it has been renamed if the step was made


def _read(folder: Path, step: Step) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / step.name / STEP_FILE).read_bytes())
    return document


def _products(folder: Path, steps: Sequence[Step]) -> dict[str, Path]:
    """Return what steps made, by kind; the parts of a run by kind and number."""
    made = {}
    for step in steps:
        product = _read(folder, step)["product"]
        kind = step.name.rpartition("-")[0]
        if product is not None:
            made[kind if step.part is None else f"{kind} {step.part[0]}"] = folder / step.name / product
    return made


def _results(folder: Path, steps: Sequence[Step]) -> dict[str, bool | int | float | str]:
    found: dict[str, bool | int | float | str] = {}
    for step in steps:
        if step.part is None:
            found |= flat(step.name.rpartition("-")[0], _read(folder, step)["result"])
    return found
