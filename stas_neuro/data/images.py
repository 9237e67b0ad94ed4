"""Labelled images, and the form that their pixels have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.data.pixels import Converted, Images, Pixels, blocks, chosen
from stas_neuro.errors import InputError
from stas_neuro.limits import FLOAT_LIMIT

MOST_CLASSES = 1 << 16
"""Largest number of classes, and so of logits of a network."""
_CHANNELS_LAST = {4: (1, 3), 5: (1, 2, 3)}
"""Sizes by which a last axis is one of channels, by the number of axes, if the axis of channels is longer."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    ``images``: uint8 in 0..255 or float in 0..1, shape (n, C, H, W), or (n, T, C, H, W) for event data: an
    array, or `Pixels`, which are read when they are used. ``labels``: int64 (n,), indices into ``classes`` if
    these are given; or None.

    Raises
    ------
    InputError
        If labels are not one integer of at least 0 per image, a label is outside ``classes``, or a class name
        occurs more than once.
    """

    images: Images
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
        """Return some of the images, in the order of ``index``; they are not read."""
        labels = None if self.labels is None else self.labels[index]
        return LabelledImages(chosen(self.images, index), labels, self.classes, self.source)

    def first_frames(self, count: int) -> LabelledImages:
        """Return event data with the first ``count`` frames of each; still images as they are."""
        if self.images.ndim != 5:
            return self
        images = self.images
        if isinstance(images, Pixels):
            shape = (images.shape[0], min(count, images.shape[1]), *images.shape[2:])
            images = Converted(images, _Frames(count), shape, images.dtype)
        else:
            images = images[:, :count]
        return LabelledImages(images, self.labels, self.classes, self.source)


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


@dataclass(frozen=True)
class _Frames:
    count: int

    def __call__(self, images: NDArray[Any]) -> NDArray[Any]:
        return images[:, : self.count]


@dataclass(frozen=True)
class _Standard:
    """Puts images of a stored shape into the form of `LabelledImages`."""

    channels_last: bool
    source: str

    def __call__(self, stored: NDArray[Any]) -> NDArray[Any]:
        images = stored[:, None] if stored.ndim == 3 else stored
        if self.channels_last:
            images = np.moveaxis(images, -1, -3)
        if images.dtype.kind == "b":
            images = images * np.uint8(255)
        elif images.dtype.kind in "iu" and images.dtype != np.uint8 and images.size:
            least, largest = int(images.min()), int(images.max())
            if least < 0 or largest > 255:
                what = f"{self.source}: pixels are {images.dtype} in {least}..{largest}"
                raise InputError(what, "scale them to 0..255, or to floats in 0..1")
            images = images.astype(np.uint8)
        check_pixels(images, self.source)
        return images if images.dtype == np.uint8 else images.astype(np.float64)


def channels_are_last(shape: tuple[int, ...]) -> bool:
    """Tell whether the last axis of images is taken to be that of channels, see `standard`."""
    return shape[-1] in _CHANNELS_LAST.get(len(shape), ()) and shape[-3] > 4


def standard(stored: Images, source: str) -> Images:
    """Return images as `LabelledImages` has them: uint8 or float64, (n, C, H, W) or (n, T, C, H, W).

    Parameters
    ----------
    stored : bool, integer or float; (n, H, W), (n, C, H, W), (n, T, C, H, W), or with the channels last
        The channels are taken to be last if the last axis has 1 or 3 entries (of event data also 2), and the
        axis where channels are expected has more than 4. Integers are in 0..255, and True is white. An array
        is converted here, `Pixels` are when they are read.

    Raises
    ------
    InputError
        If there are no images, or their shape or their values are not those. The message names ``source``.
    """
    shape = stored.shape
    if len(shape) not in (3, 4, 5):
        raise InputError(
            f"{source}: images have shape {shape}",
            remedy="use (n, H, W), (n, C, H, W) or, for events, (n, T, C, H, W); channels may be last",
        )
    if not stored.size:
        raise InputError(f"{source}: has no images", remedy="use at least one")
    last = channels_are_last(shape)
    convert = _Standard(channels_last=last, source=source)
    if not isinstance(stored, Pixels):
        return convert(stored)
    made = np.empty((0, *shape[1:]), stored.dtype)
    made = np.moveaxis(made, -1, -3) if last else made[:, None] if len(shape) == 3 else made
    kind = np.dtype(np.uint8 if stored.dtype.kind in "biu" else np.float64)
    return Converted(stored, convert, (shape[0], *made.shape[1:]), kind)


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Images as a network takes them, converted slice by slice when they are asked for.

    `convert` keeps their shape.
    """

    pixels: Images
    convert: Callable[[NDArray[Any]], NDArray[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all images."""
        return self.pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> NDArray[Any]:
        return self.convert(self.pixels[part])

    def check(self) -> None:
        """Convert all images, a block at a time; raises what that raises."""
        for block in blocks(self.pixels):
            self.convert(block)
