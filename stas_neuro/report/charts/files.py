"""Charts as SVG and PNG files that are marked as written by stas-neuro."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.files import Output, check_outputs
from stas_neuro.report.charts.style import library

if TYPE_CHECKING:
    from altair.typing import ChartType

SUFFIXES = (".svg", ".png")
_KEY, _SOFTWARE = "Software", "stas-neuro"
_SVG_MARK = f"<metadata>{_KEY}: {_SOFTWARE}</metadata>"
_MARKS = {".svg": _SVG_MARK.encode(), ".png": f"tEXt{_KEY}\0{_SOFTWARE}".encode()}
"""What shows that a file is a picture of ours; it is near the start of the file."""
_SEARCHED = 4096
_SCALE = 2.0
"""Pixels of a PNG for each unit of length of a chart."""


def check_installed() -> None:
    """Raise InputError, before any work, where what draws charts is not installed."""
    library()
    with needs("report"):
        import vl_convert  # noqa: F401


def chart_output(path: Path, *, force: bool) -> Output:
    """Return the output of a picture, for `check_outputs`.

    Raises InputError where the suffix of its name is not one of `SUFFIXES`, or nothing can draw it.
    """
    check_installed()
    mark = _MARKS.get(path.suffix.lower())
    if mark is None:
        raise InputError(f"{path}: '{path.suffix}' is no kind of picture", f"use {' or '.join(SUFFIXES)}")

    def is_ours(found: Path) -> bool:
        return found.is_file() and mark in found.read_bytes()[:_SEARCHED]

    return Output(path=path, is_earlier=is_ours, otherwise="is not a picture of stas-neuro", force=force)


def write_chart(path: str | Path, chart: ChartType, *, force: bool = False) -> None:
    """Write a chart as SVG or PNG, by the suffix of the path, completely or not at all.

    `force` replaces an earlier picture.

    Raises
    ------
    InputError
        When the file exists or cannot be written, the suffix is another one, or vl-convert is not installed.
    """
    output = chart_output(Path(path), force=force)
    check_outputs([output])
    output.write(drawn(chart, Path(path).suffix.lower()))


def drawn(chart: ChartType, suffix: str) -> bytes:
    """Return a chart as the bytes of a file with this suffix, one of `SUFFIXES`."""
    with needs("report"):
        import vl_convert

    specification = json.dumps(chart.to_dict())
    if suffix == ".svg":
        text: str = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
        start, end, rest = text.partition(">")
        return f"{start}{end}{_SVG_MARK}{rest}".encode()
    return _marked(vl_convert.vegalite_to_png(specification, scale=_SCALE, allowed_base_urls=[]))


def _marked(png: bytes) -> bytes:
    """Add our mark to a PNG file."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark, content = PngInfo(), io.BytesIO()
    mark.add_text(_KEY, _SOFTWARE)
    with Image.open(io.BytesIO(png)) as picture:
        picture.save(content, format="PNG", pnginfo=mark, optimize=True)
    return content.getvalue()
