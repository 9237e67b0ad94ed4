"""Labels as a model counts them, and samples that keep the shares of the classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stas_neuro.data import LabelledImages, check_range
from stas_neuro.errors import InputError

LISTED = 20
"""Names that an error lists; a data set may have a thousand classes."""
SELDOM = 1e-3
"""A sample with a class so frequent that chance gives it less often than this is reported as biased."""


def match_classes(data: LabelledImages, classes: Sequence[str]) -> LabelledImages:
    """Give data whose labels count the classes as a model does.

    Labels are matched by name where the data name their classes, in whatever order and also where they have
    only some of the model's. Data without names count as the model does. So do data that name as many classes
    as a model which has only numbers (0, 1, ...) for names, where none of the names is a number of the model.

    Parameters
    ----------
    data : LabelledImages
        Its images stay as they are. It need not have labels.
    classes : sequence of str
        The names of the model's classes, in the order of its logits.

    Returns
    -------
    LabelledImages
        With ``classes`` of the model, and labels int64 (n,) in 0..len(classes) - 1, or None.

    Raises
    ------
    InputError
        If the data name a class that the model does not know, or a label is beyond the model's classes.
    """
    known = {name: index for index, name in enumerate(classes)}
    labels = data.labels
    if labels is not None and data.classes and not _only_numbers(data.classes, classes):
        if unknown := [name for name in data.classes if name not in known]:
            raise InputError(
                f"{data.source}: the model has no class {listing(unknown)}; "
                f"the data have {listing(data.classes)}, the model {listing(classes)}",
                "name the classes as the model does, or leave the names out to match labels by number",
            )
        labels = np.array([known[name] for name in data.classes], np.int64)[labels]
    elif labels is not None:
        check_range(
            labels, len(classes), data.source, f"count the model's classes, {listing(classes)}, from 0"
        )
    return replace(data, labels=labels, classes=tuple(classes))


def _only_numbers(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether a model has numbers for names and the data have real names, one for each."""
    numbers = [str(index) for index in range(len(classes))]
    return list(classes) == numbers and len(names) == len(numbers) and not set(names) & set(numbers)


def check_every_class_occurs(data: LabelledImages) -> None:
    """Refuse data from which a new model could not learn to tell its classes apart.

    Raises
    ------
    InputError
        If there are no labels, a class has no images, or there is only one class.
    """
    if data.labels is None:
        raise InputError(f"{data.source}: has no labels", "add an array named labels")
    occurring = np.unique(data.labels)
    count = len(data.classes) or int(occurring[-1]) + 1
    if len(occurring) < count:
        absent = _absent(occurring, data.classes, count)
        raise InputError(
            f"{data.source}: no image is labelled {listing(absent, count - len(occurring))}, "
            f"and a new model cannot learn a class without images",
            "add images of it, or number the classes that have images from 0 without gaps",
        )
    if count < 2:
        raise InputError(
            f"{data.source}: all images are of one class, {data.classes[0] if data.classes else 0}",
            "give images of at least two classes",
        )


def absent_classes(data: LabelledImages) -> tuple[str, ...]:
    """Name the classes of which labelled data have no images."""
    assert data.labels is not None
    return tuple(_absent(np.unique(data.labels), data.classes, len(data.classes)))


def _absent(occurring: NDArray[np.int64], names: Sequence[str], count: int) -> Iterable[str]:
    seen = set(occurring.tolist())  # lazily, since a label may be anything up to 2^63
    return (names[index] if names else str(index) for index in range(count) if index not in seen)


def listing(names: Iterable[str], count: int | None = None) -> str:
    """Join names with commas; of many the first, and how many more there are of `count`."""
    shown = list(islice(names, LISTED))
    total = count if count is not None else len(names) if isinstance(names, Sequence) else len(shown)
    return ", ".join(shown) + (f" and {total - len(shown)} more" if total > len(shown) else "")


def draw(data: LabelledImages, count: int, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Draw images at random so that each class keeps its share; give them, and the others.

    A class that has images gives at least one of them where ``count`` allows it. Both parts are in random
    order. The same labels, count and seed give the same parts.

    Parameters
    ----------
    data : LabelledImages
        With labels.
    count : int
        Images to draw, up to all.
    seed : int
        Of the random order.
    """
    assert data.labels is not None
    random = np.random.default_rng(seed % (1 << 64))
    order = random.permutation(len(data))
    _, labels, sizes = np.unique(data.labels, return_inverse=True, return_counts=True)
    # One of each first, the rest by the largest remainders; chance decides between equal ones.
    least = int(count >= len(sizes))
    spare = sizes - least
    whole, remainder = np.divmod(spare * (count - least * len(sizes)), max(1, int(spare.sum())))
    share = least + whole
    first = np.lexsort((random.permutation(len(sizes)), -remainder))
    share[first[: count - int(share.sum())]] += 1
    chosen = np.zeros(len(data), bool)
    for index, number in enumerate(share):
        chosen[order[labels[order] == index][:number]] = True
    return data.select(order[chosen[order]]), data.select(order[~chosen[order]])


def sample(data: LabelledImages, count: int, seed: int) -> LabelledImages:
    """Draw images to train on as `draw` does; all of them, as they are, where there are not more.

    Raises
    ------
    InputError
        If there are no labels, or fewer images than classes are asked for.
    """
    if data.labels is None:
        raise InputError(f"{data.source}: has no labels", "add an array named labels")
    if count >= len(data):
        return data
    classes = len(np.unique(data.labels))
    if count < classes:
        raise InputError(
            f"limit={count} is fewer images than {data.source} has classes, {classes}",
            "take at least one image of each class",
        )
    return draw(data, count, seed)[0]


def bias_of_first(data: LabelledImages, count: int) -> str | None:
    """Tell that the first images are no random sample of the data, as those of sorted data; None if not.

    They are not if they all have one class and the data more, or if chance would make a class as frequent
    less often than `SELDOM`, by Hoeffding's bound for draws without replacement (JASA 58, 1963).
    """
    if data.labels is None or not 1 < count < len(data):
        return None
    values, labels, sizes = np.unique(data.labels, return_inverse=True, return_counts=True)
    seen = np.bincount(labels[:count], minlength=len(sizes))
    share, expected = seen / count, sizes / len(data)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(seen > 0, share * np.log(share / expected), 0.0)
        gain += np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - expected)), 0.0)
    gain = np.where(share > expected, gain, 0.0)
    most = int(gain.argmax())
    seldom = len(sizes) * math.exp(-count * float(gain[most])) < SELDOM
    if not seldom and not (seen[most] == count and len(sizes) > 1):
        return None
    name = data.classes[int(values[most])] if data.classes else str(values[most])
    return (
        f"{seen[most]} of the first {count} images are of class {name}, but {sizes[most]} of all "
        f"{len(data)}: they say little about the others; shuffle the data, or use more of them"
    )
