"""Safe reading of arrays from .npz and .npy files. Needs only numpy and the standard library.

numpy's own reader trusts a file: the size of an array, its compression, and the Python expression in its
header. This reader accepts a single form of header, requires that sizes match the data, and limits the
unpacked size, before it allocates memory.
"""

from __future__ import annotations

import math
import re
import struct
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stas_neuro.documents import BadDocument, open_file, reason, shown

Array = npt.NDArray[Any]

UNPACKED, RATIO, DEFLATED = 1 << 28, 100, 1032
"""Limit of the unpacked size: bytes, or a multiple of the file size if larger; largest ratio of zlib."""
HEADER_LIMIT, MOST_AXES = 4096, 32
_MAGIC = b"\x93NUMPY"
_VALUE = r"""(?:'[^']*'|"[^"]*"|True|False|\([0-9L, ]*\))"""
_FIELD = rf"""['"](\w+)['"]\s*:\s*({_VALUE})"""
_HEADER = re.compile(rf"\{{\s*(?:{_FIELD}\s*(?:,\s*|(?=\}})))*\}}\s*", re.ASCII)
_DESCR = re.compile(r"""['"]([<>=|]?[biufcUS])([1-9][0-9]{0,7})['"]""", re.ASCII)
_AXIS = re.compile(r"([0-9]{1,18})L?", re.ASCII)
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OverflowError, ValueError, OSError,
)  # fmt: skip
"""Exceptions that zipfile raises for a damaged archive."""


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` of the next bytes; none at the end."""


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Read arrays of an .npz file: those of `names` that it has, or else all.

    Arrays are of bools, numbers or strings, and are returned in native byte order. Nothing is unpickled.

    Raises
    ------
    BadDocument
        When the file or an array is damaged or of another kind, a size does not match the data, or, without
        `names`, the file has members other than arrays.
    OSError
        When the file cannot be opened.
    """
    with open_file(path) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        try:
            with zipfile.ZipFile(stream) as archive:
                members = _members(archive, names)
                check_unpacked(sum(info.file_size for info in members.values()), size)
                return {name: _array(archive, name, info) for name, info in members.items()}
        except BadDocument:
            raise
        except ZIP_DAMAGE as error:
            raise BadDocument(f"damaged ({reason(error)})") from error


@dataclass(frozen=True)
class Place:
    """Where the values of an array are in a file.

    Parameters
    ----------
    dtype, shape
        Of the array, which is in C order.
    offset : int
        Bytes before the values: in the file, or in the member that has to be unpacked.
    member : str
        Name of the compressed member of an .npz file; empty where the values are in the file as they are.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    member: str = ""


def npz_sizes(path: Path) -> Mapping[str, int]:
    """Return the unpacked size in bytes of each array of an .npz file, with its header.

    Raises what `read_npz` raises; members that are no arrays are left out.
    """
    with open_file(path) as stream:
        size = stream.seek(0, 2)
        try:
            with zipfile.ZipFile(stream) as archive:
                names = {info.filename.removesuffix(".npy") for info in archive.infolist()}
                members = _members(archive, names)
        except ZIP_DAMAGE as error:
            raise BadDocument(f"damaged ({reason(error)})") from error
    check_unpacked(sum(info.file_size for info in members.values()), size)
    return {name: info.file_size for name, info in members.items()}


def npz_place(path: Path, name: str) -> Place | None:
    """Return the place of an array of an .npz file; None if it is in Fortran order.

    Raises what `read_npz` raises.
    """
    with open_file(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                info = _members(archive, {name})[name]
                with archive.open(info) as member:
                    place = _placed(member, info.file_size)
                if place is None or info.compress_type != zipfile.ZIP_STORED:
                    return place and Place(place.dtype, place.shape, place.offset, info.filename)
                stream.seek(info.header_offset)
                fixed = stream.read(
                    30
                )  # a local header ends with the lengths of a name and of an extra field
                skipped = 30 + sum(struct.unpack("<HH", fixed[26:]))
                return Place(place.dtype, place.shape, info.header_offset + skipped + place.offset)
        except BadDocument as error:
            raise BadDocument(error.what, (repr(shown(name)), *error.place)) from error
        except ZIP_DAMAGE as error:
            raise BadDocument(f"damaged ({reason(error)})") from error


def npy_place(path: Path) -> Place | None:
    """Return the place of the array of an .npy file; None if it is in Fortran order.

    Raises BadDocument where the file is no array of bools, numbers or text, or its size is another; OSError
    where it cannot be opened.
    """
    with open_file(path) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        return _placed(stream, size)


def read_npy(path: Path) -> Array:
    """Read the array of an .npy file as `read_npz` reads others; raises what `npy_place` does."""
    with open_file(path) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        return _read(stream, size)


def _placed(stream: Readable, size: int) -> Place | None:
    """Return the place of an array in a stream of `size` bytes; None if it is in Fortran order."""
    header, start = _header(stream)
    dtype, fortran_order, shape = _described(header)
    _check_size(dtype, shape, size - start)
    return None if fortran_order else Place(dtype, shape, start)


def check_unpacked(unpacked: int, size: int) -> None:
    """Raise BadDocument where a file of `size` bytes cannot, or must not, unpack to `unpacked` bytes."""
    most = min(DEFLATED * size, max(UNPACKED, RATIO * size))
    if unpacked > most:
        raise BadDocument(f"unpacks to {unpacked} bytes, the limit for a file of {size} bytes is {most}")


def read_values(stream: Readable, count: int) -> npt.NDArray[np.uint8]:
    """Read `count` bytes; raises BadDocument where there are fewer."""
    values = np.empty(count, np.uint8)
    filled = 0
    while filled < count:
        part = stream.read(min(count - filled, 1 << 20))
        if not part:
            raise BadDocument(f"ends after {filled} of {count} bytes")
        values[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
        filled += len(part)
    return values


def _members(archive: zipfile.ZipFile, names: Collection[str] | None) -> dict[str, zipfile.ZipInfo]:
    found = Counter(info.filename for info in archive.infolist())
    members = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if names is not None and (name == info.filename or name not in names):
            continue
        if name == info.filename:
            raise BadDocument(f"has {shown(name)!r}, which is not an array (.npy)")
        if found[info.filename] > 1:
            raise BadDocument(f"has {shown(name)!r} {found[info.filename]} times")
        if info.compress_type not in _COMPRESSIONS or info.flag_bits & 1:
            raise BadDocument(f"{shown(name)!r} is encrypted, or compressed unlike numpy's files")
        members[name] = info
    return members


def _array(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Array:
    with archive.open(info) as stream:
        try:
            return _read(stream, info.file_size)
        except BadDocument as error:
            raise BadDocument(error.what, (repr(shown(name)), *error.place)) from error


def _read(stream: Readable, size: int) -> Array:
    """Read an array from a stream of `size` bytes."""
    header, start = _header(stream)
    dtype, fortran_order, shape = _described(header)
    wanted = _check_size(dtype, shape, size - start)
    content = read_values(stream, wanted)
    array: Array = content.view(dtype) if wanted else np.empty(0, dtype)
    # Larger values are invalid for these dtypes, and not handled by numpy or Python.
    codes, last = {"U": (np.uint32, sys.maxunicode), "b": (np.uint8, 1)}.get(dtype.kind, (np.uint8, 255))
    if wanted and content.view(np.dtype(codes).newbyteorder(dtype.byteorder)).max() > last:
        raise BadDocument(f"has values that are invalid for {dtype}")
    array = array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _check_size(dtype: np.dtype[Any], shape: tuple[int, ...], size: int) -> int:
    """Return the bytes of an array; raises BadDocument where there are others."""
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != size:
        raise BadDocument(f"has shape {shown(str(shape))} of {dtype}, and {size} bytes of data")
    return wanted


def _header(stream: Readable) -> tuple[str, int]:
    """Return the header text of an array, and the offset of its data."""
    start = stream.read(len(_MAGIC) + 2)
    if start[: len(_MAGIC)] != _MAGIC or start[len(_MAGIC) :] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise BadDocument("is not a numpy array")
    width = 2 if start[len(_MAGIC)] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > HEADER_LIMIT:
        raise BadDocument(f"has a header of {length} bytes, the limit is {HEADER_LIMIT}")
    text = stream.read(length)
    if len(text) < length:
        raise BadDocument("ends within its header")
    return text.decode("latin1"), len(start) + width + length


def _described(header: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Return the dtype of an array, whether it is in Fortran order, and its shape."""
    fields = re.findall(_FIELD, header, re.ASCII) if _HEADER.fullmatch(header) else []
    if sorted(key for key, _ in fields) != ["descr", "fortran_order", "shape"]:
        raise BadDocument("has a header that is not that of a plain array")
    by_key = dict(fields)
    descr = _DESCR.fullmatch(by_key["descr"])
    if descr is None:
        raise BadDocument(f"has dtype {shown(by_key['descr'])!r}, which is not bool, a number or text")
    try:
        dtype = np.dtype(descr[1] + descr[2])
    except (TypeError, ValueError) as error:
        raise BadDocument(f"has dtype {by_key['descr']}, which numpy does not support") from error
    axes = [_AXIS.fullmatch(axis.strip()) for axis in by_key["shape"][1:-1].split(",") if axis.strip()]
    if by_key["shape"][0] != "(" or None in axes or len(axes) > MOST_AXES:
        raise BadDocument(f"has shape {shown(by_key['shape'])!r}, which is not valid")
    if by_key["fortran_order"] not in ("True", "False"):
        raise BadDocument(f"has fortran_order {shown(by_key['fortran_order'])!r}")
    return dtype, by_key["fortran_order"] == "True", tuple(int(axis[1]) for axis in axes if axis)
