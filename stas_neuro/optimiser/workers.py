"""Processes that do the tasks of a search."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, Protocol

from stas_neuro.extras import needs
from stas_neuro.threads import one_thread


class Worker(Protocol):
    """What does tasks: it is copied to each process once."""

    def do(self, task: Any) -> Any:
        """Do one task."""


class Doing(Protocol):
    """Does tasks."""

    def __call__(self, tasks: Sequence[Any]) -> Iterator[Any]:
        """Yield the results in the order of the tasks."""


@contextmanager
def doing(worker: Worker, jobs: int) -> Iterator[Doing]:
    """Yield a function that does tasks in `jobs` processes; with 1, in this one."""
    if jobs == 1:
        yield lambda tasks: map(worker.do, tasks)
        return
    # Forked workers could deadlock in the threads of torch, so they start anew.
    context = multiprocessing.get_context("spawn")
    with (
        one_thread(),
        ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(pickle.dumps(worker),)) as pool,
    ):
        yield lambda tasks: pool.map(_do, tasks)


_worker: Worker | None = None
"""What does the tasks of a worker process."""


def _start(worker: bytes) -> None:
    global _worker
    with needs("torch"):  # a model may be of torch
        _worker = pickle.loads(worker)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is gone: it would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    wait([parent.sentinel])
    os._exit(1)


def _do(task: Any) -> Any:
    assert _worker is not None  # `_start` sets it
    return _worker.do(task)
