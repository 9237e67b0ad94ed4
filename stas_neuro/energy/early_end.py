"""Model steps that end when no token is alive: which hardware steps an image takes, and what ends them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.energy.gating import Flags, live, turns
from stas_neuro.energy.timing import HardwareStep, phase_of


def executed_steps(activity: Activity, ticks: Sequence[HardwareStep]) -> Flags:
    """Find the hardware steps that an image takes if each model step ends after its last work.

    A row with a live token, or without tokens and with any event, is work. Only model steps end early; the
    schedule is raster, so that a hardware step belongs to one of them.

    Returns bool (images, hardware steps).
    """
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


def exit_messages(activity: Activity, ticks: Sequence[HardwareStep], executed: Flags) -> NDArray[np.int64]:
    """Count the messages by which a halting unit ends model steps, int64 (images, rows, steps).

    One message ends a model step, and all further ones in which nothing is alive. It is attributed to the
    last accumulator.
    """
    counted = np.zeros_like(activity.counts["synops"])
    unit = max(row for row, layer in enumerate(activity.layers) if layer.kind == "HaltAccumulate")
    ended_before: Flags = np.zeros(activity.images, dtype=np.bool_)
    for step, label in enumerate(activity.steps):
        own = [number for number, tick in enumerate(ticks) if tick.step == step]
        if phase_of(label) != "step" or not own:
            continue
        ended = np.asarray(~executed[:, own].all(axis=1))
        counted[:, unit, step] = ended & ~(ended_before & ~executed[:, own].any(axis=1))
        ended_before = ended
    return counted
