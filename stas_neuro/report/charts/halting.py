"""Where and when tokens halt."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stas_neuro.errors import InputError
from stas_neuro.report.charts.style import SHADES, WIDTH, colours_of, finished, library, rows

if TYPE_CHECKING:
    from altair.typing import ChartType

Visits = npt.NDArray[np.bool_]
_SIDE = 150
"""Size in pixels of an image and of its map."""
_COLUMNS = 4
_SMALL: dict[str, Any] = {"fontSize": 11, "fontWeight": "normal", "anchor": "middle", "offset": 5}
"""Titles of images and maps."""
_BASIS = "Counted in a simulated run: estimated, not measured on a chip."


def halting_chart(
    images: npt.NDArray[Any], visits: Visits, captions: Sequence[str] = (), *, run: str = "the run"
) -> ChartType:
    """Draw each image above a map of the visits of its tokens.

    Parameters
    ----------
    images : uint8 or float (B, C, H, W), or (B, T, C, H, W)
        Grey (1 channel), colour (3) or else the mean of the channels; floats are stretched to their range. Of
        frames the mean is drawn.
    visits : bool (B, T, L, N)
        Tokens row-major over the patch grid: square, or shaped like the image.
    captions : sequence of str
        One for each image, such as predicted class and label.
    run : str
        Name of the run.

    Raises
    ------
    InputError
        When the shapes do not match, N tokens do not form a grid, or Altair is not installed.
    """
    alt = library()
    _check(images, visits, captions)
    columns = _columns(visits.shape[3], images.shape[-2], images.shape[-1])
    most = visits.shape[1] * visits.shape[2]
    drawn = []
    for number, (image, visited) in enumerate(zip(images, visits, strict=True)):
        used = visited.sum(axis=(0, 1))
        caption = captions[number] if captions else f"image {number}"
        size = {"width": _SIDE, "height": round(_SIDE * images.shape[-2] / images.shape[-1])}
        picture = (
            alt.Chart(rows([{"url": _url(image, size["width"], size["height"])}]))
            .mark_image(**size)
            .encode(url="url:N", x=alt.value(_SIDE / 2), y=alt.value(size["height"] / 2))
            .properties(title=alt.TitleParams(caption, **_SMALL, limit=_SIDE), **size)
        )
        cells = [
            {"row": token // columns, "column": token % columns, "visits": int(used[token])}
            for token in range(len(used))
        ]
        map_of = (
            alt.Chart(rows(cells))
            .mark_rect()
            .encode(
                x=alt.X("column:O", axis=None),
                y=alt.Y("row:O", axis=None),
                color=alt.Color(
                    "visits:Q",
                    title=["visits of", "a token", f"(of {most})"],
                    scale=alt.Scale(scheme=SHADES, domain=[0, most]),
                    legend=alt.Legend(tickMinStep=1, format="d", gradientLength=140),
                ),
                tooltip=["row:O", "column:O", "visits:Q"],
            )
            .properties(title=alt.TitleParams(f"mean {used.mean():.2f} visits", **_SMALL), **size)
        )
        drawn.append(alt.vconcat(picture, map_of, spacing=6))
    return finished(
        alt.concat(*drawn, columns=_COLUMNS, spacing=14),
        "Where tokens halt",
        f"{run}: each image, with {'its caption' if captions else 'its number'}, above a map of its tokens",
        f"visits of a token: how many of the {most} pairs of model step and block computed it",
        _BASIS,
    )


def exits_chart(runs: Mapping[str, Visits]) -> ChartType:
    """Draw how many visits tokens use, and in which model step the last token of an image halts.

    Parameters
    ----------
    runs : mapping of label to bool (B, T, L, N)
        Visits of each run, from `Trace.visits` or `Activity.visits`.

    Raises
    ------
    InputError
        When there are no visits, or Altair is not installed.
    """
    alt = library()
    if not runs or not all(visits.size for visits in runs.values()):
        raise InputError("there are no visits to draw", "give the visits of a run of at least one image")
    labels = list(runs)
    panels = (
        ("visits of a token", "share of tokens", _by_token),
        ("last model step with a live token", "share of images", _by_image),
    )
    drawn = []
    for name, share, count in panels:
        values = [
            {"run": label, "n": number, "share": part}
            for label, visits in runs.items()
            for number, part in enumerate(count(visits).tolist())
        ]
        drawn.append(
            alt.Chart(rows(values))
            .mark_bar()
            .encode(
                x=alt.X("n:O", title=name, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
                xOffset=alt.XOffset("run:N", sort=labels),
                y=alt.Y("share:Q", title=share, axis=alt.Axis(format="%", tickCount=6)),
                color=alt.Color("run:N", sort=labels, scale=colours_of(labels), title="run"),
                tooltip=["run:N", alt.Tooltip("n:O", title=name), alt.Tooltip("share:Q", format=".1%")],
            )
            .properties(width=WIDTH // 2 - 30, height=220)
        )
    first = next(iter(runs.values()))
    return finished(
        alt.hconcat(*drawn),
        "When tokens and images stop",
        f"{', '.join(labels)}; {len(first)} images, {first.shape[3]} tokens, {first.shape[1]} model steps x "
        f"{first.shape[2]} blocks; 0: never computed",
        _BASIS,
    )


def _by_token(visits: Visits) -> npt.NDArray[np.float64]:
    """Return the share of tokens by number of visits, from 0 to all."""
    used = visits.sum(axis=(1, 2))
    counted = np.bincount(used.ravel(), minlength=visits.shape[1] * visits.shape[2] + 1)
    return np.asarray(counted / used.size)


def _by_image(visits: Visits) -> npt.NDArray[np.float64]:
    """Return the share of images by the last model step in which a token is visited, counted from 1."""
    alive = visits.any(axis=(2, 3))
    last = (alive * np.arange(1, visits.shape[1] + 1)).max(axis=1)
    return np.asarray(np.bincount(last, minlength=visits.shape[1] + 1) / len(visits))


def _check(images: npt.NDArray[Any], visits: Visits, captions: Sequence[str]) -> None:
    if images.ndim not in (4, 5) or not len(images):
        what = f"images have shape {images.shape}"
        raise InputError(what, "give (B, C, H, W) or (B, T, C, H, W), at least one image")
    if visits.ndim != 4 or len(visits) != len(images) or not visits.size:
        raise InputError(f"visits have shape {visits.shape}", f"give ({len(images)}, T, L, N), none empty")
    if captions and len(captions) != len(images):
        raise InputError(f"there are {len(captions)} captions", f"give one for each of {len(images)} images")


def _columns(tokens: int, height: int, width: int) -> int:
    """Return the number of columns of the patch grid, for which patches are square."""
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
    return tokens // fitting[0]


def _url(image: npt.NDArray[Any], width: int, height: int) -> str:
    """Return an image (C, H, W) or (T, C, H, W), enlarged without smoothing, as the URL of a PNG."""
    from PIL import Image

    content = io.BytesIO()
    shown = Image.fromarray(_pixels(image))
    factor = max(1, -(-2 * max(width, height) // max(shown.size)))
    enlarged = shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    enlarged.save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _pixels(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Convert an image (C, H, W) or frames (T, C, H, W) to pixels (H, W, 3)."""
    pixels = image.astype(np.float64)
    if pixels.ndim == 4:
        pixels = pixels.mean(axis=0)
    if image.dtype != np.uint8:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) * (255 / (high - low) if high > low else 0)
    if len(pixels) != 3:
        pixels = np.repeat(pixels.mean(axis=0, keepdims=True), 3, axis=0)
    return np.ascontiguousarray(pixels.round().astype(np.uint8).transpose(1, 2, 0))
