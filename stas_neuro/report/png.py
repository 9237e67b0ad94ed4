"""Pictures as PNG files that are marked as written by stas-neuro."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from stas_neuro.files import Output

if TYPE_CHECKING:
    from PIL.Image import Image

_KEY, SOFTWARE = "Software", "stas-neuro"


def as_png(picture: Image) -> bytes:
    """Return the bytes of the file."""
    from PIL.PngImagePlugin import PngInfo

    mark, content = PngInfo(), io.BytesIO()
    mark.add_text(_KEY, SOFTWARE)
    picture.save(content, format="PNG", pnginfo=mark)
    return content.getvalue()


def picture_output(path: Path, *, force: bool) -> Output:
    """Return the output of a picture, for `check_outputs`."""
    return Output(path=path, is_earlier=_is_ours, otherwise="is not a picture of stas-neuro", force=force)


def _is_ours(path: Path) -> bool:
    """Search for the mark, which precedes the pixels."""
    return path.is_file() and f"tEXt{_KEY}\0{SOFTWARE}".encode() in path.read_bytes()[:1024]
