"""Runs a network in Lava's own multi-process runtime, inside a child that cannot outlive this process.

Left alone that runtime hangs: when a process dies, when one raises, when nobody stops it. So it runs in a
child of its own session (`worker`), which reports over a pipe; whatever ends the run, the session is ended.
Nothing of a run has a name in a file system, so that nothing stays, however it ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO

from stas_neuro.exporters.lava.failure import LavaRunError
from stas_neuro.exporters.lava.jobs import Job
from stas_neuro.exporters.lava.reports import Event, Reports

POLL_S = 0.2
"""Longest time between two looks at the child, and between two signs of life from it."""
START_S = 60.0
"""How long Lava may take to start its processes: about a second for 20, and more on a busy machine."""
SIGNS_S = 2.0
"""How long the worker may give no sign of life at least: shorter deadlines apply to images only."""
ANSWER_S = 1.0
"""How long processes may take to say where they are."""
END_S = 3.0
"""How long a session may take to end itself before it is killed."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
WORKER = "the runtime"
SERVICE = "the runtime service"
_WAITS = "pypychannel.py"
"""Lava's file of channels: in the stack of every process that waits for a message."""
_LOG_BYTES = 1 << 16
_NOT_KEPT = (
    "the temporary folder cannot keep the network and the images",
    "free some room there, or name another folder in TMPDIR",
)
_NOT_STARTED = (
    "the multi-process runtime cannot be started",
    "end other programs, or use the in-process runtime",
)

_BOOT = """
import pickle, sys
file = open(int(sys.argv[1]), "rb", closefd=False)
sys.path[:] = pickle.load(file)
from {package}.lifeline import end_with_supervisor
end_with_supervisor(int(sys.argv[2]))
from {package}.worker import main
main(file, int(sys.argv[3]))
"""
"""The search path goes with the data: in PYTHONPATH a folder cannot have a colon in its name."""


def supervise(
    job: Job, *, deadline_s: float, progress: Callable[[int, int], None]
) -> dict[str, dict[str, Any]]:
    """Run all images of a job; the record of every process by its name.

    Raises LavaRunError when the runtime cannot be started, when a process raises or dies, or when no image is
    finished, or no sign of life given, for `deadline_s`.
    """
    with _session(job) as session:
        return session.watch(deadline_s, lambda done: progress(done, job.total))


@contextmanager
def _session(job: Job) -> Iterator[_Session]:
    """Start the worker; on leaving, its session has ended."""
    names = list(job.names)  # first, as a job that cannot be run raises here
    with ExitStack() as opened:
        with _refused(*_NOT_STARTED):
            opened.enter_context(_standard_descriptors_open())
        with _refused(*_NOT_KEPT):
            file = opened.enter_context(TemporaryFile())
            log = opened.enter_context(TemporaryFile())
            for part in (_search_path(), job):
                pickle.dump(part, file, protocol=5)
            file.seek(0)
        with _refused(*_NOT_STARTED):
            lifeline_out, lifeline_in = _pipe(opened)
            reports_out, reports_in = _pipe(opened)
            passed = [stream.fileno() for stream in (file, lifeline_out, reports_in)]
            process = subprocess.Popen(
                [sys.executable, "-c", _BOOT.format(package=__package__), *map(str, passed)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # our own may be gone
                env=dict.fromkeys(THREADS, "1") | os.environ,
                pass_fds=passed,
                start_new_session=True,
            )
        lifeline_out.close()
        reports_in.close()
        reports = Reports(reports_out.fileno(), file.fileno())
        session = _Session(process, lifeline_in, reports, log, names)
        try:
            yield session
        finally:
            session.end()


@dataclass
class _Session:
    """The worker and its processes as their supervisor sees them."""

    process: subprocess.Popen[bytes]
    lifeline: BinaryIO
    reports: Reports
    log: IO[bytes]
    names: list[str]
    started: bool = field(default=False, init=False)
    records: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    def watch(self, deadline_s: float, progress: Callable[[int], None]) -> dict[str, dict[str, Any]]:
        """Return the records when the run is done; raise LavaRunError when it fails."""
        start_s = max(deadline_s, START_S)
        without_image = without_sign = 0.0
        answered = False
        looked = time.monotonic()
        while True:
            events = self._receive(POLL_S)
            now = time.monotonic()
            passed = min(now - looked, POLL_S)  # time in which we stood still ourselves counts against nobody
            looked = now
            without_image += passed
            without_sign += passed
            for event in events:
                if "alive" in event:
                    answered, without_sign = True, 0.0
                    continue
                without_image = 0.0
                if "failed" in event:
                    raise _failed(event)
                if "died" in event:
                    what = f"the process of {event['died']} died ({event['how']})"
                    raise LavaRunError(what, _remedy(event["how"]), detail=self._log())
                if "started" in event:  # from the worker itself: from here on a stopped one is noticed
                    self.started = answered = True
                if "images" in event:
                    progress(event["images"])
                if "record" in event:
                    self.records[event["record"]] = event["arrays"]
                if "done" in event:
                    return self.records
            image_limit = deadline_s if self.started else start_s
            if without_image > image_limit:
                raise self._stalled(image_limit, answered)
            sign_limit = max(deadline_s, SIGNS_S) if answered else start_s
            if without_sign > sign_limit:
                raise self._silent(sign_limit)

    def end(self) -> None:
        """Have the worker end its processes and itself; kill what is left of them when it does not."""
        self.lifeline.close()
        if self.process.returncode is None:
            with suppress(ProcessLookupError):  # of a worker that nobody has to wait for: SIGCHLD is ignored
                os.kill(self.process.pid, signal.SIGCONT)  # a stopped one has to go on to end
            if not self._ends():
                self._signal_all(signal.SIGKILL)
                self._ends()
            self.process.wait()

    def _signal_all(self, signum: int) -> None:
        """Signal the session. Nobody has waited for the worker yet, so that its number is not given again."""
        with suppress(ProcessLookupError, PermissionError):  # macOS forbids it where all are zombies
            os.killpg(self.process.pid, signum)

    def _ends(self) -> bool:
        """Whether all processes of the session end within END_S: the last closes the pipe."""
        until = time.monotonic() + END_S
        while (left := until - time.monotonic()) > 0:
            if self.reports.receive(left) is None:
                return True
        return False

    def _receive(self, timeout_s: float) -> list[Event]:
        """Events that come within a time; LavaRunError where nobody is left to send any."""
        events = self.reports.receive(timeout_s)
        if events is not None:
            return events
        code = self.process.wait()
        how, log = ending(code), self._log()
        last = f": {log.splitlines()[-1]}" if log and code > 0 else ""
        raise LavaRunError(f"the runtime ended ({how}){last}", _remedy(how), detail=log)

    def _log(self) -> str:
        """The end of what the processes printed."""
        size = os.fstat(self.log.fileno()).st_size
        text = os.pread(self.log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES)).decode(errors="replace")
        return "\n".join(text.splitlines()[-20:])

    def _stalled(self, limit_s: float, answered: bool) -> LavaRunError:
        """Ask every process where it is: the culprit is not the one that waits for a message."""
        stacks = self._stacks() if answered else {}
        if answered and WORKER not in stacks:  # others may wait for it: it can hold the lock of the reports
            return self._silent(limit_s)
        asked = [WORKER, *self.names, SERVICE] if self.started else [WORKER] if answered else []
        stuck = [name for name in asked if _WAITS not in stacks.get(name, "")]
        named = ", ".join(name if name in stacks else f"{name} (does not answer)" for name in stuck)
        where = f", at {named}" if named else ""
        return LavaRunError(
            f"the multi-process runtime finished nothing for {limit_s:g} s{where}",
            "look there, raise --deadline, or use the in-process runtime",
            detail="\n".join([*(f"{name}:\n{stacks.get(name, '')}" for name in stuck), self._log()]),
        )

    def _silent(self, limit_s: float) -> LavaRunError:
        return LavaRunError(
            f"the multi-process runtime gave no sign of life for {limit_s:g} s",
            "let it go on if it was stopped, raise --deadline, or use the in-process runtime",
            detail=self._log(),
        )

    def _stacks(self) -> dict[str, str]:
        """Stacks by name, of the processes that answer."""
        self._signal_all(signal.SIGUSR1)
        stacks: dict[str, str] = {}
        until = time.monotonic() + ANSWER_S
        while len(stacks) < len(self.names) + 2 and (left := until - time.monotonic()) > 0:
            events = self.reports.receive(left)
            if events is None:
                break
            stacks |= {event["name"]: event["stack"] for event in events if "stack" in event}
        return stacks


def ending(code: int) -> str:
    """How a process with this exit code ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # one of the real-time signals, of which few have names
        return f"signal {-code}"


def _remedy(how: str) -> str:
    if how == signal.SIGKILL.name:
        return "look at the memory it needs, or use the in-process runtime"
    return "--debug shows what it printed last; or use the in-process runtime"


def _failed(event: Event) -> LavaRunError:
    what = f"{event['failed']} raised in the multi-process runtime: {event['error']}"
    return LavaRunError(what, "--debug shows the traceback", detail=event["detail"])


def _search_path() -> list[str]:
    """Return sys.path for a process in another folder. What is no path there is meant for an import hook."""
    found = []
    for path in sys.path:
        if path and not os.path.exists(path):
            found.append(path)
            continue
        with suppress(FileNotFoundError):  # the working directory is gone, which "" means
            found.append(os.path.abspath(path))
    return found


def _pipe(opened: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    out, in_ = os.pipe()
    return (
        opened.enter_context(open(out, "rb", buffering=0)),
        opened.enter_context(open(in_, "wb", buffering=0)),
    )


@contextmanager
def _refused(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LavaRunError(f"{what}: {error.strerror or error}", remedy) from error


@contextmanager
def _standard_descriptors_open() -> Iterator[None]:
    """Open 0, 1 and 2 where they are closed: a file that got such a number would lose it in the child."""
    with ExitStack() as opened:
        while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
            opened.callback(os.close, null)
        os.close(null)
        yield
