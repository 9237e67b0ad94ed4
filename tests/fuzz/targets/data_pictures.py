"""Encoded pictures in class folders."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz.files import Files
from fuzz.target import Target
from fuzz.targets.data_npz import use
from stas_neuro.data import load_data


def make_seeds() -> Sequence[Files]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    seeds: list[Files] = []
    for ending, form in (("png", "PNG"), ("jpg", "JPEG"), ("gif", "GIF"), ("bmp", "BMP"), ("tif", "TIFF")):
        files = {}
        for number, image in enumerate(pixels):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, form)
            files[f"{number}.{ending}"] = stream.getvalue()
        seeds.append(files)
    return seeds


def read(inputs: Path, output: Path) -> None:
    use(load_data(str(inputs), "train"))


TARGET = Target("data_pictures", make_seeds, read)
