"""Convolution: a layer with weights on maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stas_neuro.ir.ops.base import (
    MAP,
    AttributeRange,
    BoundContext,
    TypeContext,
    Wanted,
    in_parts,
    of_parts,
)
from stas_neuro.ir.ops.synapses import INTEGER_RANGES, FixedSynaptic, Synaptic, bound_synapses
from stas_neuro.ir.ops.windows import Side, Windowed, in_windows, output_size
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import BIAS_LIMIT, Range
from stas_neuro.ir.types import Array, Kind, Shape, ValueType

__all__ = ["Conv2d", "FixedConv2d"]


@dataclass(frozen=True, kw_only=True)
class Conv2d(Windowed, Synaptic):
    """Cross-correlation with zero padding: x (Cin, H, W) -> y (Cout, H', W').

    Channels are in `groups` of equal size, in order: outputs of a group take the inputs of the same group.
    The bias is (Cout,), or with `bias_map` (H', W') one of each position, (Cout, H', W').
    """

    in_channels: int
    out_channels: int
    kernel: Side
    stride: Side
    padding: Side
    bias: bool
    groups: int = 1
    dilation: Side = 1
    bias_map: Shape = ()

    LATER: ClassVar[frozenset[str]] = frozenset({"groups", "dilation", "bias_map"})

    def check(self, problems: Problems) -> None:
        """Note padding that reaches the kernel, groups that do not divide channels, a map that is none."""
        super().check(problems)
        if self.bias_map and (len(self.bias_map) != 2 or "bias" not in self.params(1)):
            what = f"bias_map is {self.bias_map}" + ("" if self.bias else " without biases")
            problems.add(self.name, what, "give a layer with biases the height and width of its output")
        for name in ("in_channels", "out_channels"):
            if (channels := getattr(self, name)) % self.groups:
                what = f"{self.groups} groups do not divide {name}, which is {channels}"
                problems.add(self.name, what, "use a number of groups that does")

    @property
    def weight_shape(self) -> Shape:
        """Shape of the weights, (Cout, Cin / groups, rows, columns)."""
        return self.out_channels, self.in_channels // self.groups, *self.sides.kernel

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        bias = (self.out_channels, *self.bias_map)
        return {"weight": self.weight_shape} | ({"bias": bias} if self.bias else {})

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a map of currents."""
        x = at.take("x", ranks=MAP)
        at.require("x", "the number of channels", x.shape[0], self.in_channels, "in_channels")
        size = output_size(self, at, x.shape)
        if self.bias_map:
            at.require("x", "the size of the map of biases", self.bias_map, size, "that of the output")
        return {"y": at.made(Kind.CURRENT, (self.out_channels, *size))}

    @property
    def width(self) -> int:
        """Channels of the input."""
        return self.in_channels

    @property
    def fan_in(self) -> int:
        """Weights of one output value, taps beyond the border included."""
        return math.prod(self.weight_shape[1:])

    def taps(self, entering: Shape, leaving: Shape) -> Array:
        """All inputs of a group in a window, without those beyond the border, for each window."""
        along = []
        for size, windows, kernel, stride, padding, dilation in zip(
            entering[1:], leaving[1:], *self.sides, strict=True
        ):
            inside = np.arange(windows)[:, None] * stride - padding + np.arange(kernel) * dilation
            along.append(((inside >= 0) & (inside < size)).sum(axis=1))
        taps: Array = self.weight_shape[1] * np.outer(*along).astype(np.int64).reshape(-1)
        return taps

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the windows of all channels of the group."""
        reached = in_windows(self, in_parts(wanted, self.groups), shapes["x"])
        return {"x": of_parts(reached, self.groups * self.weight_shape[1])}


@dataclass(frozen=True, kw_only=True)
class FixedConv2d(Conv2d, FixedSynaptic, integers_of=Conv2d):
    """y = (shift(sum of weight * x, weight_exp) << 6) + (bias << bias_exp).

    shift is to the left for an exponent above 0, else to the right. `weight` are mantissas in [-256, 255],
    multiples of 2^(9 - weight_bits), `weight_exp` (Cout,) their exponents -8..7, `bias` 13-bit mantissas,
    (Cout,) or a map (Cout, *bias_map) where they hold the border of a normalised image. `x_shift` rounds x
    first, see `FixedSynaptic`. `off_core`: computed by a processor beside the cores, and its y is rounded to
    a bias current, (y >> bias_exp) << bias_exp.
    """

    weight_bits: int
    bias_exp: int
    off_core: bool = False
    x_shift: int = 0

    LATER: ClassVar[frozenset[str]] = frozenset({"groups", "dilation", "x_shift"})
    RANGES: ClassVar[dict[str, AttributeRange]] = INTEGER_RANGES

    def written(self) -> dict[str, Any]:
        """Return the attributes in the order that files have always had."""
        values = super().written()
        last = {name: values.pop(name) for name in ("bias_map", "off_core")}
        return values | last

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {
            "weight": self.weight_shape,
            "weight_exp": (self.out_channels,),
            "bias": (self.out_channels, *self.bias_map),
        }

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound synaptic input with its bias, or the bias current that a processor makes of it."""
        y = bound_synapses(self, at)
        if self.off_core:
            mantissa = y.shifted(self.bias_exp)
            at.fits("the bias current that it becomes", mantissa, BIAS_LIMIT, "raise its bias_exp")
            y = mantissa.times(1 << self.bias_exp)
        return {"y": y}
