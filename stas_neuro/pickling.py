"""Pickling of immutable values for process pools: they are constructed, and so validated, again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any


class MadeAnew:
    """Base class of frozen dataclasses that are unpickled by calling their constructor.

    Mappings and arrays that the constructor makes read-only stay read-only, unlike with plain pickling.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # type: ignore[arg-type]
        return _make, (type(self), {name: _plain(value) for name, value in given.items()})


def _make(cls: type[Any], given: Mapping[str, Any]) -> Any:
    return cls(**given)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, MappingProxyType) else value
