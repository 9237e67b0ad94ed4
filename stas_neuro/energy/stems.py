"""Which share of a row's neurons is stepped in each hardware step, where the stem has its own steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import KINDS, Activity
from stas_neuro.choices import Stem
from stas_neuro.energy.core_assignment import CoreAssignment, in_stem
from stas_neuro.energy.gating import turns
from stas_neuro.energy.packing import folded_layers
from stas_neuro.energy.timing import Flow, phase_of
from stas_neuro.errors import InputError

_SHARES_LIMIT = 1 << 27
"""Largest number of (layer, hardware step) pairs; each takes one float64 in memory."""


def stem_steps(
    activity: Activity, flow: Flow, placement: CoreAssignment | None, stem: Stem
) -> NDArray[np.float64] | None:
    """Return the share of each row's neurons that is stepped, float (rows, ticks); None if all are.

    A stem that is `apart` is stepped while it is computed, and when one of its rows has an event in a model
    step. Where it is `folded`, a core has as many neurons as the stem or the rest needs, whichever is more:
    those of the stem are stepped in its pass, and of the rest only those beyond; the reverse afterwards. Its
    last neurons stay.
    """
    if stem == "shared":
        return None
    if len(activity.layers) * len(flow.ticks) > _SHARES_LIMIT:
        what = f"a stem {stem} from {len(activity.layers)} layers in {len(flow.ticks)} hardware steps"
        raise InputError(what, f"price it shared: the limit is {_SHARES_LIMIT} pairs")
    rows = np.array([in_stem(layer) for layer in activity.layers])
    in_pass = np.array([phase_of(activity.steps[tick.step]) == "once" for tick in flow.ticks])
    if stem == "apart":
        at_work = in_pass.copy()
        any_events = np.any([activity.counts[kind].any(axis=0) for kind in KINDS], axis=0)
        for row, number in zip(any_events[rows], turns(activity, flow.ticks)[rows], strict=True):
            at_work[number[row & (number >= 0)]] = True
        return np.where(rows[:, None], at_work, 1.0)
    names = folded_layers(activity.layers)
    reused = np.array([layer.name in names for layer in activity.layers])
    present = np.ones((len(rows), len(flow.ticks)))
    shares = np.ones((len(rows), 1)) if placement is None else placement.shares[placement.group]
    held = np.array(
        [0 if layer.placed_with else layer.neurons for layer in activity.layers], dtype=np.float64
    )
    of_stem, of_rest = held[reused] @ shares[reused], held[~rows] @ shares[~rows]
    present[np.ix_(reused, ~in_pass)] = (shares @ _beyond(of_rest, of_stem))[reused, None]
    present[np.ix_(~rows, in_pass)] = (shares @ _beyond(of_stem, of_rest))[~rows, None]
    return present


def _beyond(others: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the own neurons of each kind of core that is more than there are others."""
    return np.asarray(1 - np.minimum(others, own) / np.maximum(own, 1))
