"""Images from Python: data sets of torchvision's kind, sequences, iterables, tensors and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stas_neuro.data import LabelledImages, as_images, load_data
from stas_neuro.errors import InputError

RNG = np.random.default_rng(1)
COLOUR: NDArray[np.uint8] = RNG.integers(0, 256, (6, 8, 9, 3), np.uint8)
FIRST = np.moveaxis(COLOUR, -1, 1)
LABELS = np.array([0, 1, 2, 2, 1, 0])


class Vision(torch.utils.data.Dataset[Any]):
    """A data set as those of torchvision are."""

    classes = ("a", "b", "c")

    def __init__(self, target_transform: Callable[[int], int] | None = None) -> None:
        self.targets = LABELS.tolist()
        self.target_transform = target_transform
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(COLOUR)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read.append(index)
        label = self.targets[index]
        return Image.fromarray(COLOUR[index]), self.target_transform(
            label
        ) if self.target_transform else label


def test_data_sets_of_torchvision_are_read_when_needed():
    vision = Vision()
    data = load_data(vision)
    assert vision.read == [0]
    np.testing.assert_array_equal(data.images[3:5], FIRST[3:5])
    assert vision.read == [0, 3, 4]
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.classes == ("a", "b", "c")
    part = load_data(torch.utils.data.Subset(vision, [4, 2]))
    np.testing.assert_array_equal(part.images[:], FIRST[[4, 2]])
    np.testing.assert_array_equal(part.labels, LABELS[[4, 2]])
    assert part.classes == ("a", "b", "c")
    np.testing.assert_array_equal(load_data(Vision(lambda label: 2 - label)).labels, 2 - LABELS)


FORMS: dict[str, Callable[[], Any]] = {
    "pairs": lambda: [(image, int(label)) for image, label in zip(COLOUR, LABELS, strict=True)],
    "tensors": lambda: torch.utils.data.TensorDataset(torch.tensor(FIRST), torch.tensor(LABELS)),
    "pictures": lambda: [
        {"image": Image.fromarray(i), "label": k} for i, k in zip(COLOUR, LABELS, strict=True)
    ],
    "iterator": lambda: ((torch.tensor(image), label) for image, label in zip(FIRST, LABELS, strict=True)),
    "arrays": lambda: (COLOUR, LABELS),
    "one-hot": lambda: (FIRST.astype(np.int16), np.eye(3)[LABELS]),
    "tensor-pair": lambda: (torch.tensor(FIRST), torch.tensor(LABELS)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_items(form: str):
    data = as_images(FORMS[form]())
    np.testing.assert_array_equal(np.asarray(data.images), FIRST)
    np.testing.assert_array_equal(data.select(slice(4, 1, -1)).images[:], FIRST[4:1:-1])
    np.testing.assert_array_equal(data.labels, LABELS)


def test_images_alone():
    for images in (FIRST, torch.tensor(FIRST), COLOUR.astype(np.int32), list(COLOUR), iter(list(COLOUR))):
        data = as_images(images)
        np.testing.assert_array_equal(np.asarray(data.images), FIRST)
        assert data.labels is None
    assert as_images(data) is data
    floats = (FIRST / 255).astype(np.float32)
    assert as_images(floats).images is floats
    named = as_images([(image, "abc"[label]) for image, label in zip(COLOUR, LABELS, strict=True)])
    assert named.classes == ("a", "b", "c")
    np.testing.assert_array_equal(named.labels, LABELS)


def broken() -> Iterator[Any]:
    yield COLOUR[0]
    yield COLOUR[0][:5]


class Failing:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (5, "the images are of type int; use an array"),
        ({"a": 1}, "the images are of type dict"),
        ([], "the images: has no images"),
        (iter([]), "the images: has no images"),
        (broken(), r"image 1 has shape \(5, 9, 3\), the first has \(8, 9, 3\); scale or crop"),
        (["a", "b"], "image 0 is of type str; use items that are an image"),
        ([{"text": 1}], "an item has no image, only text"),
        ([(COLOUR[0], 1), (COLOUR[1], None)], "item 1 has no label, others have; label all of them, or none"),
        ([(COLOUR[0], [1]), (COLOUR[1], [1, 2])], "labels have different shapes"),
        (Failing(), "item 0 cannot be read: OSError: the disk is gone; correct the data set"),
        (COLOUR.astype(np.int32) * 9, r"pixels are int32 in 0\.\.\d+; scale them to 0\.\.255"),
    ],
)
def test_items_that_are_refused(items: Any, message: str):
    with pytest.raises(InputError, match=message):
        as_images(items)


def test_first_frames_are_not_read():
    events = np.arange(6 * 4 * 2 * 5 * 5, dtype=np.uint8).reshape(6, 4, 2, 5, 5)
    for images in (events, list(events)):
        part = as_images(images).first_frames(2)
        assert part.images.shape == (6, 2, 2, 5, 5)
        np.testing.assert_array_equal(np.asarray(part.images), events[:, :2])
    still = LabelledImages(FIRST, None)
    assert still.first_frames(2) is still
