"""What becomes of the neurons of halted tokens: gating modes, and which cores they let stand still when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import KINDS, Activity
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import Profile
from stas_neuro.choices import GATINGS as GATINGS
from stas_neuro.choices import Gating as Gating
from stas_neuro.energy.timing import HardwareStep, phase_of
from stas_neuro.errors import InputError

Flags = npt.NDArray[np.bool_]

ESTIMATED_NONE = (
    "estimate of gating none: the run held halted tokens back, so all their neurons are taken as active, "
    "each with as many synaptic operations as a live one in the layer's busiest step, and no messages; a run "
    "with --gating none is exact"
)
UNMAPPED_CORE = (
    "what-if without a mapping: nobody knows which cores stand still, so gating core spares every halted "
    "neuron and those of layers not at work, which no placement reaches"
)
_WHATIF = "loihi2-gated-whatif"
"""Profile of the catalogue whose cores can be gated in every way."""
_CAPABLE: Mapping[Gating, tuple[str, ...]] = {"core": ("core", "power"), "power": ("power",)}
_NOT_DONE = {"updates_gated", "updates_skipped"}


def computed_halted(activity: Activity) -> bool:
    """Tell whether a run computed halted tokens and threw them away: no neuron of theirs was held back."""
    halts = any(layer.kind == "HaltAccumulate" for layer in activity.layers)
    return halts and activity.token_ratio < 1 and not activity.counts["updates_gated"].any()


def gating_of(activity: Activity, gating: Gating | None) -> Gating:
    """Give the gating to price a run with: as given, or else `none` for a run with that, and `silent`.

    Raises InputError where the run computed halted tokens and another gating than `none` is given.
    """
    computed = computed_halted(activity)
    if computed and gating not in (None, "none"):
        raise InputError(
            f"gating is {gating}, and the run computed halted tokens (run --gating none): it does not tell "
            "what they would have spared",
            "price it with --gating none, or run with --gating silent",
        )
    return gating or ("none" if computed else "silent")


def check_gating(activity: Activity, profile: Profile, gating: Gating) -> None:
    """Refuse a gating mode that the chip cannot do, or the record cannot tell.

    Raises
    ------
    CannotRun
        When the profile's `capabilities.core_gating` does not go that far.
    MissingEntry
        When the profile has no such entry.
    InputError
        When power is gated without a mapping.
    """
    if gating not in _CAPABLE:
        return
    unknown = profile.reason("capabilities.core_gating") is not None
    able = "no" if unknown else profile.capability("core_gating")
    if able not in _CAPABLE[gating]:
        remedy = f"use gating {'silent' if able == 'no' else able}"
        if gating == "core" or activity.cores:  # without cores, power is not gated there either
            remedy += f", or the profile {_WHATIF}"
        raise CannotRun(f"cores of profile {profile.name} cannot be gated as gating {gating} asks", remedy)
    if gating == "power" and not activity.cores:
        raise InputError(
            "gating power needs a run on cores", "compile with --placement, and run what that gives"
        )


@dataclass(frozen=True, eq=False)
class Stepping:
    """Which cores of a mapping are stepped in which hardware step, where chips can gate them.

    Parameters
    ----------
    stepped : bool (images, cores, hardware steps)
    at_work : bool (cores, hardware steps)
        Whether a row on the core has its turn, live or not.
    """

    stepped: Flags
    at_work: Flags

    @property
    def woken(self) -> Flags:
        """Cores that are stepped and were not in the hardware step before, as `stepped`."""
        return self.stepped & ~np.pad(self.stepped, ((0, 0), (0, 0), (1, 0)))[:, :, :-1]

    def changes(self, ticks: Sequence[HardwareStep], steps: int) -> npt.NDArray[np.int64]:
        """Count how often cores are told to close or to open again, int64 (images, cores, steps).

        A core with nothing at work needs no telling: it changes between two of its turns. It is open when an
        image begins, and what is closed at its end opens again.
        """
        changes = np.zeros((*self.stepped.shape[:2], steps), dtype=np.int64)
        for core, turns in enumerate(self.at_work):
            turn = np.flatnonzero(turns)
            if not turn.size:
                continue
            for before, now in pairwise((None, *turn)):
                was = True if before is None else self.stepped[:, core, before]
                changes[:, core, ticks[now].step] += self.stepped[:, core, now] != was
            changes[:, core, ticks[turn[-1]].step] += ~self.stepped[:, core, turn[-1]]
        return changes


def turns(activity: Activity, ticks: Sequence[HardwareStep]) -> npt.NDArray[np.intp]:
    """Find the hardware step in which each row does the work of each step, (rows, steps); -1 for none."""
    found = np.full((len(activity.layers), len(activity.steps)), -1, dtype=np.intp)
    stages = np.array([-1 if layer.stage is None else layer.stage for layer in activity.layers])
    for number, tick in enumerate(ticks):
        for step, stage in tick.work:
            found[stages == stage, step] = number
    return found


def stepping(activity: Activity, ticks: Sequence[HardwareStep]) -> Stepping:
    """Derive which cores have to be stepped from what rows did.

    A core is stepped if a row whose turn it is has a live token: its neurons (those that its synapses end
    on) were updated as live ones, or, where it has no neurons that are, it did anything.
    """
    turn = turns(activity, ticks)
    live = _live(activity)
    stepped = np.zeros((activity.images, len(activity.cores), len(ticks)), dtype=np.bool_)
    at_work = np.zeros(stepped.shape[1:], dtype=np.bool_)
    for row, layer in enumerate(activity.layers):
        if layer.core is None:
            continue
        for step, number in enumerate(turn[row]):
            if number >= 0:
                stepped[:, layer.core, number] |= live[:, row, step]
                at_work[layer.core, number] |= phase_of(activity.steps[step]) == layer.phase
    return Stepping(stepped, at_work)


def neuron_rows(activity: Activity) -> npt.NDArray[np.intp]:
    """Find, for each row, the row whose neurons its synapses end on."""
    rows = {layer.name: row for row, layer in enumerate(activity.layers)}
    return np.array([rows[layer.placed_with or layer.name] for layer in activity.layers], dtype=np.intp)


def _live(activity: Activity) -> Flags:
    """Whether a row has a live token in a step, (images, rows, steps)."""
    counts, owner = activity.counts, neuron_rows(activity)
    updated = (counts["updates_active"] + counts["updates_inactive"])[:, owner]
    anything = sum(counts[kind] for kind in KINDS if kind not in _NOT_DONE)
    return np.where(updated + counts["updates_gated"][:, owner] > 0, updated > 0, np.asarray(anything) > 0)
