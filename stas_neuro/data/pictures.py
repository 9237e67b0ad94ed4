"""Pictures of Pillow as arrays: all of one form, that of the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from stas_neuro.data.pixels import Array, Index, Pixels
from stas_neuro.documents import BadDocument, open_file, reason, shown
from stas_neuro.errors import InputError
from stas_neuro.limits import VALUES_LIMIT

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Formats that are read: some of Pillow's others start programs."""
_GREY, _COLOURED = ("1", "L", "LA"), ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
"""Pillow's modes with 8 bits or less for a value."""


@dataclass(frozen=True)
class Form:
    """What all pictures of data have in common.

    Parameters
    ----------
    mode : str
        "L": grey, one channel. "RGB": three channels; a grey picture then has three equal ones.
    width, height : int
    first : str
        Name of the picture that has determined it.
    """

    mode: str
    width: int
    height: int
    first: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a picture, (C, H, W)."""
        return (1 if self.mode == "L" else 3, self.height, self.width)

    @staticmethod
    def of(picture: Image, name: str) -> Form:
        """Return the form of a picture, which is not decoded."""
        width, height = picture.size
        if 3 * width * height > VALUES_LIMIT:
            what = f"{name}: has {width} x {height} pixels"
            raise InputError(what, f"scale it to at most {VALUES_LIMIT // 3} pixels")
        if picture.mode not in (*_GREY, *_COLOURED):
            what = f"{name}: pixels are of Pillow's mode {shown(picture.mode)}"
            raise InputError(what, "convert it to 8 bits for each value, grey or RGB")
        return Form("L" if picture.mode in _GREY else "RGB", width, height, name)

    def decode(self, picture: Image, name: str) -> Array:
        """Return the pixels of a picture, uint8 (C, H, W).

        Raises InputError where it has another size, or colours where the first has none, or is damaged.
        """
        found = Form.of(picture, name)
        if (found.width, found.height) != (self.width, self.height):
            what = f"{name}: has {found.width} x {found.height} pixels, "
            what += f"{self.first} has {self.width} x {self.height}"
            raise InputError(what, "scale or crop all images to one size, that of the model")
        if self.mode == "L" and found.mode != "L":
            what = f"{name}: has colours, {self.first} has none"
            raise InputError(what, "convert all images to grey, or all to RGB")
        if "transparency" in picture.info:  # else Pillow warns that it drops it
            picture = picture.convert("RGBA")
        pixels = np.asarray(picture if picture.mode == self.mode else picture.convert(self.mode), np.uint8)
        return pixels[None] if self.mode == "L" else np.moveaxis(pixels, -1, 0)


def form_of(stream: BinaryIO, name: str) -> Form:
    """Return the form of an encoded picture; raises InputError where it is not one of `FORMATS`."""
    with _picture(stream, name) as picture:
        return Form.of(picture, name)


def decode(stream: BinaryIO, name: str, form: Form) -> Array:
    """Return the pixels of an encoded picture, see `Form.decode`."""
    with _picture(stream, name) as picture:
        return form.decode(picture, name)


@contextmanager
def _picture(stream: BinaryIO, name: str) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(stream, formats=FORMATS) as picture:
            yield picture
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the decoders raise anything for a damaged file
        what = f"{name}: not a readable image ({reason(error)})"
        raise InputError(what, "save it again, or remove it") from error


class ImageFiles(Pixels):
    """Images in files, decoded when they are read; all have the form of the first."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        with _file(paths[0]) as stream:
            self.form = form_of(stream, str(paths[0]))
        self.shape, self.dtype = (len(paths), *self.form.shape), np.dtype(np.uint8)

    def read(self, index: Index) -> Array:
        """Decode images."""
        images = np.empty((len(index), *self.form.shape), np.uint8)
        for place, number in enumerate(index.tolist()):
            path = self.paths[number]
            with _file(path) as stream:
                images[place] = decode(stream, str(path), self.form)
        return images


def _file(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except (OSError, BadDocument) as error:
        raise InputError(f"{path}: {reason(error)}", "restore the file, or remove it") from error
