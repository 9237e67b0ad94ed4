"""Matching of labels to a model's classes, and stratified samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stas_neuro.data.images import LabelledImages, check_range
from stas_neuro.errors import InputError

LISTED = 20
"""Largest number of names in an error; a data set may have a thousand classes."""
SELDOM = 1e-3
"""Significance level: a sample is reported as biased if a class is this unlikely to be so frequent."""


def match_classes(data: LabelledImages, classes: Sequence[str]) -> LabelledImages:
    """Return data whose labels are indices of the model's classes.

    If the data have class names, labels are matched by name, in any order, and the data may lack some of the
    model's classes. Labels of data without names are used unchanged. So are those of data with as many names
    as the model has classes, if the model's classes are only numbers (0, 1, ...) and none of the names is one
    of these numbers.

    Parameters
    ----------
    data : LabelledImages
        Its images are not changed. Labels may be None.
    classes : sequence of str
        Names of the model's classes, in the order of its logits.

    Returns
    -------
    LabelledImages
        Data with the ``classes`` of the model, and labels int64 (n,) in 0..len(classes) - 1, or None.

    Raises
    ------
    InputError
        If the data have a class that the model lacks, or a label is outside the model's classes.
    """
    known = {name: index for index, name in enumerate(classes)}
    labels = data.labels
    if labels is not None and data.classes and not _only_numbers(data.classes, classes):
        if unknown := [name for name in data.classes if name not in known]:
            raise InputError(
                f"{data.source}: the model has no class {listing(unknown)}; "
                f"the data have {listing(data.classes)}, the model {listing(classes)}",
                "use the model's class names, or remove the names to match labels by number",
            )
        labels = np.array([known[name] for name in data.classes], np.int64)[labels]
    elif labels is not None:
        check_range(
            labels, len(classes), data.source, f"number the model's classes, {listing(classes)}, from 0"
        )
    return replace(data, labels=labels, classes=tuple(classes))


def _only_numbers(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Return whether a model has only numbers as names, and the data have a real name for each class."""
    numbers = [str(index) for index in range(len(classes))]
    return list(classes) == numbers and len(names) == len(numbers) and not set(names) & set(numbers)


def check_every_class_occurs(data: LabelledImages) -> None:
    """Refuse data from which a new model could not learn to distinguish its classes.

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
            "use images of at least two classes",
        )


def absent_classes(data: LabelledImages) -> tuple[str, ...]:
    """Return the names of the classes without images in labelled data."""
    assert data.labels is not None
    return tuple(_absent(np.unique(data.labels), data.classes, len(data.classes)))


def _absent(occurring: NDArray[np.int64], names: Sequence[str], count: int) -> Iterable[str]:
    present = set(occurring.tolist())
    # A generator, as a label, and so the count, may be up to 2^63.
    return (names[index] if names else str(index) for index in range(count) if index not in present)


def listing(names: Iterable[str], count: int | None = None) -> str:
    """Join names with commas; of many names the first ones, and the number of the others, up to `count`."""
    shown = list(islice(names, LISTED))
    total = count if count is not None else len(names) if isinstance(names, Sequence) else len(shown)
    return ", ".join(shown) + (f" and {total - len(shown)} more" if total > len(shown) else "")


def draw(data: LabelledImages, count: int, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Draw a stratified random sample; return it, and the other images.

    The sample has at least one image of each class that has any, if ``count`` allows it. Both parts are in
    random order. The same labels, count and seed result in the same parts.

    Parameters
    ----------
    data : LabelledImages
        Must have labels.
    count : int
        Number of images to draw, up to all.
    seed : int
        Seed of the random order.
    """
    assert data.labels is not None
    random = np.random.default_rng(seed % (1 << 64))
    order = random.permutation(len(data))
    _, labels, sizes = np.unique(data.labels, return_inverse=True, return_counts=True)
    # First one of each class, then by the largest remainders, with ties in random order.
    least = int(count >= len(sizes))
    spare = sizes - least
    quotient, remainder = np.divmod(spare * (count - least * len(sizes)), max(1, int(spare.sum())))
    share = least + quotient
    first = np.lexsort((random.permutation(len(sizes)), -remainder))
    share[first[: count - int(share.sum())]] += 1
    chosen = np.zeros(len(data), bool)
    for index, number in enumerate(share):
        chosen[order[labels[order] == index][:number]] = True
    return data.select(order[chosen[order]]), data.select(order[~chosen[order]])


def sample(data: LabelledImages, count: int, seed: int) -> LabelledImages:
    """Return a stratified sample to train on, see `draw`; all data, unchanged, if ``count`` is not smaller.

    Raises
    ------
    InputError
        If there are no labels, or ``count`` is less than the number of classes.
    """
    if data.labels is None:
        raise InputError(f"{data.source}: has no labels", "add an array named labels")
    if count >= len(data):
        return data
    classes = len(np.unique(data.labels))
    if count < classes:
        raise InputError(
            f"limit={count} is fewer images than {data.source} has classes, {classes}",
            "use at least one image of each class",
        )
    return draw(data, count, seed)[0]


def bias_of_first(data: LabelledImages, count: int) -> str | None:
    """Return a warning if the first images are not a random sample of the data (sorted data); else None.

    They are not if all have one class and the data have more, or if the probability of a class being so
    frequent is less than `SELDOM`, by Hoeffding's bound for draws without replacement (JASA 58, 1963).
    """
    if data.labels is None or not 1 < count < len(data):
        return None
    values, labels, sizes = np.unique(data.labels, return_inverse=True, return_counts=True)
    counts = np.bincount(labels[:count], minlength=len(sizes))
    share, expected = counts / count, sizes / len(data)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(counts > 0, share * np.log(share / expected), 0.0)
        gain += np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - expected)), 0.0)
    gain = np.where(share > expected, gain, 0.0)
    most = int(gain.argmax())
    improbable = len(sizes) * math.exp(-count * float(gain[most])) < SELDOM
    if not improbable and not (counts[most] == count and len(sizes) > 1):
        return None
    name = data.classes[int(values[most])] if data.classes else str(values[most])
    return (
        f"{counts[most]} of the first {count} images are of class {name}, but {sizes[most]} of all "
        f"{len(data)}: they do not represent the others; shuffle the data, or use more of them"
    )
