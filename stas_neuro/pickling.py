"""Pickling of immutable values, which process pools need: they are made anew, and so checked anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any


class MadeAnew:
    """A frozen dataclass that is unpickled by its constructor, from its fields.

    What the constructor makes read-only (mappings, arrays) is read-only then too, which plain pickling loses.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # type: ignore[arg-type]
        return _make, (type(self), {name: _plain(value) for name, value in given.items()})


def _make(cls: type[Any], given: Mapping[str, Any]) -> Any:
    return cls(**given)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, MappingProxyType) else value
