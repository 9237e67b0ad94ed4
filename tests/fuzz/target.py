"""What is fuzzed: a reader with valid inputs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from random import Random
from typing import TypeVar

from fuzz import guard
from fuzz.files import Files
from stas_neuro.errors import StasError

T = TypeVar("T")
LONGEST = 30_000
"""Characters of an error: one can name many problems, and quotes little of what a file holds."""


def _unchanged(files: Files, rng: Random) -> Files:
    return files


@dataclass(frozen=True)
class Target:
    """A reader.

    Parameters
    ----------
    name : str
    make_seeds : callable
        Gives valid inputs, small ones: each has to be read without an error.
    read : callable
        Does with an input what the program does: reads it and uses all of it. Takes the directory of its
        files, and one where output may be written.
    mend : callable
        Makes a mutated input look valid from outside, so that more than its checksum is tested.
    errors : tuple of exception types
        The errors with which it may refuse an input.
    quick : int
        How many inputs `tests/test_fuzz.py` tries.
    """

    name: str
    make_seeds: Callable[[], Sequence[Files]]
    read: Callable[[Path, Path], None]
    mend: Callable[[Files, Random], Files] = _unchanged
    errors: tuple[type[Exception], ...] = (StasError,)
    quick: int = 50

    @cached_property
    def seeds(self) -> Sequence[Files]:
        return self.make_seeds()


class Untidy(AssertionError):
    """An error's text is none that a person can read."""


def check_text(error: Exception) -> None:
    """Raise Untidy where an error is not one printable line with its remedy."""
    text = str(error)
    if not text.isprintable() or len(text) > LONGEST or "; " not in text:
        raise Untidy(repr(text[:LONGEST])) from error


def pick(choices: Sequence[T], content: bytes | str, count: int = 1) -> Sequence[T]:
    """Choose a few uses of an input by what is in it, the same ones each time: all of them take long."""
    seed = zlib.crc32(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return Random(seed).sample(choices, count)


@contextmanager
def may_refuse() -> Iterator[None]:
    """Let a use of what was read be refused, and go on with the next use."""
    guard.restart()
    try:
        yield
    except StasError as error:
        check_text(error)
    guard.restart()


def names() -> list[str]:
    """Name the targets: modules of `fuzz.targets`, each with a `TARGET`."""
    return sorted(module.name for module in iter_modules(import_module("fuzz.targets").__path__))


def find(name: str) -> Target:
    """Import a target."""
    target: Target = import_module(f"fuzz.targets.{name}").TARGET
    return target
