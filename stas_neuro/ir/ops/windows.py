"""Windows that slide over maps: of convolutions and of pooling."""

from __future__ import annotations

from typing import Protocol

from stas_neuro.ir.ops.base import TypeContext, Untypable
from stas_neuro.ir.types import Shape


class Window(Protocol):
    """A square window with zero padding."""

    @property
    def kernel(self) -> int:
        """Side of the window."""

    @property
    def stride(self) -> int:
        """Distance from a window to the next."""

    @property
    def padding(self) -> int:
        """Zeros around the map."""


def output_size(window: Window, at: TypeContext, shape: Shape) -> tuple[int, int]:
    """Give the height and width of the map of all windows over a map (C, H, W)."""
    height, width = ((size + 2 * window.padding - window.kernel) // window.stride + 1 for size in shape[1:])
    if height < 1 or width < 1:
        remedy = f"kernel {window.kernel} with padding {window.padding} needs a larger map"
        at.refuse("x", f"has shape {shape}", remedy)
        raise Untypable
    return height, width
