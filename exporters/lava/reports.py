"""How the worker and its processes report to the supervisor: over one pipe, and what is long in a file.

The file has no name, so that nothing of it stays when the last process that has it open is gone.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import sys
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

Event = dict[str, Any]
_LENGTH = struct.Struct("=I")
_CHUNK = 1 << 30
"""Most bytes to read or write in one call: macOS refuses 2 GiB."""
_FALLBACK_CHARACTERS = 80
"""Of a message that has to be short: few enough for PIPE_BUF, which is 512 bytes on macOS."""


@dataclass(frozen=True)
class Reporter:
    """The sending side, shared by all processes of the session.

    `pipe` and `file` are descriptors; `room` is a lock of the session, to reserve room in the file.
    """

    pipe: int
    file: int
    room: AbstractContextManager[Any]

    def event(self, **event: Any) -> None:
        """Send an event; OSError where the file has no room for a long one.

        Up to PIPE_BUF bytes are written whole: all processes can share the pipe, and one that is killed
        leaves no half of an event there.
        """
        message = pickle.dumps(event)
        if _LENGTH.size + len(message) > select.PIPE_BUF:
            message = pickle.dumps(self._store(message))
        os.write(self.pipe, _LENGTH.pack(len(message)) + message)

    def failure(self, who: str) -> None:
        """Send the exception being handled in one line, and its traceback where there is room for it."""
        line = " ".join("".join(traceback.format_exception_only(*sys.exc_info()[:2])).split())
        try:
            self.event(failed=who, error=line, detail=traceback.format_exc())
        except OSError:
            self.event(failed=who, error=line[:_FALLBACK_CHARACTERS], detail="")

    def record(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Send the record of a process."""
        self.event(record=name, arrays=dict(arrays))

    def show_stack_on_request(self, name: str) -> None:
        """Send the stack of this process whenever the supervisor asks by SIGUSR1."""

        def show(signum: int, frame: FrameType | None) -> None:
            with suppress(OSError):
                self.event(stack="".join(traceback.format_stack(frame)), name=name)

        signal.signal(signal.SIGUSR1, show)

    def _store(self, content: bytes) -> tuple[int, int]:
        with self.room:
            at = os.fstat(self.file).st_size
            os.ftruncate(self.file, at + len(content))
        done = 0
        while done < len(content):
            done += os.pwrite(self.file, memoryview(content)[done : done + _CHUNK], at + done)
        return at, len(content)


@dataclass
class Reports:
    """The receiving side: descriptors of the pipe and of the file."""

    pipe: int
    file: int
    _rest: bytes = field(default=b"", init=False)

    def receive(self, timeout_s: float) -> list[Event] | None:
        """Events in order, none where `timeout_s` passes without; None once every sender is gone."""
        if not wait([self.pipe], timeout_s):
            return []
        chunk = os.read(self.pipe, 1 << 16)
        if not chunk:
            return None
        received, at = self._rest + chunk, 0
        events = []
        while len(received) >= (begin := at + _LENGTH.size):
            end = begin + _LENGTH.unpack_from(received, at)[0]
            if len(received) < end:
                break
            event = pickle.loads(received[begin:end])
            events.append(event if isinstance(event, dict) else pickle.loads(self._stored(*event)))
            at = end
        self._rest = received[at:]
        return events

    def _stored(self, at: int, size: int) -> bytearray:
        content = bytearray()
        while len(content) < size:
            content += os.pread(self.file, min(size - len(content), _CHUNK), at + len(content))
        return content
