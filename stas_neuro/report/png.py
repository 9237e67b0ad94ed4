"""Pictures as PNG files that say whose they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from stas_neuro.files import Output

if TYPE_CHECKING:
    from PIL.Image import Image

_KEY, _OURS = "Software", "stas-neuro"


def as_png(picture: Image) -> bytes:
    """Give the content of the file."""
    from PIL.PngImagePlugin import PngInfo

    told, content = PngInfo(), io.BytesIO()
    told.add_text(_KEY, _OURS)
    picture.save(content, format="PNG", pnginfo=told)
    return content.getvalue()


def picture_output(path: Path, *, force: bool) -> Output:
    """Give the place of a picture, for `check_outputs`."""
    return Output(path=path, is_earlier=_is_ours, otherwise="is no picture of stas-neuro", force=force)


def _is_ours(path: Path) -> bool:
    """Look for the text, which comes before the pixels."""
    return path.is_file() and f"tEXt{_KEY}\0{_OURS}".encode() in path.read_bytes()[:1024]
