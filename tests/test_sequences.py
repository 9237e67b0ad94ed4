"""Data in which time carries information: what the generated ones are, and how speech is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from stas_neuro.data import load_data
from stas_neuro.errors import InputError
from stas_neuro.sequences import GLYPHS, ORDER_CLASSES, ORDER_FRAMES, ORDER_GAP, japanese_vowels, read_ts

HEADER = "#a comment\n@problemName X\n@timestamps false\n@missing false\n@classLabel true anna 2\n\n@data\n"
LINE = ":".join(["0.5,-1.25,2.5"] * 11 + ["0,0,-2.5"])


def write(directory: Path, text: str | bytes, split: str = "TEST") -> Path:
    path = directory / f"JapaneseVowels_{split}.ts"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def glyph_of(frame: np.ndarray) -> str | None:
    """Find the glyph of a frame (4, 4) by sliding each over it; None for a blank one."""
    found = {
        name
        for name, glyph in GLYPHS.items()
        for row in range(2)
        for column in range(2)
        if np.array_equal(frame, np.pad(255 * np.array(glyph), ((row, 1 - row), (column, 1 - column))))
    }
    assert len(found) == 1 or not frame.any()
    return next(iter(found), None)


@pytest.mark.parametrize("split", ["train", "test"])
def test_order_is_the_order_of_two_glyphs_among_blank_frames(split: str) -> None:
    data = load_data("order", split)
    assert data.images.shape[1:] == (ORDER_FRAMES, 1, 4, 4) and data.images.dtype == np.uint8
    assert data.labels is not None and data.classes == ORDER_CLASSES
    gaps, starts = set(), set()
    for sequence, label in zip(data.images[:500, :, 0], data.labels[:500], strict=True):
        shown = [(time, glyph) for time, frame in enumerate(sequence) if (glyph := glyph_of(frame))]
        (start, first), (end, second) = shown
        assert ORDER_CLASSES[label] == f"{first} then {second}"
        gaps.add(end - start)
        starts.add(start)
    assert gaps == set(range(1, ORDER_GAP + 1)) and starts == set(range(ORDER_FRAMES - 1))
    counts = np.bincount(data.labels, minlength=6) / len(data)
    assert len(counts) == 6 and abs(counts - 1 / 6).max() < 0.03


def test_order_without_time_is_known_for_one_sequence_in_two() -> None:
    data = load_data("order")
    assert data.labels is not None
    # The glyphs of a class and of its reverse are the same: whoever ignores time names one of the two.
    pairs = [frozenset(name.split(" then ")) for name in ORDER_CLASSES]
    best = sum(
        max(int((data.labels == label).sum()) for label in range(6) if pairs[label] == pair)
        for pair in set(pairs)
    )
    assert abs(best / len(data) - 0.5) < 0.02


def test_order_is_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    for split in ("train", "test"):
        data = load_data("order", split)
        digest.update(data.images.tobytes() + np.asarray(data.labels).astype("<i8").tobytes())
    assert digest.hexdigest() == "db4f0ab70bd87eb2b37bc2e35f47f592a1ab6078cbccc24bd28a2e5d6e5e73c5"


def test_utterances_are_frames_followed_by_blank_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, f"{HEADER}{LINE}:2\r\n{':'.join(['1'] * 12)}:anna\n")
    monkeypatch.setenv("STAS_JAPANESE_VOWELS", str(tmp_path))
    data = load_data("japanese-vowels", "test")
    assert data.images.shape == (2, 29, 24, 1, 1) and data.images.dtype == np.uint8
    assert data.classes == ("anna", "2") and data.labels is not None and data.labels.tolist() == [1, 0]
    positive, negative = data.images[0, :, :12, 0, 0], data.images[0, :, 12:, 0, 0]
    assert positive[:3, 0].tolist() == [51, 0, 255] and negative[:3, 0].tolist() == [0, 128, 0]
    assert positive[:3, 11].tolist() == [0, 0, 0] and negative[:3, 11].tolist() == [0, 0, 255]
    assert not data.images[0, 3:].any() and not data.images[1, 1:].any()
    assert (data.images[1, 0, :12] == 102).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no @classLabel"),
        (HEADER, "no cases after @data"),
        (HEADER.replace("true anna 2", "false") + LINE + ":2", "no @classLabel"),
        (HEADER.replace("anna 2", "2 2") + LINE + ":2", "no @classLabel with the names of different classes"),
        (HEADER.replace("@timestamps false", "@timestamps true") + LINE + ":2", "has @timestamps true"),
        (HEADER.replace("@missing false", "@missing true") + LINE + ":2", "has @missing true"),
        (HEADER + LINE + ":3", "line 8 has a class that @classLabel does not list"),
        (HEADER + "2", "line 8 has no dimensions"),
        (HEADER + LINE + ",1:2", "line 8 has no dimensions, or some of different lengths"),
        (HEADER + LINE.replace("2.5", "?", 1) + ":2", "line 8 has a value that is not a decimal number"),
        (HEADER + LINE.replace("2.5", "nan", 1) + ":2", "line 8 has a value that is not a decimal number"),
        (HEADER + LINE.replace("2.5", "1e999", 1) + ":2", "line 8 has a value that is too large"),
        (
            HEADER + LINE.replace("2.5", "2.51", 1) + ":2",
            "utterance 0 has a coefficient of 2.51, the limit is 2.5",
        ),
        (HEADER + "1:2", "utterance 0 has 1 coefficients and 1 frames, not 12 and 1..29"),
        (HEADER + ":".join([",".join("1" * 30)] * 12) + ":2", "12 coefficients and 30 frames"),
        (HEADER.encode() + b"\xff", "is not UTF-8"),
        (b" " * (1 << 22) + b" ", "has 4194305 bytes, the limit is 4194304"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    write(tmp_path, text)
    with pytest.raises(InputError, match=r"JapaneseVowels_TEST\.ts: not a readable .ts file") as caught:
        japanese_vowels("test", tmp_path)
    assert message in str(caught.value)


def test_missing_data_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"JapaneseVowels_TRAIN\.ts.*pip install --no-deps aeon"):
        japanese_vowels("train", tmp_path)
    monkeypatch.delenv("STAS_JAPANESE_VOWELS", raising=False)
    monkeypatch.setattr("stas_neuro.sequences.find_spec", lambda name: None)
    with pytest.raises(InputError, match="aeon, which is not installed; pip install --no-deps aeon"):
        load_data("japanese-vowels")


def test_files_of_an_installed_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "aeon" / "datasets" / "data" / "JapaneseVowels"
    inside.mkdir(parents=True)
    (tmp_path / "aeon" / "__init__.py").write_text("raise RuntimeError('imported')")
    write(inside, f"{HEADER}{LINE}:2\n{LINE}:anna\n", "TRAIN")
    monkeypatch.delenv("STAS_JAPANESE_VOWELS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(load_data("japanese-vowels", "train")) == 2
    assert [case.shape for case in read_ts(inside / "JapaneseVowels_TRAIN.ts").cases] == [(12, 3)] * 2
