"""Breakdown of a saving into stem, schedule, fewer operations, gating, and the cost of halting."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity, stages_in
from stas_neuro.chips.profile import Corners
from stas_neuro.energy.events import PRICES
from stas_neuro.energy.result import Estimate, Interval
from stas_neuro.energy.timing import Schedule, phase_of

_ROUNDING = 1e-12
"""Fraction of the total below which a difference is due to rounding."""
_NEURON = {price.event for price in PRICES if price.unit == "neuron"}


@dataclass(frozen=True, kw_only=True)
class Split:
    """Energies per image in J: `every_step_j` minus the savings plus the halting cost is `halting_j`.

    `of` names the energy: `energy_j`, or `dynamic_energy_j` where there is no total. For low and high, all
    profile entries are at the same end in all runs.
    """

    of: str
    every_step_j: Interval
    stem_saved_j: Interval
    without_j: Interval
    schedule_saved_j: Interval
    operations_saved_j: Interval
    gating_saved_j: Interval
    halting_cost_j: Interval
    halting_j: Interval


def at_every_step(activity: Activity) -> Activity:
    """Return the record of the same network with its stem computed at every model step instead of once.

    Every step repeats the counts of the single pass, whose stages come before those of a model step. A
    processor that computes the first layer does so once in either network: the bias currents that it writes
    persist.
    """
    steps = [index for index, label in enumerate(activity.steps) if phase_of(label) == "step"]
    once = [index for index, label in enumerate(activity.steps) if phase_of(label) == "once"]
    stages = stages_in(activity.layers, "once")
    off_core: NDArray[np.bool_] = activity.counts["cpu_operations"][:, :, once].sum(axis=(0, 2)) > 0
    rows = []
    for row, stays in zip(activity.layers, off_core, strict=True):
        if row.phase == "once" and not stays:
            rows.append(replace(row, phase="step"))
        elif row.phase == "step" and row.stage is not None:
            rows.append(replace(row, stage=row.stage + stages))
        else:
            rows.append(row)
    counts = {}
    for kind, counted in activity.counts.items():
        counts[kind] = counted.copy()
        if kind == "cpu_operations" or (kind == "input_messages" and off_core.any()):
            continue
        counts[kind][:, :, once] = 0
        counts[kind][:, :, steps] += counted[:, :, once].sum(axis=2, keepdims=True)
    return replace(activity.without_sums(), layers=tuple(rows), counts=counts)


def held_to(activity: Activity, schedule: Schedule, late: int) -> tuple[Activity, Schedule]:
    """Return a run without halting and its schedule, with decisions as late as in the run with halting."""
    if schedule != "pipelined-stale":
        return activity, schedule
    stages = max(stages_in(activity.layers, "step"), 1)
    overlap = min(late, stages - 1)
    return replace(activity, late=overlap), "pipelined-stale" if overlap else "raster"


def split(every_step: Estimate, without: Estimate, held: Estimate, halting: Estimate) -> Split:
    """Break down the saving of a run with halting.

    All estimates must have a dynamic energy.

    Parameters
    ----------
    every_step, without : Estimate
        The run without halting, with its stem computed at every step, and unchanged.
    held : Estimate
        The run without halting on the schedule of the run with halting.
    halting : Estimate
        The run with halting.
    """
    total = all(cost.energy_j is not None for cost in (every_step, without, held, halting))
    energies = [_energy(cost, total) for cost in (every_step, without, held, halting)]
    cost = _corners(halting.halting_energy_j) - _corners(held.halting_energy_j)

    def difference(corners: Corners) -> Interval:
        return _ends(np.where(np.abs(corners) < _ROUNDING * energies[0], 0.0, corners))

    return Split(
        of="energy_j" if total else "dynamic_energy_j",
        every_step_j=_ends(energies[0]),
        stem_saved_j=difference(energies[0] - energies[1]),
        without_j=_ends(energies[1]),
        schedule_saved_j=difference(energies[1] - energies[2]),
        operations_saved_j=difference(_operations(held) - _operations(halting)),
        gating_saved_j=difference(_standing(held, total) - _standing(halting, total)),
        halting_cost_j=difference(cost),
        halting_j=_ends(energies[3]),
    )


def _energy(cost: Estimate, total: bool) -> Corners:
    return _corners(cost.energy_j if total else cost.dynamic_energy_j)


def _operations(cost: Estimate) -> Corners:
    """Return the energy of synapses, messages and processors, without events that only halting causes."""
    done = [event for event in cost.events if not event.halting and event.event not in _NEURON]
    return sum((_corners(event.energy_j) for event in done), np.zeros(3))


def _standing(cost: Estimate, total: bool) -> Corners:
    """Return the energy of stepping and resetting neurons; `total` adds static and management energy."""
    stepped = [event.energy_j for event in cost.events if not event.halting and event.event in _NEURON]
    powers = [cost.static_energy_j, cost.management_energy_j] if total else []
    return sum((_corners(energy) for energy in (*stepped, *powers)), np.zeros(3))


def _corners(interval: Interval | None) -> Corners:
    return np.zeros(3) if interval is None else np.array([interval.low, interval.value, interval.high])


def _ends(corners: Corners) -> Interval:
    return Interval(value=float(corners[1]), low=float(corners.min()), high=float(corners.max()))
