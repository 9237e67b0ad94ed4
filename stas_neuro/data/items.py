"""Images from Python: arrays, data sets of torchvision, sequences, and anything that can be iterated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.data.images import LabelledImages, channels_are_last, standard
from stas_neuro.data.labelling import labelled
from stas_neuro.data.naming import IMAGES, LABELS
from stas_neuro.data.pictures import Form
from stas_neuro.data.pixels import Array, Index, Pixels
from stas_neuro.data.stored import SpooledPixels
from stas_neuro.errors import InputError, StasError

_REMEDY = "use items that are an image, a pair (image, label), or a dict with image and label"


def as_images(data: Any, source: str = "the images") -> LabelledImages:
    """Return images from Python as labelled images.

    Parameters
    ----------
    data
        Labelled images; an array of images, or anything numpy takes for one, such as a tensor; a pair of
        images and labels as arrays; or items, each an image, a pair (image, label) or a dict with them. An
        image is an array, a tensor or a picture of Pillow. Items with ``len`` and indices, such as a data set
        of torchvision, are read when they are needed; others are iterated once, into a temporary file. Labels
        and classes are those that the data have as ``targets`` or ``labels``, and ``classes``; without these
        all items are read once for their labels.

    Raises
    ------
    InputError
        If it is none of these, or images have different shapes. The message names ``source``.
    """
    if isinstance(data, LabelledImages):
        return data
    if _is_array(data):
        return LabelledImages(_kept(_array(data, source), source), None, (), source)
    if (
        isinstance(data, tuple)
        and len(data) == 2
        and all(map(_is_array, data))
        and len(data[0]) == len(data[1])
    ):
        images, labels = (_array(part, source) for part in data)
        if images.ndim > 2 and labels.ndim < 3:
            return labelled(_kept(images, source), labels, (), source)
    if (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, Mapping | str | bytes)
    ):
        return _sequence(data, source)
    if isinstance(data, Iterable) and not isinstance(data, Mapping | str | bytes):
        return _iterable(data, source)
    what = f"{source} are of type {type(data).__name__}"
    raise InputError(what, "use an array, a data set with items (image, label), a path, or a name")


def _kept(images: Array, source: str) -> Array:
    """Return an array as it is if it has the axes of `LabelledImages` and uint8 or floats, else converted."""
    usual = images.dtype == np.uint8 or images.dtype.kind == "f"
    if usual and images.ndim in (4, 5) and not channels_are_last(images.shape):
        return images
    made = standard(images, source)
    assert isinstance(made, np.ndarray)
    return made


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and hasattr(value, "shape")


def _array(value: Any, source: str) -> Array:
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{source}: a {type(value).__name__} is no array ({error})", _REMEDY) from error


def _parts(item: Any, source: str) -> tuple[Any, Any]:
    """Return the image and the label of an item; the label is None if it has none."""
    if isinstance(item, Mapping):
        image, label = (
            next((item[name] for name in names if name in item), None) for names in (IMAGES, LABELS)
        )
        if image is None:
            what = f"{source}: an item has no image, only {', '.join(map(str, item))}"
            raise InputError(what, _REMEDY)
        return image, label
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    return item, None


class _Images:
    """Makes arrays of single images, all of the form of the first."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.form: Form | None = None
        self.shape: tuple[int, ...] | None = None

    def __call__(self, image: Any, number: int) -> Array:
        """Return an image as an array of 2 to 4 axes; raises InputError where it is none."""
        name = f"{self.source}: image {number}"
        if hasattr(image, "convert") and hasattr(image, "mode"):  # of Pillow
            self.form = self.form or Form.of(image, name)
            return self.form.decode(image, name)
        if not _is_array(image):
            raise InputError(f"{name} is of type {type(image).__name__}", _REMEDY)
        values = _array(image, name)
        self.shape = self.shape or values.shape
        if values.shape != self.shape:
            what = f"{name} has shape {values.shape}, the first has {self.shape}"
            raise InputError(what, "scale or crop all images to one size, that of the model")
        if values.ndim == 0 or values.dtype.kind not in "biuf":
            raise InputError(f"{name} is {values.dtype} of shape {values.shape}", _REMEDY)
        return values


class ItemPixels(Pixels):
    """Images of items that are made when they are asked for."""

    def __init__(self, items: Any, source: str) -> None:
        self.items, self.source = items, source
        self._array = _Images(source)
        first = self._read(0)
        self.shape, self.dtype = (len(items), *first.shape), first.dtype

    def _read(self, number: int) -> Array:
        return self._array(_parts(_item(self.items, number, self.source), self.source)[0], number)

    def read(self, index: Index) -> Array:
        """Make images."""
        images = np.empty((len(index), *self.shape[1:]), self.dtype)
        for place, number in enumerate(index.tolist()):
            image = self._read(number)
            if image.dtype != self.dtype:
                what = f"{self.source}: image {number} is {image.dtype}, the first is {self.dtype}"
                raise InputError(what, "make all images alike")
            images[place] = image
        return images


def _item(items: Any, number: int, source: str) -> Any:
    try:
        return items[number]
    except (StasError, MemoryError):
        raise
    except Exception as error:  # the code of somebody else
        what = f"{source}: item {number} cannot be read: {type(error).__name__}: {error}"
        raise InputError(what, "correct the data set") from error


def _sequence(items: Any, source: str) -> LabelledImages:
    if len(items) == 0:
        raise InputError(f"{source}: has no images", "use at least one")
    classes = _classes(items)
    labels = _known_labels(items)
    if labels is None:
        every = (_parts(_item(items, number, source), source)[1] for number in range(len(items)))
        labels = _together(list(every), source)
    return labelled(ItemPixels(items, source), labels, classes, source)


def _iterable(items: Iterable[Any], source: str) -> LabelledImages:
    labels: list[Any] = []
    array = _Images(source)

    def images() -> Iterator[Array]:
        for number, item in enumerate(items):
            image, label = _parts(item, source)
            labels.append(label)
            yield array(image, number)

    pixels = SpooledPixels(images(), source)
    return labelled(pixels, _together(labels, source), _classes(items), source)


def _classes(items: Any) -> tuple[str, ...]:
    """Return the ``classes`` of a data set, or of the one that it is a part of."""
    classes = getattr(items, "classes", None)
    if classes is None and hasattr(items, "indices") and hasattr(items, "dataset"):
        return _classes(items.dataset)
    named = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    return tuple(classes) if named and classes else ()


def _known_labels(items: Any) -> NDArray[Any] | None:
    """Return the labels that a data set has beside its items, as torchvision's do; None if it has none."""
    if hasattr(items, "indices") and hasattr(items, "dataset"):  # torch.utils.data.Subset
        whole = _known_labels(items.dataset)
        return None if whole is None else whole[np.asarray(items.indices, np.int64)]
    changed = (
        getattr(each, "target_transform", None) for each in (items, getattr(items, "transforms", None))
    )
    if any(change is not None for change in changed):
        return None  # its items have other labels
    for name in ("targets", "labels"):
        labels = getattr(items, name, None)
        if (
            labels is not None
            and not callable(labels)
            and hasattr(labels, "__len__")
            and len(labels) == len(items)
        ):
            found = _array(labels, name) if _is_array(labels) else np.asarray(labels)
            return found if found.ndim == 1 and found.dtype.kind in "iuU" else None
    return None


def _together(labels: list[Any], source: str) -> NDArray[Any] | None:
    """Return the labels of items as one array; None if none has any."""
    absent = [number for number, label in enumerate(labels) if label is None]
    if len(absent) == len(labels):
        return None
    if absent:
        raise InputError(
            f"{source}: item {absent[0]} has no label, others have", "label all of them, or none"
        )
    arrays = [_array(label, source) if _is_array(label) else np.asarray(label) for label in labels]
    try:
        return np.stack(arrays)
    except ValueError as error:
        raise InputError(
            f"{source}: labels have different shapes", "use one integer or one name per image"
        ) from error
