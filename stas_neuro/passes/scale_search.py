"""Search for the unit and the exponents of layers whose rounding loses least of their output.

The result is that of trying every fraction of an octave with every number of clipped octaves. The loss is a
sum over output channels without negative terms, so that a sum over some channels is a lower bound. Only the
trial with the lowest bound is continued, and most trials end after a few channels. Bounds are computed in
float32; losses that are compared in the end are computed in float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import ALIGN, Array

if TYPE_CHECKING:
    from stas_neuro.passes.scales import Limits, Synapses

FRACTIONS = 16
"""Thresholds tried within one octave; between octaves only the exponents differ."""
LARGEST_OCTAVE = 16
MOST_CLIPPED = 3
"""Octaves of the range of weights that may be clipped: all but an eighth."""
_CHANNELS = 64
"""Output channels of a step of the search."""
_ROWS = 256
"""Rows of a second moment that are converted at once."""
_MARGIN = 1e-3
"""Part of a loss that float32 may be wrong by, at most; it is wrong by about 1e-6."""


def delta_of(unit: float, exponents: Array) -> Array:
    """Return what a mantissa of 1 stands for, with exponents of any shape."""
    delta: Array = unit * 2.0 ** (exponents + ALIGN)
    return delta


def to_mantissas(steps: Array, bits: int) -> Array:
    """Round multiples of a mantissa of 1 to mantissas of a width, int64."""
    return _rounded(steps, bits).astype(np.int64)


def _rounded(steps: Array, bits: int) -> Array:
    grain = 1 << (9 - bits)
    largest = 255 if bits == 9 else 256 - grain
    rounded: Array = np.clip(np.rint(steps / grain) * grain, -256, largest)
    return rounded


def best_exponents(group: Sequence[Synapses], threshold: float, limits: Limits) -> tuple[int, list[Array]]:
    """Return the fraction of an octave that loses least of the output of a group, the lowest of equal ones.

    Parameters
    ----------
    group : sequence of Synapses
        Layers whose output has one unit.
    threshold : float
        That of the neurons which the unit is chosen by.
    limits : Limits

    Returns
    -------
    fraction : int
        The threshold is 2^(LARGEST_OCTAVE + fraction / FRACTIONS) steps.
    exponents : list of int64 (out,)
        Of each layer, with that threshold.
    """
    layers = [_Layer(synapses, limits) for synapses in group]
    kind = _TrialByChannel if limits.per_channel else _TrialByLayer
    tried: list[list[_Trial]] = []
    for fraction in range(FRACTIONS):
        unit = threshold / (2.0 ** (LARGEST_OCTAVE + fraction / FRACTIONS) * 2**ALIGN)
        tried.append([kind(layer, unit) for layer in layers])
    while True:
        bounds = [sum(trial.bound for trial in trials) for trials in tried]
        fraction = bounds.index(min(bounds))
        unfinished = next((trial for trial in tried[fraction] if not trial.finished), None)
        if unfinished is None:
            return fraction, [trial.exponents for trial in tried[fraction]]
        unfinished.proceed()


class _Layer:
    """What all trials of a layer share.

    `parts` are output channels, those with the largest weights first: what clipping loses is in these, so
    that a trial that clips too much ends early.
    """

    def __init__(self, synapses: Synapses, limits: Limits) -> None:
        self._bits = limits.bits
        self._weight = synapses.weight * synapses.column_unit * synapses.factor
        self._column_unit = np.broadcast_to(synapses.column_unit, self._weight.shape)
        self._statistics = synapses.statistics
        largest = np.abs(self._weight).max(1)
        self.largest = largest if limits.per_channel else np.full_like(largest, largest.max())
        self._second, self._peak = self._moments()
        channels = np.argsort(-largest, kind="stable") if self.has_bounds else np.arange(len(largest))
        step = _CHANNELS if self.has_bounds else len(channels)
        self.parts = [channels[first : first + step] for first in range(0, len(channels), step)]

    @property
    def has_bounds(self) -> bool:
        """Whether there is a bound of its loss that is cheaper than the loss."""
        return self._second is not None

    def _moments(self) -> tuple[NDArray[np.float32] | None, float]:
        """Return the second moment of the inputs in units of the largest, float32 (in, in), and that one.

        None for layers whose loss is cheap: without statistics, or with groups.
        """
        if self._statistics is None or len(self._statistics.second) > 1:
            return None, 0.0
        unit = self._column_unit[0]  # of all channels, as there is one group
        second = self._statistics.second[0]
        # Some rows at a time: of a large layer there is no room for more than the result.
        parts = [slice(first, first + _ROWS) for first in range(0, len(second), _ROWS)]
        peak = max(float((second[rows] / unit / unit[rows, None]).max()) for rows in parts)
        if peak <= 0:
            return None, 0.0
        moments = np.empty(second.shape, np.float32)
        for rows in parts:
            moments[rows] = second[rows] / unit / unit[rows, None] / peak
        return moments, peak

    def unclipped(self, unit: float) -> NDArray[np.int64]:
        """Return the exponents that clip nothing (out,): one for all channels, or each its own."""
        smallest = self.largest.max() / 2**16 or 1.0  # what is lost anyhow, or a layer of zeros
        steps = np.maximum(self.largest, smallest) / (unit * 2**ALIGN * 256)
        exponents: NDArray[np.int64] = np.ceil(np.log2(steps)).astype(np.int64)
        return exponents

    def loss(self, channels: NDArray[np.intp], delta: Array) -> Array:
        """Return what rounding to multiples of delta (channels,) loses of the output of channels, squared."""
        weight, steps = self._weight[channels], delta[:, None]
        rounded = _rounded(weight / steps, self._bits) * steps
        difference = (weight - rounded) / self._column_unit[channels]
        if self._statistics is None:
            return np.asarray((difference**2).sum(1))
        return self._statistics.square_output(difference)

    def bound(self, channels: NDArray[np.intp], delta: Array) -> Array:
        """Return a lower bound of that loss, (channels,)."""
        assert self._second is not None
        steps = self._weight[channels] / delta[:, None]
        difference = (steps - _rounded(steps, self._bits)).astype(np.float32)
        squares = ((difference @ self._second) * difference).sum(1, dtype=np.float64)
        return np.asarray(squares * delta**2 * (self._peak * (1 - _MARGIN)))


class _Trial(ABC):
    """A layer with one unit: how much it loses at least, and the exponents with which it loses least."""

    @property
    @abstractmethod
    def bound(self) -> float:
        """What it loses at least; once finished, what it loses."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the bound is the loss."""

    @property
    @abstractmethod
    def exponents(self) -> NDArray[np.int64]:
        """Exponents (out,), once finished."""

    @abstractmethod
    def proceed(self) -> None:
        """Raise the bound."""


class _TrialByLayer(_Trial):
    """All channels clip the same number of octaves: there is a bound for each."""

    def __init__(self, layer: _Layer, unit: float) -> None:
        self._layer, self._unit = layer, unit
        self._unclipped = layer.unclipped(unit)
        self._bounds = np.zeros(MOST_CLIPPED + 1)
        self._steps = np.full(MOST_CLIPPED + 1, 0 if layer.has_bounds else len(layer.parts))

    @property
    def _clipped(self) -> int:
        return int(self._bounds.argmin())

    @property
    def bound(self) -> float:
        return float(self._bounds[self._clipped])

    @property
    def finished(self) -> bool:
        return bool(self._steps[self._clipped] > len(self._layer.parts))

    @property
    def exponents(self) -> NDArray[np.int64]:
        return self._unclipped - self._clipped

    def proceed(self) -> None:
        layer, clipped = self._layer, self._clipped
        delta, step = delta_of(self._unit, self.exponents), self._steps[clipped]
        if step < len(layer.parts):
            self._bounds[clipped] += layer.bound(layer.parts[step], delta[layer.parts[step]]).sum()
        else:
            self._bounds[clipped] = sum(layer.loss(part, delta[part]).sum() for part in layer.parts)
        self._steps[clipped] += 1


class _TrialByChannel(_Trial):
    """Each channel clips the number of octaves that is best for it."""

    def __init__(self, layer: _Layer, unit: float) -> None:
        self._layer, self._unit = layer, unit
        unclipped = layer.unclipped(unit)
        # Channels of almost nothing would need exponents of their own.
        self._unclipped: NDArray[np.int64] = np.maximum(unclipped, unclipped.max() - 7)
        self._clipped: NDArray[np.int64] = np.zeros_like(unclipped)
        self._bound = 0.0
        self._step = 0 if layer.has_bounds else len(layer.parts)

    @property
    def bound(self) -> float:
        return self._bound

    @property
    def finished(self) -> bool:
        return self._step > len(self._layer.parts)

    @property
    def exponents(self) -> NDArray[np.int64]:
        return self._unclipped - self._clipped

    def proceed(self) -> None:
        layer = self._layer
        if self._step < len(layer.parts):
            part = layer.parts[self._step]
            self._bound += self._by_octave(layer.bound, part).min(0).sum()
        else:
            self._bound = 0.0
            for part in layer.parts:
                losses = self._by_octave(layer.loss, part)
                self._clipped[part] = losses.argmin(0)
                self._bound += losses.min(0).sum()
        self._step += 1

    def _by_octave(self, of: Callable[[NDArray[np.intp], Array], Array], part: NDArray[np.intp]) -> Array:
        """Return losses, or bounds of them, of channels with each number of clipped octaves."""
        exponents = (self._unclipped[part] - clipped for clipped in range(MOST_CLIPPED + 1))
        return np.stack([of(part, delta_of(self._unit, own)) for own in exponents])
