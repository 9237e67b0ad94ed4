"""How many batches are computed side by side, each with one thread of numpy's BLAS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = Lock()
_going_on: list[tuple[int, Any]] = []
"""For each of the runs that go on: the threads of BLAS before the first, and the limit that this one set."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread, until the last of the runs that go on at a time ends."""
    with _lock:
        if _going_on:
            _going_on.append(_going_on[0])
        else:
            _going_on.append((_threads(), _blas().limit(limits=1)))
    try:
        yield
    finally:
        with _lock:
            _, limit = _going_on.pop()
            if not _going_on:
                limit.restore_original_limits()


def workers() -> int:
    """Count the batches that are computed side by side: as many as BLAS would use threads."""
    with _lock:
        return _going_on[0][0] if _going_on else _threads()


def _threads() -> int:
    return max((library["num_threads"] for library in _blas().info()), default=1)


@cache
def _blas() -> ThreadpoolController:
    """Find numpy's BLAS, which takes as long as some images."""
    return ThreadpoolController().select(user_api="blas")
