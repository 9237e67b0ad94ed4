"""What layers with weights share: `Conv2d` and `Linear`, and the integers of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from stas_neuro.ir.ops.base import AttributeRange, BoundContext, CoreMemory, Node, Traits, within
from stas_neuro.ir.ranges import ALIGN, BIAS_LIMIT, EXACT_LIMIT, STATE_LIMIT, Range
from stas_neuro.ir.types import Array, Shape

__all__ = ["FixedSynaptic", "Synaptic", "synaptic_ranges"]

EXPONENT_BITS = 4
"""Of the power of two that the weights of a feature are multiplied by, -8..7."""

STORED_WEIGHTS = Traits(
    counts_events=True,
    fires=False,
    keeps_neurons=False,
    makes_current=True,
    stores_weights=True,
    multiplies_spikes=False,
    passes_current=False,
    in_place=False,
    mixes_tokens=(),
    masks_tokens=False,
    needs_program=False,
    gathers=False,
    stacks=False,
    gates_tokens=False,
    sends_if_visited=False,
    may_end=False,
    state="",
)


class Synaptic(Node, abstract=True):
    """A layer with weights (`bias`: and biases)."""

    TRAITS: ClassVar[Traits] = STORED_WEIGHTS

    if TYPE_CHECKING:  # fields, whose order is that of each layer
        bias: bool

    @property
    def width(self) -> int:
        """Input features: channels of a map, features of a token."""
        raise NotImplementedError

    @property
    def fan_in(self) -> int:
        """Weights of one output value."""
        raise NotImplementedError

    def taps(self, entering: Shape, leaving: Shape) -> Array:
        """Count the synapses of one feature at each position, int64 (positions,); x and y have the shapes."""
        raise NotImplementedError

    def memory(self, entering: Mapping[str, Shape], leaving: Shape, bits: int) -> CoreMemory:
        """Keep the weights, and the exponent of each feature's."""
        if self.off_core:
            return CoreMemory()
        return CoreMemory(
            synapse_bits=self.taps(entering["x"], leaving) * bits,
            shared_bits=self.fan_in * bits,
            feature_bits=EXPONENT_BITS,
        )


class FixedSynaptic(Synaptic, abstract=True):
    """A layer with integer weights: mantissas of `weight_bits` bits, biases times 2^bias_exp.

    What it reads is sent as x / 2^x_shift, rounded to the nearest: (x + 2^(x_shift - 1)) >> x_shift.
    """

    if TYPE_CHECKING:
        weight_bits: int
        bias_exp: int
        x_shift: int


SHIFT_RANGE: AttributeRange = within(0, STATE_LIMIT.bit_length() - 1)
"""Of the bits by which currents are rounded where they are sent."""
INTEGER_RANGES: dict[str, AttributeRange] = {
    "weight_bits": within(1, 9),
    "bias_exp": within(0, 7),
    "x_shift": SHIFT_RANGE,
}
"""Of the attributes that integer weights have."""


def synaptic_ranges(weight: Array, exponents: Array, bias: Array, x: Range) -> tuple[Range, Range]:
    """Give the ranges of synaptic input, and of it with the bias (out, ...), over inputs in `x` or 0."""
    matrix = weight.reshape(len(weight), -1)
    positive, negative = np.maximum(matrix, 0).sum(1), np.minimum(matrix, 0).sum(1)
    high = _shift(positive * max(x.high, 0) + negative * min(x.low, 0), exponents) << ALIGN
    low = _shift(positive * min(x.low, 0) + negative * max(x.high, 0), exponents) << ALIGN
    biases = bias.reshape(len(bias), -1)
    y = Range(int((low + biases.min(1)).min()), int((high + biases.max(1)).max()))
    return Range(int(low.min()), int(high.max())), y


def bound_synapses(node: FixedSynaptic, at: BoundContext) -> Range:
    """Bound the output of integer weights; note what is no mantissa, and what leaves the width of a state."""
    weight, exponents, bias = (at.tensor(param) for param in ("weight", "weight_exp", "bias"))
    _check_mantissas(node, at, weight, exponents, bias)
    x = at.inputs["x"].with_zero().rounded(node.x_shift)  # 0: the padding of a map, the x of a dead token
    sums = Range(0, int(np.abs(weight).reshape(len(weight), -1).sum(1).max()) * x.magnitude)
    at.fits("the sum of its inputs' magnitudes", sums, EXACT_LIMIT, "split the layer")
    current, y = synaptic_ranges(weight, exponents, bias << node.bias_exp, x)
    remedy = "lower its weight_exp, or leave the exponents to the Quantise pass"
    at.fits("its synaptic input", current, STATE_LIMIT, remedy)
    at.fits("its output", y, STATE_LIMIT, remedy)
    return y


def _check_mantissas(
    node: FixedSynaptic, at: BoundContext, weight: Array, exponents: Array, bias: Array
) -> None:
    name, step = node.name, 1 << (9 - node.weight_bits)
    if weight.min() < -256 or weight.max() > 255 or (weight % step).any():
        what = f"weights in {weight.min()}..{weight.max()} are no mantissas of {node.weight_bits} bits"
        at.problems.add(f"{name}/weight", what, f"use multiples of {step} in -256..255")
    if exponents.min() < -8 or exponents.max() > 7:
        what = f"exponents are {exponents.min()}..{exponents.max()}"
        at.problems.add(f"{name}/weight_exp", what, "use -8..7")
        exponents.clip(-8, 7, out=exponents)
    at.fits("a bias", Range(int(bias.min()), int(bias.max())), BIAS_LIMIT, "raise its bias_exp")


def _shift(value: Array, exponents: Array) -> Array:
    """Shift left by exponents above 0, right (towards minus infinity) by those below."""
    shifted: Array = (value << np.maximum(exponents, 0)) >> np.maximum(-exponents, 0)
    return shifted
