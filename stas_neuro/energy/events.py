"""Which profile entry prices which event: one table, and the events that a record leaves to be derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, Counts
from stas_neuro.energy.schedule import HardwareStep
from stas_neuro.errors import InputError

Gating = Literal["silent", "none", "core"]
EventCounts = npt.NDArray[np.int64] | npt.NDArray[np.float64]

GATINGS: Mapping[Gating, str] = {
    "silent": "halted tokens send nothing, their neurons are still stepped, as idle ones are: today's Loihi",
    "none": (
        "estimate: halted tokens are computed and thrown away, all their neurons active, each with as many "
        "synaptic operations as a live one in the layer's busiest step; a run with halting ignored is exact"
    ),
    "core": (
        "what-if: halted neurons and those of layers not at work are not stepped; no published chip can do "
        "that"
    ),
}
"""What each gating mode means, as reports tell it."""


@dataclass(frozen=True)
class Price:
    """A row of the price list.

    `event` is priced by the entries `energy.<entry>` and `time.<entry>`; `unit` is the part of a core it
    keeps busy (under step law max these overlap), or the processor beside the cores, which they wait for;
    `halting` marks what only halting causes.
    """

    event: str
    entry: str
    unit: Literal["synapse", "neuron", "message", "processor"]
    halting: bool = False


PRICES: tuple[Price, ...] = (
    Price("synops", "synaptic_operation", "synapse"),
    Price("macs", "multiply_accumulate", "synapse"),
    Price("updates_active", "neuron_update_active", "neuron"),
    Price("updates_inactive", "neuron_update_inactive", "neuron"),
    Price("updates_idle", "neuron_update_inactive", "neuron"),
    Price("spikes_out", "spike_message", "message"),
    Price("score_lookups", "score_lookup", "neuron", halting=True),
    Price("halt_accumulations", "neuron_update_active", "neuron", halting=True),
    Price("gate_messages", "spike_message", "message", halting=True),
    Price("gate_synops", "synaptic_operation", "synapse", halting=True),
    Price("readout_macs", "multiply_accumulate", "synapse", halting=True),
    Price("readout_divisions", "cpu_operation", "processor", halting=True),
    Price("cpu_operations", "cpu_operation", "processor"),
)
"""The price list; docs/energy.md says how each event is counted."""


def priced_events(
    activity: Activity, gating: Gating, graded_spikes: bool, ticks: Sequence[HardwareStep] | None
) -> dict[str, EventCounts]:
    """Count every event of `PRICES`, each (images, layers, steps).

    `ticks` are the hardware steps of an inference. None, where the profile knows none, counts what the
    network computes, but nothing that a chip does besides: no idle neuron and no gate message.

    Raises
    ------
    InputError
        When halting is priced without visits, or a layer counts more updates than its neurons can have had.
    """
    counts = activity.counts
    synops = counts["synops" if graded_spikes else "synops_unary"]
    events: dict[str, EventCounts] = {kind: counts[kind] for kind in ("macs", "spikes_out", "readout_macs")}
    halting = any(layer.kind == "HaltAccumulate" for layer in activity.layers)
    divides = np.array([halting and layer.kind == "Readout" for layer in activity.layers], dtype=np.bool_)
    events["readout_divisions"] = counts["cpu_operations"] * divides[:, None]
    events["cpu_operations"] = counts["cpu_operations"] * ~divides[:, None]
    events["updates_active"] = counts["updates_active"]
    events["updates_inactive"] = counts["updates_inactive"]
    events["synops"] = synops
    if gating == "none":
        events["updates_active"] = counts["updates_active"] + counts["updates_gated"]
        events["synops"] = synops + _thrown_away(activity, synops)
    elif gating == "silent":
        events["updates_inactive"] = counts["updates_inactive"] + counts["updates_gated"]
    events["score_lookups"] = events["halt_accumulations"] = counts["score_lookups"]
    nothing = np.zeros_like(synops)
    events["updates_idle"] = _idle(activity, ticks) if ticks is not None and gating != "core" else nothing
    gated = halting and ticks is not None and gating != "none"
    events["gate_messages"], events["gate_synops"] = _gates(activity) if gated else (nothing, nothing)
    return events


def _owners(activity: Activity) -> npt.NDArray[np.intp]:
    """Find, for each layer, the row of the layer whose neurons its synapses end on."""
    rows = {layer.name: row for row, layer in enumerate(activity.layers)}
    return np.array([rows[layer.placed_with or layer.name] for layer in activity.layers], dtype=np.intp)


def _thrown_away(activity: Activity, synops: Counts) -> npt.NDArray[np.float64]:
    """Estimate what synaptic operations halted tokens would have done: as in a layer's busiest step."""
    counts, owners = activity.counts, _owners(activity)
    live = (counts["updates_active"] + counts["updates_inactive"]).sum(axis=0)[owners]
    per_update = synops.sum(axis=0) / np.maximum(live, 1)
    busiest = np.where(live > 0, per_update, 0).max(axis=1)
    return np.asarray(counts["updates_gated"][:, owners] * busiest[:, None], dtype=np.float64)


def _idle(activity: Activity, ticks: Sequence[HardwareStep]) -> Counts:
    """Count the updates of neurons while others work: a mapped neuron is stepped in every tick."""
    counts, owners = activity.counts, _owners(activity)
    stepped = counts["updates_active"] + counts["updates_inactive"] + counts["updates_gated"]
    for row, owner in enumerate(owners):
        if row != owner:
            stepped[:, owner] += counts["score_lookups"][:, row]
    per_step = np.bincount([tick.step for tick in ticks], minlength=len(activity.steps))
    keeps = np.array([0 if layer.placed_with else layer.neurons for layer in activity.layers])
    idle = keeps[:, None] * per_step - stepped
    if idle.size and idle.min() < 0:
        _, row, step = np.argwhere(idle < 0)[0]
        layer = activity.layers[row]
        raise InputError(
            f"layer {layer.name} updates more than its {layer.neurons} neurons in {activity.steps[step]}",
            f"mend the counts: there are {per_step[step]} hardware steps in it",
        )
    return np.asarray(idle, dtype=np.int64)


def _gates(activity: Activity) -> tuple[Counts, Counts]:
    """Count the messages that tell layers which tokens live, and the synaptic operations they do there.

    A token's neurons get their bias by an `alive` spike for each visit: one a Linear layer of the block, with
    its out_features synapses. Falling silent then needs no other logic (Linear layers of blocks have biases:
    the folded normalisation). Without gating, biases stay in the neurons and nothing is sent.
    """
    messages = np.zeros_like(activity.counts["synops"])
    synops = np.zeros_like(messages)
    if activity.visits is None:
        raise InputError(
            "the activity has no visits, which tell the gate messages", "record visits per token"
        )
    live = activity.visits.sum(axis=3)
    for row, layer in enumerate(activity.layers):
        if layer.kind != "Linear" or not layer.scope.startswith("block"):
            continue
        block = int(layer.scope.removeprefix("block"))
        for step in range(live.shape[1]):
            messages[:, row, activity.step_index(f"step{step + 1}")] = live[:, step, block]
        synops[:, row] = messages[:, row] * layer.out_features
    return messages, synops
