"""What JSON, TOML and files have to be before anything of them is believed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stas_neuro.documents import (
    DEEPEST,
    LARGEST,
    SMALLEST,
    TOML_SIZE,
    WHOLE_LIMIT,
    BadDocument,
    check_number,
    parse_json,
    parse_number,
    parse_toml,
)
from stas_neuro.errors import InputError
from stas_neuro.files import read_bytes

JSON = {
    "not JSON": (b'{"a": ', "is not JSON: "),
    "trailing text": (b"{} {}", "is not JSON: "),
    "byte order mark": (b"\xef\xbb\xbf{}", "is not JSON: Unexpected UTF-8 BOM"),
    "UTF-16": ("{}".encode("utf-16"), "is not UTF-8 (invalid start byte at byte 0)"),
    "NUL": (b'{"a": "\0"}', "is not JSON: "),
    "half a surrogate pair": (b'{"a": ["\\ud800"]}', "a.0: has half of a surrogate pair"),
    "key twice": (b'{"a": {"b": 1, "b": 1}}', "has the key 'b' twice in an object"),
    "deep": (b"[" * 40 + b"]" * 40, "is nested too deeply, more than 32 levels"),
    "deeper than the stack": (b'{"a":' * 10**5, "is nested too deeply"),
    "NaN": (b'{"a": {"b": [1, NaN]}}', "a.b.1: is nan, nonzero numbers must be between 1e-30 and 1e+30"),
    "infinite": (b'{"a": -1e400}', "a: is -inf, "),
    "large": (b'{"a": 1e31}', "a: is 1e+31, "),
    "small": (b'{"a": 1e-31}', "a: is 1e-31, "),
    "large integer": (
        b'{"a": [0, 9007199254740993]}',
        "a.1: is 9007199254740993, the limit for integers is ",
    ),
    "larger integer": (b'{"a": -1' + b"0" * 58 + b"}", "a: is -about 10^58, the limit for integers is "),
    "thousands of digits": (b'{"a": ' + b"9" * 5000 + b"}", "has too long a number"),
}  # fmt: skip
TOML = {
    "not TOML": (b"a", "is not TOML: "),
    "key twice": (b"a = 1\na = 2", "is not TOML: "),
    "not UTF-8": (b'a = "\xff"', "is not UTF-8"),
    "deep": (b"a = " + b"[" * 10**5, "is nested too deeply"),
    "deep table": (b"a." * 40 + b"b = 1", "is nested too deeply"),
    "long dotted key": (b"a." * 10**5 + b"b = 1", "has 100000 dots in a line"),
    "long": (b"a = 1\n" * 10**5, f"is 600000 bytes long, the limit for TOML is {TOML_SIZE}"),
    "infinite": (b"a = {b = inf}", "a.b: is inf, "),
    "hexadecimal": (b"a = 0x" + b"f" * 10**4, "a: is about 10^12041, "),
    "thousands of digits": (b"a = " + b"9" * 5000, "has too long a number"),
    "date": (b"a = 2020-01-01", "a: is a date or a time, not a text in quotes"),
}


@pytest.mark.parametrize("case", JSON)
def test_json_is_refused_in_words(case: str) -> None:
    content, message = JSON[case]
    with pytest.raises(BadDocument, match=re.escape(message)):
        parse_json(content)


@pytest.mark.parametrize("case", TOML)
def test_toml_is_refused_in_words(case: str) -> None:
    content, message = TOML[case]
    with pytest.raises(BadDocument, match=re.escape(message)):
        parse_toml(content)


def test_what_is_within_the_limits_is_taken() -> None:
    deepest = b"[" * DEEPEST + b"]" * DEEPEST
    assert str(parse_json(deepest)) == deepest.decode()
    document = {
        "a": [1, WHOLE_LIMIT, -WHOLE_LIMIT],
        "b": [0.0, -1e30, 1e-30, "\N{GRINNING FACE}", None, True],
    }
    assert (
        parse_json(str(document).replace("'", '"').replace("None", "null").replace("True", "true").encode())
        == document
    )
    assert parse_toml(b"[a.b]\nc = [1, 2.5, 'd', true]") == {"a": {"b": {"c": [1, 2.5, "d", True]}}}


@given(st.integers() | st.floats())
def test_numbers_are_those_that_machines_compute_with(number: float) -> None:
    exact = isinstance(number, int) and abs(number) <= WHOLE_LIMIT
    real = isinstance(number, float) and (number == 0 or SMALLEST <= abs(number) <= LARGEST)
    if exact or real:
        check_number(number)
        return
    with pytest.raises(BadDocument):
        check_number(number)


@pytest.mark.parametrize(
    "text", ["", " 1", "1_0", "nan", "inf", "0x10", "\u0661", "1e31", "1e-31", "1,5", "--1", "1e"]
)
def test_texts_that_are_no_numbers(text: str) -> None:
    with pytest.raises(BadDocument):
        parse_number(text)


@pytest.mark.parametrize("text", ["0", "-1.5", ".5", "5.", "+1e3", "1E-3", "007"])
def test_texts_that_are_numbers(text: str) -> None:
    assert parse_number(text) == float(text)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "long").write_bytes(bytes(100))
    for name, message in (
        ("", "is a directory, not a regular file"),
        ("pipe", "is a pipe or a device, not a regular file"),
        ("zero", "is a pipe or a device, not a regular file"),
        ("loop", "Too many levels of symbolic links"),
        ("none", "No such file or directory"),
        ("a\0b", "is not a valid path"),
        ("long", "has 100 bytes, the limit is 99"),
    ):
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            read_bytes(tmp_path / name, most=99)
        assert str(caught.value).isprintable() and str(caught.value).startswith(("'/", "/"))


def test_an_error_can_be_printed_whatever_a_file_holds() -> None:
    error = InputError(f"name is \x1b[31m\u202e\ud800 {'a' * 10**5}\nand more", "mend it")
    assert str(error).isprintable() and len(str(error)) < 1000
    assert str(error).endswith("a... (100000 characters) and more; mend it")
