"""What a run costs on a chip: activity times profile, with the interval and the source of every number.

Intervals are propagated by pricing three times: all entries low, at their value, high. Counts and entries
are not negative and enter by sums, products and maxima: totals grow with every entry, so the ends are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from stas_neuro.activity import Activity
from stas_neuro.energy.events import GATINGS, PRICES, EventCounts, Gating, priced_events
from stas_neuro.energy.latency import Latency, needed_times, price_latency
from stas_neuro.energy.placement import Placement, pack
from stas_neuro.energy.profile import Corners, Profile, load_profile
from stas_neuro.energy.result import (
    DISCLAIMER,
    Estimate,
    EventCost,
    Interval,
    LayerCost,
    Spread,
    StepCost,
)
from stas_neuro.energy.schedule import SCHEDULES, HardwareStep, Schedule, fastest, hardware_steps
from stas_neuro.errors import InputError

OP_COUNT = "cmos45"
"""Profile of the operation count that the literature reports, given beside every chip's price."""
_PACKED = (
    "cores by first-fit packing, work shared evenly by the cores of a layer: placements do better or worse"
)
_LEFT_OUT = (
    "input and output of the host, hops between cores and copies of a spike to several cores are not priced",
    "sums of residuals, the messages that send a sum on to the next layer, pooling of spikes and the stem's "
    "integration over time are not priced",
    "a product of two spikes (attention, gates of channels) is priced as one synaptic operation; neither the "
    "memory for K^T V or Q K^T nor a hardware step for the second product, which needs the first, is priced",
)


def estimate(
    activity: Activity,
    profile: Profile | str,
    gating: Gating = "silent",
    *,
    schedule: Schedule | None = None,
    weight_bits: int = 8,
) -> Estimate:
    """Price a run on a chip.

    Parameters
    ----------
    activity : Activity
        Counts of at least one image.
    profile : Profile or str
        A profile, or the name or path of one.
    gating : "silent", "none" or "core"
        What becomes of halted tokens, see `GATINGS`.
    schedule : "serial" or "pipelined", optional
        How model steps become hardware steps, see `SCHEDULES`; the fastest that the run allows if not given.
    weight_bits : int
        Bits of a weight in synaptic memory.

    Raises
    ------
    MissingEntry
        When a price needs an entry that the profile neither gives nor declares unavailable.
    InputError
        When the activity has no image, does not fit the chip or contradicts itself.
    """
    schedule = fastest(activity) if schedule is None else schedule
    for what, given, known in (("gating", gating, GATINGS), ("schedule", schedule, SCHEDULES)):
        if given not in known:
            raise InputError(f"no {what} is called '{given}'", f"use one of {', '.join(known)}")
    if activity.images == 0:
        raise InputError("the activity covers no image", "run at least one")
    profile = load_profile(profile) if isinstance(profile, str) else profile
    ticks = hardware_steps(activity, schedule) if profile.reason("time") is None else None
    placement = pack(activity.layers, profile, weight_bits) if profile.reason("limits") is None else None
    events = priced_events(activity, gating, profile.graded_spikes, ticks)
    unavailable: dict[str, str] = {}
    dynamic = _Dynamic.price(events, profile, unavailable)
    took = _latency(activity, events, ticks, placement, profile, unavailable)
    static_w = _power("static", placement, profile, unavailable)
    management_w = _power("management", placement, profile, unavailable)
    static = _energy("static", static_w, took, unavailable)
    management = _energy("management", management_w, took, unavailable)
    total = None if static is None else dynamic.per_image + static
    if total is None:
        unavailable["energy_j"] = f"no total without static energy: {unavailable['static_energy_j']}"
    elif management is not None:
        total = total + management
    return Estimate(
        disclaimer=DISCLAIMER,
        profile=profile.name,
        profile_title=profile.title,
        gating=gating,
        schedule=schedule,
        weight_bits=weight_bits,
        images=activity.images,
        token_ratio=activity.token_ratio if activity.visits is not None and activity.visits.size else None,
        energy_j=_mean(total),
        dynamic_energy_j=_interval(dynamic.per_image.mean(axis=0)),
        halting_energy_j=_interval(dynamic.halting),
        static_energy_j=_mean(static),
        management_energy_j=_mean(management),
        latency_s=None if took is None else _mean(took.per_image),
        static_power_w=None if static_w is None else _interval(static_w),
        management_power_w=None if management_w is None else _interval(management_w),
        op_count_energy_j=op_count(activity, gating),
        energy_per_image_j=None if total is None else _spread(total),
        dynamic_energy_per_image_j=_spread(dynamic.per_image),
        latency_per_image_s=None if took is None else _spread(took.per_image),
        hardware_steps=None if ticks is None else len(ticks),
        cores=None if placement is None else placement.cores,
        chips=None if placement is None else placement.chips,
        busiest_core_layers=() if took is None else took.busiest,
        busiest_core_time_share=None if took is None else took.busiest_share,
        events=tuple(dynamic.costs),
        layers=_layers(activity, dynamic, placement),
        steps=_steps(activity, dynamic, ticks, took),
        unavailable=unavailable,
        assumptions=_assumptions(profile, gating, schedule, ticks, placement),
        sources={key: source.citation for key, source in profile.sources.items()},
    )


@cache
def _op_count_profile() -> Profile:
    return load_profile(OP_COUNT)


def op_count(activity: Activity, gating: Gating = "silent") -> Interval:
    """Give the energy in J of an inference by the literature's 45 nm operation count, mean over images."""
    profile = _op_count_profile()
    events = priced_events(activity, gating, profile.graded_spikes, None)
    return _interval(_Dynamic.price(events, profile, {}).per_image.mean(axis=0))


@dataclass
class _Dynamic:
    """Energy of events, in J at (low, value, high)."""

    per_image: Corners
    """(images, 3)."""
    by_place: Corners
    """Mean of an image, (layers, steps, 3)."""
    halting: Corners
    """What only halting causes, mean of an image, (3,)."""
    costs: list[EventCost] = field(default_factory=list)

    @staticmethod
    def price(events: Mapping[str, EventCounts], profile: Profile, unavailable: dict[str, str]) -> _Dynamic:
        """Price all events that happened; those without a price are left out and told in `unavailable`."""
        images, layers, steps = events["synops"].shape
        priced = _Dynamic(np.zeros((images, 3)), np.zeros((layers, steps, 3)), np.zeros(3))
        for price in PRICES:
            counts = events[price.event]
            if not counts.any():
                continue
            name = f"energy.{price.entry}"
            if (reason := profile.reason(name)) is not None:
                unavailable[price.event] = reason
                continue
            each, entry = profile.corners(name), profile.entry(name)
            per_image = counts.sum(axis=(1, 2))[:, None] * each
            priced.per_image += per_image
            priced.by_place += (counts.sum(axis=0) / images)[:, :, None] * each
            energy = per_image.mean(axis=0)
            if price.halting:
                priced.halting += energy
            priced.costs.append(
                EventCost(
                    event=price.event,
                    count=float(counts.sum() / images),
                    energy_j=_interval(energy),
                    entry=name,
                    basis=entry.basis,
                    source=entry.source,
                    halting=price.halting,
                )
            )
        return priced


def _latency(
    activity: Activity,
    events: Mapping[str, EventCounts],
    ticks: Sequence[HardwareStep] | None,
    placement: Placement | None,
    profile: Profile,
    unavailable: dict[str, str],
) -> Latency | None:
    reason = profile.reason("time") or profile.reason("limits")
    if reason is None and placement is not None:
        reasons = (profile.reason(name) for name in needed_times(events, placement))
        reason = next((known for known in reasons if known is not None), None)
    if reason is not None or ticks is None or placement is None:
        unavailable["latency_s"] = str(reason)
        return None
    return price_latency(events, ticks, activity.layers, placement, profile)


def _power(
    name: str, placement: Placement | None, profile: Profile, unavailable: dict[str, str]
) -> Corners | None:
    """Power in W, (3,); management is that of every chip."""
    reason = profile.reason(f"power.{name}") or profile.reason("limits")
    if reason is not None or placement is None:
        unavailable[f"{name}_power_w"] = str(reason)
        return None
    per_core = name == "static" and profile.static_scope == "core"
    return profile.corners(f"power.{name}") * (placement.cores if per_core else placement.chips)


def _energy(
    name: str, power: Corners | None, took: Latency | None, unavailable: dict[str, str]
) -> Corners | None:
    """Energy in J that a power takes during the latency, (images, 3)."""
    if power is None or took is None:
        cause = f"{name}_power_w" if power is None else "latency_s"
        unavailable[f"{name}_energy_j"] = unavailable[cause]
        return None
    return power * took.per_image


def _layers(activity: Activity, dynamic: _Dynamic, placement: Placement | None) -> tuple[LayerCost, ...]:
    return tuple(
        LayerCost(
            name=layer.name,
            kind=layer.kind,
            scope=layer.scope,
            dynamic_energy_j=_interval(dynamic.by_place[row].sum(axis=0)),
            cores=None if placement is None else placement.cores_of(int(placement.group[row])),
        )
        for row, layer in enumerate(activity.layers)
    )


def _steps(
    activity: Activity, dynamic: _Dynamic, ticks: Sequence[HardwareStep] | None, took: Latency | None
) -> tuple[StepCost, ...]:
    return tuple(
        StepCost(
            step=label,
            dynamic_energy_j=_interval(dynamic.by_place[:, step].sum(axis=0)),
            hardware_steps=None if ticks is None else sum(tick.step == step for tick in ticks),
            latency_s=None if took is None else _interval(took.per_step[step]),
        )
        for step, label in enumerate(activity.steps)
    )


def _assumptions(
    profile: Profile,
    gating: Gating,
    schedule: Schedule,
    ticks: Sequence[HardwareStep] | None,
    placement: Placement | None,
) -> tuple[str, ...]:
    told = [f"gating {gating}: {GATINGS[gating]}"]
    if ticks is not None:
        told.append(f"schedule {schedule}: {SCHEDULES[schedule]}")
    if placement is not None:
        told.append(_PACKED)
        if placement.chips > 1 and "time.barrier_multi_chip" in profile.entries():
            told.append(f"{placement.chips} chips: {profile.entry('time.barrier_multi_chip').note}")
    return (*told, *_LEFT_OUT, *profile.notes)


def _interval(corners: Corners) -> Interval:
    low, value, high = corners.tolist()
    return Interval(value=value, low=low, high=high)


def _mean(per_image: Corners | None) -> Interval | None:
    return None if per_image is None else _interval(per_image.mean(axis=0))


def _spread(per_image: Corners) -> Spread:
    # An observed image rather than a value between two: p99 of ten images is the worst of them.
    median, p99, worst = np.percentile(per_image, [50, 99, 100], axis=0, method="inverted_cdf")
    return Spread(median=_interval(median), p99=_interval(p99), worst=_interval(worst))
