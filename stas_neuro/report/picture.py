"""Pictures of where tokens halt: each image beside a map of the number of visits of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs
from stas_neuro.report.png import as_png, picture_output

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 192  # pixels of an image and of its map
_GAP = 12
_TEXT = 18  # height of a line of text
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
# From dark (few visits) to light (many), readable in print and by colour-blind readers.
_COLOURS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64
)


def halting_map(
    images: npt.NDArray[Any], visits: npt.NDArray[np.bool_], captions: Sequence[str] = ()
) -> Image:
    """Draw one row for each image, with a map of the visits of its tokens, and one legend.

    Parameters
    ----------
    images : uint8 or float (B, C, H, W)
        Grey (1 channel), colour (3) or else the mean of the channels; floats are stretched to their range.
    visits : bool (B, T, L, N)
        Tokens row-major over the patch grid: square, or shaped like the image.
    captions : sequence of str
        One for each row, such as predicted class and label.

    Raises
    ------
    InputError
        When the shapes do not match, or N tokens do not form a grid.
    """
    from PIL import Image as Images
    from PIL import ImageDraw

    _check(images, visits, captions)
    rows, columns = _grid(visits.shape[3], images.shape[2], images.shape[3])
    most = visits.shape[1] * visits.shape[2]
    height = _GAP + len(images) * (_TEXT + _SIDE + _GAP) + 2 * _TEXT + _GAP
    canvas = Images.new("RGB", (2 * _SIDE + 3 * _GAP, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, (image, visited) in enumerate(zip(images, visits, strict=True)):
        top = _GAP + row * (_TEXT + _SIDE + _GAP)
        used = visited.sum(axis=(0, 1))
        caption = captions[row] if captions else ""
        draw.text((_GAP, top), caption, fill=_INK)
        draw.text((2 * _GAP + _SIDE, top), f"mean {used.mean():.2f} of {most} visits", fill=_INK)
        shades = _colour(used.reshape(rows, columns) / most)
        for column, pixels in enumerate((_picture(image), shades)):
            picture = Images.fromarray(pixels).resize((_SIDE, _SIDE), Images.Resampling.NEAREST)
            canvas.paste(picture, (_GAP + column * (_SIDE + _GAP), top + _TEXT))
    _legend(canvas, most, height - 2 * _TEXT - _GAP)
    return canvas


def write_halting_map(
    path: str | Path,
    images: npt.NDArray[Any],
    visits: npt.NDArray[np.bool_],
    captions: Sequence[str] = (),
    *,
    force: bool = False,
) -> None:
    """Write `halting_map` as a PNG, completely or not at all; `force` replaces an earlier picture.

    Raises
    ------
    InputError
        When the file exists or cannot be written, or as `halting_map`.
    """
    output = picture_output(Path(path), force=force)
    check_outputs([output])
    output.write(as_png(halting_map(images, visits, captions)))


def _check(images: npt.NDArray[Any], visits: npt.NDArray[np.bool_], captions: Sequence[str]) -> None:
    if images.ndim != 4 or not len(images):
        raise InputError(f"images have shape {images.shape}", "give (B, C, H, W), at least one image")
    if visits.ndim != 4 or len(visits) != len(images) or not visits.size:
        raise InputError(f"visits have shape {visits.shape}", f"give ({len(images)}, T, L, N), none empty")
    if captions and len(captions) != len(images):
        raise InputError(f"there are {len(captions)} captions", f"give one for each of {len(images)} images")


def _grid(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the patch grid, for which patches are square."""
    fitting = [
        rows
        for rows in range(1, tokens + 1)
        if tokens % rows == 0 and rows * width == tokens // rows * height
    ]
    if not fitting:
        raise InputError(
            f"{tokens} tokens do not form a grid on an image of {height} x {width}",
            "give the images of this run",
        )
    return fitting[0], tokens // fitting[0]


def _picture(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Convert an image (C, H, W) to pixels (H, W, 3)."""
    pixels = image.astype(np.float64)
    if image.dtype != np.uint8:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) * (255 / (high - low) if high > low else 0)
    if len(pixels) != 3:
        pixels = np.repeat(pixels.mean(axis=0, keepdims=True), 3, axis=0)
    return np.ascontiguousarray(pixels.round().astype(np.uint8).transpose(1, 2, 0))


def _colour(fraction: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Map fractions 0 to 1 to colours (..., 3)."""
    anchors = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(fraction, anchors, _COLOURS[:, channel]) for channel in range(3)]
    return np.asarray(np.stack(channels, axis=-1).round(), dtype=np.uint8)


def _legend(canvas: Image, most: int, top: int) -> None:
    """Draw the colour scale from 0 to `most` visits."""
    from PIL import Image as Images
    from PIL import ImageDraw

    width = canvas.width - 2 * _GAP
    scale = _colour(np.linspace(0, 1, width)[None, :])
    canvas.paste(Images.fromarray(scale).resize((width, _TEXT - 4)), (_GAP, top))
    draw = ImageDraw.Draw(canvas)
    below = top + _TEXT
    draw.text((_GAP, below), "0", fill=_INK)
    draw.text((canvas.width // 2, below), "visits of a token (steps x blocks)", fill=_INK, anchor="ma")
    draw.text((canvas.width - _GAP, below), str(most), fill=_INK, anchor="ra")
