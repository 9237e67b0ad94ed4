"""The supervised child: ``python -m <this> DIRECTORY DESCRIPTOR`` runs on Lava what DIRECTORY holds."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NoReturn

import numpy as np

from .assemble import Assembly, assembled
from .lava_api import ActorType, RunSteps, Runtime
from .network import Network
from .processes import Run
from .reports import IMAGES_FILE, OPTIONS_FILE, Reporter
from .schedule import Schedule
from .supervisor import POLL_S, ending

_ending = threading.Lock()
_TRACKER_S = 1.0
"""Longest time in seconds that the end of Python's resource tracker is waited for."""


def main(directory: Path, reporter: Reporter) -> None:
    """Run, report and end; never returns to an interpreter that would wait for Lava's processes."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # Lava takes a dozen descriptors a process
    try:
        network = Network.load(directory, checked=False)  # whatever its supervisor was given
        images = np.load(directory / IMAGES_FILE)
        options = json.loads((directory / OPTIONS_FILE).read_text(encoding="utf-8"))
        run = Run(
            images=len(images),
            period=Schedule.of(network).period,
            reporter=reporter,
            **options | {"dtype": np.dtype(options["dtype"]).type},
        )
        with assembled(network, images, run) as assembly:
            _run(assembly, run, reporter)
    except Exception:
        reporter.failure("the runtime")
    _end()


def _run(assembly: Assembly, run: Run, reporter: Reporter) -> None:
    runtime = Runtime(assembly.executable, ActorType.MultiProcessing)
    assembly.executable.assign_runtime_to_all_processes(runtime)
    names = [process.name for process in assembly.executable.proc_builders]
    finished = threading.Event()
    threading.Thread(target=_watch, args=(runtime, names, reporter, finished), daemon=True).start()
    runtime.initialize()
    actors = runtime._messaging_infrastructure.actors  # those of the layers first, in order
    reporter.event(workers={name: actor.pid for name, actor in zip(names, actors, strict=False)})
    runtime.start(RunSteps(num_steps=run.steps))
    finished.set()
    reporter.event(done=True)  # Lava's own stop() would take seconds more, and may hang


def _watch(runtime: Runtime, names: list[str], reporter: Reporter, finished: threading.Event) -> None:
    """Report the first process that ends before the run does: Lava would wait for it for ever."""
    while not finished.wait(POLL_S):
        infrastructure = runtime._messaging_infrastructure
        for index, actor in enumerate(infrastructure.actors if infrastructure is not None else ()):
            if not actor.is_alive() and not finished.is_set():
                name = names[index] if index < len(names) else "the runtime service"
                reporter.event(died=name, how=ending(actor.exitcode))
                return


def _end_with_parent() -> None:
    """Wait until the supervisor's end of standard input closes, by its will or its death."""
    while os.read(0, 1):
        pass
    _end()


def _end() -> NoReturn:
    """End and reap all children, so that none is left to a parent that may not care; then this process.

    Killing would leave their shared memory behind: Python's resource tracker removes it, and it ignores the
    signal and ends when its last client has. A stopped process must go on to be ended.
    """
    with _ending:
        tracker = resource_tracker.getfd()
        while children := multiprocessing.active_children():  # reaps those that have ended
            for child in children:
                if child.pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGTERM)
                        os.kill(child.pid, signal.SIGCONT)
            time.sleep(0.01)
        if tracker is not None:
            os.close(tracker)
        # The tracker has ended by then, unless Lava's own thread has just given it another resource: it ends
        # with this process at the latest.
        until = time.monotonic() + _TRACKER_S
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] == 0 and time.monotonic() < until:
                time.sleep(0.01)
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Reporter(Path(sys.argv[1]), int(sys.argv[2])))
