"""Price of a run on a chip, with an interval and a source for every number, and its parts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from stas_neuro.activity import Activity
from stas_neuro.chips.capabilities import Need, shortfalls
from stas_neuro.chips.catalogue import load_profile
from stas_neuro.chips.profile import Corners, Profile
from stas_neuro.energy.assumptions import assumptions_of
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.costs import Cost, cost_of, mean
from stas_neuro.energy.deployment import DEFAULT, Deployment, idle_word
from stas_neuro.energy.dynamic import by_core, by_layer, by_step, by_token, price_events
from stas_neuro.energy.events import Events, Running, count_events
from stas_neuro.energy.figures import figures_of
from stas_neuro.energy.gating import UNMAPPED_CORE, Gating, gating_of
from stas_neuro.energy.latency import managing_time, needed_times
from stas_neuro.energy.result import Estimate, Interval, Spread, interval
from stas_neuro.energy.structure import SKIPPED, range_of, variants_of
from stas_neuro.energy.timing import Flow

OP_COUNT = "cmos45"
"""Profile of the operation count used in the literature, reported with every chip's price."""
_PACKING = ["limits.neurons_per_core", "limits.synaptic_memory_per_core", "limits.cores_per_chip"]
"""Entries that determine the cores and chips of a run without a mapping."""


def estimate(
    activity: Activity,
    profile: Profile | str | Path,
    deployment: Deployment = DEFAULT,
    *,
    variants: bool = True,
) -> Estimate:
    """Price a run on a chip.

    A chip that does not support the network is priced, too: the price is then a what-if, and `what_if` has
    the reasons.

    Parameters
    ----------
    activity : Activity
        Counts of at least one image.
    profile : Profile, str or Path
        A profile, or the name or path of one.
    deployment : Deployment
        How the network is run.
    variants : bool
        Whether to price other structures too: `idle_skipped`, `variants` and `structural_range`.

    Raises
    ------
    MissingEntry
        When a price needs an entry that the profile neither has nor declares unavailable.
    CannotRun
        When the network does not fit the chip, or the chip lacks what the deployment needs.
    InputError
        When the activity has no image, does not fit the chip or is inconsistent, the run does not allow the
        deployment, or it computed halted tokens and `gating` is not `none`.
    """
    profile = load_profile(profile)
    return estimate_of(
        activity, profile, deployment, cost_of(activity, profile, deployment), variants=variants
    )


def estimate_of(
    activity: Activity, profile: Profile, deployment: Deployment, cost: Cost, *, variants: bool = True
) -> Estimate:
    """Return the estimate of a run from the cost of its images; see `estimate`."""
    running, flow, placement, took = cost.running, cost.flow, cost.placement, cost.took
    dynamic, priced, total, unavailable = cost.dynamic, cost.priced, cost.total, cost.unavailable
    totals = cost.totals()
    others = variants_of(activity, profile, deployment, cost) if variants else ()
    steps = None if flow is None else _steps_an_image(cost.events, flow)
    core_steps = _core_steps(cost.events, flow, placement, unavailable)
    what_if, unknown = shortfalls(activity, profile, _needs(deployment))
    if what_if is None:
        unavailable["what_if"] = unknown
    return Estimate(
        figures=figures_of(profile, _used(activity, profile, cost)),
        profile=profile.name,
        profile_title=profile.title,
        gating=running.gating,
        schedule=deployment.schedule_of(activity),
        mode=deployment.mode,
        contexts=deployment.contexts,
        replicas=cost.copies.total,
        early_end=deployment.early_end,
        stem=deployment.stem,
        microcode=deployment.microcode,
        idle_update=running.idle,
        idle_update_of_chip=idle_word(profile),
        weight_bits=deployment.weight_bits,
        images=activity.images,
        token_ratio=activity.token_ratio if activity.visits is not None and activity.visits.size else None,
        what_if=what_if,
        energy_j=totals.energy_j,
        dynamic_energy_j=totals.dynamic_energy_j,
        halting_energy_j=interval(dynamic.halting) if priced else None,
        visit_energy_j=interval(dynamic.visits) if priced else None,
        static_energy_j=mean(cost.static),
        management_energy_j=mean(cost.management),
        latency_s=totals.latency_s,
        management_latency_s=None if took is None or steps is None else _managing(profile, steps),
        idle_skipped=next((each.totals for each in others if each.change == SKIPPED), None),
        variants=others,
        structural_range=range_of(totals, others),
        energy_delay_product_js=None if total is None or took is None else mean(total * took.per_image),
        throughput_images_per_s=totals.throughput_images_per_s,
        static_power_w=_of_power(cost.static_w),
        management_power_w=_of_power(cost.management_w),
        op_count_energy_j=op_count(activity, running.gating),
        energy_per_image_j=None if total is None else _spread(total),
        dynamic_energy_per_image_j=_spread(dynamic.per_image) if priced else None,
        latency_per_image_s=None if took is None else _spread(took.per_image),
        hardware_steps=None if flow is None else len(flow.ticks),
        hardware_steps_per_image=steps,
        cores=None if placement is None else placement.cores,
        chips=None if placement is None else cost.copies.chips,
        core_steps=None if core_steps is None else float(core_steps.sum()),
        core_steps_gated=_gated_core_steps(core_steps, steps),
        neuron_updates_gated=_gated_updates(activity, cost, core_steps),
        busiest_core_layers=() if took is None else took.busiest,
        busiest_core_time_share=None if took is None else took.busiest_share,
        events=tuple(dynamic.costs),
        layers=by_layer(activity, dynamic, placement) if priced else (),
        steps=by_step(activity, dynamic, None if flow is None else flow.ticks, took) if priced else (),
        cores_breakdown=by_core(activity, dynamic, placement, core_steps, took, unavailable)
        if priced
        else (),
        tokens=by_token(activity, cost.events, profile, dynamic) if priced else (),
        unavailable=unavailable,
        assumptions=assumptions_of(activity, profile, deployment, running, placement),
        sources={key: source.citation for key, source in profile.sources.items()},
    )


def _managing(profile: Profile, steps: float) -> Interval | None:
    """Return the part of the latency in s that is of the processors which manage a chip."""
    each = managing_time(profile)
    return None if each is None else interval(each * steps)


@cache
def _op_count_profile() -> Profile:
    return load_profile(OP_COUNT)


def op_count(activity: Activity, gating: Gating | None = None) -> Interval:
    """Return the energy per image in J by the literature's 45 nm operation count."""
    profile = _op_count_profile()
    running = Running(flow=None, gating=gating_of(activity, gating))
    events = count_events(activity, running, profile.graded_spikes)
    return interval(price_events(activity, events, profile, {}).per_image.mean(axis=0))


def _needs(deployment: Deployment) -> tuple[Need, ...]:
    """Return what a deployment needs of a chip beyond the network."""
    if deployment.contexts == 1:
        return ()
    used = f"{deployment.contexts} contexts"
    return (Need(layer="", resource="neuron programs", used=used, avoid="use one context"),)


def _used(activity: Activity, profile: Profile, cost: Cost) -> list[str]:
    """Return the names of the profile entries that a cost depends on."""
    used = [event.entry for event in cost.dynamic.costs]
    if cost.placement is not None:
        used += [] if activity.cores else _PACKING
        used += [] if cost.took is None else needed_times(cost.events, cost.placement, profile)
    powers = {"static": cost.static_w, "management": cost.management_w}
    used += [f"power.{name}" for name, power in powers.items() if power is not None]
    gated = cost.running.gating == "power" and cost.static is not None
    return [*used, "power.static_gated"] if gated else used


def _of_power(watts: Corners | None) -> Interval | None:
    return None if watts is None else interval(watts)


def _steps_an_image(events: Events, flow: Flow) -> float:
    """Count the hardware steps from one image to the next, mean per image."""
    if events.executed is not None:
        return float(events.executed.sum(axis=1).mean())
    return flow.steps_an_image


def _core_steps(
    events: Events, flow: Flow | None, placement: CoreAssignment | None, unavailable: dict[str, str]
) -> Corners | None:
    """Count the hardware steps in which each core is stepped, mean per image, float (cores,)."""
    if flow is None or placement is None or events.unplaced_gates:
        reason = unavailable.get("latency_s", UNMAPPED_CORE)
        for name in ("core_steps", "core_steps_gated", "neuron_updates_gated"):
            unavailable[name] = reason
        return None
    if events.stepping is not None:
        return np.asarray(_stepped(events, flow).mean(axis=0), dtype=np.float64)
    steps = np.full(placement.shares.shape[1], _steps_an_image(events, flow), dtype=np.float64)
    if events.present is not None:
        on = placement.shares[placement.group].T > 0
        met = [events.present[:, list(numbers)].any(axis=1) for numbers in flow.meeting()]
        steps = np.any(on & np.array(met)[:, None], axis=2).sum(axis=0) / flow.starts
    return np.asarray(steps[placement.kind_of], dtype=np.float64)


def _stepped(events: Events, flow: Flow) -> Corners:
    """Count the hardware steps in which cores that can be gated are stepped, float (images, cores)."""
    assert events.stepping is not None
    taken = events.stepping.stepped
    if events.executed is not None:
        taken = taken & events.executed[:, None]
    met = [taken[:, :, list(numbers)].any(axis=2) for numbers in flow.meeting()]
    return np.asarray(np.sum(met, axis=0) / flow.starts)


def _gated_core_steps(core_steps: Corners | None, steps: float | None) -> float | None:
    if core_steps is None or steps is None:
        return None
    return float((steps - core_steps).sum())


def _gated_updates(activity: Activity, cost: Cost, core_steps: Corners | None) -> float | None:
    """Count the updates saved on neurons of cores that are not stepped, mean per image."""
    events, flow = cost.events, cost.flow
    if core_steps is None or flow is None:
        return None
    if events.stepping is None:
        return 0.0
    still = (_steps_an_image(events, flow) - core_steps).tolist()
    cores = [layer.core for layer in activity.layers]
    kept = zip(events.keeps.tolist(), cores, strict=True)
    return float(sum(neurons * still[core] for neurons, core in kept if core is not None))


def _spread(per_image: Corners) -> Spread:
    # Take an observed image, do not interpolate: p99 of ten images is the worst of them.
    median, p99, worst = np.percentile(per_image, [50, 99, 100], axis=0, method="inverted_cdf")
    return Spread(median=interval(median), p99=interval(p99), worst=interval(worst))
