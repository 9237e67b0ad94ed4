"""Registries that other packages can extend by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from stas_neuro.errors import InputError, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Named extensions: those of this package, and those that other packages register.

    Parameters
    ----------
    kind : str
        Kind of the extensions for errors, such as "backend".
    group : str
        Entry point group of other packages; each entry point is a class or function that makes an extension.
    own : mapping of name to "module:class"
        Extensions of this package.
    """

    kind: str
    group: str
    own: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """Return all names, those of this package first."""
        return tuple(self._all())

    def get(self, name: str) -> T:
        """Make the extension of a name.

        Raises
        ------
        InputError
            When there is none, or it cannot be imported or made. The message names its package.
        """
        if name in self.own:  # without a search through all packages
            made: T = EntryPoint(name, self.own[name], self.group).load()()
            return made
        known = self._all()
        if name not in known:
            raise unknown(self.kind, name, known)
        point = known[name]
        try:
            added: T = point.load()()
        except Exception as error:
            package = point.dist.name if point.dist is not None else point.value
            what = f"the {self.kind} '{name}' of the package {package} cannot be used: {error}"
            raise InputError(what, "update that package, or uninstall it") from error
        return added

    def _all(self) -> dict[str, EntryPoint]:
        """Return entry points by name; other packages cannot replace those of stas-neuro."""
        own = {name: EntryPoint(name, value, self.group) for name, value in self.own.items()}
        added = {point.name: point for point in entry_points(group=self.group) if point.name not in own}
        return {**own, **added}
