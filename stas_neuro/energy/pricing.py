"""Price of a run on a chip: activity times profile, with an interval and a source for every number.

Intervals are propagated by pricing three times: with all entries low, at their value, and high. Counts and
entries are not negative and are combined by sums, products and maxima, so totals increase with every entry
and the bounds are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from stas_neuro.activity import Activity
from stas_neuro.chips.capabilities import shortfalls
from stas_neuro.chips.profile import Corners, Profile, load_profile
from stas_neuro.energy.core_assignment import CoreAssignment, assign_cores
from stas_neuro.energy.dynamic import by_core, by_layer, by_step, by_token, price_events
from stas_neuro.energy.events import Events, count_events
from stas_neuro.energy.figures import figures_of
from stas_neuro.energy.gating import ESTIMATED_NONE, GATINGS, UNMAPPED_CORE, Gating, check_gating, gating_of
from stas_neuro.energy.latency import Latency, needed_times, price_latency
from stas_neuro.energy.result import Estimate, Interval, Spread, interval
from stas_neuro.energy.timing import SCHEDULES, HardwareStep, Schedule, fastest, hardware_steps, phase_of
from stas_neuro.errors import InputError

OP_COUNT = "cmos45"
"""Profile of the operation count used in the literature, reported with every chip's price."""
_DYNAMIC = ("dynamic_energy_j", "halting_energy_j", "visit_energy_j", "dynamic_energy_per_image_j")
"""Fields that are unknown where the profile has no energy of any event."""
_PACKING = ["limits.neurons_per_core", "limits.synaptic_memory_per_core", "limits.cores_per_chip"]
"""Entries that determine the cores and chips of a run without a mapping."""
_PACKED = (
    "cores by first-fit packing, work divided evenly among the cores of a layer: a placement may cost less "
    "or more"
)
_UNMAPPED = (
    "input and output of the host, hops between cores, copies of a spike to several cores, spikes that a "
    "single-pass stem sends again in each model step, and messages that forward a sum of residuals are not "
    "priced: they are known only for a run on cores"
)
_MAPPED = (
    "cores as placed for the run; the time that messages take from tile to tile, including congestion, is "
    "not priced"
)
_LEFT_OUT = (
    "pooling of spikes, the stem's integration over time, and the additions in sums of residuals are not "
    "priced",
    "a product of two spikes (attention, gates of channels) is priced as one synaptic operation; neither the "
    "memory for K^T V or Q K^T nor a hardware step for the second product, which needs the first, is priced",
)


def estimate(
    activity: Activity,
    profile: Profile | str,
    gating: Gating | None = None,
    *,
    schedule: Schedule | None = None,
    weight_bits: int = 8,
) -> Estimate:
    """Price a run on a chip.

    A chip that does not support the network is priced, too: the price is then a what-if, and `what_if` has
    the reasons.

    Parameters
    ----------
    activity : Activity
        Counts of at least one image.
    profile : Profile or str
        A profile, or the name or path of one.
    gating : one of `GATINGS`, optional
        How halted tokens are treated. Default: `none` for a run that computed them, else `silent`.
    schedule : one of `SCHEDULES`, optional
        How model steps are mapped to hardware steps. Default: the fastest schedule that the run allows.
    weight_bits : int
        Bits of a weight in synaptic memory. For a run on cores it does not change the placement.

    Raises
    ------
    MissingEntry
        When a price needs an entry that the profile neither has nor declares unavailable.
    CannotRun
        When the network does not fit the chip, or its cores do not support the gating mode.
    InputError
        When the activity has no image, does not fit the chip or is inconsistent, or the run computed halted
        tokens and `gating` is not `none`.
    """
    schedule = fastest(activity) if schedule is None else schedule
    for what, given, known in (("gating", gating, GATINGS), ("schedule", schedule, SCHEDULES)):
        if given is not None and given not in known:
            raise InputError(f"there is no {what} '{given}'", f"use one of {', '.join(known)}")
    if activity.images == 0:
        raise InputError("the activity has no images", "run at least one image")
    profile = load_profile(profile) if isinstance(profile, str) else profile
    gating = gating_of(activity, gating)
    check_gating(activity, profile, gating)
    ticks = hardware_steps(activity, schedule) if profile.reason("time") is None else None
    placement = assign_cores(activity, profile, weight_bits) if profile.reason("limits") is None else None
    events = count_events(activity, gating, profile.graded_spikes, ticks)
    unavailable: dict[str, str] = {}
    dynamic = price_events(activity, events, profile, unavailable)
    priced = bool(profile.energy) or not unavailable
    if not priced:  # events without a price are not free
        why = f"no event has a price: {next(iter(unavailable.values()))}"
        unavailable |= dict.fromkeys(_DYNAMIC, why)
    stream = _steps_an_image(activity) if schedule == "pipelined" else 0
    took = _latency(events, ticks, placement, profile, stream, unavailable)
    static_w = _power("static", placement, profile, unavailable)
    management_w = _power("management", placement, profile, unavailable)
    static = _energy("static", static_w, took, unavailable)
    management = _energy("management", management_w, took, unavailable)
    if gating == "power" and static is not None and took is not None:
        static = static - _spared(took, profile)
    total = None if static is None or not priced else dynamic.per_image + static
    if total is None:
        part, field = ("static", "static_energy_j") if priced else ("dynamic", "dynamic_energy_j")
        unavailable["energy_j"] = f"no total without {part} energy: {unavailable[field]}"
        unavailable["energy_delay_product_js"] = unavailable["energy_j"]
    elif management is not None:
        total = total + management
    core_steps = _core_steps(events, ticks, placement, unavailable)
    what_if, unknown = shortfalls(activity, profile)
    if what_if is None:
        unavailable["what_if"] = unknown
    used = [cost.entry for cost in dynamic.costs]
    if placement is not None:
        used += [] if activity.cores else _PACKING
        used += [] if took is None else needed_times(events, placement)
    powers = {"static": static_w, "management": management_w}
    used += [f"power.{name}" for name, power in powers.items() if power is not None]
    used += ["power.static_gated"] if gating == "power" and static is not None else []
    return Estimate(
        figures=figures_of(profile, used),
        profile=profile.name,
        profile_title=profile.title,
        gating=gating,
        schedule=schedule,
        weight_bits=weight_bits,
        images=activity.images,
        token_ratio=activity.token_ratio if activity.visits is not None and activity.visits.size else None,
        what_if=what_if,
        energy_j=_mean(total),
        dynamic_energy_j=_mean(dynamic.per_image) if priced else None,
        halting_energy_j=interval(dynamic.halting) if priced else None,
        visit_energy_j=interval(dynamic.visits) if priced else None,
        static_energy_j=_mean(static),
        management_energy_j=_mean(management),
        latency_s=None if took is None else _mean(took.per_image),
        energy_delay_product_js=None if total is None or took is None else _mean(total * took.per_image),
        throughput_images_per_s=None if took is None else _rate(took.spacing, unavailable),
        static_power_w=None if static_w is None else interval(static_w),
        management_power_w=None if management_w is None else interval(management_w),
        op_count_energy_j=op_count(activity, gating),
        energy_per_image_j=None if total is None else _spread(total),
        dynamic_energy_per_image_j=_spread(dynamic.per_image) if priced else None,
        latency_per_image_s=None if took is None else _spread(took.per_image),
        hardware_steps=None if ticks is None else len(ticks),
        cores=None if placement is None else placement.cores,
        chips=None if placement is None else placement.chips,
        core_steps=None if core_steps is None else float(core_steps.sum()),
        core_steps_gated=_gated_core_steps(core_steps, ticks),
        neuron_updates_gated=_gated_updates(activity, events, core_steps),
        busiest_core_layers=() if took is None else took.busiest,
        busiest_core_time_share=None if took is None else took.busiest_share,
        events=tuple(dynamic.costs),
        layers=by_layer(activity, dynamic, placement) if priced else (),
        steps=by_step(activity, dynamic, ticks, took) if priced else (),
        cores_breakdown=by_core(activity, dynamic, placement, core_steps, took, unavailable)
        if priced
        else (),
        tokens=by_token(activity, dynamic) if priced else (),
        unavailable=unavailable,
        assumptions=_assumptions(activity, profile, gating, schedule, ticks, placement),
        sources={key: source.citation for key, source in profile.sources.items()},
    )


@cache
def _op_count_profile() -> Profile:
    return load_profile(OP_COUNT)


def op_count(activity: Activity, gating: Gating | None = None) -> Interval:
    """Return the energy per image in J by the literature's 45 nm operation count."""
    profile = _op_count_profile()
    events = count_events(activity, gating_of(activity, gating), profile.graded_spikes, None)
    return interval(price_events(activity, events, profile, {}).per_image.mean(axis=0))


def _latency(
    events: Events,
    ticks: Sequence[HardwareStep] | None,
    placement: CoreAssignment | None,
    profile: Profile,
    stream: int,
    unavailable: dict[str, str],
) -> Latency | None:
    reason = profile.reason("time") or profile.reason("limits")
    if reason is None and placement is not None:
        reasons = (profile.reason(name) for name in needed_times(events, placement))
        reason = next((known for known in reasons if known is not None), None)
    if reason is not None or ticks is None or placement is None:
        unavailable["latency_s"] = unavailable["throughput_images_per_s"] = str(reason)
        return None
    return price_latency(events, ticks, placement, profile, stream)


def _power(
    name: str, placement: CoreAssignment | None, profile: Profile, unavailable: dict[str, str]
) -> Corners | None:
    """Return the static or management power of all cores or chips in W, (3,); management is per chip."""
    reason = profile.reason(f"power.{name}") or profile.reason("limits")
    if reason is not None or placement is None:
        unavailable[f"{name}_power_w"] = str(reason)
        return None
    per_core = name == "static" and profile.static_scope == "core"
    return profile.corners(f"power.{name}") * (placement.cores if per_core else placement.chips)


def _energy(
    name: str, power: Corners | None, took: Latency | None, unavailable: dict[str, str]
) -> Corners | None:
    """Return the energy in J of a power over the latency, (images, 3)."""
    if power is None or took is None:
        cause = f"{name}_power_w" if power is None else "latency_s"
        unavailable[f"{name}_energy_j"] = unavailable[cause]
        return None
    return power * took.per_image


def _spared(took: Latency, profile: Profile) -> Corners:
    """Return the static energy in J saved while cores are gated, (images, 3)."""
    per_core = profile.corners("power.static") - profile.corners("power.static_gated")
    if profile.static_scope == "chip":
        per_core = per_core / profile.limit("cores_per_chip")
    return took.gated * per_core


def _steps_an_image(activity: Activity) -> int:
    """Count the hardware steps from one image to the next: a pipeline stage takes one per model step."""
    phases = [phase_of(label) for label in activity.steps]
    return max(phases.count(layer.phase) for layer in activity.layers)


def _core_steps(
    events: Events,
    ticks: Sequence[HardwareStep] | None,
    placement: CoreAssignment | None,
    unavailable: dict[str, str],
) -> Corners | None:
    """Count the hardware steps in which each core is stepped, mean per image, float (cores,)."""
    if ticks is None or placement is None or not events.idles:
        reason = unavailable.get("latency_s", UNMAPPED_CORE)
        for name in ("core_steps", "core_steps_gated", "neuron_updates_gated"):
            unavailable[name] = reason
        return None
    if events.stepping is None:
        return np.full(placement.cores, len(ticks), dtype=np.float64)
    return np.asarray(events.stepping.stepped.sum(axis=2).mean(axis=0), dtype=np.float64)


def _gated_core_steps(core_steps: Corners | None, ticks: Sequence[HardwareStep] | None) -> float | None:
    if core_steps is None or ticks is None:
        return None
    return float((len(ticks) - core_steps).sum())


def _gated_updates(activity: Activity, events: Events, core_steps: Corners | None) -> float | None:
    """Count the updates saved on neurons of cores that are not stepped, mean per image."""
    if core_steps is None:
        return None
    if events.stepping is None:
        return 0.0
    still = (~events.stepping.stepped).sum(axis=2).mean(axis=0)
    cores = [layer.core for layer in activity.layers]
    kept = zip(events.keeps.tolist(), cores, strict=True)
    return float(sum(neurons * still[core] for neurons, core in kept if core is not None))


def _assumptions(
    activity: Activity,
    profile: Profile,
    gating: Gating,
    schedule: Schedule,
    ticks: Sequence[HardwareStep] | None,
    placement: CoreAssignment | None,
) -> tuple[str, ...]:
    assumptions = [f"gating {gating}: {GATINGS[gating]}"]
    if gating == "none" and activity.counts["updates_gated"].any():
        assumptions.append(ESTIMATED_NONE)
    if gating == "core" and not activity.cores:
        assumptions.append(UNMAPPED_CORE)
    if ticks is not None:
        assumptions.append(f"schedule {schedule}: {SCHEDULES[schedule]}")
    if placement is not None:
        assumptions.append(_MAPPED if activity.cores else _PACKED)
        if placement.chips > 1 and "time.barrier_multi_chip" in profile.entries():
            assumptions.append(f"{placement.chips} chips: {profile.entry('time.barrier_multi_chip').note}")
    if not activity.cores:
        assumptions.append(_UNMAPPED)
    return (*assumptions, *_LEFT_OUT, *profile.notes)


def _mean(per_image: Corners | None) -> Interval | None:
    return None if per_image is None else interval(per_image.mean(axis=0))


def _rate(seconds: Corners, unavailable: dict[str, str]) -> Interval | None:
    """Return the images per second, from the mean time between images; high where that is low."""
    mean = seconds.mean(axis=0)
    if not mean.all():
        unavailable["throughput_images_per_s"] = "the time of an image may be 0 by the profile"
        return None
    return interval(1 / mean[::-1])


def _spread(per_image: Corners) -> Spread:
    # Take an observed image, do not interpolate: p99 of ten images is the worst of them.
    median, p99, worst = np.percentile(per_image, [50, 99, 100], axis=0, method="inverted_cdf")
    return Spread(median=interval(median), p99=interval(p99), worst=interval(worst))
