"""Windows that slide over maps: of convolutions and of pooling."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from stas_neuro.ir.ops.base import TypeContext, Untypable, Wanted
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.types import Shape


class Window(Protocol):
    """A square window with zero padding."""

    @property
    def name(self) -> str:
        """Name of the node."""

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


def check_padding(window: Window, problems: Problems) -> None:
    """Note padding in which a window would lie wholly."""
    if window.padding >= window.kernel:
        what = f"padding {window.padding} reaches the kernel {window.kernel}"
        problems.add(window.name, what, "a window must touch the map: padding < kernel")


def in_windows(window: Window, wanted: Wanted, shape: Shape) -> Wanted:
    """Find the positions (H*W, features) of a map (C, H, W) that lie in the windows of wanted outputs."""
    height, width = shape[1:]
    pad, stride = window.padding, window.stride
    rows, columns = ((size + 2 * pad - window.kernel) // stride + 1 for size in (height, width))
    outputs = wanted.reshape(rows, columns, -1)
    padded = np.zeros((height + 2 * pad, width + 2 * pad, outputs.shape[2]), np.bool_)
    for row in range(window.kernel):
        for column in range(window.kernel):
            ends = row + (rows - 1) * stride + 1, column + (columns - 1) * stride + 1
            padded[row : ends[0] : stride, column : ends[1] : stride] |= outputs
    return padded[pad : pad + height, pad : pad + width].reshape(height * width, -1)
