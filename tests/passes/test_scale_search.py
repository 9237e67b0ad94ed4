"""The search for scales finds what trying every unit with every number of clipped octaves finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from stas_neuro.ir import ALIGN, Array
from stas_neuro.passes.scale_search import best_exponents
from stas_neuro.passes.scales import Limits, Statistics, Synapses

OCTAVE, FRACTIONS, CLIPPED = 16, 16, 4


Found = tuple[int, list[NDArray[np.int64]]]


def of_all(group: Sequence[Synapses], threshold: float, limits: Limits) -> Found:
    """Try everything, in float64."""
    found = []
    for fraction in range(FRACTIONS):
        unit = threshold / 2.0 ** (OCTAVE + fraction / FRACTIONS + ALIGN)
        layers = [of_layer(synapses, unit, limits) for synapses in group]
        found.append((sum(loss for loss, _ in layers), fraction, [exponents for _, exponents in layers]))
    return min(found, key=lambda each: each[0])[1:]


def of_layer(synapses: Synapses, unit: float, limits: Limits) -> tuple[float, NDArray[np.int64]]:
    weight = synapses.weight * synapses.column_unit * synapses.factor
    largest = np.abs(weight).max(axis=1)
    if not limits.per_channel:
        largest[:] = largest.max()
    least = largest.max() / 2**16 or 1.0
    unclipped = np.ceil(np.log2(np.maximum(largest, least) / (unit * 2**ALIGN * 256))).astype(np.int64)
    if limits.per_channel:
        unclipped = np.maximum(unclipped, unclipped.max() - 7)
    losses = np.array([losses_of(synapses, weight, unit, unclipped - k, limits.bits) for k in range(CLIPPED)])
    if not limits.per_channel:
        losses[:] = losses.sum(axis=1, keepdims=True)
    best = losses.argmin(axis=0)
    total = losses[best, np.arange(len(best))]
    return float(total.sum() if limits.per_channel else total[0]), unclipped - best


def losses_of(
    synapses: Synapses, weight: Array, unit: float, exponents: NDArray[np.int64], bits: int
) -> Array:
    """What the rounding of each channel does to its mean square output, one channel after the other."""
    grain = 2 ** (9 - bits)
    losses = []
    for channel, exponent in enumerate(exponents):
        delta = unit * 2.0 ** (exponent + ALIGN)
        mantissas = np.clip(np.rint(weight[channel] / delta / grain) * grain, -256, 256 - max(grain, 1))
        unit_of = np.broadcast_to(synapses.column_unit, weight.shape)[channel]
        difference = (weight[channel] - mantissas * delta) / unit_of
        if synapses.statistics is None:
            losses.append(difference @ difference)
        else:
            groups = len(synapses.statistics.second)
            second = synapses.statistics.second[channel * groups // len(weight)]
            losses.append(difference @ second @ difference)
    return np.array(losses)


def layer(rng: np.random.Generator, *, width: int, groups: int = 1, seen: bool = True) -> Synapses:
    """A layer with a few large weights, channels of other sizes, and inputs that go together."""
    out = groups * int(rng.integers(1, 160 // groups))
    sizes = 2.0 ** rng.uniform(-6, 0, (out, 1))
    weight = rng.standard_t(3, (out, width)) * np.where(rng.random() < 0.5, sizes, 1.0)
    weight[rng.random(out) < 0.05] = 0
    unit = np.full(width, float(rng.choice([1.0, 0.25, 1 / 255])))
    if rng.random() < 0.3:
        unit *= rng.uniform(0.5, 4, width)
    if groups > 1 and rng.random() < 0.5:
        unit = np.repeat(rng.uniform(0.5, 2, (groups, width)), out // groups, axis=0)
    common = rng.random((groups, 300, 1)) < 0.3
    inputs = ((rng.random((groups, 300, width)) < rng.uniform(0.02, 0.5)) | common).astype(float)
    second = inputs.transpose(0, 2, 1) @ inputs / 300
    return Synapses(
        name="layer",
        weight=weight,
        bias=np.zeros(out),
        own_bias=np.zeros(out),
        column_unit=unit,
        lowest=0,
        highest=1,
        statistics=Statistics(inputs.mean(axis=1), second) if seen else None,
        factor=float(rng.choice([1.0, 2.0])),
    )


@pytest.mark.parametrize("exponents", ["layer", "channel"])
@pytest.mark.parametrize("seed", range(12))
def test_the_search_finds_what_trying_everything_finds(seed: int, exponents: str) -> None:
    rng = np.random.default_rng(seed)
    group = [
        layer(
            rng,
            width=int(rng.choice([1, 9, 60, 150])),
            groups=int(rng.choice([1, 1, 1, 4])),
            seen=bool(rng.random() < 0.8),
        )
        for _ in range(rng.integers(1, 4))
    ]
    limits = Limits(bits=int(rng.integers(2, 10)), per_channel=exponents == "channel", state=2**23 - 1)
    threshold = float(rng.uniform(0.3, 2))
    fraction, found = best_exponents(group, threshold, limits)
    wanted = of_all(group, threshold, limits)
    assert fraction == wanted[0]
    for own, other in zip(found, wanted[1], strict=True):
        np.testing.assert_array_equal(own, other)


def test_layers_that_lose_nothing_take_the_first_of_equal_trials() -> None:
    silent = Statistics(np.zeros((1, 5)), np.zeros((1, 5, 5)))
    group = [
        Synapses("zeros", np.zeros((3, 5)), np.zeros(3), np.zeros(3), np.ones(5), 0, 1, seen)
        for seen in (None, silent)
    ]
    for per_channel in (False, True):
        limits = Limits(bits=8, per_channel=per_channel, state=2**23 - 1)
        fraction, found = best_exponents(group, 1.0, limits)
        wanted = of_all(group, 1.0, limits)
        assert fraction == wanted[0] == 0
        assert all(map(np.array_equal, found, wanted[1]))
