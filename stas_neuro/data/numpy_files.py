"""Images in files of numpy: .npz, and .npy beside each other."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from stas_neuro.arrays import ZIP_DAMAGE, Place, npy_place, npz_place, npz_sizes, read_npy, read_npz
from stas_neuro.data.images import LabelledImages
from stas_neuro.data.labelling import class_names, labelled
from stas_neuro.data.naming import labels_beside, name_arrays
from stas_neuro.data.pixels import Images
from stas_neuro.data.stored import SMALL, FilePixels, UnpackedPixels, Unpacking
from stas_neuro.documents import BadDocument, reason
from stas_neuro.errors import InputError

_T = TypeVar("_T")


def read_numpy_file(path: Path, split: str) -> LabelledImages:
    """Open the images of an .npy file, or of a part of a file that is taken for an .npz file."""
    return read_npy_file(path) if path.suffix == ".npy" else read_npz_file(path, split)


def read_npz_file(path: Path, split: str) -> LabelledImages:
    """Open the images of a part of an .npz file, or of all of it if its names have no parts.

    Raises InputError where it is damaged, or has no such images.
    """
    if not path.is_file():
        raise InputError(f"{path} not found", remedy="use an .npz file with an array named images")
    try:
        sizes = npz_sizes(path)
        names = name_arrays(sizes, split, str(path))
        small = [each for each in (names.labels, names.classes) if each is not None]
        large = sizes[names.images] > SMALL
        arrays = read_npz(path, small if large else [*small, names.images])
        images = _npz_images(path, names.images) if large else arrays[names.images]
    except (OSError, BadDocument) as error:
        raise InputError(
            f"{path}: not a readable .npz file ({reason(error)})", remedy="write it with numpy.savez"
        ) from error
    labels = None if names.labels is None else arrays[names.labels]
    classes = () if names.classes is None else class_names(arrays[names.classes], f"{path}: classes")
    return labelled(images, labels, classes, str(path))


def _npz_images(path: Path, name: str) -> Images:
    place = npz_place(path, name)
    if place is None:
        raise _not_in_order(path)
    if not place.member:
        return FilePixels(path, place.offset, place.dtype, place.shape)
    return UnpackedPixels(partial(_unpacking, path, place), str(path), place.dtype, place.shape, ZIP_DAMAGE)


def _unpacking(path: Path, place: Place) -> Unpacking:
    with zipfile.ZipFile(path) as archive:  # the file is closed with its member
        stream = archive.open(place.member)
    stream.read(place.offset)
    return cast(Unpacking, stream)


def is_npy_directory(directory: Path) -> bool:
    """Tell whether a directory has .npy files."""
    return any(directory.glob("*.npy"))


def read_npy_directory(directory: Path, split: str) -> LabelledImages:
    """Open the images of a part among the .npy files of a directory, such as images.npy or x_train.npy.

    Raises InputError where one is damaged, or there are no images.
    """
    files = {path.stem: path for path in sorted(directory.glob("*.npy"))}
    names = name_arrays(files, split, str(directory))
    labels = None if names.labels is None else files[names.labels]
    classes = None if names.classes is None else files[names.classes]
    return _npy(files[names.images], labels, classes, str(directory))


def read_npy_file(path: Path) -> LabelledImages:
    """Open the images of an .npy file, with the labels in the file beside it that is named for them.

    The labels of ``images.npy`` are in ``labels.npy``, those of ``x_test.npy`` in ``y_test.npy``.
    """
    if not path.is_file():
        raise InputError(f"{path} not found", remedy="use an .npy file with images")
    files = {each.stem: each for each in sorted(path.parent.glob("*.npy"))}
    beside = labels_beside(path.stem, files)
    return _npy(path, None if beside is None else files[beside], files.get("classes"), str(path))


def _npy(images: Path, labels: Path | None, classes: Path | None, source: str) -> LabelledImages:
    names = () if classes is None else class_names(_read(classes), f"{classes}: classes")
    return labelled(_opened(images), None if labels is None else _read(labels), names, source)


def _opened(path: Path) -> Images:
    """Return the array of a file if it is small, else as it is read."""
    place = _tried(npy_place, path)
    if place is not None and np.prod(place.shape, dtype=object) * place.dtype.itemsize > SMALL:
        return FilePixels(path, place.offset, place.dtype, place.shape)
    if place is None and path.stat().st_size > SMALL:
        raise _not_in_order(path)
    return _read(path)


def _read(path: Path) -> NDArray[Any]:
    return _tried(read_npy, path)


def _tried(read: Callable[[Path], _T], path: Path) -> _T:
    try:
        return read(path)
    except (OSError, BadDocument) as error:
        raise InputError(
            f"{path}: not a readable .npy file ({reason(error)})", remedy="write it with numpy.save"
        ) from error


def _not_in_order(path: Path) -> InputError:
    what = f"{path}: the images are in Fortran order, in which none can be read alone"
    return InputError(what, "save numpy.ascontiguousarray of them")
