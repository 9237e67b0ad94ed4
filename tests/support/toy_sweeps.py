"""Steps of a sweep that cost nothing, and leave a trace of each call, for the tests of sweeps."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stas_neuro.errors import InputError, unknown
from stas_neuro.sweeper import Made, Options, Plan, Value, cluster, processes, read_plan, run_plan


@dataclass(frozen=True)
class ToyKind:
    """A step whose options are integers."""

    name: str
    argument: str | None
    follows: str | None
    leaf: bool
    known: Sequence[str]
    required: Sequence[str] = ()

    def problems(self, name: str, value: Value) -> Iterator[InputError]:
        if name not in self.known:
            yield unknown(f"option of {self.name}", name, self.known)
        elif not isinstance(value, int):
            yield InputError(f"{self.name}.{name} is {value!r}", "give a whole number")

    def file(self, name: str, value: Value) -> Path | None:
        return None


KINDS = {
    kind.name: kind
    for kind in (
        ToyKind("compile", None, None, False, ("width", "depth", "fail", "odd")),
        ToyKind("run", None, "compile", False, ("images", "seed")),
        ToyKind("price", None, "run", True, ("mode", "log", "nap", "kill", "fail", "odd")),
    )
}

ODD = (1.5, float("nan"), float("-inf"), 1 << 63, 10**400, -(1 << 63), {"value": 1.0, "low": float("nan")})
"""Numbers that an option `odd` selects as the result; most of them cannot be kept."""


def plan_of(config: Mapping[str, object]) -> Plan:
    return read_plan(config, KINDS)


def note(text: str) -> None:
    """Append a line to the file of calls, if there is one."""
    if path := os.environ.get("TOY_CALLS"):
        with open(path, "a") as stream:
            stream.write(f"{text}\n")


def toy(
    kind: str,
    options: Options,
    made: Mapping[str, Path],
    folder: Path | None,
    part: tuple[int, int] | None,
) -> Made:
    """Multiply what earlier steps made with the options."""
    note(f"{kind} {sorted(options.items())} {part}")
    if options.get("fail") == 1:
        raise InputError("the toy is broken", "repair it")
    if options.get("nap"):
        time.sleep(int(options["nap"]) / 1000)
    if options.get("kill") == 1 and not Path(os.environ["TOY_KILLED"]).exists():
        Path(os.environ["TOY_KILLED"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if options.get("kill") == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    number = 1
    for path in made.values():
        number = (number * int(path.read_text())) % 1_000_003
    for name, value in options.items():
        if name not in ("nap", "kill", "fail", "log", "odd"):
            number = (number * (7 + int(value)) + len(name)) % 1_000_003
    if part is not None:
        number += part[0]
    if folder is not None:
        (folder / "number").write_text(str(number))
    if "odd" in options:
        return Made({"odd": ODD[int(options["odd"])]}, None if folder is None else "number")
    return Made({"number": number, "text": f"{kind} {number}"}, None if folder is None else "number")


def nothing(
    kind: str,
    options: Options,
    made: Mapping[str, Path],
    folder: Path | None,
    part: tuple[int, int] | None,
) -> Made:
    """Do nothing."""
    return Made({"one": 1})


def many(leaves: int, nap: int = 0) -> Plan:
    """Return a plan with 12 runs of `leaves` cells each."""
    return plan_of(
        {
            "compile": {"width": [1, 2], "depth": [3, 4, 5]},
            "run": {"images": [8, 16]},
            "price": {"mode": list(range(leaves)), "nap": nap},
        }
    )


if __name__ == "__main__":  # a sweep that can be killed: DIRECTORY LEAVES NAP [ADDRESS]
    directory, leaves, nap, *address = sys.argv[1:]
    pool = cluster(address[0]) if address else processes(2)
    run_plan(many(int(leaves), int(nap)), Path(directory), toy, pool)
