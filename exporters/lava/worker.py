"""The supervised child: ``python -m <this> DIRECTORY DESCRIPTOR`` runs on Lava what DIRECTORY holds."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from .assemble import Assembly, assembled
from .lava_api import ActorType, RunSteps, Runtime
from .network import Network
from .processes import Run
from .reports import IMAGES_FILE, OPTIONS_FILE, Reporter
from .schedule import Schedule
from .supervisor import POLL_S, ending

actors: list[tuple[str, Any]] = []
"""Lava's operating-system processes with the layers they run."""


def main(directory: Path, reporter: Reporter) -> None:
    """Run, report, stop; never returns to an interpreter that would wait for Lava's processes."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # Lava takes a dozen descriptors a process
    try:
        network = Network.load(directory)
        images = np.load(directory / IMAGES_FILE)
        options = json.loads((directory / OPTIONS_FILE).read_text(encoding="utf-8"))
        run = Run(
            images=len(images),
            period=Schedule.of(network).period,
            dtype=np.dtype(options["dtype"]).type,
            record_spikes=options["record_spikes"],
            reporter=reporter,
        )
        with assembled(network, images, run) as assembly:
            _run(assembly, run, reporter)
    except Exception:
        reporter.failure("the runtime")
        os._exit(1)
    os._exit(0)


def _run(assembly: Assembly, run: Run, reporter: Reporter) -> None:
    runtime = Runtime(assembly.executable, ActorType.MultiProcessing)
    assembly.executable.assign_runtime_to_all_processes(runtime)
    finished = threading.Event()
    threading.Thread(target=_watch_actors, args=(runtime, assembly, reporter, finished), daemon=True).start()
    runtime.initialize()
    reporter.event(workers={name: actor.pid for name, actor in actors[: len(assembly.processes)]})
    runtime.start(RunSteps(num_steps=run.steps))
    finished.set()
    reporter.event(done=True)
    runtime.stop()


def _watch_actors(
    runtime: Runtime, assembly: Assembly, reporter: Reporter, finished: threading.Event
) -> None:
    """Report the first process that ends before the run does: Lava would wait for it for ever."""
    names = [process.name for process in assembly.executable.proc_builders]
    while not finished.wait(POLL_S):
        infrastructure = runtime._messaging_infrastructure
        started = list(infrastructure.actors) if infrastructure is not None else []
        actors[:] = [
            (names[i] if i < len(names) else "the runtime service", actor) for i, actor in enumerate(started)
        ]
        for name, actor in actors:
            if not actor.is_alive() and not finished.is_set():
                reporter.event(died=name, how=ending(actor.exitcode))
                return


def _end_with_parent() -> None:
    """Wait for the supervisor's end of standard input to close; a stopped process must go on to be ended."""
    while os.read(0, 1):
        time.sleep(POLL_S)
    for _, actor in actors:
        for signum in (signal.SIGTERM, signal.SIGCONT):
            os.kill(actor.pid, signum)
    os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Reporter(Path(sys.argv[1]), int(sys.argv[2])))
