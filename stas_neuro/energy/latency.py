"""Latency of an inference: each hardware step takes the time of its busiest core, plus the barrier.

Cores wait while the processor outside the cores works, and for those that manage the chip in each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.chips.profile import Corners, Profile
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.events import PRICES, EventCounts, Events, Price, images_of
from stas_neuro.energy.gating import Flags
from stas_neuro.energy.timing import Flow

_UNITS = ("synapse", "neuron", "message")
_IDLE = ("updates_idle", "program_idle")
_APART = (*_IDLE, "state_resets")
"""Events that do not occur in a row's turn."""
_CHUNK = 1 << 19  # images x rows x steps at once, which bounds the memory
Seconds = npt.NDArray[np.float64]
"""Times in s, (low, value, high) x cores x images: images last, so that they are summed side by side."""
Timed = tuple[str, Corners, npt.NDArray[np.bool_]]
"""An event, its time in s, (3,), and in which rows and steps it occurs."""


@dataclass(frozen=True, eq=False)
class Latency:
    """Times in s; the last axis is (low, value, high).

    Parameters
    ----------
    per_image : float (images, 3)
        Latency. With images in flight, each hardware step takes as long as the busiest core for all of them.
    per_step : float (steps, 3)
        Mean over images, each hardware step attributed to one step of the record.
    spacing : float (images, 3)
        From one image to the next; the same as `per_image` for one image at a time.
    gated : float (images, 3)
        Sum over cores of the time in which they are not stepped, per image.
    busy : float (cores,)
        Fraction of the time in which each core works.
    busiest : tuple of str
        Layers with neurons on the busiest core: the one that determines the duration for the longest time.
    busiest_share : float
        Fraction of the time in which this core determines the duration.
    """

    per_image: Corners
    per_step: Corners
    spacing: Corners
    gated: Corners
    busy: npt.NDArray[np.float64]
    busiest: tuple[str, ...]
    busiest_share: float


def needed_times(events: Events, placement: CoreAssignment, profile: Profile) -> list[str]:
    """Return the names of the profile entries that the latency of these events depends on."""
    priced = [price for price in PRICES if price.unit != "network" and events.occurs(price.event)]
    entries = [price.priced_by(profile, "time") for price in priced]
    if events.stepping is not None:
        entries.append("time.wake")
    return list(dict.fromkeys([*entries, _barrier(placement), *_managed(profile)]))


def price_latency(
    events: Events, flow: Flow, placement: CoreAssignment, profile: Profile, copies: int = 1
) -> Latency:
    """Compute the duration of every hardware step, and the latency from these.

    A core does its share of the events of the rows at work, and steps its other neurons. Under step law
    `sum` it does so sequentially, followed by the barrier. Under `max` synapses, neurons, messages and the
    barrier overlap, and the slowest determines the duration: a lower bound, so the high end is their sum.
    Under both laws, each hardware step takes `time.management_step` more, if the profile has it, and the time
    of the processor outside the cores is added, because cores wait for its results
    or it waits for theirs, and it serves all `copies` of the network on its chip; so is the reset of neurons
    after an image.

    In each hardware step a core works for all images in flight, which are taken to be the same as this image.

    Raises MissingEntry where one of `needed_times` is missing.
    """
    images, rows, steps = events.counts["synops"].shape
    share, cores = placement.shares, placement.kind_of
    if events.stepping is None:
        # Cores with the same shares take the same time: one core of each kind is enough.
        share, kinds = np.unique(share, axis=1, return_inverse=True)
        cores = kinds.reshape(-1)[cores]
    each = max(rows * steps, share.shape[1] * len(flow.ticks) if flow.overlaps else 0, 1)
    size = max(1, _CHUNK // each)
    work = _Work.of(events, profile)
    parts = [
        _Chunk(images_of(events, slice(start, start + size)), work, flow, share, placement, profile, copies)
        for start in range(0, images, size)
    ]
    spacing = np.concatenate([part.spacing for part in parts])
    decided, busy = sum(part.decided for part in parts), sum(part.busy for part in parts)
    total = float(spacing[:, 1].sum())
    busiest = int(np.argmax(decided))
    return Latency(
        per_image=np.concatenate([part.per_image for part in parts]),
        per_step=np.asarray(sum(part.per_step for part in parts)) / images,
        spacing=spacing,
        gated=np.concatenate([part.gated for part in parts]),
        busy=(np.asarray(busy) / total if total else np.zeros(share.shape[1]))[cores],
        busiest=tuple(placement.neuron_layers[row] for row in np.flatnonzero(share[:, busiest])),
        busiest_share=float(np.max(decided) / total) if total else 0.0,
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """The events of any image that take time.

    Parameters
    ----------
    timed : list of (unit, list of Timed)
        Events that occur in turns, by the number of the unit that does them.
    idling, processor : list of Price
        Updates of idle neurons, and what the processor outside the cores does.
    """

    timed: list[tuple[int, list[Timed]]]
    idling: list[Price]
    processor: list[Price]

    @staticmethod
    def of(events: Events, profile: Profile) -> _Work:
        """Look the events up once: counts are long, and steps many."""
        occurring = [price for price in PRICES if events.occurs(price.event)]
        of_unit: dict[int, list[Timed]] = {}
        for price in occurring:
            if price.event not in _APART and price.unit in _UNITS:
                each = profile.corners(price.priced_by(profile, "time"))
                timed = price.event, each, events.most(price.event) > 0
                of_unit.setdefault(_UNITS.index(price.unit), []).append(timed)
        idling = [price for price in occurring if price.event in _IDLE]
        processor = [price for price in occurring if price.unit == "processor"]
        return _Work(list(of_unit.items()), idling, processor)


class _Chunk:
    """Times of some of the images; `share` has the shares of distinct cores."""

    def __init__(
        self,
        events: Events,
        work: _Work,
        flow: Flow,
        share: npt.NDArray[np.float64],
        placement: CoreAssignment,
        profile: Profile,
        copies: int,
    ) -> None:
        self.events, self.work, self.flow, self.profile = events, work, flow, profile
        self.row_share = share[placement.group]
        self.row_core = np.where(self.row_share.any(axis=1), self.row_share.argmax(axis=1), -1)
        self.barrier = profile.corners(_barrier(placement))
        managing = managing_time(profile)
        self.managing = np.zeros(3) if managing is None else managing
        counts = self.events.counts
        many = len(counts["synops"])
        processor = self._processor() * copies
        reset = self._reset(counts["state_resets"])
        self.per_image = processor.sum(axis=1) + reset
        self.per_step = processor.sum(axis=0)
        self.per_step[-1] += reset.sum(axis=0)
        self.spacing = self.per_image.copy()
        self.gated = np.zeros((many, 3))
        self.decided, self.busy = np.zeros(share.shape[1]), np.zeros(share.shape[1])
        self._run()

    def _run(self) -> None:
        """Add the durations of the hardware steps in which an image is, and of those from image to image."""
        flow, stepping = self.flow, self.events.stepping
        again = flow.starts > 1 and len(flow.ticks) * self.row_share.shape[1] <= _CHUNK
        of_tick: dict[int, Seconds] = {}
        durations = []
        before: Flags = np.zeros((len(self.gated), self.row_share.shape[1]), dtype=np.bool_)
        if stepping is not None and flow.overlaps:
            *_, last = flow.meeting()
            before = self._stepped(last)
        for numbers in flow.meeting():
            seconds = np.zeros((len(_UNITS), 3, self.row_share.shape[1], len(self.gated)))
            for number in numbers:
                if again and number not in of_tick:
                    of_tick[number] = self._at_work(number, np.zeros_like(seconds))
                if again:
                    seconds += of_tick[number]
                else:
                    self._at_work(number, seconds)
            if self.events.idles:
                idle = self.events.idle(numbers, self.row_core).astype(np.float64)
                seconds[_UNITS.index("neuron")] += self._idle(np.maximum(idle, 0))
            wake = None
            if stepping is not None:
                stepped = self._stepped(numbers)
                wake, before = self._waking(stepped & ~before), stepped
            duration, core, work = _duration(seconds, wake, self.barrier, self.profile)
            duration = duration + self.managing
            if self.events.executed is not None:
                taken = self.events.executed[:, numbers[0], None]
                duration, work = duration * taken, work * taken
            durations.append(duration)
            self.spacing += duration / flow.starts
            self.busy += work.sum(axis=0) / flow.starts
            np.add.at(self.decided, core, duration[:, 1] / flow.starts)
            if stepping is not None:
                self.gated += (~stepped).sum(axis=1)[:, None] * duration / flow.starts
        for start in range(flow.starts):
            for number, tick in enumerate(flow.ticks):
                duration = durations[(number + start) % flow.period] / flow.starts
                self.per_image += duration
                self.per_step[tick.step] += duration.sum(axis=0)

    def _processor(self) -> Corners:
        """Return the time in s of the processor outside the cores, (images, steps, 3)."""
        images, _, steps = self.events.counts["synops"].shape
        seconds = np.zeros((images, steps, 3))
        for price in self.work.processor:
            done = self.events.counts[price.event].sum(axis=1)
            seconds += done[..., None] * self.profile.corners(price.priced_by(self.profile, "time"))
        return seconds

    def _stepped(self, numbers: Sequence[int]) -> Flags:
        """Return which cores are stepped for any of the ticks that meet, bool (images, cores)."""
        assert self.events.stepping is not None
        return np.asarray(self.events.stepping.stepped[:, :, list(numbers)].any(axis=2))

    def _at_work(self, number: int, seconds: Seconds) -> Seconds:
        """Add the time in s of the rows that have their turn."""
        rows, steps = np.nonzero(self.events.turn == number)
        for unit, timed in self.work.timed:
            loads = np.zeros((3, len(rows), len(self.gated)))
            for event, each, occurs in timed:
                works = occurs[rows, steps]
                counted = self.events.counts[event][:, rows[works], steps[works]].T
                loads[:, works] += each[:, None, None] * counted.astype(np.float64)
            seconds[unit] += _on_cores(loads, self.row_share[rows])
        return seconds

    def _idle(self, neurons: npt.NDArray[np.float64]) -> Seconds:
        """Return the time in s for stepping idle `neurons`, (images, rows), as (3, cores, images)."""
        seconds = np.zeros((3, self.row_share.shape[1], len(neurons)))
        for price in self.work.idling:
            own = neurons
            if self.events.programs is not None:
                own = neurons * (self.events.programs == bool(price.stock))
            each = self.profile.corners(price.priced_by(self.profile, "time"))
            stepped = np.ascontiguousarray(own) @ self.row_share
            seconds += stepped.T * each[:, None, None]
        return seconds

    def _reset(self, resets: EventCounts) -> Corners:
        """Return the time in s to reset all neurons of the core with the most neurons, (images, 3)."""
        if not resets.any():
            return np.zeros((len(resets), 3))
        fullest = (resets.sum(axis=2) @ self.row_share).max(axis=1)
        return np.asarray(fullest[:, None] * self.profile.corners("time.state_reset"))

    def _waking(self, woken: Flags) -> Seconds:
        """Return the time in s of cores (images, cores) that wake up, (3, cores, images)."""
        return np.asarray(woken.T * self.profile.corners("time.wake")[:, None, None])


def _on_cores(loads: Seconds, share: npt.NDArray[np.float64]) -> Seconds:
    """Sum loads (3, rows, images) by core, (3, cores, images), of which rows have shares (rows, cores)."""
    if min(share.shape[1], loads.shape[2]) > 1:
        return np.asarray(share.T @ loads)
    # With a single column BLAS sums in another order: let it be that of the rows of each image.
    of_images = np.ascontiguousarray(loads.transpose(2, 1, 0)).swapaxes(1, 2)
    return np.asarray((of_images @ share).transpose(1, 2, 0))


def _barrier(placement: CoreAssignment) -> str:
    return "time.barrier" if placement.chips <= 1 else "time.barrier_multi_chip"


def _managed(profile: Profile) -> list[str]:
    """Return the entry of what processors add to each step; none where a chip has no such time of its own."""
    name = "time.management_step"
    return [] if profile.reason(name) is not None else [name]


def managing_time(profile: Profile) -> Corners | None:
    """Return the time in s that processors which manage a chip add to each hardware step, (3,).

    None where a chip has no such time of its own.
    """
    names = _managed(profile)
    return sum((profile.corners(name) for name in names), np.zeros(3)) if names else None


def _duration(
    seconds: Seconds, wake: Seconds | None, barrier: Corners, profile: Profile
) -> tuple[Corners, npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the duration of a hardware step in s, the core that determines it, and each core's working time.

    Parameters
    ----------
    seconds : float (units, 3, cores, images)
        Time of each unit of each core.
    wake : float (3, cores, images) or None
        Time to wake up, which precedes the work.

    Returns
    -------
    float (images, 3), int (images,), float (images, cores)
    """
    woken = 0.0 if wake is None else wake
    one_by_one = seconds.sum(axis=0) + woken
    cores = one_by_one if profile.step_law == "sum" else seconds.max(axis=0) + woken
    slowest = cores.max(axis=1).T
    after = slowest + barrier
    if profile.step_law == "max":
        after = np.maximum(slowest, barrier)
        after[:, 2] = one_by_one[2].max(axis=0) + barrier[2]
    # Sums over images are taken image by image: in another order the last digits would differ.
    return np.ascontiguousarray(after), cores[1].argmax(axis=0), np.ascontiguousarray(cores[1].T)
