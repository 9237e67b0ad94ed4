"""The record of a network of another width, from that of a run, at the same rates of spikes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import KINDS, MAPPED_KINDS, Activity, Layer
from stas_neuro.errors import InputError

Counts = npt.NDArray[np.int64]
WIDTH_LIMIT = 1 << 18
"""Largest width: the largest number of features of a layer in a record."""
_WEIGHTS = ("Conv2d", "Linear", "ImageScore")
"""Kinds of layers whose work is proportional to their inputs and to their outputs."""
_WORK = ("synops", "synops_unary", "macs", "cpu_operations")
"""Kinds of events that a layer does for each input and output; others are done for each output."""


def width_of(activity: Activity) -> int:
    """Return the width of a network: the features that its last layer reads."""
    return activity.layers[-1].in_features


def scale_width(activity: Activity, width: int) -> Activity:
    """Return the record that a network of another width would have at the same rates of spikes and visits.

    All numbers of features are multiplied by s = width / `width_of`, except those of the image, of the
    classes, and of halting; attention has s times as many heads of the same size. So neurons, their updates
    and spikes, and spike products are multiplied by s, weights and synaptic operations by s^2 (by s in the
    first and in the last layer), and halting stays as it is. Counts are rounded to whole numbers.

    Parameters
    ----------
    activity : Activity
        Of a run without a mapping: on cores the placement would be another one.
    width : int

    Raises
    ------
    InputError
        When the record is of a run on cores or has no width, or a layer would have a part of a feature.
    """
    if activity.cores or any(activity.counts[kind].any() for kind in MAPPED_KINDS):
        raise InputError("the run is on cores, whose placement is of this width", "run with --no-mapping")
    known = width_of(activity)
    if known < 1:
        what = f"{activity.layers[-1].name}, the last layer, has no in_features, so the width is unknown"
        raise InputError(what, "add them to the record")
    if not 1 <= width <= WIDTH_LIMIT:
        raise InputError(f"width is {width}", f"use 1 to {WIDTH_LIMIT}")
    factors = list(_factors(activity, Fraction(width, known)))
    return replace(
        activity.without_sums(),
        layers=tuple(each.of(layer) for each, layer in zip(factors, activity.layers, strict=True)),
        counts={
            kind: _scaled(
                activity.counts[kind], [each.work if kind in _WORK else each.out for each in factors]
            )
            for kind in KINDS
        },
    )


@dataclass(frozen=True)
class _Factors:
    """What a layer's inputs and outputs are multiplied by, and its work."""

    into: Fraction
    out: Fraction
    work: Fraction

    def of(self, layer: Layer) -> Layer:
        """Return the layer of the other width."""
        return replace(
            layer,
            neurons=_whole(layer, "neurons", self.out),
            in_features=_whole(layer, "in_features", self.into),
            out_features=_whole(layer, "out_features", self.out),
            weights=_whole(layer, "weights", self.into * self.out),
        )


def _factors(activity: Activity, scale: Fraction) -> Iterator[_Factors]:
    first, last, one = activity.layers[0].name, activity.layers[-1].name, Fraction(1)
    for layer in activity.layers:
        if layer.scope == "halting" and layer.kind != "ImageScore":
            yield _Factors(one, one, one)
            continue
        into = one if layer.name == first else scale
        out = one if layer.name == last or layer.kind == "ImageScore" else scale
        yield _Factors(into, out, into * out if layer.kind in _WEIGHTS else out)


def _whole(layer: Layer, name: str, factor: Fraction) -> int:
    scaled: Fraction = getattr(layer, name) * factor
    if scaled.denominator != 1:
        what = f"{layer.name} has {getattr(layer, name)} {name}, and would have {float(scaled):.2f}"
        raise InputError(what, "use a width that divides evenly, such as a multiple of this one")
    return scaled.numerator


def _scaled(counts: Counts, factors: list[Fraction]) -> Counts:
    """Multiply the counts of each row, int64 (images, rows, steps), exactly, and round them."""
    over = np.array([each.numerator for each in factors], dtype=np.int64)[:, None]
    under = np.array([each.denominator for each in factors], dtype=np.int64)[:, None]
    return np.asarray((counts * over * 2 + under) // (2 * under))
