"""Run a campaign over readers, or look at one input.

python -m fuzz --count 100000 --state .fuzz     all readers; goes on where an earlier one stopped
python -m fuzz activity --only 1234 --keep DIR  one input again, with its traceback, its files kept
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from fuzz.campaign import Failure, make_input, run, work
from fuzz.files import write_files
from fuzz.target import find, names

BATCH = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("targets", nargs="*", help=f"readers, all of them if not given: {', '.join(names())}")
    parser.add_argument("--count", type=int, default=10_000, help="inputs a reader")
    parser.add_argument("--state", type=Path, help="directory that remembers how far each reader is")
    parser.add_argument("--only", type=int, help="read the input of this number, here, without limits")
    parser.add_argument("--keep", type=Path, help="where to leave the files of that input")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work([tuple(job) for job in json.loads(given.work)])
        return 0
    if given.only is not None:
        return _look(given.targets[0], given.only, given.keep)
    return max(_campaign(name, given.count, given.state) for name in given.targets or names())


def _look(name: str, index: int, keep: Path | None) -> int:
    files, done = make_input(find(name), index)
    print(*done, sep="\n")
    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch:
        inputs = keep or Path(scratch) / "in"
        write_files(files, inputs)
        write_files({}, Path(scratch) / "out")
        try:
            find(name).read(inputs, Path(scratch) / "out")
        except Exception:
            traceback.print_exc()
            return 1
    return 0


def _campaign(name: str, count: int, state: Path | None) -> int:
    """Fuzz a reader in batches, and keep after each how far it is; 1 where an input failed, else 0."""
    file = None if state is None else state / f"{name}.json"
    known: dict[str, Failure] = {}
    first = 0
    if file is not None and file.exists():
        before = json.loads(file.read_text())
        first, known = before["next"], {entry["kind"]: Failure(**entry) for entry in before["failures"]}
    started, shown = time.monotonic(), 0.0

    def tell(name: str, index: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            speed = (index - first + 1) / (shown - started)
            line = f"{name}: {index} of {count}, {speed:.0f} a second, {len(known)} kinds of failure"
            print(line, file=sys.stderr, flush=True)

    for start in range(first, count, BATCH):
        end = min(start + BATCH, count)
        for failure in run([(name, start, end)], tell)[name]:
            same = known.setdefault(failure.kind, failure)
            same.times += failure.times if same is not failure else 0
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            kept = {"next": end, "failures": [asdict(failure) for failure in known.values()]}
            file.write_text(json.dumps(kept, indent=1))
    print(f"{name}: {max(count, first)} inputs, {len(known)} kinds of failure")
    for failure in known.values():
        print(f"\n{failure.kind}: {failure.times} times, as in python -m fuzz {name} --only {failure.index}")
        print(*(f"  {line}" for line in failure.mutations), sep="\n")
        print(failure.what)
    return bool(known)


sys.exit(main())
