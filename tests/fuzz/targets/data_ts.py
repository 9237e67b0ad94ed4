"""Utterances in .ts files: loaded, and used as the images of .npz files are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fuzz.files import Files
from fuzz.target import Target
from fuzz.targets.data_npz import use
from stas_neuro.data import LabelledImages
from stas_neuro.sequences import japanese_vowels

HEADER = "# speech\n@problemName Vowels\n@timeStamps false\n@missing false\n@classLabel true one two\n@data\n"


def make_seeds() -> Sequence[Files]:
    random = np.random.RandomState(0)
    lines = []
    for frames, name in ((7, "two"), (3, "one"), (29, "one")):
        coefficients = random.uniform(-2, 2, (12, frames))
        lines.append(":".join(",".join(f"{c:.3f}" for c in row) for row in coefficients) + f":{name}\n")
    return [{"JapaneseVowels_TEST.ts": (HEADER + "".join(part)).encode()} for part in (lines, lines[1:2])]


def read(inputs: Path, output: Path) -> None:
    use(LabelledImages(*japanese_vowels("test", inputs), "speech"))


TARGET = Target("data_ts", make_seeds, read)
