"""The price list, which maps events to profile entries, and the events derived from a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, Counts, neuron_rows, no_counts, record_halts
from stas_neuro.chips.profile import Profile
from stas_neuro.choices import IdleUpdate
from stas_neuro.energy.early_end import computes_on, executed_steps, exit_messages, exits_by_image
from stas_neuro.energy.gate_messages import Sent, alive_spikes, core_gates
from stas_neuro.energy.gating import Flags, Gating, Stepping, stepping, turns
from stas_neuro.energy.programs import program_rows
from stas_neuro.energy.timing import Flow, HardwareStep
from stas_neuro.errors import InputError

MICROCODE = "neuron_update_microcode"
"""Entry of the update of a neuron that has a program."""
EventCounts = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Price:
    """A row of the price list.

    `event` is priced by the entries `energy.<entry>` and `time.<entry>`. `unit` is the part of a core that
    the event keeps busy (under step law max the parts overlap), or the processor outside the cores, which the
    cores wait for, or the network between cores, whose time is not priced. `halting` marks events that only
    halting causes, `visit` those that occur with token visits if they occur in a block. `stock` is the entry
    of an update by a stock neuron, which prices those of neurons with a program on a chip without a figure.
    """

    event: str
    entry: str
    unit: Literal["synapse", "neuron", "message", "processor", "network"]
    halting: bool = False
    visit: bool = True
    stock: str = ""

    def priced_by(self, profile: Profile, section: str) -> str:
        """Return the name of the entry of a section, `energy` or `time`, that prices this event."""
        if self.stock and profile.reason(f"{section}.{self.entry}") is not None:
            return f"{section}.{self.stock}"
        return f"{section}.{self.entry}"


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
    Price("exit_messages", "io_message", "processor", halting=True, visit=False),
    Price("program_active", MICROCODE, "neuron", stock="neuron_update_active"),
    Price("program_inactive", MICROCODE, "neuron", visit=False, stock="neuron_update_inactive"),
    Price("program_idle", MICROCODE, "neuron", visit=False, stock="neuron_update_inactive"),
    Price("program_accumulations", MICROCODE, "neuron", halting=True, stock="neuron_update_active"),
)
"""The price list; docs/energy.md defines how each event is counted."""
_PROGRAMS = {
    "updates_active": "program_active",
    "updates_inactive": "program_inactive",
    "updates_idle": "program_idle",
    "halt_accumulations": "program_accumulations",
}
"""Updates of stock neurons, and the same of neurons with a program."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a chip runs a network, as far as it determines what happens; see `Deployment`.

    Parameters
    ----------
    flow : Flow or None
        Hardware steps; None, for a profile without, counts only the work of the network, not what a chip
        adds: idle neurons, resets and gate messages.
    gating : Gating
    idle : "stepped" or "skipped"
    early_end, microcode : bool
    present : float (rows, ticks), optional
        Share of a row's neurons that are stepped in each hardware step of an image. Default: all.
    """

    flow: Flow | None
    gating: Gating
    idle: IdleUpdate = "stepped"
    early_end: bool = False
    microcode: bool = False
    present: npt.NDArray[np.float64] | None = None


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
    present : float (rows, ticks) or None
        Share of a row's neurons that are stepped; None where all are.
    executed : bool (images, ticks) or None
        Which hardware steps an image takes; None where it takes all.
    programs : bool (rows,) or None
        Rows whose neurons have a program; None where none are priced as such.
    unplaced_gates : bool
        Whether cores are gated, and it is unknown which layers they hold.
    """

    counts: Mapping[str, EventCounts]
    turn: npt.NDArray[np.intp]
    updated: EventCounts
    keeps: npt.NDArray[np.int64]
    idles: bool
    stepping: Stepping | None
    present: npt.NDArray[np.float64] | None = None
    executed: Flags | None = None
    programs: Flags | None = None
    unplaced_gates: bool = False
    _most: dict[str, EventCounts] = field(default_factory=dict, init=False, repr=False)

    def most(self, event: str) -> EventCounts:
        """Return the largest count of any image, (rows, steps): looked up once, as counts are long."""
        if event not in self._most:
            counts = self.counts[event]
            self._most[event] = counts[: 1 if counts.strides[0] == 0 else None].max(axis=0, initial=0)
        return self._most[event]

    def occurs(self, event: str) -> bool:
        """Tell whether an event occurs in any image."""
        return bool(self.most(event).any())

    def idle(self, numbers: Sequence[int], cores: npt.NDArray[np.intp]) -> EventCounts:
        """Count the neurons that are stepped without work in a hardware step, (images, rows).

        `numbers` are the ticks of the images in flight that are executed in it, and `cores` has the core of
        each row; -1 is outside the cores.
        """
        idle: EventCounts = np.broadcast_to(self.keeps, self.updated.shape[:2])
        if self.stepping is not None:
            needed = np.asarray(self.stepping.stepped[:, :, list(numbers)].any(axis=2))
            idle = idle * (needed[:, cores] & (cores >= 0))
        if self.present is not None:
            idle = idle * self.present[:, list(numbers)].max(axis=1, initial=0.0)
        idle = np.array(idle.T).T  # by row, as rows are what is taken
        for number in numbers:
            rows, steps = np.nonzero(self.turn == number)  # a row has its turn in one step of a tick at most
            idle[:, rows] -= self.updated[:, rows, steps]
        if self.executed is not None:
            (number,) = numbers
            idle = idle * self.executed[:, number, None]
        return idle


def count_events(activity: Activity, running: Running, graded_spikes: bool) -> Events:
    """Count every event of `PRICES`.

    Raises
    ------
    InputError
        When halting is priced without visits, or a layer has more updates than its neurons allow.
    """
    mapped, halting = bool(activity.cores), record_halts(activity.layers)
    flow, gating = running.flow, running.gating
    zero = np.broadcast_to(np.int64(0), activity.counts["synops"].shape)  # takes no memory or time
    counts: dict[str, EventCounts] = {price.event: activity.counts.get(price.event, zero) for price in PRICES}
    counts["synops"] = activity.counts["synops" if graded_spikes else "synops_unary"]
    if mapped:
        counts["spikes_out"] = zero
    divides = np.array([halting and row.kind == "Readout" for row in activity.layers], dtype=np.bool_)
    counts["readout_divisions"], counts["cpu_operations"] = _apart(counts["cpu_operations"], divides)
    scores = np.array([row.kind == "ImageScore" for row in activity.layers], dtype=np.bool_)
    for work in ("synops", "macs"):
        counts[f"score_{work}"], counts[work] = _apart(counts[work], scores)
    counts["halt_accumulations"] = activity.counts["score_lookups"]
    turn = np.full(zero.shape[1:], -1) if flow is None else turns(activity, flow.ticks)
    gated = mapped and gating in ("core", "power")
    steps = stepping(activity, flow.ticks) if gated and flow is not None else None
    executed = executed_steps(activity, flow.ticks) if running.early_end and flow is not None else None
    if executed is not None and exits_by_image(activity):  # also what does not halt then ends
        done = executed[:, turn] | (turn < 0)
        counts = {event: counted * done for event, counted in counts.items()}
    _count_gated(activity, running, counts, turn, executed, steps)
    idles = flow is not None and running.idle == "stepped" and (mapped or gating != "core")
    events = Events(
        counts,
        turn,
        _updated(activity, counts),
        _keeps(activity),
        idles,
        steps,
        running.present,
        executed,
        program_rows(activity, flow) if running.microcode and flow is not None else None,
        gating == "core" and not mapped,
    )
    if flow is None:
        return events
    if idles:
        counts["updates_idle"] = _idle(activity, events, flow)
    if any(row.phase == "end" for row in activity.layers):
        counts["state_resets"] = _at_the_end(zero, events.keeps)
        outputs = [row.network_layer == activity.layers[-1].network_layer for row in activity.layers]
        if mapped:
            counts["output_messages"] = _at_the_end(zero, events.keeps * np.array(outputs))
    if halting and gating != "none" and not computes_on(activity):
        _count_gates(activity, counts, flow.ticks, steps)
    if events.executed is not None:
        counts["exit_messages"] = exit_messages(activity, flow.ticks, events.executed)
    if events.programs is not None:
        for event, of_programs in _PROGRAMS.items():
            counts[of_programs], counts[event] = _apart(counts[event], events.programs)
    return events


def in_order(counts: EventCounts) -> EventCounts:
    """Return counts to sum: fractions lie image by image, as their sums depend on the order."""
    return counts.copy("C") if counts.dtype.kind == "f" else counts


def occurs(counts: EventCounts) -> bool:
    """Tell whether any count is not zero; counts that are broadcast are read once."""
    return bool(counts[tuple(slice(None if stride else 1) for stride in counts.strides)].any())


def _apart(counts: EventCounts, rows: Flags) -> tuple[EventCounts, EventCounts]:
    """Return the counts of some rows, bool (rows,), and those of the others, each with zeros elsewhere."""
    zero = np.broadcast_to(counts.dtype.type(0), counts.shape)
    if not rows.any() or not occurs(counts):
        return zero, counts
    return counts * rows[:, None], zero if rows.all() else counts * ~rows[:, None]


def images_of(events: Events, images: slice | Flags) -> Events:
    """Return the events of some of the images."""
    kept = None
    if events.stepping is not None:
        kept = Stepping(events.stepping.stepped[images], events.stepping.at_work)
    counts = {event: counted[images] for event, counted in events.counts.items()}
    taken = None if events.executed is None else events.executed[images]
    return replace(events, counts=counts, updated=events.updated[images], stepping=kept, executed=taken)


def row_cores(activity: Activity) -> npt.NDArray[np.intp]:
    """Return the core of each row; -1 outside the cores or without a mapping."""
    return np.array([-1 if row.core is None else row.core for row in activity.layers], dtype=np.intp)


def _count_gated(
    activity: Activity,
    running: Running,
    counts: dict[str, EventCounts],
    turn: npt.NDArray[np.intp],
    executed: Flags | None,
    steps: Stepping | None,
) -> None:
    """Add the updates and synaptic operations of halted tokens' neurons, as the gating mode treats them."""
    held, gating = activity.counts["updates_gated"], running.gating
    if running.idle == "skipped" and gating != "none":
        held = no_counts(held.shape)
    if executed is not None:
        held = held * (executed[:, turn] | (turn < 0))
    if gating == "none":
        counts["updates_active"] = counts["updates_active"] + held
        if occurs(held):
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


def _idle(activity: Activity, events: Events, flow: Flow) -> EventCounts:
    """Count the updates of idle neurons for each image: a mapped neuron is stepped in every hardware step.

    Those of images in flight are shared by them, and attributed to steps by their numbers of hardware steps.
    """
    cores = row_cores(activity)
    shape = activity.counts["synops"].shape
    shared = flow.overlaps or events.present is not None
    counted = no_counts(shape, np.float64 if shared else np.int64)
    ticks = np.bincount([tick.step for tick in flow.ticks], minlength=len(activity.steps))
    for place, numbers in enumerate(flow.meeting()):
        idle = events.idle(numbers, cores)
        if idle.size and idle.min() < 0:
            row, step = activity.layers[int(np.argwhere(idle < 0)[0][1])], flow.ticks[numbers[0]].step
            raise InputError(
                f"layer {row.name} updates more than its {row.neurons} neurons in {activity.steps[step]}",
                "correct the counts: it has one hardware step in each step of the record",
            )
        if flow.overlaps:
            each = idle / flow.starts
            for step, share in enumerate(ticks / len(flow.ticks)):
                counted[:, :, step] += each * share
        else:
            counted[:, :, flow.ticks[place].step] += idle
    return counted


def _at_the_end(like: Counts, per_row: npt.NDArray[np.int64]) -> Counts:
    """Return counts that are the same for each image, in the last step."""
    counted = no_counts(like.shape)
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
        first, *others = (each.ways[event] for each in sent)
        counts[event] = sum(others, first)
