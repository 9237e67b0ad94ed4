"""Files, and JSON and TOML texts as plain data, checked: what every reader of them may rely on.

Anyone can have written a file. `parse_json` and `parse_toml` give only what this module's limits allow:
UTF-8, each key once, no nesting beyond `DEEPEST`, and numbers that machines compute with exactly or without
overflow. Needs nothing but the standard library, so that programs without stas-neuro can have a copy;
only `parse_toml` needs tomli where Python is 3.10.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

WHOLE_LIMIT = 2**53
"""Largest magnitude of a whole number: float64 holds every one of these exactly."""
LARGEST, SMALLEST = 1e30, 1e-30
"""Magnitudes of other numbers than 0 lie between these: the product of ten of them is still a float64."""
DEEPEST = 32
"""Levels of lists and objects within each other; no format here needs ten."""
TOML_SIZE, TOML_DOTS = 1 << 18, 10**7
"""Bytes of a TOML text, and sum over its lines of the dots squared, which its parser takes time by."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class BadDocument(ValueError):
    """What is wrong in a text, after the place where it is."""

    def __init__(self, what: str, place: Sequence[str] = ()) -> None:
        super().__init__(what, place)
        self.what = what
        self.place = tuple(place)

    def __str__(self) -> str:
        where = shown(".".join(self.place))
        return f"{where}: {self.what}" if where else self.what


def open_file(path: Path, most: int | None = None) -> BinaryIO:
    """Open a regular file of at most `most` bytes for reading.

    Raises
    ------
    BadDocument
        Where it is something else, or larger, or no file can have that name.
    OSError
        Where it cannot be opened.
    """
    try:
        # A pipe would block on being opened, and a device may never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError as error:  # a character that no path can have
        raise BadDocument(f"is no name of a file ({error})") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            kind = "a directory" if stat.S_ISDIR(facts.st_mode) else "a pipe or a device"
            raise BadDocument(f"is {kind}, not a regular file")
        if most is not None and facts.st_size > most:
            raise BadDocument(f"has {facts.st_size} bytes, at most {most} are read")
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def parse_json(content: bytes) -> Any:
    """Parse a JSON text to dicts, lists, texts, bools, None, ints and finite floats.

    Raises
    ------
    BadDocument
        Where it is not JSON in UTF-8, an object has a key twice, or something is beyond a limit.
    """
    return _parsed(content, "JSON", _json)


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parse a TOML text to what `parse_json` gives; raises BadDocument as that does, and for dates."""
    if len(content) > TOML_SIZE:
        raise BadDocument(f"is {len(content)} bytes long, a TOML text has at most {TOML_SIZE}")
    dots = [line.count(b".") for line in content.split(b"\n")]
    if sum(number**2 for number in dots) > TOML_DOTS:
        raise BadDocument(f"has {max(dots)} dots in a line: too many to read")
    table: dict[str, Any] = _parsed(content, "TOML", _toml)
    return table


def check_number(number: float) -> None:
    """Raise BadDocument for a number that no file may hold: not finite, or beyond the limits of this module.

    `number` is an int of any size or a float.
    """
    if isinstance(number, int):
        if not -WHOLE_LIMIT <= number <= WHOLE_LIMIT:
            raise BadDocument(f"is {_approximately(number)}, whole numbers go up to {WHOLE_LIMIT}")
    elif number and not SMALLEST <= abs(number) <= LARGEST:
        raise BadDocument(f"is {number}, other numbers than 0 lie between {SMALLEST} and {LARGEST}")


def parse_number(text: str) -> float:
    """Give the finite number that a text alone is, written in decimal; raises BadDocument for any other."""
    if not _NUMBER.fullmatch(text):
        raise BadDocument(f"is {shown(text)!r}, not a number")
    number = float(text)
    check_number(number)
    return number


def shown(text: str, most: int = 80) -> str:
    """Shorten a text of a file to what an error can quote, and escape what does not print."""
    short = text if len(text) <= most else f"{text[: most - 10]}... ({len(text)} characters)"
    return short if short.isprintable() else ascii(short)[1:-1]


def reason(error: Exception) -> str:
    """Give what an error says, shortened, and of the operating system's without number and file."""
    return shown(str(getattr(error, "strerror", None) or error), 200)


def one_line(text: str, most: int = 500) -> str:
    """Put a text on one line that can be printed; a word of more than `most` letters is cut off."""
    words = text.split()
    line = " ".join(
        word if len(word) <= most else f"{word[:most]}... ({len(word)} characters)" for word in words
    )
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def _parsed(content: bytes, form: str, parse: Callable[[str], Any]) -> Any:
    try:
        document = parse(content.decode())
    except BadDocument:
        raise
    except RecursionError:
        raise BadDocument(f"is nested too deeply, more than {DEEPEST} levels") from None
    except UnicodeDecodeError as error:
        raise BadDocument(f"is not UTF-8 ({error.reason} at byte {error.start})") from error
    except _Malformed as error:
        raise BadDocument(f"is not {form}: {error}") from error
    except ValueError as error:  # of int(), which takes no thousands of digits
        raise BadDocument(f"has too long a number, whole numbers go up to {WHOLE_LIMIT}") from error
    _check(document, DEEPEST)
    return document


class _Malformed(Exception):
    """A text that a parser cannot read."""


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise _Malformed(str(error)) from error


def _toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _Malformed(str(error)) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadDocument(f"has the key {shown(key)!r} twice in an object")
            seen.add(key)
    return document


def _check(value: Any, levels: int) -> None:
    """Check a value with all that is in it, which may be nested so many levels more."""
    if isinstance(value, dict | list) and not levels:
        raise BadDocument(f"is nested too deeply, more than {DEEPEST} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_item(item, key, levels)
    elif isinstance(value, list):
        # Long lists are those of counts: their ends tell of all.
        if set(map(type, value)) == {int} and max(map(abs, (min(value), max(value)))) <= WHOLE_LIMIT:
            return
        for index, item in enumerate(value):
            _check_item(item, str(index), levels)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int | float):
        check_number(value)
    elif value is not None:
        raise BadDocument("is a date or a time, not a text in quotes")


def _check_item(item: Any, name: str, levels: int) -> None:
    try:
        _check(item, levels - 1)
    except BadDocument as error:
        raise BadDocument(error.what, (name, *error.place)) from None


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadDocument("holds half of a surrogate pair, which is no character")


def _approximately(number: int) -> str:
    """Write an int without converting all its digits, which Python refuses where they are thousands."""
    digits = int(abs(number).bit_length() * 0.30103)
    return str(number) if digits < 25 else f"{'-' if number < 0 else ''}about 10^{digits}"
