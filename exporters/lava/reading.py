"""Plain data as dataclasses, strictly: every field is there, no other is, and each has its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .documents import BadDocument, shown

T = TypeVar("T")
_WORDS: Mapping[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
    str: ((str,), "a text"),
    Any: ((bool, int, float, str), "a number, a text, true or false, or a list of these"),
}
"""Types that JSON may give a field of a type, and how to say which."""
_fields = cache(get_type_hints)


def read_as(cls: type[T], document: Any) -> T:
    """Make a dataclass of what `documents.parse_json` gave.

    Fields are dataclasses, bool, int, float, str, ``tuple[X, ...]``, ``Mapping[str, X]``, or Any for one of
    these four or a tuple of them. Raises BadDocument, which names the first place that is wrong.
    """
    read: T = _read(cls, document)
    return read


def _read(hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        fields = _fields(hint)
        given = _of(dict, value, "an object")
        for key in fields.keys() ^ given.keys():
            raise BadDocument(f"has no {key!r}" if key in fields else f"has an unknown key {shown(key)!r}")
        return hint(**{key: _within(key, _read, fields[key], given[key]) for key in fields})
    if origin is Mapping:
        given = _of(dict, value, "an object")
        return {key: _within(key, _read, arguments[1], item) for key, item in given.items()}
    if origin is tuple or (hint is Any and isinstance(value, list)):
        item = arguments[0] if arguments else Any
        given = _of(list, value, "a list")
        return tuple(_within(str(index), _read, item, each) for index, each in enumerate(given))
    types, words = _WORDS[hint]
    if type(value) not in types:
        raise _other(value, words)
    return float(value) if hint is float else value


def _of(kind: type, value: Any, words: str) -> Any:
    if type(value) is not kind:
        raise _other(value, words)
    return value


def _other(value: Any, words: str) -> BadDocument:
    return BadDocument(f"is {shown(repr(value))}, it must be {words}")


def _within(name: str, read: Callable[[Any, Any], T], hint: Any, value: Any) -> T:
    try:
        return read(hint, value)
    except BadDocument as error:
        raise BadDocument(error.what, (name, *error.place)) from None
