"""What a run would cost if the chip were used, or behaved, in another way than was priced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from stas_neuro.activity import Activity
from stas_neuro.chips.profile import Profile
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.costs import Cost, cost_of
from stas_neuro.energy.deployment import Deployment
from stas_neuro.energy.result import Interval, StructuralRange, Totals, Variant

SKIPPED = "idle neurons are skipped"
SPREAD = "all layers are spread over a whole chip"
SILENT = "no message goes between cores or from the host"
_BETWEEN_CORES = ("hops_x", "hops_y", "chip_crossings", "input_messages")


def variants_of(
    activity: Activity, profile: Profile, deployment: Deployment, cost: Cost
) -> tuple[Variant, ...]:
    """Price a run with other structures, one at a time.

    Idle neurons are skipped, where it is unknown what the chip does with them. A run without a mapping is
    spread over all cores of a chip, with equal shares: no placement on it is faster, or has more static power
    of cores. A run on cores has the messages of one without a mapping.
    """
    return tuple(
        Variant(change=change, totals=other.totals())
        for change, other in _variants(activity, profile, deployment, cost)
    )


def range_of(totals: Totals, variants: tuple[Variant, ...]) -> StructuralRange | None:
    """Return the range of the values over a price and its variants; None where there are no variants."""
    if not variants:
        return None
    ends: dict[str, Interval | None] = {}
    for name in ("energy_j", "dynamic_energy_j", "latency_s"):
        found = [getattr(each, name) for each in (totals, *(variant.totals for variant in variants))]
        values = [each.value for each in found if each is not None]
        own = found[0]
        ends[name] = None if own is None else Interval(own.value, min(values), max(values))
    return StructuralRange(**ends)


def _variants(
    activity: Activity, profile: Profile, deployment: Deployment, cost: Cost
) -> Iterator[tuple[str, Cost]]:
    if deployment.prices_both(profile):
        yield SKIPPED, cost_of(activity, profile, replace(deployment, idle_update="skipped"))
    if cost.placement is None:
        return
    if activity.cores:
        yield SILENT, cost_of(_silent(activity), profile, deployment)
    elif _can_spread(cost.placement, profile, deployment):
        yield SPREAD, cost_of(activity, profile, deployment, _spread(cost.placement, profile))


def _silent(activity: Activity) -> Activity:
    """Return a record on cores with one message a spike and none of the host."""
    counts = dict(activity.counts)
    nothing = np.broadcast_to(np.int64(0), counts["spikes_out"].shape)
    counts |= {kind: nothing for kind in _BETWEEN_CORES if kind in counts}
    return replace(activity.without_sums(), counts=counts | {"axon_messages": counts["spikes_out"]})


def _can_spread(placement: CoreAssignment, profile: Profile, deployment: Deployment) -> bool:
    alone = deployment.replicas == 1 and deployment.stem == "shared"
    return alone and placement.chips == 1 and placement.cores < profile.limit("cores_per_chip")


def _spread(placement: CoreAssignment, profile: Profile) -> CoreAssignment:
    """Return a placement of equal shares of all layers on all cores of a chip."""
    cores = profile.limit("cores_per_chip")
    on_cores = (placement.shares > 0).any(axis=1, keepdims=True)
    all_alike = np.zeros(cores, dtype=np.intp)
    return replace(placement, shares=np.asarray(on_cores / cores), kind_of=all_alike, chip_of=all_alike)
