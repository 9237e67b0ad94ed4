"""Garments as a small simulated event sensor glimpses them, one after the other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from stas_neuro.data import load_data
from stas_neuro.data.named import FASHION_MNIST_CLASSES
from stas_neuro.errors import InputError
from stas_neuro.glimpses import (
    BINS,
    CONTRAST,
    GLIMPSE_CLASSES,
    KINDS,
    MOVEMENT,
    SCENES,
    SENSOR,
    SIDE,
    events,
    glimpses,
)
from stas_neuro.sequences import ORDER_GAP


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Images with more at their top left, so that the sensor's movement changes what it sees."""
    noise = np.random.RandomState(0).uniform(size=(30, 1, SIDE, SIDE))
    return (255 * noise * np.linspace(1, 0, SIDE) * np.linspace(1, 0, SIDE)[:, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def kinds() -> np.ndarray:
    return np.array([*KINDS, "Coat", "Dress"] * 6)


def seen(image: np.ndarray, row: int, column: int, moved: int) -> float:
    """Return the brightness that a pixel of the sensor sees; it is black around the image."""
    width = SIDE // SENSOR
    total = 0
    for i in range(row * width + moved, (row + 1) * width + moved):
        for j in range(column * width + moved, (column + 1) * width + moved):
            total += int(image[0, i, j]) if max(i, j) < SIDE else 0
    return total / width**2


def test_a_movement_sends_an_event_for_each_step_of_contrast(images: np.ndarray) -> None:
    for image, frame in zip(images[:5], events(images), strict=False):
        for row, column in np.ndindex(SENSOR, SENSOR):
            change = seen(image, row, column, MOVEMENT) - seen(image, row, column, 0)
            expected = [CONTRAST * (max(signed, 0) // CONTRAST) for signed in (change, -change)]
            assert frame[:, row, column].tolist() == expected
    assert events(images).dtype == np.uint8 and events(images)[:, 1].any()


def test_scenes_are_two_garments_of_different_kinds_among_blank_frames(
    images: np.ndarray, kinds: np.ndarray
) -> None:
    images = images.copy()
    for number, kind in enumerate(KINDS):  # each kind has a corner of its own
        images[kinds == kind] = 0
        images[kinds == kind, :, 7 * number : 7 * number + 7, 21:] = 250
    frames, labels, classes = glimpses(images, kinds, "test")
    assert frames.shape == (SCENES["test"], BINS, 2, SENSOR, SENSOR) and frames.dtype == np.uint8
    assert classes == GLIMPSE_CLASSES and len(set(classes)) == 6
    looks = [events(images[kinds == kind])[0] for kind in KINDS]
    gaps = set()
    for scene, label in zip(frames, labels, strict=True):
        first, second = np.flatnonzero(scene.any((1, 2, 3)))
        gaps.add(second - first)
        for kind, frame in zip(classes[label].split(" then "), (scene[first], scene[second]), strict=True):
            np.testing.assert_array_equal(frame, looks[KINDS.index(kind)])
    assert gaps == set(range(1, ORDER_GAP + 1))
    shares = np.bincount(labels, minlength=6) / len(labels)
    assert abs(shares - 1 / 6).max() < 0.04


def test_garments_of_other_kinds_are_not_used(images: np.ndarray, kinds: np.ndarray) -> None:
    other = images.copy()
    other[~np.isin(kinds, KINDS)] = 255
    np.testing.assert_array_equal(glimpses(images, kinds, "train")[0], glimpses(other, kinds, "train")[0])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 1, 8, 8), np.uint8), r"uint8 of shape \(\d+, 1, 8, 8\).*uint8 28x28"),
        (np.zeros((3, 1, SIDE, SIDE)), "images are float64"),
    ],
)
def test_other_images_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        glimpses(images, np.array(KINDS), "train")


def test_a_missing_kind_is_named(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="no images of Bag, Sneaker"):
        glimpses(images[:2], np.array(["Trouser", "Coat"]), "train")


def test_the_garments_are_those_of_fashion_mnist(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(30, dtype=np.uint8) % 10
    for name, array in (("images-idx3", images[:, 0]), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / f"t10k-{name}-ubyte").write_bytes(header + array.tobytes())
    monkeypatch.setenv("STAS_FASHION_MNIST", str(tmp_path))
    data = load_data("simulated-glimpses")
    frames, expected, classes = glimpses(images, np.array(FASHION_MNIST_CLASSES)[labels], "test")
    np.testing.assert_array_equal(data.images, frames)
    np.testing.assert_array_equal(data.labels, expected)
    assert data.classes == classes and data.source == "simulated-glimpses"


def test_scenes_are_the_same_everywhere(images: np.ndarray, kinds: np.ndarray) -> None:
    digest = hashlib.sha256()
    for split in SCENES:
        frames, labels, _ = glimpses(images, kinds, split)
        digest.update(frames.tobytes() + labels.astype("<i8").tobytes())
    assert digest.hexdigest() == "f88893ac5e2b54aefa73a7c21e1b392b96a6749cfa7a1befb4a8c006398a7e12"
