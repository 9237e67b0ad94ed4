"""How long an inference takes: each hardware step lasts as long as its busiest core, plus the barrier.

The processor beside the cores works while they wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Layer
from stas_neuro.energy.events import PRICES, EventCounts
from stas_neuro.energy.placement import Placement
from stas_neuro.energy.profile import Corners, Profile
from stas_neuro.energy.schedule import HardwareStep

_UNITS = ("synapse", "neuron", "message")
_CHUNK = 1024  # images at once, which bounds the memory


@dataclass(frozen=True, eq=False)
class Latency:
    """Seconds at (low, value, high).

    Parameters
    ----------
    per_image : float (images, 3)
    per_step : float (steps, 3)
        Mean over images, each hardware step accounted to one step of the record.
    busiest : tuple of str
        Layers whose neurons are on the core that holds up the most time.
    busiest_share : float
        Part of the latency that this core decides.
    """

    per_image: Corners
    per_step: Corners
    busiest: tuple[str, ...]
    busiest_share: float


def needed_times(events: Mapping[str, EventCounts], placement: Placement) -> list[str]:
    """Name the profile entries that the latency of these events depends on."""
    entries = [f"time.{price.entry}" for price in PRICES if events[price.event].any()]
    return list(dict.fromkeys([*entries, _barrier(placement)]))


def price_latency(
    events: Mapping[str, EventCounts],
    ticks: Sequence[HardwareStep],
    layers: Sequence[Layer],
    placement: Placement,
    profile: Profile,
) -> Latency:
    """Price the time of every hardware step.

    A core does its share of the events of the groups at work, and steps the other neurons it holds. Under the
    law `sum` it does one thing after another and the barrier follows. Under `max` synapses, neurons, messages
    and the barrier overlap and the slowest decides: a lower bound, so its high end adds them up. Under either
    the processor beside the cores adds its time: cores wait for what it gives them, or it for them.

    `events` are counts (images, layers, steps). Raises MissingEntry where one of `needed_times` is missing.
    """
    images, _, steps = events["synops"].shape
    # Cores that hold the same shares take the same time: one of each kind is enough.
    share = np.unique(placement.share, axis=1)
    total = np.zeros((0, 3))
    per_step, decided = np.zeros((steps, 3)), np.zeros(share.shape[1])
    stage_of = {layer.name: layer.stage for layer in layers}
    stages = np.array([-1 if (s := stage_of[name]) is None else s for name in placement.owners])
    idle_time = _idle_time(events, layers, placement, profile)
    barrier = profile.corners(_barrier(placement))
    for start in range(0, images, _CHUNK):
        chunk = {event: counts[start : start + _CHUNK] for event, counts in events.items()}
        loads, beside = _loads(chunk, placement, profile), _processor_time(chunk, profile)
        per_image = beside.sum(axis=1)
        per_step += beside.sum(axis=0) / images
        for tick in ticks:
            seconds, idle = np.zeros((len(_UNITS), len(per_image), share.shape[1], 3)), idle_time.copy()
            for step, stage in tick.work:
                at_work = (stages == stage) & loads[:, :, :, step].any(axis=(0, 1, 3))
                seconds += np.einsum("uigc,gk->uikc", loads[:, :, at_work, step], share[at_work])
                idle[at_work] = 0
            seconds[_UNITS.index("neuron")] += np.einsum("gc,gk->kc", idle, share)
            duration, core = _duration(seconds, barrier, profile)
            per_image += duration
            per_step[tick.step] += duration.sum(axis=0) / images
            np.add.at(decided, core, duration[:, 1])
        total = np.concatenate([total, per_image])
    busiest, seconds_in_all = int(decided.argmax()), float(total[:, 1].sum())
    return Latency(
        per_image=total,
        per_step=per_step,
        busiest=tuple(placement.owners[row] for row in np.flatnonzero(share[:, busiest])),
        busiest_share=float(decided[busiest] / seconds_in_all) if decided.any() else 0.0,
    )


def _barrier(placement: Placement) -> str:
    return "time.barrier" if placement.chips <= 1 else "time.barrier_multi_chip"


def _idle_time(
    events: Mapping[str, EventCounts], layers: Sequence[Layer], placement: Placement, profile: Profile
) -> Corners:
    """Seconds (owners, 3) that stepping all neurons of each group takes when it has nothing to do."""
    if not events["updates_idle"].any():
        return np.zeros((len(placement.owners), 3))
    neurons = {layer.name: layer.neurons for layer in layers}
    keeps = np.array([neurons[name] for name in placement.owners], dtype=np.float64)
    return keeps[:, None] * profile.corners("time.neuron_update_inactive")


def _processor_time(events: Mapping[str, EventCounts], profile: Profile) -> Corners:
    """Seconds of work of the processor beside the cores, (images, steps, 3)."""
    images, _, steps = events["synops"].shape
    seconds = np.zeros((images, steps, 3))
    for price in PRICES:
        counts = events[price.event]
        if price.unit == "processor" and counts.any():
            seconds += counts.sum(axis=1)[..., None] * profile.corners(f"time.{price.entry}")
    return seconds


def _loads(
    events: Mapping[str, EventCounts], placement: Placement, profile: Profile
) -> npt.NDArray[np.float64]:
    """Seconds of work of each group, (units, images, owners, steps, 3), idle updates left out."""
    images, layers, steps = events["synops"].shape
    member = np.zeros((layers, len(placement.owners)))
    member[np.arange(layers), placement.group] = 1
    loads = np.zeros((len(_UNITS), images, len(placement.owners), steps, 3))
    for price in PRICES:
        counts = events[price.event]
        if price.event != "updates_idle" and price.unit in _UNITS and counts.any():
            grouped = np.einsum("ils,lg->igs", counts.astype(np.float64), member)
            loads[_UNITS.index(price.unit)] += grouped[..., None] * profile.corners(f"time.{price.entry}")
    return loads


def _duration(seconds: Corners, barrier: Corners, profile: Profile) -> tuple[Corners, npt.NDArray[np.intp]]:
    """Last of a hardware step, (images, 3), and the core that decides it, (images,).

    `seconds` are those of each core, (units, images, cores, 3).
    """
    one_by_one = seconds.sum(axis=0)
    cores = one_by_one if profile.step_law == "sum" else seconds.max(axis=0)
    slowest = cores.max(axis=1)
    after = slowest + barrier
    if profile.step_law == "max":
        after = np.maximum(slowest, barrier)
        after[:, 2] = one_by_one[..., 2].max(axis=1) + barrier[2]
    return after, cores[..., 1].argmax(axis=1)
