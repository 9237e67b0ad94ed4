"""Mutations of files, by what is in them: trees of JSON and TOML, cells of CSV, archives, tensors, bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from random import Random
from typing import Any

from fuzz.files import Files, Odd

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Done = tuple[bytes, str]
"""New content, and what was done."""


def mutate(files: Files, rng: Random) -> tuple[Files, list[str]]:
    """Change one thing of an input, or a few."""
    changed, done = dict(files), []
    for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 2, 3, 5))):
        name = rng.choice(sorted(changed))
        content = changed[name]
        if not isinstance(content, bytes):
            continue
        if rng.random() < 0.01:
            changed[name] = rng.choice(list(Odd))
            done.append(f"{name}: is {changed[name].value}")
        elif rng.random() < 0.01 and len(changed) > 1:
            del changed[name]
            done.append(f"{name}: is missing")
        else:
            changed[name], what = _mutate(name, content, rng)
            done.append(f"{name}: {what}")
    return changed, done


def _mutate(name: str, content: bytes, rng: Random) -> Done:
    own = _BY_SUFFIX.get(name.rpartition("-" if name.endswith("ubyte") else ".")[2])
    if own is not None and rng.random() < 0.85:
        try:
            return own(content, rng)
        except Unreadable:  # an earlier mutation has broken its form
            pass
    return mutate_bytes(content, rng)


class Unreadable(Exception):
    """Content of another form than its name says."""


# Trees --------------------------------------------------------------------------------------------------


class Raw(str):
    """A text that stands in a document as it is, not quoted."""


WHOLE = (
    0, 0, 1, 1, 2, 3, 4, 5, 7, 16, 255, 1000, 2**14, 2**15, 2**16, 2**18, 2**20, 2**25, 10**6, 10**9,
    2_100_000_000, 2**31 - 1, 2**32, 10**12, 2**40, 2**43, 2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1,
    2**63, 2**64, 10**19, 10**58, -1, -(10**58),
)  # fmt: skip
REAL = (
    0.0, -0.0, 0.5, 1.0, 1.5, 1e-9, 1e-6, 1e9, 1e12, 1e15, 1e16, 1e30, 1.1e30, 1e-30, 1e100, 1e-100, 1e154,
    1e300, 1e308, -1e308, 5e-324, -1.5,
)  # fmt: skip
TEXTS = (
    "", " ", "x", "\0", "\n", "é", "²", "block", "block0", "block7", "block²", "block999999999", "step",
    "step1", "step0", "step9999999", "stem1", "once", "end", "../../../etc/passwd", "/dev/zero", "nan", "1",
    "a" * 10_000, "block" + "9" * 5000, "\x1b[31m", "\u202e", "%s%n", "{}", "__class__", "x\ny",
)  # fmt: skip
WILD: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], [None], {"": None}, "text", 1, 1.5, *map(Raw, (
        "NaN", "Infinity", "-Infinity", "nan", "inf", "1e999", "-1e999", "1" * 4000, "9" * 5000, "1e5", "01",
        "1_0", "", "[" * 100_000, '{"a":' * 100_000, "[" * 100 + "]" * 100, "[" * 30 + "]" * 30, '"\\ud800"',
        '"\\u0000"', "2020-01-01", '{"a": 1, "a": 1}', '"' + "a" * 10**6 + '"',
    )),
)  # fmt: skip


def mutate_tree(document: Any, rng: Random) -> tuple[Any, str]:
    """Change one place of plain data; what is in it is copied only where it changes."""
    path, value, holder = _pick(document, rng)
    way = rng.choices(("like", "wild", "elsewhere", "size", "key", "all"), (52, 8, 10, 12, 8, 10))[0]
    if way == "size" and isinstance(holder, list):
        new = _resized(holder, path[-1], rng)
        return _replaced(document, path[:-1], lambda _: new), f"{_words(path[:-1])} has {len(new)} items"
    if way in ("size", "key") and isinstance(holder, dict):
        new, done = _rekeyed(holder, path[-1], rng)
        return _replaced(document, path[:-1], lambda _: new), f"{_words(path)} {done}"
    if way == "all" and path and not isinstance(value, dict | list):
        new = _like(document, path, value, rng)
        return _everywhere(document, path[-1], new), f"every {path[-1]} is {_brief(new)}"
    if way == "elsewhere":
        new = _pick(document, rng)[1]
    else:
        new = rng.choice(WILD) if way == "wild" else _like(document, path, value, rng)
    return _replaced(document, path, lambda _: new), f"{_words(path)} is {_brief(new)}"


def _pick(document: Any, rng: Random) -> tuple[list[Any], Any, Any]:
    """Go down to a random place, mostly to a leaf; give its path, its value and what holds it."""
    path: list[Any] = []
    value, holder = document, None
    while isinstance(value, dict | list) and value and rng.random() < 0.93:
        keys: Any = sorted(value) if isinstance(value, dict) else range(len(value))
        path.append(rng.choice(keys))
        value, holder = value[path[-1]], value
    return path, value, holder


def _replaced(document: Any, path: list[Any], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(document)
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = _replaced(document[path[0]], path[1:], change)
    return copy


def _everywhere(document: Any, key: Any, new: Any) -> Any:
    """Give every key of a name, or all items of lists, the same value where they have a plain one."""
    if isinstance(document, dict):
        items = {name: _everywhere(value, key, new) for name, value in document.items()}
        old = items.get(key)
        return items | ({key: new} if key in items and not isinstance(old, dict | list) else {})
    if isinstance(document, list):
        plain = isinstance(key, int) and not any(isinstance(value, dict | list) for value in document)
        return [new if plain else _everywhere(value, key, new) for value in document]
    return document


def _like(document: Any, path: list[Any], value: Any, rng: Random) -> Any:
    """Give another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        near = (value + 1, max(0, value - 1), value * 2, value * 1000, value // 2)
        return rng.choice(WHOLE if rng.random() < 0.6 else near)
    if isinstance(value, float):
        near = (value * 2, value / 2, value * 1e6, -value, int(value) if isfinite(value) else 0)
        return rng.choice(REAL if rng.random() < 0.6 else near)
    if isinstance(value, str):
        others = [text for text in _under(document, path[-1] if path else None) if isinstance(text, str)]
        number = rng.choice((0, 1, 2, 3, 17, 10**9))
        near = (value + "x", value[:-1], value * 2, value.rstrip("0123456789") + str(number), f"{value}\0")
        return rng.choice(rng.choice((TEXTS, near, others or TEXTS)))
    return rng.choice(([], {}, None, value))


def _under(document: Any, key: Any) -> list[Any]:
    """Find the values that stand under a key, or in lists at a place of any number."""
    found = []
    pending = [document]
    while pending:
        value = pending.pop()
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            if isinstance(item, dict | list):
                pending.append(item)
            elif name == key or isinstance(key, int):
                found.append(item)
    return found


def _resized(items: list[Any], at: int, rng: Random) -> list[Any]:
    times = rng.choice((2, 2, 3, 100))
    ways = (
        lambda: items[:at],
        lambda: items[:at] + items[at + 1 :],
        lambda: items * times,
        lambda: items[:at] + [items[at]] * times + items[at + 1 :],
        lambda: rng.sample(items, len(items)),
        lambda: [],
    )
    return rng.choice(ways)()


def _rekeyed(holder: dict[str, Any], key: str, rng: Random) -> tuple[dict[str, Any], str]:
    rest = {name: value for name, value in holder.items() if name != key}
    way = rng.choice(("is gone", "is gone", "is there twice", "is renamed"))
    if way == "is gone":
        return rest, way
    if way == "is there twice":
        text = f"{_to_json(holder[key])}, {json.dumps(key)}: {_to_json(holder[key])}"
        return holder | {key: Raw(text)}, way
    name = rng.choice((rng.choice(TEXTS), key + "x", key[:-1], key.upper(), rng.choice(sorted(holder))))
    return rest | {name: holder[key]}, f"{way} {_brief(name)}"


def _words(path: list[Any]) -> str:
    return ".".join(map(str, path)) or "the whole"


def _brief(value: Any) -> str:
    text = repr(value) if not isinstance(value, Raw) else str(value)
    return text if len(text) < 80 else f"{text[:70]}... ({len(text)} characters)"


def mutate_json(content: bytes, rng: Random) -> Done:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable from error
    changed, done = mutate_tree(document, rng)
    return _to_json(changed).encode("utf-8", "surrogatepass"), done


def _to_json(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_to_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_to_json, value)) + "]"
    return json.dumps(value, default=str)  # of dates, which TOML has


def mutate_toml(content: bytes, rng: Random) -> Done:
    try:
        document = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise Unreadable from error
    changed, done = mutate_tree(document, rng)
    return to_toml(changed), done


def to_toml(document: Any) -> bytes:
    """Write plain data as TOML, a line for each key of the whole."""
    text = _to_toml(document)
    if isinstance(document, dict):
        text = "\n".join(f"{json.dumps(key)} = {_to_toml(value)}" for key, value in document.items())
    return text.encode("utf-8", "surrogatepass")


def _to_toml(value: Any) -> str:
    if isinstance(value, dict) and not isinstance(value, Raw):
        return "{" + ", ".join(f"{json.dumps(key)} = {_to_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_to_toml, value)) + "]"
    return "null" if value is None else _to_json(value)


# Tables -------------------------------------------------------------------------------------------------


CELLS = (
    "", " ", "x", "-1", "0", "1e30", "1e-30", "1e308", "1e-320", "9" * 400, "nan", "inf", "-0", "1,5", "0x10",
    "1_0", "\u0661", '"', "\0", "1e16", "5e15", " 3 ", "1e9", "=1+1", "a" * 200_000,
)  # fmt: skip


def mutate_csv(content: bytes, rng: Random) -> Done:
    try:
        rows = list(csv.reader(io.StringIO(content.decode())))
    except (ValueError, csv.Error) as error:
        raise Unreadable from error
    if not rows or not rows[0]:
        raise Unreadable
    row = rng.randrange(len(rows))
    column = rng.randrange(len(rows[0]))
    cells = len(rows[row])
    what = rng.choice(
        ("cell", "cell", "cell", "row gone", "row twice", "column", "column gone", "swap", "scale")
    )
    if what == "cell" and cells:
        rows[row][column % cells] = rng.choice(CELLS)
    elif what == "row gone":
        del rows[row:]
    elif what == "row twice":
        rows[row:row] = [list(rows[row])] * rng.choice((1, 2, 1000))
    elif what == "column":
        value = rng.choice(CELLS)
        rows[1:] = [[*r[:column], value, *r[column + 1 :]] for r in rows[1:]]
    elif what == "column gone":
        rows = [[*r[:column], *r[column + 1 :]] for r in rows]
    elif what == "swap":
        rng.shuffle(rows[0])
    elif what == "scale":
        factor = rng.choice((1e-20, 1e-9, 1e9, 1e20))
        rows[1:] = [
            [*r[:column], _scaled(r[column : column + 1], factor), *r[column + 1 :]] for r in rows[1:]
        ]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass"), f"{what} at row {row}, column {column}"


def _scaled(cell: list[str], factor: float) -> str:
    try:
        return str(float(cell[0]) * factor)
    except (ValueError, IndexError):
        return "".join(cell)


# Tensors ------------------------------------------------------------------------------------------------

DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "U64", "F8_E4M3", "C64", "x")


def mutate_safetensors(content: bytes, rng: Random) -> Done:
    try:
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        data = content[8 + size :]
        names = sorted(name for name, entry in header.items() if "data_offsets" in entry)
        name = rng.choice(names)
        begin, end = header[name]["data_offsets"]
    except (ValueError, TypeError, LookupError, struct.error, AttributeError, RecursionError) as error:
        raise Unreadable from error
    what = rng.choice(("tree", "value", "value", "length", "dtype", "shape", "data", "overlap"))
    done = f"{name}: {what}"
    if what == "tree":
        header, done = mutate_tree(header, rng)
    elif what == "value" and end - begin >= 8:
        width = rng.choice((2, 4, 8))
        at = begin + rng.randrange((end - begin) // width) * width
        form, number = {
            2: ("<e", rng.choice((float("nan"), float("inf"), 65504.0, -65504.0, 6e-8))),
            4: ("<f", rng.choice((float("nan"), float("inf"), 3e38, -3e38, 1e-45, 1e30))),
            8: ("<d", rng.choice((float("nan"), float("-inf"), 1e308, -1e308, 5e-324, 1e30, 1e-30, 1e18))),
        }[width]
        data = data[:at] + struct.pack(form, number) + data[at + width :]
        done = f"{name}: byte {at - begin} is {number} of {width} bytes"
    elif what == "dtype":
        header[name]["dtype"] = rng.choice(DTYPES)
    elif what == "shape":
        shape = list(header[name].get("shape", []))
        header[name]["shape"] = rng.choice(
            (shape[::-1], [*shape, 1], shape[:-1], [0, *shape], [2**32, 2**32], [*shape, -1], [1, *shape])
        )
    elif what == "data":
        data = (
            data[: rng.randrange(len(data) + 1)] if rng.random() < 0.5 else data + bytes(rng.randrange(1, 99))
        )
    elif what == "overlap":
        header[name]["data_offsets"] = list(header[rng.choice(names)]["data_offsets"])
    text = _to_json(header).encode("utf-8", "surrogatepass")
    lie = (
        rng.choice((0, 2**63, 2**32, len(text) + 1, len(text) - 1, 10**8)) if what == "length" else len(text)
    )
    return struct.pack("<Q", lie) + text + data, done


# Archives -----------------------------------------------------------------------------------------------


def mutate_zip(content: bytes, rng: Random) -> Done:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception as error:  # whatever zipfile makes of a damaged one
        raise Unreadable from error
    if not members:
        raise Unreadable
    at = rng.randrange(len(members))
    name, inside = members[at]
    what = rng.choice(
        ("content", "content", "content", "gone", "twice", "rename", "bomb", "link", "encrypted")
    )
    flags = 0
    done = f"{name} {what}"
    if what == "content":
        suffix = name if "." in name else f"{name}.npy"
        members[at] = name, (_mutated := _mutate(suffix, inside, rng))[0]
        done = f"{name}: {_mutated[1]}"
    elif what == "gone":
        del members[at]
    elif what == "twice":
        members.append((name, rng.choice(members)[1]))
    elif what == "rename":
        members[at] = (
            rng.choice(("../../x", "/tmp/x", "", "a" * 300, name.upper(), rng.choice(members)[0])),
            inside,
        )
    elif what == "bomb":
        members[at] = name, inside + bytes(rng.choice((1 << 16, 1 << 20, 1 << 22)))
    elif what == "encrypted":
        flags = 1
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for index, (member, data) in enumerate(members):
            info = zipfile.ZipInfo(member or "x")
            info.compress_type = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))
            if what == "bomb":
                info.compress_type = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            info.external_attr = (0o120777 if what == "link" and index == at else 0o644) << 16
            _write_member(archive, info, data)
        if flags:
            archive.infolist()[at].flag_bits |= flags
    return stream.getvalue(), done


def _write_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members of one name
        archive.writestr(info, data)


NPY_HEADERS: Mapping[str, Sequence[str]] = {
    "descr": (
        "'<f8'", "'<f4'", "'|u1'", "'<i8'", "'|O'", "'<U9'", "'|S0'", "'|V8'", "'<c16'", "'>f8'", "'<M8[s]'",
        "[('a', '<f8')]", "'|b1'", "'<f2'", "1", "'x'",
    ),
    "shape": (
        "()", "(0,)", "(-1,)", "(10**9,)", "(1000000000, 1000)", "(9999999999999999999999,)", "(1, 2, 3)",
        "(2.0,)", "None", "(4294967296, 4294967296)", "(" * 200, "(True,)",
    ),
    "fortran_order": ("True", "1", "__import__('os').getpid()"),
}  # fmt: skip


def mutate_npy(content: bytes, rng: Random) -> Done:
    """Change the header of an array, or its values."""
    if content[:6] != b"\x93NUMPY":
        raise Unreadable
    size = struct.unpack("<H", content[8:10])[0]
    header, data = content[10 : 10 + size].decode("latin1"), content[10 + size :]
    if rng.random() < 0.3 and len(data) >= 8:
        at = rng.randrange(len(data) // 8) * 8
        value = struct.pack("<d", rng.choice((float("nan"), float("inf"), 1e308, -1.0, 1e-320)))
        return content[: 10 + size + at] + value + data[at + 8 :], f"value at {at}"
    key = rng.choice(sorted(NPY_HEADERS))
    before, found, after = header.partition(f"'{key}': ")
    rest = after.partition(
        ", 'fortran" if key == "descr" else ", 'shape" if key == "fortran_order" else ", }"
    )
    new = rng.choice(NPY_HEADERS[key])
    text = f"{before}{found}{new}{rest[1]}{rest[2]}".rstrip() + "\n"
    lie = rng.choice((0, 65535, len(text) - 1)) if rng.random() < 0.1 else len(text)
    return content[:8] + struct.pack("<H", lie) + text.encode("latin1") + data, f"{key} becomes {new}"


def mutate_idx(content: bytes, rng: Random) -> Done:
    """Change the header of an array of bytes as MNIST has them, or what follows it."""
    if len(content) < 8:
        raise Unreadable
    rank = (len(content[4:]) // 4 and content[3]) % 8
    if rng.random() < 0.5:
        at, width = rng.choice((0, 2, 3)), 1
        number = rng.choice((0, 1, 2, 3, 4, 8, 9, 11, 13, 14, 255))
    else:
        at, width = 4 + 4 * rng.randrange(max(rank, 1)), 4
        number = rng.choice((0, 1, 2, 5, 255, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1))
    new = number.to_bytes(width, "big")
    return content[:at] + new + content[at + width :], f"byte {at} is {number} of {width} bytes"


def mutate_gzip(content: bytes, rng: Random) -> Done:
    """Change what is compressed."""
    try:
        inside = gzip.decompress(content)
    except Exception as error:  # whatever gzip makes of a damaged one
        raise Unreadable from error
    new, done = mutate_idx(inside, rng) if rng.random() < 0.7 else mutate_bytes(inside, rng)
    if rng.random() < 0.1:
        new, done = new + bytes(1 << 22), "followed by 4 MiB of zeros"
    return gzip.compress(new, 1) * rng.choice((1, 1, 1, 2)), f"inside: {done}"


# Bytes --------------------------------------------------------------------------------------------------


def mutate_bytes(content: bytes, rng: Random) -> Done:
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice((1, 1, 2, 4, 8, 100)))
    number = struct.pack("<q", rng.choice((0, 1, -1, 2**31 - 1, 2**31, 2**62, 255)))[: rng.choice((2, 4, 8))]
    junk = bytes(rng.randrange(256) for _ in range(rng.choice((1, 3, 50))))
    before, part, after = content[:start], content[start:end], content[end:]
    new, what = rng.choice(
        (
            (before + bytes(byte ^ (1 << rng.randrange(8)) for byte in part) + after, "flipped"),
            (before, "cut off"),
            (before + after, "left out"),
            (before + part * 2 + after, "doubled"),
            (before + junk + part + after, "junk put in"),
            (before + number + content[start + len(number) :], f"overwritten by {number.hex()}"),
            (b"\xef\xbb\xbf" + content, "byte order mark put in front"),
            (content.decode("latin1").encode("utf-16"), "as UTF-16"),
            (b"", "all left out"),
            (content.replace(b"\n", b"\r\n"), "other line ends"),
            (content * 3, "all of it three times"),
        )
    )
    return new, f"bytes {start} to {end} {what}"


_BY_SUFFIX: dict[str, Callable[[bytes, Random], Done]] = {
    "json": mutate_json,
    "toml": mutate_toml,
    "csv": mutate_csv,
    "safetensors": mutate_safetensors,
    "zip": mutate_zip,
    "npz": mutate_zip,
    "npy": mutate_npy,
    "ubyte": mutate_idx,
    "gz": mutate_gzip,
}
