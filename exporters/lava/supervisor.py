"""Runs a network in Lava's own multi-process runtime, inside a child that cannot outlive this process.

Left alone that runtime hangs: when a process dies, when one raises, when nobody stops it. So it runs in a
child of its own session (`worker`), which reports over a pipe; whatever ends the run, the session is ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from .failure import LavaFailure
from .network import Array, Network, load_arrays
from .reports import (
    IMAGES_FILE,
    LOG_FILE,
    OPTIONS_FILE,
    record_file,
    stack_file,
)

POLL_S = 0.2
"""Longest time between two looks at the child."""
START_S = 60.0
"""How long Lava may take to start its processes: about a second for 20, and more on a busy machine."""
END_S = 3.0
"""How long an ended session may take to disappear before it is killed."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def supervise(
    network: Network,
    images: Array,
    *,
    dtype: type[np.number[Any]],
    record_spikes: bool,
    record_states: bool,
    deadline_s: float,
    progress: Callable[[int, int], None],
) -> dict[str, dict[str, Array]]:
    """Run all images; the record of every process by its name.

    Raises LavaFailure when a process raises or dies, or no image is finished for `deadline_s`.
    """
    with tempfile.TemporaryDirectory(prefix="stas-lava-") as name:
        directory = Path(name)
        network.save(directory)
        np.save(directory / IMAGES_FILE, images)
        options = {
            "dtype": np.dtype(dtype).name,
            "record_spikes": record_spikes,
            "record_states": record_states,
        }
        (directory / OPTIONS_FILE).write_text(json.dumps(options), encoding="utf-8")
        with _child(directory) as child:
            child.watch(deadline_s, lambda done: progress(done, len(images)))
        return {layer.name: load_arrays(record_file(directory, layer.name)) for layer in network.layers}


@contextmanager
def _child(directory: Path) -> Iterator[_Child]:
    """Start the worker; on leaving, its session has ended."""
    reader, writer = os.pipe()
    paths = [os.path.abspath(path) for path in sys.path]
    env = dict.fromkeys(THREADS, "1") | os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    try:
        with (directory / LOG_FILE).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker", str(directory), str(writer)],
                stdin=subprocess.PIPE,  # never written to: its end tells the worker of ours
                stdout=log,
                stderr=log,
                cwd=directory,
                env=env,
                pass_fds=(writer,),
                start_new_session=True,
            )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        yield _Child(process, reader, directory)
    finally:
        _end_session(process)
        os.close(reader)


@dataclass
class _Child:
    """The worker as its supervisor sees it."""

    process: subprocess.Popen[bytes]
    reader: int
    directory: Path
    workers: dict[str, int] = field(default_factory=dict)
    """Process ids by layer name, once the runtime is up."""

    def watch(self, deadline_s: float, progress: Callable[[int], None]) -> None:
        """Return when the run is done; raise LavaFailure when it fails."""
        heard = time.monotonic()
        for event in self._events():
            if event is None:
                limit = deadline_s if self.workers else max(deadline_s, START_S)
                if time.monotonic() - heard > limit:
                    raise self._stalled(limit)
                continue
            if "failed" in event:
                detail = Path(event["file"]).read_text(encoding="utf-8")
                raise LavaFailure(
                    f"{event['failed']} raised in the multi-process runtime: {detail.splitlines()[-1]}",
                    "--debug shows the traceback",
                    detail=detail,
                )
            if "died" in event:
                raise LavaFailure(f"the process of {event['died']} died ({event['how']})", _MEMORY)
            if "images" in event:
                progress(event["images"])
            self.workers = event.get("workers", self.workers)
            heard = time.monotonic()
            if "done" in event:
                return

    def _events(self) -> Iterator[dict[str, Any] | None]:
        """Events as they come, None at least every POLL_S."""
        rest = b""
        while True:
            gone = self.process.poll() is not None
            ready = wait([self.reader], 0.0 if gone else POLL_S)
            chunk = os.read(self.reader, 1 << 16) if ready else b""
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines)
            if gone and not chunk:
                raise LavaFailure(
                    f"the runtime ended ({ending(self.process.returncode)})",
                    _MEMORY,
                    detail=self._log(),
                )
            yield None

    def _log(self) -> str:
        text = (self.directory / LOG_FILE).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-20:])

    def _stalled(self, limit: float) -> LavaFailure:
        """Ask every process where it is: the culprit is not the one that waits for a message."""
        for pid in self.workers.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        time.sleep(POLL_S)
        stuck, detail = [], []
        for name in self.workers:
            path = stack_file(self.directory, name)
            stack = path.read_text(encoding="utf-8") if path.exists() else ""
            if "pypychannel.py" not in stack:
                stuck.append(name if stack else f"{name} (does not answer)")
                detail.append(f"{name}:\n{stack}")
        where = f", at {', '.join(stuck)}" if stuck else ""
        return LavaFailure(
            f"the multi-process runtime finished nothing for {limit:g} s{where}",
            "look there, raise --deadline, or use the in-process runtime",
            detail="\n".join(detail) if self.workers else self._log(),
        )


_MEMORY = "look at the memory it needs, or use the in-process runtime"


def ending(code: int) -> str:
    """How a process with this exit code ended."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Have the worker end its session, or end what is left of it where the worker is gone or stuck."""
    if process.stdin is not None:
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    # Terminating spares Python's resource tracker, which then sees all others gone and removes their shared
    # memory; a stopped process must go on to be terminated.
    until = time.monotonic() + END_S
    while _group_lives(process):
        for signum in (signal.SIGTERM, signal.SIGCONT) if time.monotonic() < until else (signal.SIGKILL,):
            _signal_group(process.pid, signum)
        time.sleep(0.02)
    process.wait()


def _signal_group(group: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS forbids it where only zombies are left
        os.killpg(group, signum)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    """Whether the group has a process that is no zombie: who reaps orphans may take its time."""
    process.poll()
    proc = Path("/proc")
    if not proc.is_dir():
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    for stat in proc.glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, group = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
            if int(group) == process.pid and state not in "ZX":
                return True
    return False
