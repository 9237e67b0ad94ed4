"""Recordings of event cameras, binned to frames."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.arrays import read_npz
from stas_neuro.data.aedat4 import read_aedat4
from stas_neuro.data.pixels import Array, Index, Pixels
from stas_neuro.documents import BadDocument, open_file, reason
from stas_neuro.errors import InputError, StasError
from stas_neuro.extras import needs
from stas_neuro.limits import STEPS_LIMIT, VALUES_LIMIT

VALUES = ("binary", "counts")
"""What a pixel of a frame is: 255 where there was an event, or the number of events, at most 255."""


@dataclass(frozen=True)
class Events:
    """Events of a recording, in any order.

    ``x``, ``y``, ``t``, ``p``: integers (n,), column, row, time and polarity (0 or not) of each. ``size``:
    width and height of the sensor; None where the file does not have them.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    t: NDArray[Any]
    p: NDArray[Any]
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Binning:
    """How events become frames.

    Parameters
    ----------
    bins : int
        Number of frames, of equal duration from the first event to the last.
    size : (width, height), optional
        Of the sensor; by default that of the first recording.
    values : str
        One of `VALUES`.
    """

    bins: int = 10
    size: tuple[int, int] | None = None
    values: str = "binary"

    def frames(self, events: Events, size: tuple[int, int], name: str) -> Array:
        """Return frames uint8 (bins, 2, height, width): channel 0 of polarity 0, channel 1 of the other.

        Raises InputError for an event outside the sensor, and for times too far apart to be computed in
        int64. The message names ``name``.
        """
        width, height = size
        shape = (self.bins, 2, height, width)
        if not len(events.t):
            return np.zeros(shape, np.uint8)
        (left, right), (top, bottom), (first, last) = map(_range, (events.x, events.y, events.t))
        if min(left, top) < 0 or right >= width or bottom >= height:
            what = f"{name}: has events at columns {left}..{right} and rows {top}..{bottom}"
            remedy = f"name the size of the sensor, as in DATA:size={right + 1}x{bottom + 1}"
            raise InputError(f"{what}, but the sensor has {width} x {height} pixels", remedy)
        latest = np.iinfo(np.int64).max // (2 * self.bins)
        if max(-first, last) > latest:
            what = f"{name}: has events at times {first}..{last}"
            raise InputError(what, f"with bins={self.bins} use times in -{latest}..{latest}")
        x, y, t = (each.astype(np.int64) for each in (events.x, events.y, events.t))
        number = (t - first) * self.bins // (last - first + 1)
        place = ((number * 2 + (events.p != 0)) * height + y) * width + x
        counts = np.bincount(place, minlength=int(np.prod(shape)))
        pixels = np.minimum(counts, 255) if self.values == "counts" else np.where(counts > 0, 255, 0)
        return pixels.astype(np.uint8).reshape(shape)


def _range(values: NDArray[Any]) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def parse_binning(text: str) -> Binning:
    """Read ``bins=10,size=34x34,values=counts``, each part optional; raises InputError for any other text."""
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name == "bins" and value.isdecimal() and 1 <= int(value) <= STEPS_LIMIT:
            given[name] = int(value)
        elif name == "size" and _size(value) is not None:
            given[name] = _size(value)
        elif name == "values" and value in VALUES:
            given[name] = value
        else:
            raise InputError(
                f"there is no way '{part}' to bin events",
                f"use bins=1 to {STEPS_LIMIT}, size=WIDTHxHEIGHT, or values={' or '.join(VALUES)}",
            )
    return Binning(**given)


def _size(text: str) -> tuple[int, int] | None:
    sides = [int(side) if side.isdecimal() and len(side) < 6 else 0 for side in text.split("x")]
    return (sides[0], sides[1]) if len(sides) == 2 and min(sides) > 0 else None


class EventFiles(Pixels):
    """Frames of recordings in files, binned when they are read.

    The sensor has the size that is asked for, or else that of the first recording.
    """

    def __init__(self, paths: tuple[Path, ...], binning: Binning) -> None:
        self.paths, self.binning = paths, binning
        size = binning.size or read_events(paths[0]).size
        if size is None:
            what = f"{paths[0]}: does not say how many pixels the sensor has"
            raise InputError(what, "name its size, as in DATA:size=346x260")
        self.sensor = size
        self.shape, self.dtype = (len(paths), binning.bins, 2, size[1], size[0]), np.dtype(np.uint8)
        if np.prod(self.shape[1:], dtype=object) > VALUES_LIMIT:
            raise InputError(f"{paths[0]}: frames have shape {self.shape[1:]}", "use fewer bins")

    def read(self, index: Index) -> Array:
        """Bin recordings."""
        frames = np.empty((len(index), *self.shape[1:]), np.uint8)
        for place, number in enumerate(index.tolist()):
            path = self.paths[number]
            frames[place] = self.binning.frames(read_events(path), self.sensor, str(path))
        return frames


def read_events(path: Path) -> Events:
    """Read a recording by the ending of its name, see `READERS`; raises InputError where that fails."""
    try:
        open_file(path).close()
        return READERS[path.suffix.lower()](path)
    except (StasError, MemoryError):
        raise
    except Exception as error:  # the readers of libraries raise anything for a damaged file
        what = f"{path}: not a readable recording ({reason(error)})"
        raise InputError(what, "record or convert it again, or remove it") from error


@cache
def _tonic_io() -> ModuleType:
    """Import tonic's module of readers alone: the whole of tonic takes seconds."""
    with needs("events"):
        package = importlib.util.find_spec("tonic")
        if package is None or not package.submodule_search_locations:
            raise ImportError("No module named 'tonic'")
        source = Path(package.submodule_search_locations[0]) / "io.py"
        spec = importlib.util.spec_from_file_location("stas_neuro_tonic_io", source)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def _of(events: NDArray[Any], size: tuple[int, int] | None) -> Events:
    return Events(events["x"], events["y"], events["t"], events["p"], size)


_FIELDS = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])


def _nmnist(path: Path) -> Events:
    """Read a .bin file of N-MNIST, whose sensor has 34 x 34 pixels, or of N-Caltech101."""
    if path.stat().st_size % 5:
        raise BadDocument("its size is not a multiple of the 5 bytes of an event")
    return _of(_tonic_io().read_mnist_file(str(path), dtype=_FIELDS), (34, 34))


def _aedat(path: Path) -> Events:
    """Read AEDAT 2.0 of a DVS128 or a DAVIS346, or AEDAT 3.1."""
    reader = _tonic_io()
    with open_file(path) as stream:
        head = stream.read(1 << 12)
    if not head.startswith(b"#!AER-DAT"):
        raise BadDocument("it does not begin with #!AER-DAT")
    if head[9:10] == b"4":
        return _aedat4(path)
    davis = b"DAVIS" in head.upper()
    if davis and head[9:10] == b"2":
        size, _, events = reader.read_davis_346(str(path))
        return _of(events, size)
    version, start, _ = reader.read_aedat_header_from_file(str(path))
    try:
        events = reader.get_aer_events_from_file(str(path), version, start)
    except MemoryError as error:  # it allocates what the header of a packet claims
        raise BadDocument("a packet claims more events than fit into memory") from error
    address, t = events["address"].astype(np.int64), events["timeStamp"].astype(np.int64)
    if version < 3:  # of a DVS128: tonic's own decoding of these two expects a header of older versions
        return Events((address >> 8) & 0x7F, (address >> 1) & 0x7F, t, address & 1, (128, 128))
    size = (346, 260) if davis else (128, 128)
    return Events((address >> 17) & 0x7FFF, (address >> 2) & 0x7FFF, t, (address >> 1) & 1, size)


def _aedat4(path: Path) -> Events:
    """Read AEDAT 4, of one camera."""
    events, size = read_aedat4(path)
    # Times since 1970 in microseconds fit int64, which binning computes in.
    return Events(events["x"], events["y"], events["t"].astype(np.int64), events["on"], size)


def _prophesee(path: Path) -> Events:
    """Read a .dat file of Prophesee: lines of text, kind and size of an event, and events of 8 bytes."""
    size: dict[str, int] = {}
    with open_file(path) as stream:
        while (place := stream.tell()) < 1 << 16 and (line := stream.readline(1 << 10)).startswith(b"%"):
            words = line[1:].split()
            if len(words) == 2 and words[1].isdigit() and len(words[1]) < 6:
                size[words[0].decode("latin1").lower()] = int(words[1])
        stream.seek(place)
        kind, each = struct.unpack("BB", stream.read(2))
        if each != 8:
            raise BadDocument(f"its events of kind {kind} have {each} bytes, not 8")
        content = stream.read()
    if len(content) % 8:
        raise BadDocument("it ends within an event")
    t, word = np.frombuffer(content, "<u4").reshape(-1, 2).T
    known = ("width" in size, "height" in size) == (True, True)
    sensor = (size["width"], size["height"]) if known else None
    return Events(word & 0x3FFF, (word >> 14) & 0x3FFF, t, word >> 28, sensor)


def _arrays(path: Path) -> Events:
    """Read an .npz file with arrays x, y, t and p."""
    arrays = read_npz(path, ("x", "y", "t", "p"))
    if absent := [name for name in ("x", "y", "t", "p") if name not in arrays]:
        what = f"{path}: is no event recording: it has no array {absent[0]}"
        raise InputError(what, "name its arrays x, y, t and p, or give the file itself if it has images")
    columns = [arrays[name] for name in ("x", "y", "t", "p")]
    if any(column.ndim != 1 or column.dtype.kind not in "biuf" for column in columns):
        raise BadDocument("x, y, t and p are not numbers, one for each event")
    if len({len(column) for column in columns}) > 1:
        raise BadDocument("x, y, t and p have different lengths")
    x, y, t, p = (_whole(column, f"{path}: {name}") for name, column in zip("xytp", columns, strict=True))
    return Events(x, y, t, p)


def _whole(values: NDArray[Any], what: str) -> NDArray[Any]:
    """Return whole numbers in floats as integers; raises InputError about ``what`` for other numbers."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(invalid="ignore"):  # of NaN and infinite values, which differ from what they become
        whole = values.astype(np.int64)
    if len(wrong := np.flatnonzero(whole != values)):
        remedy = "store whole numbers, such as times in microseconds"
        raise InputError(f"{what} of event {wrong[0]} is {values[wrong[0]]:g}, no whole number", remedy)
    return whole


READERS: Mapping[str, Callable[[Path], Events]] = {
    ".bin": _nmnist,
    ".aedat": _aedat,
    ".aedat4": _aedat4,
    ".dat": _prophesee,
    ".npz": _arrays,
}
"""Readers of recordings, by the ending of a file's name."""
