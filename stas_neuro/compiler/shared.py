"""A network with the results of steps that its compilations have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from stas_neuro import api
from stas_neuro.compiler.opened import Opened
from stas_neuro.compiler.options import Images
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import StasError
from stas_neuro.ir import Graph
from stas_neuro.labels import bias_of_first

Note = Callable[[str], None]
"""Called with what the user should know of the images that were given."""
T = TypeVar("T")


class Compiler:
    """Compiles one network, opened once: what compilations have in common is done once.

    Parameters
    ----------
    opened : Opened
    note : callable, optional
        Called with a sentence where images that were given are no random sample.
    progress : callable, optional
        Called with the number of finished images, and of all, of a profiling run.
    """

    def __init__(
        self, opened: Opened, *, note: Note | None = None, progress: api.Progress | None = None
    ) -> None:
        self.opened = opened
        self.note = note
        self.progress = progress
        self._done: dict[tuple[object, ...], Any] = {}

    def once(self, key: tuple[object, ...], step: Callable[[], T]) -> T:
        """Do a step the first time that it is asked for, and give the same result, or error, ever after."""
        if key not in self._done:
            try:
                self._done[key] = step()
            except StasError as error:
                self._done[key] = error
        done: T | StasError = self._done[key]
        if isinstance(done, StasError):
            raise done
        return done

    def load(self, given: Images) -> LabelledImages:
        """Load images, of a known data set those to train on."""
        if isinstance(given, LabelledImages):
            return given
        return self.once(("images", given), lambda: load_data(given, "train"))

    def images(self, given: Images, use: str, count: int) -> LabelledImages:
        """Load images, and note where their first ones are no random sample."""
        images = self.load(given)
        if self.note is not None and (bias := bias_of_first(images, count)):
            self.note(f"{use}: {bias}")
        return images


@dataclass(frozen=True, eq=False)
class _Itself:
    """A key that only this very object equals; holding the object keeps its identity from being reused."""

    kept: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.kept is other.kept

    def __hash__(self) -> int:
        return id(self.kept)


def key_of(given: Images | Graph | None) -> object:
    """Give what a result is kept by: a name by its letters, images and graphs by identity."""
    return given if given is None or isinstance(given, str) else _Itself(given)
