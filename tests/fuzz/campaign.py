"""A campaign: many inputs in a process of its own, whose failures are collected by what is wrong."""

from __future__ import annotations

import gc
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from fuzz import guard
from fuzz.files import Files, write_files
from fuzz.mutators import mutate
from fuzz.target import Target, Untidy, check_text, find

SILENCE = 300.0
"""Seconds of wall time after which a process that tells nothing is stopped."""


@dataclass
class Failure:
    """What went wrong with an input.

    Parameters
    ----------
    index : int
        Which input: it comes back with `python -m fuzz TARGET --only INDEX`.
    kind : str
        Equal for failures that have one cause: the exception and where it came from.
    what : str
    mutations : list of str
    times : int
        How many inputs failed so.
    """

    index: int
    kind: str
    what: str
    mutations: list[str]
    times: int = 1


def make_input(target: Target, index: int) -> tuple[Files, list[str]]:
    """Give the input of a number, and what was done to a seed to make it."""
    rng = Random(f"{target.name}:{index}")
    seed = rng.randrange(len(target.seeds))
    files, done = mutate(target.seeds[seed], rng)
    return target.mend(files, rng), [f"seed {seed}", *done]


def try_input(target: Target, files: Files, scratch: Path) -> tuple[str, str] | None:
    """Read an input; None where that went well or it was refused as it should be, else kind and text."""
    write_files(files, scratch / "in")
    write_files({}, scratch / "out")
    try:
        with guard.guarded(scratch / "out"):
            try:
                target.read(scratch / "in", scratch / "out")
            except target.errors as error:
                check_text(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = "".join(traceback.format_exception(error)[-4:])
        kind = f"{type(error).__name__} in {_place(error.__cause__ if isinstance(error, Untidy) else error)}"
        error.__traceback__ = None  # what it holds would count as memory of the next input
        gc.collect()
        return kind, text[-3000:]
    return None


def _place(error: BaseException | None) -> str:
    """Name the innermost line of the program in a traceback."""
    assert error is not None
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/stas_neuro/" in frame.filename or "/exporters/" in frame.filename]
    return "?" if not own else f"{own[-1].filename.rpartition('/')[2]}:{own[-1].lineno} {own[-1].name}"


def work(jobs: Sequence[tuple[str, int, int]]) -> None:
    """Do jobs (target, first, one after the last); tell each input and each failure as a line of JSON."""
    targets = {name: find(name) for name, _, _ in jobs}
    with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
        scratch = Path(directory)
        for target in targets.values():
            for number, seed in enumerate(target.seeds):
                print(json.dumps({"warming": target.name}), flush=True)
                write_files(seed, scratch / "in")
                write_files({}, scratch / "out")
                try:
                    target.read(scratch / "in", scratch / "out")
                except Exception as error:
                    raise AssertionError(f"seed {number} of {target.name} is no valid input") from error
        guard.install()
        for name, first, end in jobs:
            for index in range(first, end):
                print(json.dumps({"target": name, "index": index}), flush=True)
                files, done = make_input(targets[name], index)
                if (failure := try_input(targets[name], files, scratch)) is not None:
                    told = Failure(index, failure[0], failure[1], done)
                    print(json.dumps({"target": name, "failure": asdict(told)}), flush=True)
    print(json.dumps({"done": True}), flush=True)


def run(
    jobs: Sequence[tuple[str, int, int]], told: Callable[[str, int], None] = lambda name, index: None
) -> dict[str, list[Failure]]:
    """Have jobs done, and go on after an input that kills the process; give the distinct failures by target.

    `told` is called with each target and index.
    """
    found: dict[str, dict[str, Failure]] = {name: {} for name, _, _ in jobs}
    left = list(jobs)
    while left:
        at: tuple[str, int] | None = None
        ended = ""
        for line in _lines(left):
            if "ended" in line:
                ended = line["ended"]
            elif "failure" in line:
                _note(found[line["target"]], Failure(**line["failure"]))
            elif "index" in line:
                at = line["target"], line["index"]
                told(*at)
            elif "done" in line:
                return {name: list(failures.values()) for name, failures in found.items()}
        if at is None:
            raise RuntimeError(f"the fuzzer does not start: {ended}")
        name, index = at
        _note(found[name], Failure(index, ended.split("\n")[0], ended, make_input(find(name), index)[1]))
        while left[0][0] != name or left[0][2] <= index:
            left.pop(0)
        left[0] = (name, index + 1, left[0][2])
    return {name: list(failures.values()) for name, failures in found.items()}


def _note(failures: dict[str, Failure], failure: Failure) -> None:
    known = failures.setdefault(failure.kind, failure)
    if known is not failure:
        known.times += 1
        if len(failure.mutations) < len(known.mutations):  # the simplest is the one to look at
            failure.times, failures[failure.kind] = known.times, failure


def _lines(jobs: Sequence[tuple[str, int, int]]) -> Iterator[dict]:  # type: ignore[type-arg]
    command = [sys.executable, "-m", "fuzz", "--work", json.dumps(jobs)]
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as process,
    ):
        assert process.stdout is not None
        buffer = b""
        try:
            while select.select([process.stdout], [], [], SILENCE)[0]:
                read = os.read(process.stdout.fileno(), 1 << 16)
                *lines, buffer = (buffer + read).split(b"\n")
                yield from map(json.loads, lines)
                if not read:
                    break
            else:
                yield {"ended": f"hangs for {SILENCE:g} s"}
                return
        finally:
            process.kill()
        code = process.wait()
        errors.seek(0)
        yield {"ended": f"the process ends with code {code}\n{errors.read().decode()[-3000:]}"}
