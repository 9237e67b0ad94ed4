"""What Lava's multi-process runtime runs on: processes that end with their parent, memory without a name.

Lava's own infrastructure takes its memory from a server process, under names in /dev/shm that only this
server and Python's resource tracker remove, and talks to it over a socket in the temporary folder. All
processes that use the memory are forked from one, so it needs no name: it goes with the last of them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from stas_neuro.exporters.lava.lava_api import (
    ActorType,
    Executable,
    MultiProcessing,
    PyProcessBuilder,
    Runtime,
)
from stas_neuro.exporters.lava.lifeline import end_with_worker
from stas_neuro.exporters.lava.supervisor import SERVICE


class ContainedRuntime(Runtime):  # type: ignore[misc]
    """Lava's multi-process runtime on a given infrastructure."""

    def __init__(self, executable: Executable, infrastructure: Infrastructure) -> None:
        super().__init__(executable, ActorType.MultiProcessing)
        self._infrastructure = infrastructure

    def _build_message_infrastructure(self) -> None:
        self._messaging_infrastructure = self._infrastructure
        self._infrastructure.start()


class Infrastructure(MultiProcessing):  # type: ignore[misc]
    """Lava's processes of a session; `prepare` is called in each when it begins, with its name.

    `names` are those of the processes (`actors`), in the order in which Lava starts them, which is its own.
    """

    def __init__(self, prepare: Callable[[str], None]) -> None:
        super().__init__()
        self.names: list[str] = []
        self._prepare = prepare
        self._lifeline = os.pipe()

    def start(self) -> None:
        """Called by the runtime."""
        self._smm = _AnonymousMemory()

    def build_actor(self, target_fn: Callable[..., None], builder: Any, exception_q: Any = None) -> Any:
        """Start a process; called by the runtime."""
        name = builder.proc_params["name"] if isinstance(builder, PyProcessBuilder) else SERVICE
        self.names.append(name)
        begin = partial(self._begin, name, target_fn)
        return super().build_actor(begin, builder, exception_q)

    def _begin(self, name: str, target: Callable[..., None], **arguments: Any) -> None:
        reader, writer = self._lifeline
        os.close(writer)  # the worker alone keeps it
        end_with_worker(reader)
        self._prepare(name)
        target(**arguments)


class _AnonymousMemory:
    """Stands for Lava's SharedMemoryManager, of which only this is called."""

    def create_shared_memory(self, size: int) -> _Block:
        return _Block(size)


class _Block:
    """Memory of this process and of those that it forks from now on."""

    def __init__(self, size: int) -> None:
        self.buf = memoryview(mmap.mmap(-1, size))
