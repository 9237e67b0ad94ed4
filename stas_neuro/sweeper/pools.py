"""Where steps and cells are computed: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from stas_neuro.errors import InputError, StasError
from stas_neuro.extras import needs
from stas_neuro.threads import one_thread

TRIES = 3
"""Number of workers that may die over a task before it is given up."""
CONNECT_S = 20
"""Time that a Dask scheduler may take to answer."""


class WorkerDied(StasError):
    """The processes that computed a task died."""


class Pool(Protocol):
    """Computes calls of functions of modules, several at a time."""

    @property
    def slots(self) -> int:
        """Number of calls at a time."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Compute a call of a function of a module."""

    def died(self, error: BaseException) -> bool:
        """Return whether a call has this error because the workers that tried it died."""


class Processes:
    """Processes with one thread each. One that dies is replaced, and what it computed is tried again."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sweep")
        self._local = threading.local()
        self._workers: list[BaseProcess] = []
        self._closed = False

    @property
    def slots(self) -> int:
        """Number of processes."""
        return self._count

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Compute a call in one of the processes."""
        return self._threads.submit(self._call, pickle.dumps((function, arguments)))

    def died(self, error: BaseException) -> bool:
        """Return whether the processes that tried a call died."""
        return isinstance(error, WorkerDied)

    def close(self) -> None:
        """End all processes, whatever they do."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._workers:
            process.kill()
        self._threads.shutdown()

    def _call(self, call: bytes) -> Any:
        for _ in range(TRIES):
            process, connection = self._worker()
            try:
                connection.send_bytes(call)
                wait([connection, process.sentinel])
                failed, result = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):  # the process is gone
                process.join()
                self._local.worker = None
                if self._closed:
                    break
                continue
            if failed:
                raise result
            return result
        code = process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        raise WorkerDied(
            f"the process that computed it died ({how}), {TRIES} times", "check the memory it needs"
        )

    def _worker(self) -> tuple[BaseProcess, Connection]:
        """Return the process of this thread; start one if there is none."""
        if getattr(self._local, "worker", None) is None:
            # Forked workers could deadlock in the threads of torch, so they start anew.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=False)
            # Ctrl-C reaches all processes, and the main one ends the others: they inherit that it is blocked.
            resource_tracker.ensure_running()  # its start unblocks it
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            process.start()
            theirs.close()
            self._workers.append(process)
            self._local.worker = process, ours
        found: tuple[BaseProcess, Connection] = self._local.worker
        return found


def _serve(connection: Connection) -> None:
    """Compute the calls that arrive, until the other side is gone."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes; the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, arguments = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            answer = False, function(*arguments)
        except Exception as error:
            answer = True, error
        connection.send_bytes(_pickled(answer))


def _pickled(answer: tuple[bool, Any]) -> bytes:
    try:
        packed = pickle.dumps(answer)
        pickle.loads(packed)
        return packed
    except Exception:  # an error of a library that cannot be pickled, or not unpickled
        text = f"{type(answer[1]).__name__}: {answer[1]}"
        return pickle.dumps((True, RuntimeError(text)))


def _end_with_parent() -> None:
    """End this process when its parent is gone, also in the middle of a call."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by one
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def processes(count: int) -> Iterator[Pool]:
    """Yield a pool of processes of this machine, which end with the block."""
    pool = Processes(count)
    try:
        with one_thread():
            yield pool
    finally:
        pool.close()


class _Cluster:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)

    @property
    def slots(self) -> int:
        """Number of threads of all workers that the cluster has now."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Compute a call on one of the workers; the scheduler tries it again if one dies."""
        future: Future[Any] = self._executor.submit(function, *arguments)
        return future

    def died(self, error: BaseException) -> bool:
        """Return whether the workers that tried a call died."""
        from distributed import KilledWorker

        return isinstance(error, KilledWorker)


@contextmanager
def cluster(address: str) -> Iterator[Pool]:
    """Yield the workers of a Dask cluster, by the address of its scheduler, such as tcp://10.0.0.1:8786.

    Raises
    ------
    InputError
        If Dask is not installed, or no scheduler answers.
    """
    with needs("sweep"):
        from distributed import Client
    # Its log shows tracebacks of what is reported as an error here.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        remedy = "give the address of a running Dask scheduler, such as tcp://127.0.0.1:8786"
        raise InputError(f"{address}: no scheduler answers ({error})", remedy) from error
    with client:
        yield _Cluster(client)
