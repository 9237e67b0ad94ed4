"""Dynamic energy, attributed to events, layers, cores, steps and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import TOTAL_LIMIT, Activity
from stas_neuro.chips.profile import Corners, Profile
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.events import PRICES, Events, in_order
from stas_neuro.energy.latency import Latency
from stas_neuro.energy.result import CoreCost, EventCost, LayerCost, StepCost, TokenCost, interval
from stas_neuro.energy.timing import HardwareStep
from stas_neuro.errors import InputError
from stas_neuro.scopes import block_of

CORES_LISTED = 1 << 16
"""Largest number of cores that an estimate lists individually."""
_IMAGES = 256  # whose energies by block are held at once


@dataclass
class Dynamic:
    """Energy of events in J; the last axis is (low, value, high).

    Parameters
    ----------
    per_image : float (images, 3)
    by_place : float (rows, steps, 3)
        Mean per image.
    off_core : float (rows, 3)
        The part of `by_place` spent outside the cores, summed over steps.
    halting, visits : float (3,)
        Energy of events that only halting causes, and of events that occur with token visits; means per
        image.
    costs : list of EventCost
    """

    per_image: Corners
    by_place: Corners
    off_core: Corners
    halting: Corners
    visits: Corners
    costs: list[EventCost] = field(default_factory=list)


def price_events(
    activity: Activity, events: Events, profile: Profile, unavailable: dict[str, str]
) -> Dynamic:
    """Price all events that occurred; add those without a price to `unavailable`, with the reason.

    Raises InputError where the counts of an event add up to more than `TOTAL_LIMIT`.
    """
    for event, counted in events.counts.items():
        # Single counts are small enough for exact products; their sums may still be too large.
        bound = float(events.most(event).max(initial=0)) * counted.size
        if bound > TOTAL_LIMIT and counted.sum(dtype=np.float64) > TOTAL_LIMIT:
            what = f"{event} of all images add up to more than {TOTAL_LIMIT}"
            raise InputError(what, "price fewer images at a time")
    images, rows, steps = events.counts["synops"].shape
    blocks = [block_of(layer.scope) for layer in activity.layers]
    visited = np.array(
        [
            block is not None or layer.scope == "halting"
            for block, layer in zip(blocks, activity.layers, strict=True)
        ],
        dtype=np.bool_,
    )
    priced = Dynamic(
        per_image=np.zeros((images, 3)),
        by_place=np.zeros((rows, steps, 3)),
        off_core=np.zeros((rows, 3)),
        halting=np.zeros(3),
        visits=np.zeros(3),
    )
    for price in PRICES:
        if not events.occurs(price.event):
            continue
        counts = in_order(events.counts[price.event])
        name = price.priced_by(profile, "energy")
        if (reason := profile.reason(name)) is not None:
            unavailable[price.event] = reason
            continue
        each, entry = profile.corners(name), profile.entry(name)
        priced.per_image += counts.sum(axis=(1, 2))[:, None] * each
        mean = np.ascontiguousarray(counts.sum(axis=0)) / images  # the order that its energies are summed in
        by_place = mean[:, :, None] * each
        energy = by_place.sum(axis=(0, 1))
        priced.by_place += by_place
        if price.unit == "processor":
            priced.off_core += by_place.sum(axis=1)
        if price.halting:
            priced.halting += energy
        if price.visit:
            priced.visits += by_place[visited].sum(axis=(0, 1))
        priced.costs.append(
            EventCost(
                event=price.event,
                count=float(counts.sum() / images),
                energy_j=interval(energy),
                entry=name,
                basis=entry.basis,
                source=entry.source,
                halting=price.halting,
            )
        )
    return priced


def by_layer(activity: Activity, dynamic: Dynamic, placement: CoreAssignment | None) -> tuple[LayerCost, ...]:
    """Return the energy per layer of the network, in the order of the record."""
    rows: dict[str, list[int]] = {}
    for row, layer in enumerate(activity.layers):
        rows.setdefault(layer.network_layer, []).append(row)
    found = []
    for name, members in rows.items():
        cores = None
        if placement is not None:
            cores = placement.cores_of(*placement.group[members].tolist())
        first = activity.layers[members[0]]
        energy = dynamic.by_place[members].sum(axis=(0, 1))
        found.append(
            LayerCost(
                name=name, kind=first.kind, scope=first.scope, dynamic_energy_j=interval(energy), cores=cores
            )
        )
    return tuple(found)


def by_step(
    activity: Activity, dynamic: Dynamic, ticks: Sequence[HardwareStep] | None, took: Latency | None
) -> tuple[StepCost, ...]:
    """Return energy and latency per step of the record."""
    return tuple(
        StepCost(
            step=label,
            dynamic_energy_j=interval(dynamic.by_place[:, step].sum(axis=0)),
            hardware_steps=None if ticks is None else sum(tick.step == step for tick in ticks),
            latency_s=None if took is None else interval(took.per_step[step]),
        )
        for step, label in enumerate(activity.steps)
    )


def by_core(
    activity: Activity,
    dynamic: Dynamic,
    placement: CoreAssignment | None,
    core_steps: Corners | None,
    took: Latency | None,
    unavailable: dict[str, str],
) -> tuple[CoreCost, ...]:
    """Return the energy per core; the last item is the energy spent outside the cores, if any.

    Returns nothing where there is no placement. More than `CORES_LISTED` cores are not listed, and the
    reason is added to `unavailable`.
    """
    if placement is None:
        return ()
    if placement.cores > CORES_LISTED:
        unavailable["cores_breakdown"] = (
            f"the network needs {placement.cores} cores, at most {CORES_LISTED} are listed individually"
        )
        return ()
    share = placement.shares[placement.group]
    on_rows = dynamic.by_place.sum(axis=1) - dynamic.off_core
    energies = [interval(energy) for energy in np.einsum("rk,rc->kc", share, on_rows)]
    names = np.array([layer.network_layer for layer in activity.layers])
    held = [tuple(dict.fromkeys(names[part > 0].tolist())) for part in share.T]
    chips, kinds = placement.chip_of.tolist(), placement.kind_of.tolist()
    stepped = [None] * placement.cores if core_steps is None else core_steps.tolist()
    busy = [None] * placement.cores if took is None else took.busy.tolist()
    found = [
        CoreCost(
            core=core,
            chip=chips[core],
            layers=held[kind],
            dynamic_energy_j=energies[kind],
            core_steps=stepped[core],
            busy_time_share=busy[core],
        )
        for core, kind in enumerate(kinds)
    ]
    apart = ~share.any(axis=1)
    off_core = dynamic.off_core.sum(axis=0) + on_rows[apart].sum(axis=0)
    if off_core.any():
        layers = dict.fromkeys(names[apart | dynamic.off_core.any(axis=1)].tolist())
        found.append(
            CoreCost(
                core=None,
                chip=None,
                layers=tuple(layers),
                dynamic_energy_j=interval(off_core),
                core_steps=None,
                busy_time_share=None,
            )
        )
    return tuple(found)


def by_token(activity: Activity, events: Events, profile: Profile, dynamic: Dynamic) -> tuple[TokenCost, ...]:
    """Divide the energy of a block in a model step equally among the tokens that visit it in that step.

    All other energy, including that of a block without visitors, is divided equally among all tokens.
    """
    if activity.visits is None:
        return ()
    images, time_steps, _, tokens = activity.visits.shape
    visitors = activity.visits.sum(axis=3, keepdims=True)
    weights = activity.visits / np.maximum(visitors, 1)
    at = [activity.step_index(f"step{step + 1}") for step in range(time_steps)]
    each = {cost.event: profile.corners(cost.entry) for cost in dynamic.costs}
    shared = np.zeros((tokens, 3))
    # A part of the images at a time: their counts by block are as many as those by row otherwise.
    for first in range(0, images, _IMAGES):
        part = slice(first, first + _IMAGES)
        inside = _by_block(activity, events, each, part)[:, at]
        shared += np.einsum("itlc,itln->nc", inside, weights[part])
    shared /= images
    rest = dynamic.per_image.mean(axis=0) - shared.sum(axis=0)
    energies = shared + np.maximum(rest, 0) / tokens
    visits = activity.visits.sum(axis=(1, 2)).mean(axis=0)
    return tuple(
        TokenCost(token=token, visits=float(visits[token]), dynamic_energy_j=interval(energies[token]))
        for token in range(tokens)
    )


def _by_block(
    activity: Activity, events: Events, each: Mapping[str, Corners], images: slice
) -> npt.NDArray[np.float64]:
    """Return the energy in J of events, of which `each` has the prices, in blocks, (images, steps, L, 3)."""
    assert activity.visits is not None
    blocks = np.arange(activity.visits.shape[2])
    inside = np.array([blocks == block_of(layer.scope) for layer in activity.layers], np.float64)
    counts = events.counts["synops"][images]
    spent = np.zeros((len(counts), counts.shape[2], len(blocks), 3))
    for event, price in each.items():
        in_blocks = np.asarray(
            np.moveaxis(in_order(events.counts[event][images]), 1, 2) @ inside, dtype=np.float64
        )
        spent += in_blocks[..., None] * price
    return spent
