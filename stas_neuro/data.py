"""Labelled images as numpy arrays, from IDX directories, ``.npz`` files and named data sets."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.arrays import Readable, check_unpacked, read_npz, read_values
from stas_neuro.documents import BadDocument, open_file, reason
from stas_neuro.errors import InputError, unknown
from stas_neuro.kinds import refused
from stas_neuro.limits import FLOAT_LIMIT
from stas_neuro.sequences import LONG_ORDER_FRAMES, japanese_vowels, order

FASHION_MNIST_DIRECTORIES = ("/usr/share/datasets/fashion-mnist", "~/.cache/fashion-mnist")
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGITS_TRAINING = 1437  # of 1797; the rest is the test split
MOST_CLASSES = 1 << 16
"""Largest number of classes, and so of logits of a network."""
_IDX_PREFIX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    ``images``: uint8 in 0..255 or float in 0..1, shape (n, C, H, W), or (n, T, C, H, W) for event data.
    ``labels``: int64 (n,), indices into ``classes`` if these are given; or None.

    Raises
    ------
    InputError
        If labels are not one integer of at least 0 per image, a label is outside ``classes``, or a class name
        occurs more than once.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] = ()
    source: str = "the images"

    def __post_init__(self) -> None:
        if repeated := [name for name, count in Counter(self.classes).items() if count > 1]:
            raise InputError(
                f"{self.source}: classes occur more than once: {', '.join(repeated)}",
                "use a different name for each class",
            )
        if self.labels is None:
            return
        labels = np.asarray(self.labels)
        if labels.shape != (len(self.images),) or labels.dtype.kind not in "iu":
            raise InputError(
                f"{self.source}: labels are {labels.dtype} of shape {labels.shape} for {len(self.images)} "
                "images",
                remedy="use one integer per image",
            )
        remedy = "number classes from 0" + (", and name all of them" if self.classes else "")
        check_range(labels, len(self.classes) or None, self.source, remedy)
        object.__setattr__(self, "labels", labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: slice | NDArray[np.int64]) -> LabelledImages:
        """Return some of the images, in the order of ``index``."""
        labels = None if self.labels is None else self.labels[index]
        return LabelledImages(self.images[index], labels, self.classes, self.source)


def as_images(data: Any, source: str = "the images") -> LabelledImages:
    """Return images of Python as labelled images."""
    if isinstance(data, LabelledImages):
        return data
    if not isinstance(data, np.ndarray) or data.dtype.kind == "O":
        raise refused(source, data, "an array, LabelledImages, a path, or the name of a data set")
    return LabelledImages(data, None, source=source)


def load_data(data: Any, split: str = "test") -> LabelledImages:
    """Load images of a named data set, an ``.npz`` file, or a directory of IDX files.

    Parameters
    ----------
    data
        ``fashion-mnist``, ``digits``, ``order``, ``order-long``, ``japanese-vowels``, or a path. An
        ``.npz`` file has ``images`` and, optionally, ``labels`` and ``classes``.
    split
        ``train`` or ``test``; an ``.npz`` file has no split and is loaded completely.

    Raises
    ------
    InputError
        If the data are missing, malformed or empty.
    """
    if not isinstance(data, str | Path):
        return as_images(data)
    spec = str(data)
    if spec in _NAMED:
        return _NAMED[spec](split)
    path = Path(spec)
    if path.is_dir():
        return _idx_directory(path, split)
    if path.suffix == ".npz" or path.is_file():
        return _npz(path)
    raise unknown("data set or file", spec, _NAMED, "a directory of IDX files, or an .npz file")


def data_path(spec: str | None) -> Path | None:
    """Return the file or directory that `load_data` reads; None for a named data set, and for no data."""
    return None if spec is None or spec in _NAMED else Path(spec)


def normalise(images: NDArray[Any], mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the input of the model, float64: per channel ``(x - mean)/std``, after ``x/255`` for uint8."""
    x = images.astype(np.float64)
    if images.dtype == np.uint8:
        x /= 255.0
    shape = (-1, 1, 1)
    if mean:
        x -= np.asarray(mean, np.float64).reshape(shape)
    if std:
        x /= np.asarray(std, np.float64).reshape(shape)
    return x


def check_pixels(images: NDArray[Any], source: str = "images") -> None:
    """Refuse pixels that :func:`normalise` would misread.

    Raises
    ------
    InputError
        For integers other than uint8, still images outside 0..1, NaN, and infinite or too large values. The
        message names ``source``.
    """
    if images.dtype == np.uint8:
        return
    if images.dtype.kind != "f":
        raise InputError(
            f"{source}: pixels are {images.dtype}", remedy="use uint8 in 0..255, or floats in 0..1"
        )
    if not np.isfinite(images).all():
        raise InputError(f"{source}: pixels have NaN or infinite values", remedy="remove them")
    if max(-float(images.min()), float(images.max())) > FLOAT_LIMIT:
        raise InputError(f"{source}: pixels are beyond {FLOAT_LIMIT:g}", remedy="scale them to 0..1")
    if images.ndim < 5 and (images.min() < 0 or images.max() > 1):  # event frames may have any counts
        raise InputError(
            f"{source}: float pixels are in {images.min():g}..{images.max():g}",
            remedy="scale them to 0..1, or use uint8",
        )


def check_range(labels: NDArray[Any], classes: int | None, source: str, remedy: str) -> None:
    """Refuse labels outside 0..classes - 1; without ``classes``, labels outside 0..MOST_CLASSES - 1.

    Raises
    ------
    InputError
        For such labels. The message names ``source``, the first such label and its image.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= (classes or MOST_CLASSES)))
    if len(wrong):
        first, more = int(wrong[0]), len(wrong) - 1
        others = f", and so are {more} more" if more else ""
        limits = f"outside 0..{(classes or MOST_CLASSES) - 1}"
        raise InputError(f"{source}: the label of image {first} is {labels[first]}, {limits}{others}", remedy)


def _fashion_mnist(split: str) -> LabelledImages:
    places = (
        [os.environ["STAS_FASHION_MNIST"]]
        if "STAS_FASHION_MNIST" in os.environ
        else FASHION_MNIST_DIRECTORIES
    )
    for place in places:
        directory = Path(place).expanduser()
        if directory.is_dir():
            found = _idx_directory(directory, split)
            return LabelledImages(found.images, found.labels, FASHION_MNIST_CLASSES, "fashion-mnist")
    raise InputError(
        f"Fashion-MNIST is not in {' or '.join(places)}",
        remedy="install the Debian package dataset-fashion-mnist, or set STAS_FASHION_MNIST to a directory "
        "with its four IDX files",
    )


def _digits(split: str) -> LabelledImages:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the digits data come with scikit-learn, which is not installed",
            remedy="pip install scikit-learn",
        ) from error
    bunch = load_digits()
    images = (bunch.images * 15).astype(np.uint8)[:, None]  # values 0..16 to 0..240
    part = slice(None, DIGITS_TRAINING) if split == "train" else slice(DIGITS_TRAINING, None)
    classes = tuple(str(name) for name in bunch.target_names)
    return LabelledImages(images[part], bunch.target.astype(np.int64)[part], classes, "digits")


def _idx_directory(directory: Path, split: str) -> LabelledImages:
    arrays = []
    for kind, rank in (("images-idx3", 3), ("labels-idx1", 1)):
        name = f"{_IDX_PREFIX[split]}-{kind}-ubyte"
        candidates = [directory / name, directory / f"{name}.gz"]
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            raise InputError(
                f"{candidates[0]} (or .gz) not found", remedy="use a directory with all four IDX files"
            )
        arrays.append(_idx(path, rank))
    return _checked(arrays[0][:, None], arrays[1], (), str(directory))


def _idx(path: Path, rank: int) -> NDArray[np.uint8]:
    try:
        with open_file(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            packed = path.suffix == ".gz"
            stream: Readable = gzip.GzipFile(fileobj=file) if packed else file
            zero, kind, found = struct.unpack(">HBB", stream.read(4))
            if zero != 0:
                raise BadDocument("it does not begin with an IDX header")
            shape = struct.unpack(f">{found}I", stream.read(4 * found))
            if kind != 8:
                what, remedy = f"IDX element type {kind:#x} is not unsigned byte", "convert it to bytes"
                raise InputError(f"{path}: {what}", remedy)
            if found != rank:
                what, remedy = f"{found} dimensions, not {rank}", "use the file that its name stands for"
                raise InputError(f"{path}: {what}", remedy)
            wanted = math.prod(shape)
            if packed:
                check_unpacked(wanted, size)
            elif wanted != size - file.tell():
                what = f"{path}: {size - file.tell()} bytes of pixels or labels for shape {shape}"
                raise InputError(what, remedy="fetch the file again")
            values = read_values(stream, wanted)
            if stream.read(1):
                raise BadDocument(f"it continues after the {wanted} bytes of shape {shape}")
            return values.reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise InputError(
            f"{path}: not a readable IDX file ({reason(error)})", remedy="fetch the file again"
        ) from error


def _npz(path: Path) -> LabelledImages:
    if not path.is_file():
        raise InputError(f"{path} not found", remedy="use an .npz file with an array named images")
    try:
        arrays = read_npz(path, ("images", "labels", "classes"))
    except (OSError, BadDocument) as error:
        raise InputError(
            f"{path}: not a readable .npz file ({reason(error)})", remedy="write it with numpy.savez"
        ) from error
    if "images" not in arrays:
        raise InputError(f"{path}: has no array named images", remedy="name the arrays images and labels")
    images = arrays["images"]
    if images.ndim == 3:
        images = images[:, None]
    classes = _names(arrays["classes"], path) if "classes" in arrays else ()
    return _checked(images, arrays.get("labels"), classes, str(path))


def _names(array: NDArray[Any], path: Path) -> tuple[str, ...]:
    """Return class names from text, bytes in UTF-8, or integers."""
    try:
        text = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: classes are not UTF-8 ({error})", "store them as text") from error
    names = tuple(str(name) for name in text.ravel())
    if names and (text.dtype.kind not in "Uiu" or not all(names)):
        raise InputError(f"{path}: classes are {array.dtype} {names}", "use a name for every class")
    return names


def _checked(
    images: NDArray[Any], labels: NDArray[Any] | None, classes: tuple[str, ...], source: str
) -> LabelledImages:
    if images.ndim not in (4, 5):
        raise InputError(
            f"{source}: images have shape {images.shape}",
            remedy="use (n, H, W), (n, C, H, W) or, for events, (n, T, C, H, W)",
        )
    if not images.size:
        raise InputError(f"{source}: has no images", remedy="use at least one")
    check_pixels(images, source)
    if images.dtype != np.uint8:
        images = images.astype(np.float64)
    if len(classes) > MOST_CLASSES or not all(name.isprintable() for name in classes):
        what = f"{source}: classes are {len(classes)} names, or one has unprintable characters"
        raise InputError(what, remedy=f"use at most {MOST_CLASSES} names of plain text")
    return LabelledImages(images, labels, classes, source)


_NAMED: Mapping[str, Callable[[str], LabelledImages]] = {
    "fashion-mnist": _fashion_mnist,
    "digits": _digits,
    "order": lambda split: LabelledImages(*order(split), "order"),
    "order-long": lambda split: LabelledImages(*order(split, LONG_ORDER_FRAMES), "order-long"),
    "japanese-vowels": lambda split: LabelledImages(*japanese_vowels(split), "japanese-vowels"),
}
"""Loaders of the named data sets."""


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Images as a network takes them, converted slice by slice when they are asked for.

    `convert` keeps their shape.
    """

    pixels: NDArray[Any]
    convert: Callable[[NDArray[Any]], NDArray[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all images."""
        return self.pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        return self.convert(self.pixels[part])
