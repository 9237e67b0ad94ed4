"""Safe parsing of untrusted files, and of JSON and TOML texts, to plain data.

`parse_json` and `parse_toml` enforce the limits of this module: UTF-8, no repeated keys, no nesting beyond
`DEEPEST`, and numbers that are exact in float64 or cannot overflow. The module needs only the standard
library, so that programs without stas-neuro can have a copy; only `parse_toml` needs tomli on Python 3.10.
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
"""Largest magnitude of an integer: float64 represents all of these exactly."""
LARGEST, SMALLEST = 1e30, 1e-30
"""Range of magnitudes of other nonzero numbers: the product of ten of them is still a float64."""
DEEPEST = 32
"""Largest number of nested lists and objects; no format here needs ten."""
TOML_SIZE, TOML_DOTS = 1 << 18, 10**7
"""Largest size of a TOML text in bytes, and sum over lines of its dots squared (the parser's run time)."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class BadDocument(ValueError):
    """A problem in a text, with its place."""

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
        When it is not a regular file, is larger, or has an impossible name.
    OSError
        When it cannot be opened.
    """
    try:
        # Opening a pipe would block, and a device may never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError as error:  # a character that paths cannot have
        raise BadDocument(f"is not a valid path ({error})") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            kind = "a directory" if stat.S_ISDIR(facts.st_mode) else "a pipe or a device"
            raise BadDocument(f"is {kind}, not a regular file")
        if most is not None and facts.st_size > most:
            raise BadDocument(f"has {facts.st_size} bytes, the limit is {most}")
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def parse_json(content: bytes) -> Any:
    """Parse a JSON text to dicts, lists, strs, bools, None, ints and finite floats.

    Raises
    ------
    BadDocument
        When it is not JSON in UTF-8, an object has a key twice, or a limit is exceeded.
    """
    return _parsed(content, "JSON", _json)


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parse a TOML text to the types of `parse_json`; raises BadDocument likewise, and for dates."""
    if len(content) > TOML_SIZE:
        raise BadDocument(f"is {len(content)} bytes long, the limit for TOML is {TOML_SIZE}")
    dots = [line.count(b".") for line in content.split(b"\n")]
    if sum(number**2 for number in dots) > TOML_DOTS:
        raise BadDocument(f"has {max(dots)} dots in a line, which is too many")
    table: dict[str, Any] = _parsed(content, "TOML", _toml)
    return table


def toml_text(text: str) -> str:
    """Quote as a TOML string: JSON without ASCII escapes, except that TOML requires DEL to be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def check_number(number: float) -> None:
    """Raise BadDocument for a number that is not finite or outside the limits of this module.

    `number` is an int of any size or a float.
    """
    if isinstance(number, int):
        if not -WHOLE_LIMIT <= number <= WHOLE_LIMIT:
            raise BadDocument(f"is {_approximately(number)}, the limit for integers is {WHOLE_LIMIT}")
    elif number and not SMALLEST <= abs(number) <= LARGEST:
        raise BadDocument(f"is {number}, nonzero numbers must be between {SMALLEST} and {LARGEST}")


def parse_number(text: str) -> float:
    """Return the number that a text is in decimal notation; raises BadDocument for any other text."""
    if not _NUMBER.fullmatch(text):
        raise BadDocument(f"is {shown(text)!r}, not a number")
    number = float(text)
    check_number(number)
    return number


def shown(text: str, most: int = 80) -> str:
    """Return a text from a file shortened for an error, with unprintable characters escaped."""
    short = text if len(text) <= most else f"{text[: most - 10]}... ({len(text)} characters)"
    return short if short.isprintable() else ascii(short)[1:-1]


def reason(error: Exception) -> str:
    """Return the message of an error, shortened; without errno and file for errors of the system."""
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
    except ValueError as error:  # from int(), which refuses thousands of digits
        raise BadDocument(f"has too long a number, the limit for integers is {WHOLE_LIMIT}") from error
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
        known: set[str] = set()
        for key, _ in pairs:
            if key in known:
                raise BadDocument(f"has the key {shown(key)!r} twice in an object")
            known.add(key)
    return document


def _check(value: Any, levels: int) -> None:
    """Check a value with all nested values, of which there may be `levels` more levels."""
    if isinstance(value, dict | list) and not levels:
        raise BadDocument(f"is nested too deeply, more than {DEEPEST} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_item(item, key, levels)
    elif isinstance(value, list):
        # Long lists are lists of counts: checking their minimum and maximum is fast.
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
        raise BadDocument("has half of a surrogate pair, which is not a character")


def _approximately(number: int) -> str:
    """Return an int as text without converting all digits, which Python refuses for thousands of digits."""
    digits = int(abs(number).bit_length() * 0.30103)
    return str(number) if digits < 25 else f"{'-' if number < 0 else ''}about 10^{digits}"
