"""Images in .npy files beside each other, whose names say what they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from fuzz.files import Files
from fuzz.target import Target, may_refuse
from fuzz.targets.data_npz import use
from stas_neuro.data import load_data


def npy(array: ArrayLike) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def make_seeds() -> Sequence[Files]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    names = np.array(["b", "a", "b"])
    return [
        {"images.npy": npy(pixels), "labels.npy": npy([0, 2, 1])},
        {"x_train.npy": npy(pixels[..., None].astype(np.int32)), "y_train.npy": npy(names)},
        {"images.npy": npy(pixels / 255), "labels.npy": npy(np.eye(3)), "classes.npy": npy(["a", "b", "c"])},
    ]


def read(inputs: Path, output: Path) -> None:
    use(load_data(str(inputs), "train"))
    for path in sorted(inputs.glob("*.npy")):
        with may_refuse():
            use(load_data(str(path)))


TARGET = Target("data_npy", make_seeds, read)
