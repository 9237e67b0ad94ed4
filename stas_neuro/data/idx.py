"""IDX files, in which MNIST is distributed."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from stas_neuro.arrays import Readable, check_unpacked, read_values
from stas_neuro.data.images import LabelledImages
from stas_neuro.data.labelling import labelled
from stas_neuro.data.pixels import Images
from stas_neuro.data.stored import SMALL, FilePixels, UnpackedPixels
from stas_neuro.documents import BadDocument, open_file, reason
from stas_neuro.errors import InputError

IDX_PREFIX = {"train": "train", "test": "t10k"}
_RANKS = {"images-idx3": 3, "labels-idx1": 1}
_DAMAGE = (OSError, EOFError, ValueError, struct.error, zlib.error)


def is_idx_directory(directory: Path) -> bool:
    """Tell whether a directory has one of the four files."""
    names = [f"{prefix}-{kind}-ubyte" for prefix in IDX_PREFIX.values() for kind in _RANKS]
    return any((directory / f"{name}{ending}").is_file() for name in names for ending in ("", ".gz"))


def read_idx_directory(directory: Path, split: str) -> LabelledImages:
    """Open the images and labels of a part, ``train`` or ``test``; raises InputError where one is wrong."""
    found = []
    for kind, rank in _RANKS.items():
        name = f"{IDX_PREFIX[split]}-{kind}-ubyte"
        candidates = [directory / name, directory / f"{name}.gz"]
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            raise InputError(
                f"{candidates[0]} (or .gz) not found", remedy="use a directory with all four IDX files"
            )
        found.append(_opened(path, rank))
    images, labels = found
    return labelled(images, labels[:], (), str(directory))


def _opened(path: Path, rank: int) -> Images:
    """Return the values of a file: an array if it is small, else as they are read."""
    try:
        with open_file(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            packed = path.suffix == ".gz"
            stream: Readable = gzip.GzipFile(fileobj=file) if packed else file
            zero, kind, axes = struct.unpack(">HBB", stream.read(4))
            if zero != 0:
                raise BadDocument("it does not begin with an IDX header")
            shape = struct.unpack(f">{axes}I", stream.read(4 * axes))
            if kind != 8:
                what, remedy = f"IDX element type {kind:#x} is not unsigned byte", "convert it to bytes"
                raise InputError(f"{path}: {what}", remedy)
            if axes != rank:
                what, remedy = f"{axes} dimensions, not {rank}", "use the file that its name stands for"
                raise InputError(f"{path}: {what}", remedy)
            wanted, start = math.prod(shape), 4 + 4 * axes
            if packed:
                check_unpacked(wanted, size)
            elif wanted != size - start:
                what = f"{path}: {size - start} bytes of pixels or labels for shape {shape}"
                raise InputError(what, remedy="fetch the file again")
            if wanted > SMALL:
                return _large(path, start, shape)
            values = read_values(stream, wanted)
            if stream.read(1):
                raise BadDocument(f"it continues after the {wanted} bytes of shape {shape}")
            return values.reshape(shape)
    except _DAMAGE as error:
        raise InputError(
            f"{path}: not a readable IDX file ({reason(error)})", remedy="fetch the file again"
        ) from error


def _large(path: Path, start: int, shape: tuple[int, ...]) -> Images:
    kind = np.dtype(np.uint8)
    if path.suffix != ".gz":
        return FilePixels(path, start, kind, shape)
    return UnpackedPixels(partial(_unpacking, path, start), str(path), kind, shape, _DAMAGE)


def _unpacking(path: Path, start: int) -> gzip.GzipFile:
    stream = gzip.GzipFile(path)
    stream.read(start)
    return stream
