"""Labels as data have them (numbers, names, one-hot), made indices of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.data.images import MOST_CLASSES, LabelledImages, standard
from stas_neuro.data.pixels import Images
from stas_neuro.documents import shown
from stas_neuro.errors import InputError


def labelled(
    images: Images, labels: NDArray[Any] | None, classes: tuple[str, ...], source: str
) -> LabelledImages:
    """Return images in the standard form, with labels that are indices of classes.

    Parameters
    ----------
    images
        As for `standard`.
    labels : (n,) or (n, 1) of integers or of names, or one-hot (n, classes); optional
        Names become indices of ``classes``, or, without these, of the sorted names that occur.
    classes : tuple of str
        Names of the classes; empty if there are none.

    Raises
    ------
    InputError
        If images, labels or classes have another form. The message names ``source``.
    """
    images = standard(images, source)
    check_names(classes, source)
    if labels is not None:
        labels, classes = _indices(np.asarray(labels), classes, source)
    return LabelledImages(images, labels, classes, source)


def check_names(classes: tuple[str, ...], source: str) -> None:
    """Raise InputError for names of classes that cannot be printed, or too many of them."""
    if len(classes) > MOST_CLASSES:
        raise InputError(f"{source}: has {len(classes)} classes", f"use at most {MOST_CLASSES}")
    wrong = [name for name in classes if not name.isprintable()]
    if wrong:
        what = f"{source}: the class name '{shown(wrong[0])}' has unprintable characters"
        raise InputError(what, "use plain text")


def _indices(
    labels: NDArray[Any], classes: tuple[str, ...], source: str
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return labels as integers, and the classes that they are indices of."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf":
        return _hot(labels, classes, source), classes
    if labels.dtype.kind == "b":
        return labels.astype(np.int64), classes
    if labels.dtype.kind in "SU" and labels.ndim == 1:
        return _of_names(class_names(labels, f"{source}: labels"), classes, source)
    return labels, classes  # LabelledImages checks them


def _hot(labels: NDArray[Any], classes: tuple[str, ...], source: str) -> NDArray[np.int64]:
    wrong = np.flatnonzero(~(np.isin(labels, (0, 1)).all(axis=1) & (labels.sum(axis=1) == 1)))
    if len(wrong):
        what = f"{source}: labels have shape {labels.shape}, and those of image {wrong[0]} are not one-hot"
        raise InputError(what, "use one integer or one name per image, or a single 1 among zeros")
    if classes and len(classes) != labels.shape[1]:
        what = f"{source}: one-hot labels are of {labels.shape[1]} classes, but {len(classes)} are named"
        raise InputError(what, "name each class once")
    return np.asarray(labels.argmax(axis=1), np.int64)


def _of_names(
    names: tuple[str, ...], classes: tuple[str, ...], source: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    classes = classes or tuple(sorted(set(names)))
    check_names(classes, source)
    index = {name: number for number, name in enumerate(classes)}
    for image, name in enumerate(names):
        if name not in index:
            what = f"{source}: the label of image {image} is '{shown(name)}', which is not one of its classes"
            raise InputError(what, "name each class")
    return np.array([index[name] for name in names], np.int64), classes


def class_names(array: NDArray[Any], what: str) -> tuple[str, ...]:
    """Return names from text, bytes in UTF-8, or integers; raises InputError about ``what`` otherwise."""
    try:
        text = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise InputError(f"{what} are not UTF-8 ({error})", "store them as text") from error
    names = tuple(str(name) for name in text.ravel())
    if names and (text.dtype.kind not in "Uiu" or not all(names)):
        shortened = shown(str(names[:20]))
        raise InputError(f"{what} are {array.dtype} {shortened}", "use a name for every class")
    return names
