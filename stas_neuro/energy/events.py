"""The price list, which maps events to profile entries, and the events derived from a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, Counts
from stas_neuro.analysis import neuron_rows, record_halts
from stas_neuro.energy.gate_messages import Sent, alive_spikes, core_gates
from stas_neuro.energy.gating import Gating, Stepping, stepping, turns
from stas_neuro.energy.timing import HardwareStep
from stas_neuro.errors import InputError

EventCounts = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Price:
    """A row of the price list.

    `event` is priced by the entries `energy.<entry>` and `time.<entry>`. `unit` is the part of a core that
    the event keeps busy (under step law max the parts overlap), or the processor outside the cores, which the
    cores wait for, or the network between cores, whose time is not priced. `halting` marks events that only
    halting causes, `visit` those that occur with token visits if they occur in a block.
    """

    event: str
    entry: str
    unit: Literal["synapse", "neuron", "message", "processor", "network"]
    halting: bool = False
    visit: bool = True


PRICES: tuple[Price, ...] = (
    Price("synops", "synaptic_operation", "synapse"),
    Price("macs", "multiply_accumulate", "synapse"),
    Price("updates_active", "neuron_update_active", "neuron"),
    Price("updates_inactive", "neuron_update_inactive", "neuron", visit=False),
    Price("updates_idle", "neuron_update_inactive", "neuron", visit=False),
    Price("state_resets", "state_reset", "neuron", visit=False),
    Price("spikes_out", "spike_message", "message"),
    Price("axon_messages", "spike_message", "message"),
    Price("hops_x", "hop_x", "network"),
    Price("hops_y", "hop_y", "network"),
    Price("chip_crossings", "chip_crossing", "network"),
    Price("input_messages", "io_message", "processor", visit=False),
    Price("output_messages", "io_message", "processor", visit=False),
    Price("score_lookups", "score_lookup", "neuron", halting=True),
    Price("halt_accumulations", "neuron_update_active", "neuron", halting=True),
    Price("score_synops", "synaptic_operation", "synapse", halting=True),
    Price("score_macs", "multiply_accumulate", "synapse", halting=True),
    Price("gate_messages", "spike_message", "message", halting=True),
    Price("gate_synops", "synaptic_operation", "synapse", halting=True),
    Price("core_gates", "gate_message", "message", halting=True, visit=False),
    Price("gate_hops_x", "hop_x", "network", halting=True),
    Price("gate_hops_y", "hop_y", "network", halting=True),
    Price("gate_crossings", "chip_crossing", "network", halting=True),
    Price("readout_macs", "multiply_accumulate", "synapse", halting=True),
    Price("readout_divisions", "cpu_operation", "processor", halting=True),
    Price("cpu_operations", "cpu_operation", "processor"),
)
"""The price list; docs/energy.md defines how each event is counted."""


@dataclass(frozen=True, eq=False)
class Events:
    """Events on a chip during a run.

    Parameters
    ----------
    counts : mapping of event to array (images, rows, steps)
        Counts of every event of `PRICES`.
    turn : int (rows, steps)
        Hardware step in which a row does the work of a step; -1 for none.
    updated : array (images, rows, steps)
        Updates of a row's neurons in its turn; in other hardware steps they idle, if their core is stepped.
    keeps : int (rows,)
        Neurons that are stepped in every hardware step.
    idles : bool
        Whether neurons without work are stepped.
    stepping : Stepping or None
        Which cores are stepped; None where all cores are stepped in every hardware step.
    """

    counts: Mapping[str, EventCounts]
    turn: npt.NDArray[np.intp]
    updated: EventCounts
    keeps: npt.NDArray[np.int64]
    idles: bool
    stepping: Stepping | None

    def idle(self, number: int, tick: HardwareStep, cores: npt.NDArray[np.intp]) -> EventCounts:
        """Count the neurons that are stepped without work in a hardware step, (images, rows).

        `cores` has the core of each row; -1 is outside the cores.
        """
        idle = np.broadcast_to(self.keeps, self.updated.shape[:2])
        if self.stepping is not None:
            idle = idle * (self.stepping.stepped[:, cores, number] & (cores >= 0))
        for step in {step for step, _ in tick.work}:
            idle = idle - self.updated[:, :, step] * (self.turn[:, step] == number)
        return idle


def count_events(
    activity: Activity, gating: Gating, graded_spikes: bool, ticks: Sequence[HardwareStep] | None
) -> Events:
    """Count every event of `PRICES`.

    `ticks` are the hardware steps of an inference. None, for a profile without hardware steps, counts only
    the work of the network, not what a chip adds: idle neurons, resets and gate messages.

    Raises
    ------
    InputError
        When halting is priced without visits, or a layer has more updates than its neurons allow.
    """
    mapped, halting = bool(activity.cores), record_halts(activity.layers)
    zero = np.zeros_like(activity.counts["synops"])
    counts: dict[str, EventCounts] = {price.event: activity.counts.get(price.event, zero) for price in PRICES}
    counts["synops"] = activity.counts["synops" if graded_spikes else "synops_unary"]
    if mapped:
        counts["spikes_out"] = zero
    divides = np.array([halting and row.kind == "Readout" for row in activity.layers], dtype=np.bool_)
    counts["readout_divisions"] = activity.counts["cpu_operations"] * divides[:, None]
    counts["cpu_operations"] = activity.counts["cpu_operations"] * ~divides[:, None]
    scores = np.array([row.kind == "ImageScore" for row in activity.layers], dtype=np.bool_)[:, None]
    for work in ("synops", "macs"):
        counts[f"score_{work}"] = counts[work] * scores
        counts[work] = counts[work] * ~scores
    counts["halt_accumulations"] = activity.counts["score_lookups"]
    turn = np.full(zero.shape[1:], -1) if ticks is None else turns(activity, ticks)
    gated = mapped and ticks is not None and gating in ("core", "power")
    steps = stepping(activity, ticks) if gated and ticks is not None else None
    _count_gated(activity, gating, counts, turn, steps)
    idles = ticks is not None and (mapped or gating != "core")
    events = Events(counts, turn, _updated(activity, counts), _keeps(activity), idles, steps)
    if ticks is None:
        return events
    if idles:
        counts["updates_idle"] = _idle(activity, events, ticks)
    if any(row.phase == "end" for row in activity.layers):
        counts["state_resets"] = _at_the_end(zero, events.keeps)
        outputs = [row.network_layer == activity.layers[-1].network_layer for row in activity.layers]
        if mapped:
            counts["output_messages"] = _at_the_end(zero, events.keeps * np.array(outputs))
    if halting and gating != "none":
        _count_gates(activity, counts, ticks, steps)
    return events


def row_cores(activity: Activity) -> npt.NDArray[np.intp]:
    """Return the core of each row; -1 outside the cores or without a mapping."""
    return np.array([-1 if row.core is None else row.core for row in activity.layers], dtype=np.intp)


def _count_gated(
    activity: Activity,
    gating: Gating,
    counts: dict[str, EventCounts],
    turn: npt.NDArray[np.intp],
    steps: Stepping | None,
) -> None:
    """Add the updates and synaptic operations of halted tokens' neurons, as the gating mode treats them."""
    held = activity.counts["updates_gated"]
    if gating == "none":
        counts["updates_active"] = counts["updates_active"] + held
        if held.any():
            counts["synops"] = counts["synops"] + _thrown_away(activity, counts["synops"])
    elif gating == "silent":
        counts["updates_inactive"] = counts["updates_inactive"] + held
    elif steps is not None:
        cores = row_cores(activity)[:, None]
        turned = (turn >= 0) & (cores >= 0)
        stepped = steps.stepped[:, cores, turn] & turned
        counts["updates_inactive"] = counts["updates_inactive"] + held * stepped
        # A core that is not stepped drops the spikes that reach it: keys and values of other tokens.
        counts["synops"] = counts["synops"] * (stepped | ~turned)


def _keeps(activity: Activity) -> npt.NDArray[np.int64]:
    """Count the neurons of each row that are stepped in every hardware step: its own, if on cores."""
    kept = [not row.placed_with and (row.core is not None or not activity.cores) for row in activity.layers]
    return np.array([row.neurons for row in activity.layers], dtype=np.int64) * kept


def _updated(activity: Activity, counts: Mapping[str, EventCounts]) -> EventCounts:
    updated: EventCounts = counts["updates_active"] + counts["updates_inactive"]
    for row, owner in enumerate(neuron_rows(activity.layers)):
        if row != owner:
            updated[:, owner] += counts["halt_accumulations"][:, row]
    return updated


def _thrown_away(activity: Activity, synops: EventCounts) -> npt.NDArray[np.float64]:
    """Estimate the synaptic operations that halted tokens would have caused.

    Each update is taken to cause as many as in the layer's busiest step.
    """
    counts, rows = activity.counts, neuron_rows(activity.layers)
    live = (counts["updates_active"] + counts["updates_inactive"]).sum(axis=0)[rows]
    per_update = synops.sum(axis=0) / np.maximum(live, 1)
    busiest = np.where(live > 0, per_update, 0).max(axis=1)
    return np.asarray(counts["updates_gated"][:, rows] * busiest[:, None], dtype=np.float64)


def _idle(activity: Activity, events: Events, ticks: Sequence[HardwareStep]) -> Counts:
    """Count the updates of idle neurons: a mapped neuron is stepped in every hardware step."""
    cores = row_cores(activity)
    counted = np.zeros_like(activity.counts["synops"])
    for number, tick in enumerate(ticks):
        idle = events.idle(number, tick, cores)
        if idle.size and idle.min() < 0:
            row, step = activity.layers[int(np.argwhere(idle < 0)[0][1])], activity.steps[tick.step]
            raise InputError(
                f"layer {row.name} updates more than its {row.neurons} neurons in {step}",
                "correct the counts: it has one hardware step in each step of the record",
            )
        counted[:, :, tick.step] += np.asarray(idle, dtype=np.int64)
    return counted


def _at_the_end(like: Counts, per_row: npt.NDArray[np.int64]) -> Counts:
    """Return counts that are the same for each image, in the last step."""
    counted = np.zeros_like(like)
    counted[:, :, -1] = per_row
    return counted


def _count_gates(
    activity: Activity,
    counts: dict[str, EventCounts],
    ticks: Sequence[HardwareStep],
    steps: Stepping | None,
) -> None:
    """Add the messages of halting units, with their hops and chip crossings."""
    spikes = alive_spikes(activity)
    width = np.array([row.out_features for row in activity.layers])
    counts["gate_messages"], counts["gate_synops"] = spikes.messages, spikes.messages * width[:, None]
    sent: list[Sent] = [spikes]
    if steps is not None:
        sent.append(core_gates(activity, steps, ticks))
        counts["core_gates"] = sent[-1].messages
    for event in ("gate_hops_x", "gate_hops_y", "gate_crossings"):
        counts[event] = sum((each.ways[event] for each in sent), np.zeros_like(counts["gate_hops_x"]))
