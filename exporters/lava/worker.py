"""The supervised process: runs the job that it is sent in Lava's own runtime."""

from __future__ import annotations

import multiprocessing
import pickle
import resource
import signal
import threading
from typing import BinaryIO, NoReturn

from stas_neuro.exporters.lava.assemble import Assembly
from stas_neuro.exporters.lava.infrastructure import ContainedRuntime, Infrastructure
from stas_neuro.exporters.lava.jobs import Job
from stas_neuro.exporters.lava.lava_api import RunSteps
from stas_neuro.exporters.lava.lifeline import end
from stas_neuro.exporters.lava.processes import Run
from stas_neuro.exporters.lava.reports import Reporter
from stas_neuro.exporters.lava.supervisor import POLL_S, WORKER, ending

_MACOS_OPEN_MAX = 10240
"""Most descriptors of a process where the limit is infinity: macOS names that and refuses it."""


def main(file: BinaryIO, pipe: int) -> NoReturn:
    """Run, report and end; never returns to an interpreter that would wait for Lava's processes.

    Parameters
    ----------
    file : BinaryIO
        Continues with the pickled job; reports go behind it.
    pipe : int
        Descriptor of the pipe that reports go to.
    """
    _reset_signals()
    reporter = Reporter(pipe, file.fileno(), multiprocessing.Lock())
    reporter.show_stack_on_request(WORKER)
    try:
        _set_limits()
        job: Job = pickle.load(file)
        infrastructure = Infrastructure(reporter.show_stack_on_request)
        finished = threading.Event()
        threading.Thread(target=_watch, args=(infrastructure, reporter, finished), daemon=True).start()
        run = job.spec(reporter)
        with job.assembled(run) as assembly:
            _run(assembly, infrastructure, run, reporter)
            finished.set()
            reporter.event(done=True)  # Lava's own stop() would take seconds more, and may hang
    except Exception:
        reporter.failure(WORKER)
    finally:
        end()


def _run(assembly: Assembly, infrastructure: Infrastructure, run: Run, reporter: Reporter) -> None:
    runtime = ContainedRuntime(assembly.executable, infrastructure)
    assembly.executable.assign_runtime_to_all_processes(runtime)
    runtime.initialize()
    reporter.event(started=True)
    runtime.start(RunSteps(num_steps=run.steps))


def _reset_signals() -> None:
    """Undo what was inherited: blocked signals, and an ignored SIGCHLD, which hides how children end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _set_limits() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # Lava takes a dozen descriptors a process
    wanted = _MACOS_OPEN_MAX if most == resource.RLIM_INFINITY else most
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # a core file would keep weights and images


def _watch(infrastructure: Infrastructure, reporter: Reporter, finished: threading.Event) -> None:
    """Give a sign of life now and then; report the first process that ends before the run does.

    Lava would wait for that process for ever.
    """
    while not finished.wait(POLL_S):
        reporter.event(alive=True)
        for name, actor in zip(
            infrastructure.names, infrastructure.actors, strict=False
        ):  # one may be starting
            if not actor.is_alive() and not finished.is_set():
                reporter.event(died=name, how=ending(actor.exitcode))
                return
