"""Model steps that end when no token is alive: which hardware steps an image takes, and what ends them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.energy.gating import Flags, live, turns
from stas_neuro.energy.timing import HardwareStep, phase_of


def exits_by_image(activity: Activity) -> bool:
    """Return whether all tokens of an image halt together, by a running prediction."""
    return any(layer.kind == "ImageScore" for layer in activity.layers)


def computes_on(activity: Activity) -> bool:
    """Return whether blocks compute on after the exit of an image: they have no masks (`PipelineExit`)."""
    return exits_by_image(activity) and not any(layer.feedback for layer in activity.layers)


def can_end_early(profile: Profile) -> bool:
    """Return whether a chip can end a run: its times are known, and a halting unit can tell a processor."""
    known = all(profile.reason(name) is None for name in ("time", "capabilities.processor"))
    return known and profile.capability("processor") != "no"


def executed_steps(activity: Activity, ticks: Sequence[HardwareStep]) -> Flags:
    """Find the hardware steps that an image takes if its run, or each model step, ends after its last work.

    With image halting the run ends with the decision to halt, on any schedule: what the model steps after it
    have computed until then is not used. Otherwise a row with a live token, or without tokens and with any
    event, is work. Only model steps end early; the schedule is raster, so that a hardware step belongs to one
    of them.

    Returns bool (images, hardware steps).
    """
    if exits_by_image(activity):
        steps = np.array([phase_of(activity.steps[tick.step]) == "step" for tick in ticks])
        return np.asarray(~steps | (np.arange(len(ticks)) <= _exit_ticks(activity, ticks)[:, None]))
    turn, alive = turns(activity, ticks), live(activity)
    worked = np.zeros((activity.images, len(ticks)), dtype=np.bool_)
    for row in range(len(activity.layers)):
        for step, number in enumerate(turn[row]):
            if number >= 0:
                worked[:, number] |= alive[:, row, step]
    executed = np.ones_like(worked)
    for step, label in enumerate(activity.steps):
        own = [number for number, tick in enumerate(ticks) if tick.step == step]
        if phase_of(label) == "step" and own:
            # Work in a later hardware step of the same model step keeps the earlier ones.
            executed[:, own] = np.logical_or.accumulate(worked[:, own[::-1]], axis=1)[:, ::-1]
    return executed


def _exit_ticks(activity: Activity, ticks: Sequence[HardwareStep]) -> NDArray[np.intp]:
    """Find the hardware step in which it is decided that an image halts, int (images,)."""
    assert activity.visits is not None
    turn = turns(activity, ticks)[_unit(activity)]
    last = activity.visits.any(axis=(2, 3)).sum(axis=1)
    return np.array([turn[activity.step_index(f"step{step}")] for step in last], dtype=np.intp)


def _unit(activity: Activity) -> int:
    """Return the row of the last accumulator."""
    return max(row for row, layer in enumerate(activity.layers) if layer.kind == "HaltAccumulate")


def exit_messages(activity: Activity, ticks: Sequence[HardwareStep], executed: Flags) -> NDArray[np.int64]:
    """Count the messages by which a halting unit ends model steps, int64 (images, rows, steps).

    One message ends a model step, and all further ones in which nothing is alive, or the run of an image. It
    is attributed to the last accumulator.
    """
    counted = np.zeros_like(activity.counts["synops"])
    unit = _unit(activity)
    if exits_by_image(activity):
        exits = _exit_ticks(activity, ticks)
        for image in np.flatnonzero(~executed.all(axis=1)):
            counted[image, unit, ticks[exits[image]].step] = 1
        return counted
    ended_before: Flags = np.zeros(activity.images, dtype=np.bool_)
    for step, label in enumerate(activity.steps):
        own = [number for number, tick in enumerate(ticks) if tick.step == step]
        if phase_of(label) != "step" or not own:
            continue
        ended = np.asarray(~executed[:, own].all(axis=1))
        counted[:, unit, step] = ended & ~(ended_before & ~executed[:, own].any(axis=1))
        ended_before = ended
    return counted
