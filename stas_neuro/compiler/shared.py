"""A network, and the results of steps that its compilations share."""

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
"""Called with remarks for the user about the given images."""
T = TypeVar("T")


class Compiler:
    """Compiles one network; steps that several compilations share are done once.

    Parameters
    ----------
    opened : Opened
    note : callable, optional
        Called with a sentence if the given images are not a random sample.
    progress : callable, optional
        Called with the number of finished images and of all images, of a profiling run and of the search for
        parameters of halting.
    """

    def __init__(
        self, opened: Opened, *, note: Note | None = None, progress: api.Progress | None = None
    ) -> None:
        self.opened = opened
        self.note = note
        self.progress = progress
        self._done: dict[tuple[object, ...], Any] = {}

    def once(self, key: tuple[object, ...], step: Callable[[], T]) -> T:
        """Do a step the first time, and return the same result, or raise the same error, in later calls."""
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
        """Load images; of a known data set, its training images."""
        if isinstance(given, LabelledImages):
            return given
        return self.once(("images", given), lambda: load_data(given, "train"))

    def images(self, given: Images, use: str, count: int) -> LabelledImages:
        """Load images, and note if their first `count` are not a random sample."""
        images = self.load(given)
        if self.note is not None and (bias := bias_of_first(images, count)):
            self.note(f"{use}: {bias}")
        return images


@dataclass(frozen=True, eq=False)
class _Itself:
    """A key that is equal for the same object only; it keeps the object, so that no other gets its id."""

    kept: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.kept is other.kept

    def __hash__(self) -> int:
        return id(self.kept)


def key_of(given: Images | Graph | None) -> object:
    """Return the key of an argument: a name itself, the identity of images and graphs."""
    return given if given is None or isinstance(given, str) else _Itself(given)
