"""Gating modes: how a chip treats the neurons of halted tokens, and which cores it does not step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import KINDS, Activity, neuron_rows, record_halts
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import Profile
from stas_neuro.choices import GATINGS as GATINGS
from stas_neuro.choices import Gating as Gating
from stas_neuro.energy.timing import HardwareStep, phase_of
from stas_neuro.errors import InputError

Flags = npt.NDArray[np.bool_]

ESTIMATED_NONE = (
    "estimate of gating none: the run did not compute halted tokens, so all their neurons are taken as "
    "active, each with as many synaptic operations as a live one in the layer's busiest step, and no "
    "messages; a run with --gating none is exact"
)
UNMAPPED_CORE = (
    "what-if without a mapping: it is unknown which cores are not stepped, so gating core skips every halted "
    "neuron and all neurons of layers without work, which no placement achieves"
)
_WHATIF = "loihi2-gated-whatif"
"""Catalogue profile whose cores support every gating mode."""
_CAPABLE: Mapping[Gating, tuple[str, ...]] = {"core": ("core", "power"), "power": ("power",)}
_NOT_DONE = {"updates_gated", "updates_skipped"}


def computed_halted(activity: Activity) -> bool:
    """Return whether a run computed halted tokens and discarded them: none of their neurons were gated."""
    halts = record_halts(activity.layers)
    return halts and activity.token_ratio < 1 and not activity.counts["updates_gated"].any()


def gating_of(activity: Activity, gating: Gating | None) -> Gating:
    """Return the gating mode to price a run with.

    If none is given, it is `none` for a run that computed halted tokens, and `silent` for others.

    Raises InputError where the run computed halted tokens and a gating mode other than `none` is given.
    """
    computed = computed_halted(activity)
    if computed and gating not in (None, "none"):
        raise InputError(
            f"gating is {gating}, and the run computed halted tokens (run --gating none): it does not show "
            "what gating would have saved",
            "price it with --gating none, or run with --gating silent",
        )
    return gating or ("none" if computed else "silent")


def check_gating(activity: Activity, profile: Profile, gating: Gating) -> None:
    """Refuse a gating mode that the chip does not support, or that the record is not sufficient for.

    Raises
    ------
    CannotRun
        When the profile's `capabilities.core_gating` does not include the mode.
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
        if gating == "core" or activity.cores:  # without cores, that profile refuses gating power, too
            remedy += f", or the profile {_WHATIF}"
        raise CannotRun(f"cores of profile {profile.name} do not support gating {gating}", remedy)
    if gating == "power" and not activity.cores:
        raise InputError(
            "gating power requires a run on cores", "compile with --placement, and run the result"
        )


@dataclass(frozen=True, eq=False)
class Stepping:
    """Which cores of a mapping are stepped in which hardware step, on chips that can gate cores.

    Parameters
    ----------
    stepped : bool (images, cores, hardware steps)
    at_work : bool (cores, hardware steps)
        Whether a row on the core has its turn, whether or not its tokens are live.
    """

    stepped: Flags
    at_work: Flags

    @property
    def woken(self) -> Flags:
        """Cores that are stepped but were not in the previous hardware step; bool, shaped like `stepped`."""
        return self.stepped & ~np.pad(self.stepped, ((0, 0), (0, 0), (1, 0)))[:, :, :-1]

    def changes(self, ticks: Sequence[HardwareStep], steps: int) -> npt.NDArray[np.int64]:
        """Count the messages that close or reopen cores, int64 (images, cores, steps).

        A core without work needs no message, so only changes between two of its turns are counted. Each core
        is open when an image begins, and a core that is closed at the end of an image reopens.
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
    """Find the hardware step in which each row does the work of each step, int (rows, steps); -1 for none."""
    found = np.full((len(activity.layers), len(activity.steps)), -1, dtype=np.intp)
    stages = np.array([-1 if layer.stage is None else layer.stage for layer in activity.layers])
    for number, tick in enumerate(ticks):
        for step, stage in tick.work:
            found[stages == stage, step] = number
    return found


def stepping(activity: Activity, ticks: Sequence[HardwareStep]) -> Stepping:
    """Derive from the counts which cores must be stepped.

    A core is stepped if a row on it has its turn and a live token. That is so if the neurons that the row's
    synapses end on were updated, or, where no updates are counted for these, if the row has any other count.
    This uses counts only; `placement.steps.core_steps` derives it from visits, and a test compares both.
    """
    turn = turns(activity, ticks)
    alive = live(activity)
    stepped = np.zeros((activity.images, len(activity.cores), len(ticks)), dtype=np.bool_)
    at_work = np.zeros(stepped.shape[1:], dtype=np.bool_)
    for row, layer in enumerate(activity.layers):
        if layer.core is None:
            continue
        for step, number in enumerate(turn[row]):
            if number >= 0:
                stepped[:, layer.core, number] |= alive[:, row, step]
                at_work[layer.core, number] |= phase_of(activity.steps[step]) == layer.phase
    return Stepping(stepped, at_work)


def live(activity: Activity) -> Flags:
    """Return whether each row has a live token in each step, bool (images, rows, steps)."""
    counts, owner = activity.counts, neuron_rows(activity.layers)
    updated = (counts["updates_active"] + counts["updates_inactive"])[:, owner]
    anything = sum(counts[kind] for kind in KINDS if kind not in _NOT_DONE)
    return np.where(updated + counts["updates_gated"][:, owner] > 0, updated > 0, np.asarray(anything) > 0)
