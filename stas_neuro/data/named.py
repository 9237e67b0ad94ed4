"""Data sets that have a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from stas_neuro.data.idx import read_idx_directory
from stas_neuro.data.images import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.glimpses import glimpses
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


def _fashion_mnist(split: str) -> LabelledImages:
    places = (
        [os.environ["STAS_FASHION_MNIST"]]
        if "STAS_FASHION_MNIST" in os.environ
        else FASHION_MNIST_DIRECTORIES
    )
    for place in places:
        directory = Path(place).expanduser()
        if directory.is_dir():
            found = read_idx_directory(directory, split)
            return LabelledImages(found.images, found.labels, FASHION_MNIST_CLASSES, "fashion-mnist")
    raise InputError(
        f"Fashion-MNIST is not in {' or '.join(places)}",
        remedy="install the Debian package dataset-fashion-mnist, or set STAS_FASHION_MNIST to a directory "
        "with its four IDX files",
    )


def _glimpses(split: str) -> LabelledImages:
    still = _fashion_mnist(split)
    kinds = np.array(still.classes)[still.labels]
    return LabelledImages(*glimpses(np.asarray(still.images), kinds, split), "simulated-glimpses")


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


NAMED: Mapping[str, Callable[[str], LabelledImages]] = {
    "fashion-mnist": _fashion_mnist,
    "digits": _digits,
    "order": lambda split: LabelledImages(*order(split), "order"),
    "order-long": lambda split: LabelledImages(*order(split, LONG_ORDER_FRAMES), "order-long"),
    "simulated-glimpses": _glimpses,
    "japanese-vowels": lambda split: LabelledImages(*japanese_vowels(split), "japanese-vowels"),
}
"""Loaders of the named data sets."""
