"""Images in IDX files as MNIST has them, compressed or not: loaded and used as those of .npz files are."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fuzz.files import Files
from fuzz.target import Target
from fuzz.targets.data_npz import use
from stas_neuro.data import load_data


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def make_seeds() -> Sequence[Files]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    images, labels = idx(pixels), idx(np.array([0, 2, 1], np.uint8))
    return [
        {"t10k-images-idx3-ubyte": images, "t10k-labels-idx1-ubyte": labels},
        {
            "t10k-images-idx3-ubyte.gz": gzip.compress(images),
            "t10k-labels-idx1-ubyte.gz": gzip.compress(labels),
        },
    ]


def read(inputs: Path, output: Path) -> None:
    use(load_data(str(inputs), "test"))


TARGET = Target("data_idx", make_seeds, read)
