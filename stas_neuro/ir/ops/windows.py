"""Windows that slide over maps: of convolutions and of pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np

from stas_neuro.ir.ops.base import AT_LEAST_0, AttributeRange, Node, TypeContext, Untypable, Wanted, within
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.types import Shape
from stas_neuro.limits import KERNEL_LIMIT

Pair = tuple[int, int]
"""Of rows and of columns."""
Side = int | Pair
"""A number for both sides, or one for rows and another for columns."""


class Sides(NamedTuple):
    """Of a window: its taps, distance to the next window, zeros at each border, distance between taps."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def extent(self) -> Pair:
        """Rows and columns from the first tap to the last."""
        rows, columns = ((taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilation, strict=True))
        return rows, columns


class Window(Protocol):
    """A window with zero padding."""

    @property
    def name(self) -> str:
        """Name of the node."""

    @property
    def kernel(self) -> Side:
        """Size of the window."""

    @property
    def stride(self) -> Side:
        """Distance from a window to the next."""

    @property
    def padding(self) -> Side:
        """Zeros at each border of the map."""

    @property
    def dilation(self) -> Side:
        """Distance from a tap to the next."""


def sides(window: Window) -> Sides:
    """Give the numbers of a window for rows and columns."""
    return Sides(*map(_pair, (window.kernel, window.stride, window.padding, window.dilation)))


def _pair(side: Side) -> Pair:
    return (side, side) if isinstance(side, int) else side


def _on_sides(rule: AttributeRange) -> AttributeRange:
    holds, words = rule
    return lambda side: all(map(holds, _pair(side))), words


class Windowed(Node, abstract=True):
    """An operation with windows; two equal numbers of a side are kept as one."""

    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "kernel": _on_sides(within(1, KERNEL_LIMIT)),
        "stride": _on_sides((lambda stride: stride >= 1, "it must be at least 1")),
        "padding": _on_sides(AT_LEAST_0),
        "dilation": _on_sides(within(1, KERNEL_LIMIT)),
    }
    LATER: ClassVar[frozenset[str]] = frozenset({"dilation"})

    if TYPE_CHECKING:  # fields, whose order is that of each operation
        kernel: Side
        stride: Side
        padding: Side
        dilation: Side

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in Sides._fields:
            value = getattr(self, name)
            if isinstance(value, tuple) and list(map(type, value)) == [int, int] and value[0] == value[1]:
                object.__setattr__(self, name, value[0])

    @property
    def sides(self) -> Sides:
        """The window's numbers for rows and columns."""
        return sides(self)

    def check(self, problems: Problems) -> None:
        """Note padding that reaches the kernel."""
        check_padding(self, problems)


def windows_over(window: Window, size: Shape) -> Pair:
    """Count the windows along the rows and columns of a map of a size (H, W); below 1 if it is too small."""
    own = sides(window)
    rows, columns = (
        (length + 2 * padding - extent) // stride + 1
        for length, extent, stride, padding in zip(size, own.extent, own.stride, own.padding, strict=True)
    )
    return rows, columns


def output_size(window: Window, at: TypeContext, shape: Shape) -> Pair:
    """Give the height and width of the map of all windows over a map (C, H, W)."""
    height, width = windows_over(window, shape[1:])
    if height < 1 or width < 1:
        remedy = f"kernel {window.kernel} with padding {window.padding} needs a larger map"
        at.refuse("x", f"has shape {shape}", remedy)
        raise Untypable
    return height, width


def check_padding(window: Window, problems: Problems) -> None:
    """Note padding in which a window would lie wholly."""
    extent, padding = sides(window).extent, sides(window).padding
    if padding[0] >= extent[0] or padding[1] >= extent[1]:
        what = f"padding {window.padding} reaches the kernel {window.kernel}"
        problems.add(window.name, what, "a window must touch the map: padding < kernel")


def in_windows(window: Window, wanted: Wanted, shape: Shape) -> Wanted:
    """Find the positions (H*W, features) of a map (C, H, W) that lie in the windows of wanted outputs."""
    height, width = shape[1:]
    kernel, stride, (above, left), dilation = sides(window)
    rows, columns = windows_over(window, shape[1:])
    features = wanted.shape[1]
    outputs = wanted[:, : 1 if wanted.strides[1] == 0 else features].reshape(rows, columns, -1)
    padded = np.zeros((height + 2 * above, width + 2 * left, outputs.shape[2]), np.bool_)
    for tap in np.ndindex(kernel):
        row, column = (place * step for place, step in zip(tap, dilation, strict=True))
        ends = row + (rows - 1) * stride[0] + 1, column + (columns - 1) * stride[1] + 1
        padded[row : ends[0] : stride[0], column : ends[1] : stride[1]] |= outputs
    reached = padded[above : above + height, left : left + width].reshape(height * width, -1)
    return np.broadcast_to(reached, (height * width, features))
