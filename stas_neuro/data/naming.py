"""Names by which arrays and folders say what they are: images or labels, for training or for tests."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from stas_neuro.documents import shown
from stas_neuro.errors import InputError

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "testing", "t10k", "val", "valid", "validation", "eval"),
}
"""Names of the parts of data, the preferred first."""
IMAGES = ("images", "image", "img", "x", "data", "frames", "pixels", "inputs", "features", "pixel_values")
LABELS = ("labels", "label", "y", "targets", "target", "fine_label")
"""Names of images and of labels, the preferred first."""
_POSITIONS = {"arr_0": "images", "arr_1": "labels"}
"""What numpy.savez calls arrays that are given without names."""


@dataclass(frozen=True)
class Named:
    """Names of the arrays of a part: its images, and its labels and the names of classes if there are any."""

    images: str
    labels: str | None
    classes: str | None


def split_among(names: Collection[str], split: str) -> str | None:
    """Return the name of a part among names, whatever their case; None if there is none."""
    known = {name.lower(): name for name in names}
    return next((known[name] for name in SPLITS[split] if name in known), None)


def name_arrays(names: Collection[str], split: str, source: str) -> Named:
    """Find the arrays of a part by their names, such as ``x_train``, ``test_labels`` or ``images``.

    Arrays that name no part are of both.

    Raises
    ------
    InputError
        If no name is one of images, or only the other part has any. The message names ``source``.
    """
    for part in (*SPLITS[split], ""):
        if (images := _first(names, IMAGES, part)) is not None:
            classes = next((name for name in names if name.lower() == "classes"), None)
            return Named(images, _first(names, LABELS, part), classes)
    listed = shown(", ".join(sorted(names)), 200) or "none"
    if any(_first(names, IMAGES, part) for parts in SPLITS.values() for part in parts):
        what = f"{source}: has no {split} images; its arrays are {listed}"
        raise InputError(what, f"add images_{split} and labels_{split}, or remove the part from the names")
    raise InputError(
        f"{source}: has no array named images; its arrays are {listed}", "name the arrays images and labels"
    )


def _first(names: Collection[str], words: tuple[str, ...], part: str) -> str | None:
    """Return the array whose name is the first of some words, as ``images_train`` or ``train_images``."""
    for word in words:
        pattern = f"{word}[_-]?{part}|{part}[_-]?{word}" if part else word
        for name in names:
            if re.fullmatch(pattern, _POSITIONS.get(name, name), re.IGNORECASE):
                return name
    return None


def labels_beside(images: str, names: Collection[str]) -> str | None:
    """Return the name that says labels where the name of images says images; None if there is none."""
    for word in IMAGES:
        pattern = re.compile(rf"(?:(?<=[_-])|^){word}(?=[_-]|$)", re.IGNORECASE)
        for label in LABELS if pattern.search(images) else ():
            if (found := pattern.sub(label, images)) in names:
                return found
    return None
