"""Choice of the number of cores: the network is packed with fewer neurons on a core, and priced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf

import numpy as np

from stas_neuro.activity import HALTING_KINDS, Activity, owner_of
from stas_neuro.activity.layers import builder_for
from stas_neuro.energy import Deployment
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.costs import cost_of
from stas_neuro.energy.timing import phase_of
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.mapping.distances import between, places_of
from stas_neuro.placement.limits import Limits
from stas_neuro.placement.reasons import DoesNotFit, MoreCores
from stas_neuro.placement.task import Packing, Task
from stas_neuro.placement.tiles import row_major_sites
from stas_neuro.placement.traffic import traffic_between

_RATIO = 0.8
"""Neurons of a core, in relation to the next larger one that is tried."""
_SAMPLE = 16
"""Images of the record that are priced; their mean hardly depends on more."""
_EQUAL = 1e-9
"""Relative difference of prices below which the fewer cores are taken."""


def spread_over(task: Task, limits: Limits, cores: int) -> Packing:
    """Pack onto at most `cores` cores, with as few neurons on each as they allow.

    Raises
    ------
    InputError
        When the network needs more.
    """
    best = _at_most(task, limits, cores)
    most = _neurons(task, limits)
    low, high = 0, most  # `low` neurons a core are too few, `high` are enough
    while high - low > 1:
        middle = (low + high) // 2
        found = _packed(task, limits, middle, cores)
        if found is None:
            low = middle
        else:
            best, high = found, middle
    return best


def _at_most(task: Task, limits: Limits, cores: int) -> Packing:
    """Pack onto the fewest cores; how many more than `cores` that are is found only where none is chosen."""
    try:
        found = task.pack(limits, inf if task.groups is None else cores)
    except MoreCores as error:
        what = f"{task.groups} groups of each block need more than {cores} cores of {task.profile.name}"
        raise InputError(what, "use fewer groups (--groups), or more cores") from error
    if len(found.cores) > cores:
        what = f"the network needs {len(found.cores)} cores of {task.profile.name}, cores is {cores}"
        raise InputError(what, f"give at least {len(found.cores)}, or leave it out")
    return found


def cheapest(task: Task, limits: Limits, cores: int | None, deployment: Deployment) -> Packing:
    """Pack onto the number of cores on which an image costs the least energy or time.

    Raises
    ------
    InputError
        When energy or latency is unknown on every number of cores, or the network needs more than `cores`.
    """
    if task.seen is not None and task.seen.cores:
        what = f"minimising {task.minimise} learns from a run without cores, and the given one is on cores"
        raise InputError(what, "give a run with mapping=None")
    best: tuple[float, Packing] | None = None
    why = ""
    for packing in _candidates(task, limits, cores):
        value, reason = _value(task, limits, packing, deployment)
        why = why or reason
        if value is not None and (best is None or value < best[0] * (1 - _EQUAL)):
            best = value, packing
    if best is None:
        what = f"{task.minimise} cannot be minimised on {task.profile.name}: {why}"
        raise InputError(what, "minimise cores, or use another profile")
    return best[1]


def _candidates(task: Task, limits: Limits, cores: int | None) -> Iterator[Packing]:
    """Yield packings with fewer and fewer neurons on a core, up to the cores of the chips that it needs."""
    first = task.pack(limits)
    most = limits.cores_per_chip * (max(first.chips, default=0) + 1) if cores is None else cores
    if len(first.cores) > most:
        what = f"the network needs {len(first.cores)} cores of {task.profile.name}, cores is {cores}"
        raise InputError(what, f"give at least {len(first.cores)}, or leave it out")
    yield first
    seen, neurons = len(first.cores), _neurons(task, limits)
    while neurons > 1:
        neurons = max(1, int(neurons * _RATIO))
        found = _packed(task, limits, neurons, most)
        if found is None:
            return
        if len(found.cores) > seen:
            seen = len(found.cores)
            yield found


def _neurons(task: Task, limits: Limits) -> int:
    """Return the neurons of a core, or of the largest layer if there is no limit."""
    largest = max(demand.positions * demand.features for demand in task.demands)
    return min(limits.core.get("neurons", largest), sum(d.positions * d.features for d in task.demands))


def _packed(task: Task, limits: Limits, neurons: int, cores: int) -> Packing | None:
    """Pack with at most this number of neurons on a core; None where that does not fit chips or cores."""
    try:
        return task.pack(replace(limits, core={**limits.core, "neurons": neurons}), cores)
    except (DoesNotFit, MoreCores):
        return None


def _value(task: Task, limits: Limits, packing: Packing, deployment: Deployment) -> tuple[float | None, str]:
    """Return the energy in J or latency in s of an image, or the reason why it is unknown."""
    record = _uniform(task.graph) if task.seen is None else task.seen.restrict(slice(0, _SAMPLE))
    cost = cost_of(record, task.profile, deployment, _assignment(record, packing))
    totals, name = cost.totals(), f"{task.minimise}_{'j' if task.minimise == 'energy' else 's'}"
    found = totals.energy_j if task.minimise == "energy" else totals.latency_s
    if found is None:
        return None, cost.unavailable[name]
    return found.value + (_messages(task, limits, packing, record) if task.minimise == "energy" else 0.0), ""


def _messages(task: Task, limits: Limits, packing: Packing, record: Activity) -> float:
    """Return the energy in J of an image's copies of spikes and of their hops, where these have a price.

    The record has one message a spike, which is subtracted.
    """
    sites = row_major_sites(packing.chips, limits)
    traffic = traffic_between(task.inputs, task.demands, packing.cores, task.seen)
    places, messages = places_of(sites), traffic.messages
    ways = between(places[:, traffic.source], places[:, traffic.target]).values()
    passed = {
        name: (messages * way).sum()
        for name, way in zip(("hop_x", "hop_y", "chip_crossing"), ways, strict=True)
    }
    once = record.counts["spikes_out"].sum() / record.images
    priced = {"spike_message": messages.sum() - once, **passed}
    return float(
        sum(
            count * task.profile.corners(f"energy.{name}")[1]
            for name, count in priced.items()
            if task.profile.reason(f"energy.{name}") is None
        )
    )


def _assignment(record: Activity, packing: Packing) -> CoreAssignment:
    """Return where the rows of a record without cores are in a packing."""
    rows = [row for row in record.layers if not row.placed_with]
    index = {row.name: number for number, row in enumerate(rows)}
    shares = np.zeros((len(rows), len(packing.cores)))
    for core, held in enumerate(packing.cores):
        for name, region in held.pieces.items():
            shares[index[name], core] = region.neurons / max(rows[index[name]].neurons, 1)
    group = np.array([index[owner_of(row)] for row in record.layers], dtype=np.intp)
    chips = np.array(packing.chips, dtype=np.intp)
    cores = np.arange(len(packing.cores))
    names = tuple(row.name for row in rows)
    return CoreAssignment(names, group, shares, cores, len(set(packing.chips)), chips)


def _uniform(graph: Graph) -> Activity:
    """Return the record of an image whose neurons all fire in every step, and whose tokens never halt."""
    record = builder_for(graph, images=1)
    for row in record.layers:
        inputs = row.weights // max(row.out_features, 1) or row.in_features
        counts = {"synops": row.neurons * inputs, "synops_unary": row.neurons * inputs}
        if row.kind == "HaltingScore":
            counts["score_lookups"] = row.neurons
        elif graph.node(row.name).traits.fires and row.kind not in HALTING_KINDS:
            counts |= {"updates_active": row.neurons, "spikes_out": row.neurons}
        for label in record.steps:
            if phase_of(label) == row.phase:
                for kind, count in counts.items():
                    record.add(kind, row.name, label, count)
    shape = (1, graph.time_steps, graph.blocks, graph.tokens)
    return record.build(np.ones(shape, dtype=np.bool_) if graph.blocks else None)
