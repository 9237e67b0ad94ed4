"""Which power of two and which threshold make the best integers of a layer's weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.ir import ALIGN, BIAS_LIMIT, Array

_FRACTIONS = 16
"""Thresholds tried within one octave; between octaves only the exponents differ."""
_LARGEST_OCTAVE = 16
_EXPONENTS = range(-8, 8)


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a layer has seen on a sample: (in,) mean and (in, in) second moment of its inputs, float64.

    `in` are the columns of the weights as a matrix (out, in): of a convolution, the taps of all channels.
    """

    mean: Array
    second: Array


@dataclass(frozen=True, eq=False)
class Synapses:
    """One layer's weights (out, in) onto membranes, and the integers that come in.

    `bias` is of any shape (out, ...). `column_unit` (in,) is what one unit of an integer input stands for,
    `lowest` and `highest` its ends. `factor` is how often the layer's unit fits into that of its group,
    `repeats` how many of its outputs are added up.
    """

    name: str
    weight: Array
    bias: Array
    column_unit: Array
    lowest: int
    highest: int
    statistics: Statistics | None
    factor: float = 1.0
    repeats: int = 1


@dataclass(frozen=True)
class LayerScale:
    """`unit` is what one unit of the output stands for; a weight is mantissa * 2^(exponent + 6) * unit."""

    unit: float
    exponents: tuple[int, ...]
    """One an output channel."""
    bias_exp: int | None = None
    """Of the biases; None for the finest that holds them."""

    @property
    def is_of_core(self) -> bool:
        """Whether a core has such exponents; those that are tried first are others."""
        fits = all(exponent in _EXPONENTS for exponent in self.exponents)
        return self.unit > 0 and fits and (self.bias_exp is None or 0 <= self.bias_exp <= 7)

    @property
    def deltas(self) -> Array:
        """What a mantissa of 1 stands for in each output channel, float64 (out,)."""
        return _delta(self.unit, np.array(self.exponents))


def mantissas(synapses: Synapses, scale: LayerScale, bits: int) -> Array:
    """Round weights to mantissas of a width, int64 (out, in)."""
    return _to_mantissas(synapses.weight * synapses.column_unit / scale.deltas[:, None], bits)


def _delta(unit: float, exponents: Array) -> Array:
    delta: Array = unit * 2.0 ** (exponents + ALIGN)
    return delta


def _to_mantissas(steps: Array, bits: int) -> Array:
    grain = 1 << (9 - bits)
    largest = 255 if bits == 9 else 256 - grain
    rounded: Array = np.clip(np.rint(steps / grain) * grain, -256, largest).astype(np.int64)
    return rounded


@dataclass(frozen=True)
class Limits:
    """What the integers of a group have to fit."""

    bits: int
    per_channel: bool
    state: int
    """Largest magnitude of synaptic input and membranes."""
    bias_current: bool = False
    """Whether the layer's whole output has to fit a bias current."""


def fit_group(
    group: Sequence[Synapses], tau: float, threshold: float | None, limits: Limits
) -> list[LayerScale]:
    """Choose the scale of each layer of a group.

    The weights decide where in an octave the threshold lies and how far apart the layers' exponents are; then
    the highest octave is taken in which every integer fits, which rounds biases and membranes least. Without
    a threshold (None) any unit will do.

    Raises
    ------
    InputError
        When not even the lowest octave fits.
    """
    fraction, exponents = min(
        (_try_fraction(group, threshold or 1.0, fraction, limits) for fraction in range(_FRACTIONS)),
        key=lambda tried: tried[0],
    )[1:]
    problems: list[str] = []
    for octave in range(_LARGEST_OCTAVE, -1 if threshold else -64, -1):
        vth = 2.0 ** (octave + fraction / _FRACTIONS)
        unit = threshold / (round(vth) << ALIGN) if threshold else 1 / (vth * 2**ALIGN)
        lowered = [own - (_LARGEST_OCTAVE - octave) for own in exponents]
        # Small channels beside large ones are held with fewer bits, and so is a head whose bias, and nothing
        # else, asks for a coarse unit.
        least = _EXPONENTS[0]
        lowered = [
            np.maximum(own, least) if threshold is None or own.max() >= least else own for own in lowered
        ]
        scales = [
            LayerScale(unit / synapses.factor, tuple(int(e) for e in own))
            for synapses, own in zip(group, lowered, strict=True)
        ]
        problem = _misfit(group, scales, tau, limits)
        if not problem:
            return scales
        problems.append(problem)
    # From too large to too small: what still stands in the way in the middle says most.
    raise InputError(problems[len(problems) // 2], "use fewer inputs a neuron or smaller weights")


def _misfit(group: Sequence[Synapses], scales: Sequence[LayerScale], tau: float, limits: Limits) -> str:
    """Say what does not fit, if anything."""
    total = 0
    for synapses, scale in zip(group, scales, strict=True):
        exponents = np.array(scale.exponents)
        if exponents.min() < _EXPONENTS[0] or exponents.max() > _EXPONENTS[-1]:
            needed = f"{exponents.min()}..{exponents.max()}"
            return f"{synapses.name}: its weights need exponents {needed}, a core has -8..7"
        bias = np.abs(synapses.bias).max() / scale.unit
        if bias > BIAS_LIMIT << 7:
            return f"{synapses.name}: a bias is {bias:.0f}, a core holds up to {BIAS_LIMIT << 7}"
        matrix = mantissas(synapses, scale, limits.bits)
        positive, negative = np.maximum(matrix, 0).sum(1), np.minimum(matrix, 0).sum(1)
        reach = np.maximum(
            positive * synapses.highest + negative * synapses.lowest,
            -positive * synapses.lowest - negative * synapses.highest,
        )
        current = int((np.ceil(reach * 2.0**exponents) + 1).max()) << ALIGN
        largest = current + int(bias) + 1
        if limits.bias_current and largest > BIAS_LIMIT << 7:
            return f"{synapses.name}: its output can reach {largest}, a bias current {BIAS_LIMIT << 7}"
        total += largest * synapses.repeats
    most = math.ceil(tau * total)  # a membrane that keeps 1 - 1/tau of itself never holds more
    if most > limits.state:
        names = ", ".join(synapses.name for synapses in group)
        return f"{names}: membranes can reach {most}, a core holds {limits.state}"
    return ""


def _try_fraction(
    group: Sequence[Synapses], threshold: float, fraction: int, limits: Limits
) -> tuple[float, int, list[Array]]:
    """Give the error, the fraction of an octave, and the exponents of each layer in the largest octave."""
    unit = threshold / (2.0 ** (_LARGEST_OCTAVE + fraction / _FRACTIONS) * 2**ALIGN)
    error, exponents = 0.0, []
    for synapses in group:
        chosen, lost = _best_exponents(synapses, unit, limits)
        exponents.append(chosen)
        error += lost
    return error, fraction, exponents


def _best_exponents(synapses: Synapses, unit: float, limits: Limits) -> tuple[Array, float]:
    """Find the exponents (out,) that lose least of the output, and that loss in units of the group."""
    weight = synapses.weight * synapses.column_unit * synapses.factor
    largest = np.abs(weight).max(1)
    if not limits.per_channel:
        largest[:] = largest.max()
    smallest = largest.max() / 2**16 or 1.0  # what is lost anyhow, or a layer of zeros
    full = np.ceil(np.log2(np.maximum(largest, smallest) / (unit * 2**ALIGN * 256))).astype(np.int64)
    if limits.per_channel:
        full = np.maximum(full, full.max() - 7)  # rows of almost nothing would need exponents of their own
    best, exponents = np.full(len(weight), np.inf), full.copy()
    for clipped in range(4):  # from nothing clipped to an eighth of the range
        delta = _delta(unit, full - clipped)[:, None]
        difference = (weight - _to_mantissas(weight / delta, limits.bits) * delta) / synapses.column_unit
        if synapses.statistics is None:
            error: Array = (difference**2).sum(1)
        else:
            error = ((difference @ synapses.statistics.second) * difference).sum(1)
        if not limits.per_channel:
            error[:] = error.sum() / len(error)
        better = error < best
        best[better], exponents[better] = error[better], (full - clipped)[better]
    return exponents, float(best.sum())
