"""How runs in Lava's multi-process runtime end: with an error that names the cause, and nothing left."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.lava_support import Exit, Hang, Kill, Stop, Trap, tampered, tiny

from stas_neuro.exporters.lava.execute import run_network
from stas_neuro.exporters.lava.failure import LavaRunError
from stas_neuro.exporters.lava.reports import Reporter, Reports
from stas_neuro.exporters.lava.saved import save_network
from stas_neuro.exporters.lava.supervisor import ending
from stas_neuro.ir import Graph

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a stopped process notices nothing"
)

MANY = np.ones((20_000, 2, 2, 3, 4))
"""Images for longer than any test waits."""
LONG_S = 60.0
"""Longer than anything here takes on a busy machine."""


@dataclass(frozen=True)
class Entry:
    """A process as /proc has it."""

    pid: int
    parent: int
    session: int
    zombie: bool


def entries() -> Iterator[Entry]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            yield Entry(int(stat.parent.name), int(parent), int(session), state in "ZX")


def members(session: int) -> list[int]:
    """Processes of a session, zombies too."""
    return [entry.pid for entry in entries() if entry.session == session]


def running(session: int) -> list[int]:
    """Those that are no zombies: of a parent that was killed, the worker has nobody to reap it but init."""
    return [entry.pid for entry in entries() if entry.session == session and not entry.zombie]


def sessions_of(parent: int) -> list[int]:
    """Process ids of the workers that a process started, each the leader of its session."""
    return [entry.pid for entry in entries() if entry.parent == parent and entry.session == entry.pid]


def assert_no_session_is_left(session: int | None = None) -> None:
    assert not sessions_of(os.getpid())
    assert session is None or not members(session)


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + LONG_S
    while not (held := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return held


def layer_process(session: int) -> int:
    """The process of a layer: those of the runtime service and of the last layer come last."""
    return sorted(members(session))[-2]


def shared_memory(pid: int) -> set[str]:
    """Shared memory of a process that has a name, under which it would stay."""
    found = {line.split(maxsplit=5)[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(os.readlink(descriptor))
    return {path for path in found if path.startswith("/dev/shm/") and not path.endswith("(deleted)")}


# Errors


@needs_proc
@pytest.mark.parametrize(
    ("network", "layer", "error"),
    [
        (tampered(tiny(), "fc/weight", np.zeros((4, 5))), "fc", "ValueError: matmul"),  # in run_spk
        (tampered(tiny(), "fc/weight", np.array(["x"])), "fc", "ValueError: could not"),
    ],
    ids=["in a step", "on construction"],
)
def test_an_exception_ends_the_run_with_its_traceback(network: Graph, layer: str, error: str) -> None:
    with pytest.raises(ValueError, match=error.split(": ")[1]):
        run_network(network, MANY[:1])  # in process: the exception itself
    with pytest.raises(
        LavaRunError, match=rf"^{layer} raised in the multi-process runtime: {error}"
    ) as caught:
        run_network(network, MANY, runtime="multiprocess")
    assert caught.value.remedy == "--debug shows the traceback"
    assert "Traceback" in caught.value.detail and error in caught.value.detail
    assert_no_session_is_left()


def trapped(trap: type[Trap]) -> Graph:
    return tampered(tiny(), "head/bias", np.array(tiny().tensor("head", "bias")).view(trap))


@needs_proc
@pytest.mark.parametrize(
    ("trap", "how", "remedy"),
    [
        (Exit, "exit code 3", "--debug shows what it printed"),
        pytest.param(Kill, "SIGKILL", "look at the memory", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_dies_is_named(trap: type[Trap], how: str, remedy: str) -> None:
    with pytest.raises(LavaRunError, match=rf"the process of head died \({how}\)") as caught:
        run_network(trapped(trap), MANY[:2], runtime="multiprocess")
    assert remedy in caught.value.remedy
    assert_no_session_is_left()


@needs_proc
@pytest.mark.parametrize(
    ("trap", "where"),
    [(Stop, r"head \(does not answer\)"), pytest.param(Hang, "head", marks=pytest.mark.slow)],
)
def test_a_process_that_stands_still_is_named_at_the_deadline(trap: type[Trap], where: str) -> None:
    with pytest.raises(LavaRunError, match=rf"finished nothing for 1.5 s, at {where};") as caught:
        run_network(trapped(trap), MANY[:2], runtime="multiprocess", deadline_s=1.5)
    assert ("in spring" in caught.value.detail) == (trap is Hang)
    assert_no_session_is_left()


@needs_proc
def test_a_stopped_worker_ends_the_run_at_the_deadline_though_images_go_on() -> None:
    session = 0

    def stop(done: int, total: int) -> None:
        nonlocal session
        if not session:
            (session,) = sessions_of(os.getpid())
            os.kill(session, signal.SIGSTOP)

    with pytest.raises(LavaRunError, match=r"gave no sign of life for 2 s; let it go on"):
        run_network(tiny(), MANY, runtime="multiprocess", deadline_s=2.0, progress=stop)
    assert_no_session_is_left(session)


@pytest.mark.slow
@needs_proc
def test_a_killed_worker_ends_the_run() -> None:
    session = 0

    def kill(done: int, total: int) -> None:
        nonlocal session
        if not session:
            (session,) = sessions_of(os.getpid())
            os.kill(session, signal.SIGKILL)

    with pytest.raises(LavaRunError, match=r"the runtime ended \(SIGKILL\); look at the memory"):
        run_network(tiny(), MANY, runtime="multiprocess", progress=kill)
    assert not sessions_of(os.getpid())
    assert eventually(lambda: not running(session))


def test_a_runtime_that_cannot_start_shows_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(
        LavaRunError, match=r"ended \(exit code 1\): ModuleNotFoundError: No module"
    ) as caught:
        run_network(tiny(), MANY[:1], runtime="multiprocess")
    assert "--debug" in caught.value.remedy and "Traceback" in caught.value.detail


def test_no_interpreter_and_no_temporary_folder_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "python"))
        with pytest.raises(LavaRunError, match="cannot be started: No such file"):
            run_network(tiny(), MANY[:1], runtime="multiprocess")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(LavaRunError, match=r"temporary folder cannot keep .*: No such file .* TMPDIR"):
        run_network(tiny(), MANY[:1], runtime="multiprocess")


def test_a_signal_without_a_name_is_named_by_its_number() -> None:
    assert [ending(code) for code in (0, 3, -9, -40)] == [
        "exit code 0",
        "exit code 3",
        "SIGKILL",
        "signal 40",
    ]


def test_events_arrive_in_order_whatever_their_length() -> None:
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as file, open(reader, "rb"), open(writer, "wb", buffering=0) as pipe:
        file.write(b"what was there before")
        file.flush()
        reporter = Reporter(writer, file.fileno(), multiprocessing.Lock())
        reports = Reports(reader, file.fileno())
        assert reports.receive(0.0) == []
        reporter.event(images=1)
        reporter.record("fc", {"macs": np.arange(100_000)})
        reporter.event(done=True)
        first, record, last = reports.receive(LONG_S) or ()
        assert (first, last) == ({"images": 1}, {"done": True})
        assert record["record"] == "fc" and np.array_equal(record["arrays"]["macs"], np.arange(100_000))
        pipe.close()
        assert reports.receive(LONG_S) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_failure_is_reported_though_there_is_no_room_for_its_traceback() -> None:
    reader, writer = os.pipe()
    with open("/dev/full", "r+b", buffering=0) as file, open(reader, "rb"), open(writer, "wb"):
        try:
            raise OSError(errno.ENOSPC, "in two\nlines" + "x" * 10_000)
        except OSError:
            Reporter(writer, file.fileno(), multiprocessing.Lock()).failure("fc")
        (event,) = Reports(reader, file.fileno()).receive(LONG_S) or ()
    assert event["failed"] == "fc" and event["error"].startswith("OSError: [Errno 28] in two linesxxx")


# Ends from outside

# SIGINT is ignored in what a shell started in the background, and so in its children.
PARENT = """
import signal
import sys
from pathlib import Path

import numpy as np

from stas_neuro.exporters.lava.execute import run_network
from stas_neuro.exporters.lava.saved import load_network

signal.signal(signal.SIGINT, signal.default_int_handler)
images = np.ones((int(sys.argv[2]), 2, 2, 3, 4))
network = load_network(Path(sys.argv[1]))
result = run_network(
    network, images, runtime="multiprocess", progress=lambda done, total: print(done, flush=True)
)
if len(sys.argv) > 3:
    np.save(sys.argv[3], result.logits)
"""


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another interpreter that runs MANY images, at work on them, and its worker; both are killed at last."""
    save_network(tiny(), folder)
    temporary = folder / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder), str(len(MANY))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    ) as parent:
        session = 0
        try:
            assert parent.stdout is not None and parent.stdout.readline() == "1\n"
            (session,) = sessions_of(parent.pid)
            yield parent, session
        finally:
            parent.kill()
            for pid in members(session) if session else ():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def of(*steps: tuple[str, signal.Signals], name: str, slow: bool = False, stops: bool = False) -> object:
    marks = [pytest.mark.slow] * slow + [needs_linux] * stops
    return pytest.param(steps, id=name, marks=marks)


@needs_proc
@pytest.mark.parametrize(
    "steps",
    [
        of(("parent", signal.SIGINT), name="SIGINT"),
        of(("parent", signal.SIGINT), ("parent", signal.SIGINT), name="SIGINT twice", slow=True),
        of(("parent", signal.SIGTERM), name="SIGTERM"),
        of(("parent", signal.SIGHUP), name="SIGHUP", slow=True),
        of(("parent", signal.SIGQUIT), name="SIGQUIT", slow=True),
        of(("parent", signal.SIGKILL), name="SIGKILL", slow=True),
        of(("worker", signal.SIGKILL), ("parent", signal.SIGKILL), name="worker and parent", slow=True),
        of(("parent", signal.SIGKILL), ("worker", signal.SIGKILL), name="parent and worker", slow=True),
        of(("worker", signal.SIGSTOP), ("parent", signal.SIGKILL),
           name="worker stopped", slow=True, stops=True),
        of(("layer", signal.SIGSTOP), ("worker", signal.SIGKILL), ("parent", signal.SIGKILL),
           name="layer stopped", stops=True),
        of(("all", signal.SIGSTOP), ("parent", signal.SIGKILL), name="all stopped", slow=True, stops=True),
        of(("all", signal.SIGKILL), ("parent", signal.SIGKILL), name="all", slow=True),
    ],
)  # fmt: skip
def test_nothing_is_left_however_a_run_ends(steps: list[tuple[str, signal.Signals]], tmp_path: Path) -> None:
    with started(tmp_path) as (parent, session):
        processes = members(session)
        assert len(processes) == len(tiny().nodes) + 2  # the worker and the runtime service
        assert not {name for pid in [parent.pid, *processes] for name in shared_memory(pid)}
        assert not list((tmp_path / "temporary").iterdir())
        who = {
            "parent": [parent.pid],
            "worker": [session],
            "layer": [layer_process(session)],
            "all": processes,
        }
        for name, signum in steps:
            for pid in who[name]:
                os.kill(pid, signum)
        assert eventually(lambda: not running(session))
        assert parent.stderr is not None
        errors = parent.stderr.read()
    assert not list((tmp_path / "temporary").iterdir())
    assert ("KeyboardInterrupt" in errors) == (signal.SIGINT in dict(steps).values())


SURROUNDINGS = """
import os, signal, sys

os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
sys.path.append("relative")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD))
del sys.argv[1]
"""
"""What a run may inherit: a working directory that is gone, signals that are ignored and blocked."""


def test_a_run_succeeds_in_odd_surroundings(tmp_path: Path) -> None:
    save_network(tiny(), tmp_path)
    temporary = tmp_path / "a folder: too long\nfor a socket" / ("x" * 100)
    temporary.mkdir(parents=True)
    gone = tmp_path / "gone"
    gone.mkdir()
    command = [sys.executable, "-c", SURROUNDINGS + PARENT, gone, tmp_path, 2, tmp_path / "logits.npy"]
    done = subprocess.run(
        ["sh", "-c", f"exec {shlex.join(map(str, command))} <&- >&- 2>&-"],
        env=os.environ | {"TMPDIR": str(temporary)},
        timeout=LONG_S,
        check=False,
    )
    assert done.returncode == 0
    expected = run_network(tiny(), MANY[:2]).logits
    assert np.array_equal(np.load(tmp_path / "logits.npy"), expected)
    assert not list(temporary.iterdir())
