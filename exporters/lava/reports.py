"""How the worker's processes speak to the supervisor: events over one pipe, everything large in files."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .network import Array, save_arrays

IMAGES_FILE = "images.npy"
OPTIONS_FILE = "options.json"
LOG_FILE = "worker.log"


def record_file(directory: Path, name: str) -> Path:
    """Where the process of a layer leaves its record."""
    return directory / f"{name}.record.npz"


def stack_file(directory: Path, name: str) -> Path:
    """Where the process of a layer writes its stack when it gets SIGUSR1."""
    return directory / f"{name}.stack"


@dataclass(frozen=True)
class Reporter:
    """The sending side, shared by all processes of the session."""

    directory: Path
    descriptor: int

    def event(self, **event: Any) -> None:
        """Send one line of JSON: up to PIPE_BUF bytes are written whole, so that all can share the pipe."""
        os.write(self.descriptor, json.dumps(event).encode() + b"\n")

    def failure(self, who: str) -> None:
        """Send the exception that is being handled."""
        path = self.directory / f"{os.getpid()}.traceback"
        path.write_text(traceback.format_exc(), encoding="utf-8")
        self.event(failed=who, file=str(path))

    def record(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Leave the record of a layer."""
        save_arrays(record_file(self.directory, name), arrays)

    def show_stack_on_request(self, name: str) -> None:
        """Write the stack of this process, that of a layer, whenever the supervisor asks."""
        descriptor = os.open(stack_file(self.directory, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        faulthandler.register(signal.SIGUSR1, file=descriptor, all_threads=False)
