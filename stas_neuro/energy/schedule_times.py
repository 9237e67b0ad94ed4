"""Latency of runs on each schedule they allow, and the effect of late decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stas_neuro.activity import Activity, record_halts
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import MissingEntry, Profile
from stas_neuro.energy.comparable import check_alike
from stas_neuro.energy.deployment import DEFAULT, Deployment
from stas_neuro.energy.gating import computed_halted
from stas_neuro.energy.pricing import estimate
from stas_neuro.energy.result import Interval
from stas_neuro.energy.timing import Schedule, fastest


@dataclass(frozen=True, kw_only=True)
class ScheduleCost:
    """One run on one schedule of one chip.

    `visits_changed` is the fraction of visits that differ from those of the first run. `unchecked` lists the
    facts about this and the first run that are unknown; if there are any, it is not certain that the runs are
    comparable.
    """

    profile: str
    run: str
    schedule: str
    late: int
    visits_changed: float | None
    mode: str
    contexts: int
    hardware_steps: int
    hardware_steps_per_image: float
    latency_s: Interval
    throughput_images_per_s: Interval
    energy_j: Interval | None
    unchecked: tuple[str, ...]


def compare_schedules(
    runs: Mapping[str, Activity],
    profiles: Sequence[Profile],
    deployment: Deployment = DEFAULT,
) -> tuple[ScheduleCost, ...]:
    """Price runs of the same images on every schedule they allow, on all chips whose latency is known.

    Other runs are compared with the first. Runs that computed halted tokens are priced with gating `none`.
    The schedule of the deployment is ignored, and an early end applies to runs that halt, in raster order.

    Raises
    ------
    InputError
        When runs cannot be compared (see `check_alike`).
    """
    check_alike(runs)
    first = next(iter(runs), "")
    unchecked = {label: check_alike({first: runs[first], label: run}) for label, run in runs.items()}
    rows = []
    for profile in profiles:
        for label, activity in runs.items():
            for schedule in _allowed(activity):
                try:
                    cost = estimate(
                        activity, profile, _options(activity, deployment, schedule), variants=False
                    )
                except (MissingEntry, CannotRun):
                    continue
                if cost.latency_s is None or cost.throughput_images_per_s is None or not cost.hardware_steps:
                    continue
                rows.append(
                    ScheduleCost(
                        profile=profile.name,
                        run=label,
                        schedule=schedule,
                        late=activity.late,
                        visits_changed=_changed(runs[first], activity),
                        mode=cost.mode,
                        contexts=cost.contexts,
                        hardware_steps=cost.hardware_steps,
                        hardware_steps_per_image=cost.hardware_steps_per_image or 0.0,
                        latency_s=cost.latency_s,
                        throughput_images_per_s=cost.throughput_images_per_s,
                        energy_j=cost.energy_j,
                        unchecked=unchecked[label],
                    )
                )
    return tuple(rows)


def _allowed(activity: Activity) -> tuple[Schedule, ...]:
    best = fastest(activity)
    return (best,) if best != "pipelined" else ("raster", "pipelined")


def _options(activity: Activity, deployment: Deployment, schedule: Schedule) -> Deployment:
    computed = computed_halted(activity)
    gating = None if computed else deployment.gating
    halts = record_halts(activity.layers) and not computed
    early = deployment.early_end and schedule == "raster" and halts
    contexts = 1 if schedule == "pipelined" else deployment.contexts
    return replace(deployment, schedule=schedule, gating=gating, early_end=early, contexts=contexts)


def _changed(first: Activity, other: Activity) -> float | None:
    """Return the fraction of visits that differ between two runs; None if they cannot be compared."""
    if not record_halts(other.layers) or first.visits is None or other.visits is None:
        return None
    networks = {run.origin.network for run in (first, other)} - {None}
    if len(networks) > 1 or first.visits.shape != other.visits.shape or not first.visits.size:
        return None
    return float((first.visits != other.visits).mean())
