"""Inputs as data: files by name, some of them no regular ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from enum import Enum
from pathlib import Path


class Odd(Enum):
    """What can stand where a file should."""

    DIRECTORY = "a directory"
    FIFO = "a pipe that nobody writes to"
    ZERO = "a link to /dev/zero"
    LOOP = "a link to itself"


Files = Mapping[str, bytes | Odd]
"""Content by path relative to the directory of an input."""


def write_files(files: Files, directory: Path) -> None:
    """Make `directory` hold these files and nothing else."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is Odd.DIRECTORY:
            path.mkdir()
        elif content is Odd.FIFO:
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero" if content is Odd.ZERO else path)


def read_files(directory: Path) -> dict[str, bytes]:
    """Give every file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }
