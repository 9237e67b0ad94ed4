"""Convolution: a layer with weights on maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stas_neuro.ir.ops.base import (
    AT_LEAST_0,
    MAP,
    AttributeRange,
    BoundContext,
    TypeContext,
    Wanted,
    anywhere,
    within,
)
from stas_neuro.ir.ops.synapses import INTEGER_RANGES, FixedSynaptic, Synaptic, bound_synapses
from stas_neuro.ir.ops.windows import check_padding, in_windows, output_size
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import BIAS_LIMIT, Range
from stas_neuro.ir.types import Array, Kind, Shape, ValueType
from stas_neuro.limits import KERNEL_LIMIT

__all__ = ["Conv2d", "FixedConv2d"]


@dataclass(frozen=True, kw_only=True)
class Conv2d(Synaptic):
    """Cross-correlation with square kernel, zero padding: x (Cin, H, W) -> y (Cout, H', W')."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: int
    bias: bool

    RANGES: ClassVar[dict[str, AttributeRange]] = {"kernel": within(1, KERNEL_LIMIT), "padding": AT_LEAST_0}

    def check(self, problems: Problems) -> None:
        """Note padding that reaches the kernel."""
        check_padding(self, problems)

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        weight = (self.out_channels, self.in_channels, self.kernel, self.kernel)
        return {"weight": weight} | ({"bias": (self.out_channels,)} if self.bias else {})

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a map of currents."""
        x = at.take("x", ranks=MAP)
        at.require("x", "the number of channels", x.shape[0], self.in_channels, "in_channels")
        return {"y": at.made(Kind.CURRENT, (self.out_channels, *output_size(self, at, x.shape)))}

    @property
    def width(self) -> int:
        """Channels of the input."""
        return self.in_channels

    @property
    def fan_in(self) -> int:
        """Weights of one output value, taps beyond the border included."""
        return self.in_channels * self.kernel**2

    def taps(self, entering: Shape, leaving: Shape) -> Array:
        """All inputs in a window, without those beyond the border, for each window."""
        sides = []
        for size, windows in zip(entering[1:], leaving[1:], strict=True):
            inside = np.arange(windows)[:, None] * self.stride - self.padding + np.arange(self.kernel)
            sides.append(((inside >= 0) & (inside < size)).sum(axis=1))
        taps: Array = self.in_channels * np.outer(*sides).astype(np.int64).reshape(-1)
        return taps

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the windows of all channels."""
        positions = in_windows(self, anywhere(wanted, axis=1), shapes["x"])
        return {"x": np.repeat(positions, self.in_channels, axis=1)}


@dataclass(frozen=True, kw_only=True)
class FixedConv2d(Conv2d, FixedSynaptic, integers_of=Conv2d):
    """y = (shift(sum of weight * x, weight_exp) << 6) + (bias << bias_exp).

    shift is to the left for an exponent above 0, else to the right. `weight` are mantissas in [-256, 255],
    multiples of 2^(9 - weight_bits), `weight_exp` (Cout,) their exponents -8..7, `bias` 13-bit mantissas,
    (Cout,) or a map (Cout, *bias_map) where they hold the border of a normalised image. `off_core`: computed
    by a processor beside the cores, and its y is rounded to a bias current, (y >> bias_exp) << bias_exp.
    """

    weight_bits: int
    bias_exp: int
    bias_map: Shape = ()
    off_core: bool = False

    RANGES: ClassVar[dict[str, AttributeRange]] = INTEGER_RANGES

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {
            "weight": (self.out_channels, self.in_channels, self.kernel, self.kernel),
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
