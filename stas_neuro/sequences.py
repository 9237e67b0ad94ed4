"""Labelled sequences of frames, in which time carries information: one that is generated, and real speech.

A frame is an image (C, H, W) that the network sees in one model step; the frame of an instant without
anything is blank, all zero. `stas_neuro.data` gives these data their names.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stas_neuro.documents import BadDocument, open_file, reason
from stas_neuro.errors import InputError

Frames = NDArray[np.uint8]
Labels = NDArray[np.int64]

ORDER_FRAMES, LONG_ORDER_FRAMES = 10, 64
ORDER_GAP = 4
"""Frames of a sequence, short or long, and the largest distance in time of its two glyphs."""
ORDER_IMAGES = {"train": 2400, "test": 2000}
_ORDER_SEEDS = {"train": 1, "test": 2}
_ORDER_SIZE = 4
GLYPHS = {
    "plus": ((0, 1, 0), (1, 1, 1), (0, 1, 0)),
    "cross": ((1, 0, 1), (0, 1, 0), (1, 0, 1)),
    "ring": ((1, 1, 1), (1, 0, 1), (1, 1, 1)),
}
ORDER_CLASSES = tuple(f"{first} then {second}" for first in GLYPHS for second in GLYPHS if first != second)

VOWELS_FRAMES, VOWELS_COEFFICIENTS = 29, 12
"""Frames of the longest utterance, and coefficients of a frame."""
VOWELS_FULL_SCALE = 2.5
"""Magnitude of a coefficient that a pixel of 255 stands for; the largest of the data set is 2.21."""
_TS_LIMIT = 1 << 22
"""Largest size of a .ts file in bytes; those of JapaneseVowels have less than 2^20."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def order(split: str, length: int = ORDER_FRAMES) -> tuple[Frames, Labels, tuple[str, ...]]:
    """Generate sequences of two different glyphs among blank frames, classified by which follows which.

    Each glyph is in one frame, at a random place of it. The time of the first is uniform over the frames that
    leave room for the second, which follows after 1 to `ORDER_GAP` frames. All frames together show which
    glyphs occur, but not their order: without time, one sequence in two can be classified.

    Returns
    -------
    frames : uint8 (n, length, 1, 4, 4), 0 or 255
    labels : int64 (n,), indices into the classes
    classes : names of the ordered pairs
    """
    # The numbers of RandomState are frozen: those of numpy's newer generators may change with its version.
    random, count = np.random.RandomState(_ORDER_SEEDS[split]), ORDER_IMAGES[split]
    glyphs = 255 * np.array(list(GLYPHS.values()), np.uint8)
    size = glyphs.shape[-1]
    pairs = pairs_in_time(random, count, len(glyphs), length)
    frames = np.zeros((count, length, 1, _ORDER_SIZE, _ORDER_SIZE), np.uint8)
    image, window = np.arange(count)[:, None, None], np.arange(size)
    for glyph, time in ((pairs.first, pairs.start), (pairs.second, pairs.start + pairs.gap)):
        rows, columns = random.randint(_ORDER_SIZE - size + 1, size=(2, count, 1)) + window
        frames[image, time[:, None, None], 0, rows[:, :, None], columns[:, None, :]] = glyphs[glyph]
    return frames, pairs.labels, ORDER_CLASSES


@dataclass(frozen=True)
class Pairs:
    """Two different things in each of n sequences: which is first and second, when, and the class.

    All are int64 (n,): `first`, `second` from 0, the frame `start` of the first, the distance `gap` of the
    second, and `labels`, the number of the ordered pair.
    """

    first: Labels
    second: Labels
    start: Labels
    gap: Labels
    labels: Labels


def pairs_in_time(random: np.random.RandomState, count: int, kinds: int, length: int) -> Pairs:
    """Draw ordered pairs of two different of `kinds`, and their times in sequences of `length` frames."""
    first = random.randint(kinds, size=count)
    step = random.randint(kinds - 1, size=count)
    gap = random.randint(1, ORDER_GAP + 1, size=count)
    start = (random.uniform(size=count) * (length - gap)).astype(np.int64)
    second = (first + 1 + step) % kinds
    labels = first * (kinds - 1) + second - (second > first)
    return Pairs(first, second, start, gap, labels.astype(np.int64))


def japanese_vowels(split: str, directory: Path | None = None) -> tuple[Frames, Labels, tuple[str, ...]]:
    """Read utterances of nine speakers: JapaneseVowels (Kudo, Toyama and Shimbo, doi 10.24432/C5NS47).

    A frame is an instant of speech, 12 coefficients of linear prediction. Utterances have 7 to 29 frames,
    from the first model step; all later steps are blank. A coefficient c is a pixel of 1x1 in two channels,
    ``max(c, 0)`` and ``max(-c, 0)`` in units of `VOWELS_FULL_SCALE` / 255, so a blank frame has 0.

    Parameters
    ----------
    split : str
        ``train`` (270 utterances) or ``test`` (370).
    directory : Path, optional
        That of the two .ts files; without it, `STAS_JAPANESE_VOWELS` or that of an installed package aeon.

    Returns
    -------
    frames : uint8 (n, VOWELS_FRAMES, 24, 1, 1)
    labels : int64 (n,), indices into the classes
    classes : names of the speakers

    Raises
    ------
    InputError
        If the file is missing or damaged, or its utterances are not such coefficients.
    """
    path = (directory or _vowels_directory()) / f"JapaneseVowels_{split.upper()}.ts"
    try:
        series = read_ts(path)
        pixels = [_pixels(case, number) for number, case in enumerate(series.cases)]
    except (OSError, BadDocument) as error:
        raise InputError(
            f"{path}: not a readable .ts file of JapaneseVowels ({reason(error)})",
            remedy="use the files of the package aeon: pip install --no-deps aeon",
        ) from error
    frames = np.zeros((len(pixels), VOWELS_FRAMES, 2 * VOWELS_COEFFICIENTS, 1, 1), np.uint8)
    for number, utterance in enumerate(pixels):
        frames[number, : len(utterance), :, 0, 0] = utterance
    return frames, series.labels, series.classes


def _vowels_directory() -> Path:
    if "STAS_JAPANESE_VOWELS" in os.environ:
        return Path(os.environ["STAS_JAPANESE_VOWELS"])
    found = find_spec("aeon")  # does not import it
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "the data JapaneseVowels come with the package aeon, which is not installed",
            remedy="pip install --no-deps aeon, or set STAS_JAPANESE_VOWELS to the directory with its files",
        )
    return Path(found.submodule_search_locations[0], "datasets", "data", "JapaneseVowels")


def _pixels(case: NDArray[np.float64], number: int) -> Frames:
    """Return the pixels (frames, 24) of an utterance (coefficients, frames)."""
    coefficients, frames = case.shape
    if coefficients != VOWELS_COEFFICIENTS or not 0 < frames <= VOWELS_FRAMES:
        limits = f"{VOWELS_COEFFICIENTS} and 1..{VOWELS_FRAMES}"
        raise BadDocument(
            f"utterance {number} has {coefficients} coefficients and {frames} frames, not {limits}"
        )
    if (largest := float(np.abs(case).max())) > VOWELS_FULL_SCALE:
        raise BadDocument(
            f"utterance {number} has a coefficient of {largest:g}, the limit is {VOWELS_FULL_SCALE}"
        )
    signed = np.concatenate([case, -case]).T / VOWELS_FULL_SCALE
    pixels: Frames = np.rint(255 * signed.clip(0)).astype(np.uint8)
    return pixels


@dataclass(frozen=True)
class Series:
    """Contents of a .ts file: ``cases`` of float64 (dimensions, length), ``labels`` int64, class names."""

    cases: list[NDArray[np.float64]]
    labels: Labels
    classes: tuple[str, ...]


def read_ts(path: Path) -> Series:
    """Read labelled time series from a .ts file (the text format of the UCR/UEA archive), all values finite.

    Lines with ``#`` are comments, those with ``@`` name properties. After ``@data`` each line has a case: its
    dimensions, each a list of numbers with commas, and its class, with colons between them.

    Raises
    ------
    BadDocument
        When the file is damaged or too large, has no classes, or has values that are missing or have times.
    OSError
        When it cannot be opened.
    """
    with open_file(path, _TS_LIMIT) as stream:
        try:
            text = stream.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadDocument(f"is not UTF-8 ({error})") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    begin = next((index for index, (_, line) in enumerate(lines) if line.lower() == "@data"), len(lines))
    classes = _classes([line for _, line in lines[:begin]])
    numbers = {name: index for index, name in enumerate(classes)}
    cases, labels = [], []
    for number, line in lines[begin + 1 :]:
        *dimensions, name = line.split(":")
        if name not in numbers:
            raise BadDocument(f"line {number} has a class that @classLabel does not list")
        values = [_numbers(dimension, number) for dimension in dimensions]
        if not values or len({len(each) for each in values}) > 1:
            raise BadDocument(f"line {number} has no dimensions, or some of different lengths")
        cases.append(np.array(values, np.float64))
        labels.append(numbers[name])
    if not cases:
        raise BadDocument("has no cases after @data")
    return Series(cases, np.array(labels, np.int64), classes)


def _classes(header: list[str]) -> tuple[str, ...]:
    """Return the class names; raise BadDocument for properties that change how cases are written."""
    found: tuple[str, ...] = ()
    for line in header:
        key, *words = line.split()
        if key.lower() in ("@timestamps", "@missing") and words != ["false"]:
            raise BadDocument(f"has {key} {' '.join(words[:1])}, only false is read")
        if key.lower() == "@classlabel" and words[:1] == ["true"]:
            found = tuple(words[1:])
    if len(found) < 2 or len(set(found)) < len(found):
        raise BadDocument("has no @classLabel with the names of different classes")
    return found


def _numbers(text: str, line: int) -> list[float]:
    """Return the numbers of a list with commas."""
    words = text.split(",")
    if not all(_NUMBER.fullmatch(word.strip()) for word in words):
        raise BadDocument(f"line {line} has a value that is not a decimal number")
    values = [float(word) for word in words]
    if not all(math.isfinite(value) for value in values):
        raise BadDocument(f"line {line} has a value that is too large")
    return values
