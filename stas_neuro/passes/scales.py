"""Which power of two and which threshold make the best integers of a layer's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stas_neuro.ir import ALIGN, BIAS_LIMIT, STATE_LIMIT, VTH_LIMIT, Array, IRError, Problem, Range
from stas_neuro.passes.scale_search import (
    FRACTIONS,
    LARGEST_OCTAVE,
    MOST_CLIPPED,
    best_exponents,
    delta_of,
    to_mantissas,
)

_FREE_OCTAVES = range(-63, 301)
"""Octaves of a layer that drives no neurons, whose unit no threshold binds."""
_EXPONENTS = range(-8, 8)
EXPONENT_LIMIT = _EXPONENTS[-1]
"""Largest exponent of weights."""
LARGEST_SHIFT = STATE_LIMIT.bit_length() - 1
"""Of values that are rounded before they are sent: at least their sign and one bit are left."""
PLAIN_BIAS_EXP = 6
"""Of biases beside weights without exponents."""
_NEGLIGIBLE = 1 / 4
"""Part of a threshold that the rounding of a layer's weights may move a membrane by, at worst, when they are
too small for the exponents of a core."""
_SMALLER_WEIGHTS = "lower its weights, or the scale of its normalisation, or raise the variance there"
_SMALLER_BIASES = "lower its biases, or the shift or mean of its normalisation, or raise the variance there"


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a layer has seen on a sample: mean (groups, in) and second moment (groups, in, in), float64.

    `in` are the columns of the weights as a matrix (out, in): of a convolution, the taps of all channels of a
    group. Other layers have one group.
    """

    mean: Array
    second: Array

    def mean_output(self, weight: Array) -> Array:
        """Give the mean of what weights (out, in) make of the inputs, (out,)."""
        parts = zip(np.split(weight, len(self.mean)), self.mean, strict=True)
        return np.concatenate([part @ mean for part, mean in parts])

    def square_output(self, weight: Array) -> Array:
        """Give the mean square of what weights (out, in) make of the inputs, (out,)."""
        parts = zip(np.split(weight, len(self.second)), self.second, strict=True)
        return np.concatenate([((part @ second) * part).sum(1) for part, second in parts])


@dataclass(frozen=True, eq=False)
class Synapses:
    """One layer's weights (out, in) onto membranes, and the integers that come in.

    `bias` is of any shape (out, ...): `own_bias`, the layer's own, and what the weights make of the value
    that an input of 0 stands for. `column_unit` (in,) or (out, in) is what one unit of an integer input
    stands for, `lowest` and `highest` its ends. `factor` is how often the layer's unit fits into that of its
    group, `repeats` how many of its outputs are added up. Where the inputs are currents they may be rounded
    before they are sent (`rounds`): weights may then be as much smaller.
    """

    name: str
    weight: Array
    bias: Array
    own_bias: Array
    column_unit: Array
    lowest: int
    highest: int
    statistics: Statistics | None
    factor: float = 1.0
    repeats: int = 1
    rounds: bool = False

    @property
    def least_exponent(self) -> int:
        """Smallest power of two that its weights can be multiplied by."""
        return _EXPONENTS[0] - (LARGEST_SHIFT if self.rounds else 0)

    def scale(self, unit: float, exponents: Array) -> LayerScale:
        """Give the scale of exponents (out,), where those that are too small are the smallest."""
        held = np.maximum(exponents, self.least_exponent)
        shift = max(0, _EXPONENTS[0] - int(held.min()))
        return LayerScale(unit, tuple(int(exponent) for exponent in held + shift), x_shift=shift)


@dataclass(frozen=True)
class LayerScale:
    """`unit` is what one unit of the output stands for; a weight is mantissa * 2^(exponent + 6) * unit.

    If inputs are rounded to multiples of 2^x_shift before they are sent, it is 2^x_shift times smaller.
    """

    unit: float
    exponents: tuple[int, ...]
    """One an output channel."""
    bias_exp: int | None = None
    """Of the biases; None for the finest that holds them."""
    x_shift: int = 0

    @property
    def is_of_core(self) -> bool:
        """Whether a core has such exponents; those that are tried first are others."""
        fits = all(exponent in _EXPONENTS for exponent in self.exponents)
        shifts = 0 <= self.x_shift <= LARGEST_SHIFT
        return self.unit > 0 and fits and shifts and (self.bias_exp is None or 0 <= self.bias_exp <= 7)

    @property
    def deltas(self) -> Array:
        """What a mantissa of 1 stands for in each output channel, float64 (out,)."""
        return delta_of(self.unit, np.array(self.exponents) - self.x_shift)


def mantissas(synapses: Synapses, scale: LayerScale, bits: int) -> Array:
    """Round weights to mantissas of a width, int64 (out, in)."""
    return to_mantissas(synapses.weight * synapses.column_unit / scale.deltas[:, None], bits)


@dataclass(frozen=True)
class Limits:
    """What the integers of a group have to fit."""

    bits: int
    per_channel: bool
    state: int
    """Largest magnitude of synaptic input and membranes."""
    bias_current: bool = False
    """Whether the layer's whole output has to fit a bias current."""
    highest_exponent: int = EXPONENT_LIMIT
    highest_threshold: float = 1.0
    """Largest threshold of the group's neurons, as a multiple of that which the scales are chosen by."""


def fit_group(
    group: Sequence[Synapses], longest: float, threshold: float | None, limits: Limits
) -> list[LayerScale]:
    """Choose the scale of each layer of a group, whose membranes hold the input of `longest` steps at most.

    The weights decide where in an octave the threshold lies and how far apart the layers' exponents are; then
    the highest octave is taken in which every integer fits, which rounds biases and membranes least. Without
    a threshold (None) any unit will do.

    Weights too small for the smallest exponent are rounded with it, mostly to 0: of a layer that matters next
    to nothing, where its biases, or other layers of the group, need a coarse unit. A layer's weights are not
    given up to make their own sums fit.

    Raises
    ------
    IRError
        When not even the lowest octave fits; names the layer that stands in the way.
    """
    octaves = range(LARGEST_OCTAVE + 1) if threshold else range(_FREE_OCTAVES[0], LARGEST_OCTAVE + 1)
    for synapses in group:
        _require_moderate(synapses, (threshold or 1.0) / 2.0 ** octaves[0])
    fraction, exponents = best_exponents(group, threshold or 1.0, limits)
    largest = max(int(own.max()) for own in exponents)
    if not threshold and largest < _EXPONENTS[0]:  # a finer unit holds weights that are all small
        finest = min(LARGEST_OCTAVE + _EXPONENTS[-1] - largest, _FREE_OCTAVES[-1])
        octaves = range(octaves[0], finest + 1)
    biased: Problem | None = None
    unfit: Problem | None = None
    given_up: set[str] = set()
    for octave in reversed(octaves):
        vth = 2.0 ** (octave + fraction / FRACTIONS)
        unit = threshold / (round(vth) << ALIGN) if threshold else 1 / (vth * 2**ALIGN)
        lowered = [own - (LARGEST_OCTAVE - octave) for own in exponents]
        scales = [
            synapses.scale(unit / synapses.factor, own) for synapses, own in zip(group, lowered, strict=True)
        ]
        if threshold and vth * limits.highest_threshold > VTH_LIMIT:
            unfit = _too_high(group, vth * limits.highest_threshold)
            continue
        biased = _bias_misfit(group, scales)
        if biased is not None:
            continue
        if threshold:
            faint = {
                synapses.name: _moved(synapses, scale, limits.bits) <= _NEGLIGIBLE * threshold
                for synapses, scale, own in zip(group, scales, lowered, strict=True)
                if own.max() < synapses.least_exponent and synapses.name not in given_up
            }
            if unfit is not None and unfit.where in faint:
                break
            if not all(faint.values()):
                unfit = unfit or _too_small(group, lowered, faint, threshold)
                break
            given_up |= faint.keys()
        unfit = _misfit(group, scales, longest, limits)
        if unfit is None:
            return scales
    problem = unfit or biased
    assert problem is not None
    raise IRError(problem)


def without_exponents(synapses: Synapses, scale: LayerScale) -> LayerScale:
    """Return a scale whose exponents are 0, with biases that are multiples of 64.

    Raises
    ------
    IRError
        When the layer needs exponents below 0, or its biases are too large.
    """
    if any(scale.exponents):
        what = f"its weights need an exponent of {min(scale.exponents)}, and are to have none"
        raise IRError(Problem(synapses.name, what, "use fewer inputs a neuron, or larger weights"))
    bias = float(np.abs(synapses.bias).max()) / scale.unit
    if bias > BIAS_LIMIT << PLAIN_BIAS_EXP:
        what = (
            f"a bias is {bias:.6g}, beside weights without exponents {BIAS_LIMIT << PLAIN_BIAS_EXP} at most"
        )
        raise IRError(Problem(synapses.name, what, _SMALLER_BIASES))
    return LayerScale(scale.unit, scale.exponents, PLAIN_BIAS_EXP)


def _require_moderate(synapses: Synapses, coarsest: float) -> None:
    """Refuse weights and biases that no octave holds; `coarsest` is `unit * 2**ALIGN` of the lowest one."""
    weight = float(np.abs(synapses.weight * synapses.column_unit).max()) * synapses.factor
    bias = float(np.abs(synapses.bias).max()) * synapses.factor / coarsest * 2**ALIGN
    if weight > coarsest * 256 * 2.0 ** (_EXPONENTS[-1] + MOST_CLIPPED):
        raise IRError(_too_large(synapses, math.ceil(math.log2(weight / (coarsest * 256)))))
    if bias > BIAS_LIMIT << 7:
        raise IRError(_biased(synapses, bias))


def _too_large(synapses: Synapses, exponent: int) -> Problem:
    what = f"its weights need exponents up to {exponent}, a core has {_EXPONENTS[0]}..{_EXPONENTS[-1]}"
    return Problem(synapses.name, what, _SMALLER_WEIGHTS)


def _biased(synapses: Synapses, bias: float) -> Problem:
    what = f"a bias is {bias:.6g}, a core holds up to {BIAS_LIMIT << 7}"
    own = 2 * np.abs(synapses.own_bias).max() >= np.abs(synapses.bias).max()
    return Problem(synapses.name, what, _SMALLER_BIASES if own else _SMALLER_WEIGHTS)


def _too_high(group: Sequence[Synapses], vth: float) -> Problem:
    what = f"thresholds behind it need up to {math.ceil(vth)}, a core holds {VTH_LIMIT}"
    return Problem(group[0].name, what, "use fewer tokens, or thresholds that are closer to each other")


def _too_small(
    group: Sequence[Synapses], exponents: Sequence[Array], faint: Mapping[str, bool], threshold: float
) -> Problem:
    """Say of the first layer that cannot be given up that its exponents are too small."""
    biases = max(float(np.abs(synapses.bias).max()) * synapses.factor for synapses in group)
    name, own = next(
        (synapses.name, own)
        for synapses, own in zip(group, exponents, strict=True)
        if not faint.get(synapses.name, True)
    )
    what = (
        f"beside biases of up to {biases / threshold:.3g} times the threshold its weights need exponents "
        f"{own.min()}..{own.max()}, a core has {_EXPONENTS[0]}..{_EXPONENTS[-1]}"
    )
    return Problem(name, what, f"{_SMALLER_BIASES}, or raise its weights")


def _moved(synapses: Synapses, scale: LayerScale, bits: int) -> float:
    """Give how far the rounding of its weights can move a membrane in a step."""
    weight = synapses.weight * synapses.column_unit
    lost = np.abs(weight - mantissas(synapses, scale, bits) * scale.deltas[:, None]).sum(1).max()
    return float(lost * max(-synapses.lowest, synapses.highest) * synapses.factor * synapses.repeats)


def _bias_misfit(group: Sequence[Synapses], scales: Sequence[LayerScale]) -> Problem | None:
    """Give the first layer whose biases do not fit, if any."""
    for synapses, scale in zip(group, scales, strict=True):
        bias = np.abs(synapses.bias).max() / scale.unit
        if bias > BIAS_LIMIT << 7:
            return _biased(synapses, bias)
    return None


def _misfit(
    group: Sequence[Synapses], scales: Sequence[LayerScale], longest: float, limits: Limits
) -> Problem | None:
    """Give what does not fit, if anything, biases alone aside."""
    total, biases, parts = 0, 0, []
    for synapses, scale in zip(group, scales, strict=True):
        exponents = np.array(scale.exponents)
        if exponents.max() > limits.highest_exponent:
            return _too_large(synapses, int(exponents.max()))
        bias = int(np.abs(synapses.bias).max() / scale.unit)
        matrix = mantissas(synapses, scale, limits.bits)
        positive, negative = np.maximum(matrix, 0).sum(1), np.minimum(matrix, 0).sum(1)
        lowest, highest = Range(synapses.lowest, synapses.highest).rounded(scale.x_shift)
        reach = np.maximum(positive * highest + negative * lowest, -positive * lowest - negative * highest)
        current = int((np.ceil(reach * 2.0**exponents) + 1).max()) << ALIGN
        largest = current + bias + 1
        if limits.bias_current and largest > BIAS_LIMIT << 7:
            what = f"its output can reach {largest}, a bias current {BIAS_LIMIT << 7}"
            return Problem(synapses.name, what, "use smaller weights, or the input encoding graded")
        total += largest * synapses.repeats
        biases += bias * synapses.repeats
        parts.append((largest * synapses.repeats, synapses.name))
    most = math.ceil(longest * total)  # a membrane that keeps 1 - 1/tau of itself never holds more
    if most <= limits.state:
        return None
    worst = max(parts)[1]
    others = [name for _, name in parts if name != worst]
    beside = f", with {', '.join(others)}," if others else ""
    remedy = _SMALLER_BIASES if 2 * biases > total else "use fewer inputs a neuron or smaller weights"
    return Problem(worst, f"membranes{beside} can reach {most}, a core holds {limits.state}", remedy)
