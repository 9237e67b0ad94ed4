"""Messages of halting units: the alive spikes of live tokens, and the messages that gate cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, neuron_rows, no_counts
from stas_neuro.energy.gating import Stepping
from stas_neuro.energy.timing import HardwareStep
from stas_neuro.errors import InputError
from stas_neuro.mapping.distances import distances, places_of
from stas_neuro.scopes import block_of

Messages = npt.NDArray[np.int64] | npt.NDArray[np.float64]
_WAYS = {"gate_hops_x": "hops_x", "gate_hops_y": "hops_y", "gate_crossings": "chip_crossings"}
"""Events of messages between cores, and the distance of two cores that each counts."""


@dataclass(frozen=True, eq=False)
class Sent:
    """Messages to rows, (images, rows, steps), and, by event, their hops and chip crossings."""

    messages: Messages
    ways: Mapping[str, Messages]


def alive_spikes(activity: Activity) -> Sent:
    """Count the messages that signal to rows which tokens are live.

    A token's neurons get their bias from an `alive` spike on each visit: one per Linear layer of the block,
    or per piece of it on cores. Halted tokens then fall silent without further logic (Linear layers of blocks
    have biases: the folded normalisation). The live tokens of a piece are those whose neurons were updated; a
    piece without counted updates gets its even share of the visits.

    Raises InputError where the record has no visits.
    """
    if activity.visits is None:
        raise InputError(
            "the activity has no visits, which gate messages are counted from", "record visits per token"
        )
    live, tokens = activity.visits.sum(axis=3), activity.visits.shape[3]
    active, inactive, gated = (activity.counts[f"updates_{what}"] for what in ("active", "inactive", "gated"))
    messages: Messages = no_counts(active.shape)
    steps = [activity.step_index(f"step{step + 1}") for step in range(live.shape[1])]
    for row, (layer, owner) in enumerate(zip(activity.layers, neuron_rows(activity.layers), strict=True)):
        block = block_of(layer.scope)
        if layer.kind != "Linear" or block is None:
            continue
        width = max(activity.layers[owner].out_features, 1)
        if activity.cores and any(counts[:, owner].any() for counts in (active, inactive, gated)):
            messages[:, row, steps] = (active[:, owner, steps] + inactive[:, owner, steps]) // width
            continue
        part = layer.neurons / max(layer.out_features, 1) / tokens if activity.cores else 1
        if part != 1:
            messages = messages.astype(np.float64)
        messages[:, row, steps] = live[:, :, block] * part
    return _with_ways(activity, messages)


def core_gates(activity: Activity, stepping: Stepping, ticks: Sequence[HardwareStep]) -> Sent:
    """Count the messages that close and reopen cores, attributed to the first row on each core."""
    changes = stepping.changes(ticks, len(activity.steps))
    messages = no_counts(activity.counts["synops"].shape)
    counted: set[int] = set()
    for row, layer in enumerate(activity.layers):
        if layer.core is not None and layer.core not in counted:
            counted.add(layer.core)
            messages[:, row] = changes[:, layer.core]
    return _with_ways(activity, messages)


def _with_ways(activity: Activity, messages: Messages) -> Sent:
    """Add hops and crossings from the halting unit that decides on a row's block, or else from the last."""
    units, places = _units(activity), places_of(activity.cores)
    # The unit before block l decides on it; the last unit of the previous step decides on the first.
    decided: dict[int, list[tuple[int, int]]] = {}
    for row, layer in enumerate(activity.layers):
        if layer.core is not None and units:
            unit = units[((block_of(layer.scope) or 0) - 1) % len(units)]
            decided.setdefault(unit, []).append((row, layer.core))
    far = np.zeros((len(_WAYS), len(activity.layers), 1), dtype=np.int64)
    for unit, members in decided.items():
        passed = distances(places, unit)
        rows, cores = map(list, zip(*members, strict=True))
        far[:, rows, 0] = [passed[way][cores] for way in _WAYS.values()]
    return Sent(messages, {event: _times(messages, each) for event, each in zip(_WAYS, far, strict=True)})


def _times(messages: Messages, each: npt.NDArray[np.int64]) -> Messages:
    """Multiply the messages to rows by a number of each, (rows, 1).

    Many are 0: rows are near the unit of their block, and those of an only chip cross to no other.
    """
    rows = np.flatnonzero(each)
    if not len(rows):
        return np.broadcast_to(messages.dtype.type(0), messages.shape)
    product = no_counts(messages.shape, messages.dtype)
    product[:, rows] = messages[:, rows] * each[rows]
    return product


def _units(activity: Activity) -> list[int]:
    """Return the core of each halting unit, in the order of blocks; the first core of a unit on several."""
    cores: dict[str, int] = {}
    for layer in activity.layers:
        if layer.kind == "HaltAccumulate" and layer.core is not None:
            cores.setdefault(layer.network_layer, layer.core)
    return list(cores.values())
