"""Work of each core in each hardware step of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import Profile
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.costs import cost_of
from stas_neuro.energy.deployment import DEFAULT, Deployment
from stas_neuro.energy.events import PRICES, Events
from stas_neuro.energy.timing import Flow

CORES, STEPS = 96, 128
"""Default numbers of groups of cores and of hardware steps."""
_IDLE = ("updates_idle", "program_idle", "state_resets")
"""Events of neurons that are no work of the network."""
_WORK = [price.event for price in PRICES if price.unit in ("synapse", "neuron") and price.event not in _IDLE]


@dataclass(frozen=True, kw_only=True)
class CoreWork:
    """Synaptic operations and neuron updates of a core in a hardware step, mean per image.

    Parameters
    ----------
    profile, schedule : str
    images : int
        Number of images that the mean is over.
    operations : float (core groups, step groups)
        Mean over the cores and the hardware steps of a group.
    cores_in_group, steps_in_group : int
        Size of the groups of neighbouring cores, and of consecutive hardware steps; the last may be smaller.
    steps : tuple of str
        Step of the network whose work begins earliest, for each group of hardware steps.
    cores, hardware_steps : int
        Their numbers.
    placed : bool
        Whether the run was on cores; otherwise layers are packed, and their work is divided evenly.
    """

    profile: str
    schedule: str
    images: int
    operations: npt.NDArray[np.float64]
    cores_in_group: int
    steps_in_group: int
    steps: tuple[str, ...]
    cores: int
    hardware_steps: int
    placed: bool


def core_work(
    activity: Activity,
    profile: Profile,
    deployment: Deployment = DEFAULT,
    *,
    most_cores: int = CORES,
    most_steps: int = STEPS,
) -> CoreWork:
    """Count the work of an image alone, by core and hardware step, in at most so many groups of each.

    A row of the record does the work of a step in one hardware step (`gating.turns`). Idle neurons and
    messages are not counted.

    Raises
    ------
    CannotRun
        When the profile has no hardware steps or cores.
    InputError
        As for `estimate`.
    """
    cost = cost_of(activity, profile, deployment)
    flow, placement = cost.flow, cost.placement
    if flow is None or placement is None:
        reason = profile.reason("time") or profile.reason("limits")
        what = f"the work of cores on {profile.name} is unknown: {reason}"
        raise CannotRun(what, "give a profile with times and cores")
    core_size = -(-placement.cores // most_cores)
    step_size = -(-len(flow.ticks) // most_steps)
    done = _by_row(cost.events, len(flow.ticks), step_size)
    share = _by_group(placement, core_size)
    return CoreWork(
        profile=profile.name,
        schedule=deployment.schedule_of(activity),
        images=activity.images,
        operations=share[placement.group].T @ done / _sizes(len(flow.ticks), step_size),
        cores_in_group=core_size,
        steps_in_group=step_size,
        steps=_labels(activity, flow, step_size),
        cores=placement.cores,
        hardware_steps=len(flow.ticks),
        placed=bool(activity.cores),
    )


def _by_row(events: Events, ticks: int, size: int) -> npt.NDArray[np.float64]:
    """Sum the work of each row over groups of hardware steps, mean per image, (rows, groups)."""
    work = sum(events.counts[event].mean(axis=0) for event in _WORK)
    done = np.zeros((len(events.turn), -(-ticks // size)))
    row, step = np.nonzero(events.turn >= 0)
    np.add.at(done, (row, events.turn[row, step] // size), np.asarray(work)[row, step])
    return done


def _by_group(placement: CoreAssignment, size: int) -> npt.NDArray[np.float64]:
    """Return the share of each neuron layer on a core of each group, mean of its cores, (layers, groups)."""
    starts = range(0, placement.cores, size)
    groups = [placement.shares[:, placement.kind_of[start : start + size]].mean(axis=1) for start in starts]
    return np.stack(groups, axis=1)


def _sizes(total: int, size: int) -> npt.NDArray[np.int64]:
    """Return the number of members of each group; the last may have fewer."""
    return np.array([min(size, total - start) for start in range(0, total, size)])


def _labels(activity: Activity, flow: Flow, size: int) -> tuple[str, ...]:
    return tuple(activity.steps[flow.ticks[start].step] for start in range(0, len(flow.ticks), size))
