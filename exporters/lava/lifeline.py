"""How the processes of a run end with the process above them, whatever happened to that. Needs no Lava.

Each waits in a thread for a pipe to close whose other end only the process above has. On Linux the kernel
also sends a signal, which reaches a process that is stopped and cannot look at its pipe; elsewhere a stopped
process whose parent is killed ends when it is continued.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_ending = threading.Lock()


def end_with_supervisor(lifeline: int) -> None:
    """Have the worker end when the other end of the pipe `lifeline`, a descriptor, is closed.

    The kernel does not kill it, as it has processes to end and to reap: a stopped one goes on and does that.
    """
    _end_with(lifeline, end, signal.SIGCONT)


def end_with_worker(lifeline: int) -> None:
    """Have a process that was forked from the worker end when the other end of `lifeline` is closed."""
    _end_with(lifeline, lambda: os._exit(1), signal.SIGKILL)


def end() -> NoReturn:
    """Kill and reap all children, so that none is left to a parent that may not care; then end this process.

    They hold nothing that outlasts them: no file, no memory with a name.
    """
    with _ending:
        while children := multiprocessing.active_children():  # reaps those that have ended
            for child in children:
                with suppress(ValueError):  # reaped by another thread meanwhile
                    child.kill()
            time.sleep(0.01)
        os._exit(0)


def _end_with(lifeline: int, end_now: Callable[[], None], signum: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signum))

    def wait() -> None:
        while os.read(lifeline, 1):
            pass
        end_now()

    threading.Thread(target=wait, daemon=True).start()
