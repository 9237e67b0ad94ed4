"""Images in files of raw values: read at their place, or unpacked to a temporary file first."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stas_neuro.data.pixels import Array, Index, Pixels
from stas_neuro.documents import BadDocument, open_file, reason
from stas_neuro.errors import InputError

SMALL = 1 << 25
"""Bytes up to which the values of a file are read at once, which finds all that is wrong with them."""
_AGAIN = "write the file again"
_PART = 1 << 20


class Unpacking(Protocol):
    """A stream of bytes that unpacks what it reads."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` of the next bytes; none at the end."""

    def close(self) -> None:
        """End."""


class FilePixels(Pixels):
    """Images at a place of a file, as raw values in C order. The file is opened for each read."""

    def __init__(self, path: Path, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.path, self.offset, self.stored = path, offset, dtype
        self.shape, self.dtype = shape, dtype.newbyteorder("=")

    def read(self, index: Index) -> Array:
        """Read images; runs of consecutive numbers at once."""
        try:
            with open_file(self.path) as stream:
                return _read(stream.fileno(), self.offset, self.stored, self.shape, index)
        except (OSError, BadDocument) as error:
            raise InputError(f"{self.path}: {reason(error)}", _AGAIN) from error


class UnpackedPixels(Pixels):
    """Images in a compressed file, unpacked to a temporary file as far as they have been asked for.

    Parameters
    ----------
    open_stream : callable
        Opens the file where its values begin. It can be pickled: each process unpacks for itself.
    where : str
        Name of the file, for errors.
    dtype, shape
        Of the values, which are in C order.
    damage : tuple of exceptions
        What the stream raises where the file is damaged.
    """

    def __init__(
        self,
        open_stream: Callable[[], Unpacking],
        where: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        damage: tuple[type[Exception], ...],
    ) -> None:
        self.open_stream, self.where, self.stored = open_stream, where, dtype
        self.damage: tuple[type[Exception], ...] = (BadDocument, *damage)
        self.shape, self.dtype = shape, dtype.newbyteorder("=")
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._stream: Unpacking | None = None
        self._file = -1
        self._done = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def read(self, index: Index) -> Array:
        """Read images, after unpacking the file up to the last of them."""
        each = self.size // max(1, len(self)) * self.stored.itemsize
        try:
            with self._lock:
                self._unpack((int(index.max()) + 1) * each if len(index) else 0)
            return _read(self._file, 0, self.stored, self.shape, index)
        except self.damage as error:
            raise InputError(f"{self.where}: damaged ({reason(error)})", _AGAIN) from error

    def _unpack(self, wanted: int) -> None:
        """Unpack at least `wanted` bytes."""
        if self._process != os.getpid():  # a forked process shares the place in a stream with its parent
            self._done, self._process = 0, os.getpid()
            self._stream, self._file = self.open_stream(), _temporary_file(self)
            weakref.finalize(self, self._stream.close)
        whole = self.size * self.stored.itemsize
        while self._done < wanted:
            assert self._stream is not None
            part = self._stream.read(min(whole - self._done, _PART))
            if not part:
                raise BadDocument(f"ends after {self._done} of {whole} bytes")
            _write(self._file, part)
            self._done += len(part)
        if self._stream is not None and self._done == whole:
            if self._stream.read(1):  # the end also compares the check sum
                raise BadDocument(f"continues after the {whole} bytes of its shape")
            self._stream.close()
            self._stream = None


class SpooledPixels(Pixels):
    """Images that came one after another, kept in a temporary file."""

    def __init__(self, images: Iterable[Array], where: str) -> None:
        self._file = _temporary_file(self)
        count, first = 0, None
        for image in images:
            first = image if first is None else first
            if (image.shape, image.dtype) != (first.shape, first.dtype):
                what = f"{where}: image {count} is {image.dtype} of shape {image.shape}"
                raise InputError(f"{what}, the first {first.dtype} of {first.shape}", "make all images alike")
            _write(self._file, np.ascontiguousarray(image).tobytes())
            count += 1
        if first is None:
            raise InputError(f"{where}: has no images", "use at least one")
        self.shape, self.dtype = (count, *first.shape), first.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return _spooled, (self[:],)  # another process cannot have the file

    def read(self, index: Index) -> Array:
        """Read images."""
        return _read(self._file, 0, self.dtype, self.shape, index)


def _spooled(images: Array) -> SpooledPixels:
    return SpooledPixels(images, "images")


def _temporary_file(owner: object) -> int:
    """Open a file without a name, which is closed when `owner` is no longer used."""
    file, name = tempfile.mkstemp()
    os.unlink(name)
    weakref.finalize(owner, os.close, file)
    return file


def _write(file: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.write(file, content[written:])


def _read(file: int, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], index: Index) -> Array:
    """Read images from an open file, whose position is not used: several threads may read it."""
    read = np.empty((len(index), *shape[1:]), dtype)
    each = read[:1].nbytes
    for start, stop in _runs(index):
        view = read[start:stop].reshape(-1).view(np.uint8).data
        place, filled = offset + int(index[start]) * each, 0
        while filled < len(view):
            part = os.pread(file, min(len(view) - filled, _PART), place + filled)
            if not part:
                raise BadDocument("ends before its last image")
            view[filled : filled + len(part)] = part
            filled += len(part)
    return read if dtype.isnative else read.astype(dtype.newbyteorder("="))


def _runs(index: Index) -> Iterator[tuple[int, int]]:
    """Divide numbers into runs of consecutive ones: (start, stop) in ``index``."""
    cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
    yield from ((start, stop) for start, stop in itertools.pairwise(cuts) if start < stop)
