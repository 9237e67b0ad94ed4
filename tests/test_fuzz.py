"""Mutated files of every reader, a few dozen each; `make fuzz` has many more of the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.campaign import Failure, run
from fuzz.target import find, names

TRAINS = "resume"
"""The reader that trains: what torch imports for that takes as long as all other readers together."""


def told_of(failures: dict[str, list[Failure]]) -> str:
    return "\n\n".join(
        f"{failure.what}\n{failure.mutations}\nfuzz {name} --only {failure.index}"
        for name, found in failures.items()
        for failure in found
    )


@pytest.fixture(scope="module")
def failures() -> dict[str, list[Failure]]:
    """Of all other readers, in one process."""
    return run([(name, 0, find(name).quick) for name in names() if name != TRAINS])


@pytest.mark.parametrize("name", [name for name in names() if name != TRAINS])
def test_mutated_files_are_read_or_refused(name: str, failures: dict[str, list[Failure]]) -> None:
    assert not told_of({name: failures[name]})


@pytest.mark.slow
def test_mutated_states_of_training_are_read_or_refused() -> None:
    assert not told_of(run([(TRAINS, 0, find(TRAINS).quick)]))


MISDEEDS = """
import os, pickle, subprocess, sys, warnings
from pathlib import Path
import numpy as np
from fuzz import guard
from fuzz.campaign import try_input
from fuzz.target import Target
from stas_neuro.errors import InputError

def count_on():
    while True:
        pass

def refuse(what):
    raise InputError(what, "mend it")

misdeeds = {
    "Breach": [
        lambda: Path("beside").write_text("x"),
        lambda: os.remove(__file__),
        lambda: os.rename("a", "b"),
        lambda: subprocess.run(["true"]),
        lambda: os.system("true"),
        lambda: exec("x = 1"),
        lambda: pickle.loads(pickle.dumps(Path())),
        count_on,
    ],
    "MemoryError": [lambda: np.ones(1 << 28)],
    "RuntimeWarning": [lambda: np.float64(1e308) * 10],
    "ValueError": [lambda: int("x")],
    "Untidy": [lambda: refuse("a" * 10**6 + " b" * 10**5)],
    "": [lambda: None, lambda: refuse("no such layer"), lambda: Path("in/file").read_bytes()],
}
guard.SECONDS = 0.2
os.chdir(sys.argv[1])
guard.install()
for kind, deeds in misdeeds.items():
    for deed in deeds:
        target = Target("deed", lambda: [], lambda inputs, output: deed())
        found = try_input(target, {"file": b""}, Path())
        assert (found[0].split()[0] if found else "") == kind, (kind, found)
allowed = Target("deed", lambda: [], lambda inputs, output: (output / "result").write_text("x"))
assert try_input(allowed, {"file": b""}, Path().resolve()) is None and Path("out/result").exists()
"""


def test_the_fuzzer_notices_what_no_input_may_do(tmp_path: Path) -> None:
    """Writes, programs and code, time and memory beyond the limits, and errors that are not the project's."""
    program = tmp_path / "misdeeds.py"
    program.write_text(MISDEEDS)
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"misdeeds.py", "in", "out"}
