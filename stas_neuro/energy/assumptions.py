"""The assumptions of a price, as sentences for reports."""

from __future__ import annotations

from stas_neuro.activity import Activity
from stas_neuro.chips.profile import Profile
from stas_neuro.choices import IDLE_UPDATES, MODES, SCHEDULES, STEMS
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.deployment import Deployment, idle_word
from stas_neuro.energy.events import MICROCODE, Running
from stas_neuro.energy.gating import ESTIMATED_NONE, GATINGS, UNMAPPED_CORE

_PACKED = (
    "cores by first-fit packing, work divided evenly among the cores of a layer: a placement may cost less "
    "or more"
)
_UNMAPPED = (
    "input and output of the host, hops between cores, copies of a spike to several cores, spikes that a "
    "single-pass stem sends again in each model step, and messages that forward a sum of residuals are not "
    "priced: they are known only for a run on cores"
)
_MAPPED = (
    "cores as placed for the run; the time that messages take from tile to tile, including congestion, is "
    "not priced"
)
_LEFT_OUT = (
    "pooling of spikes, the stem's integration over time, and the additions in sums of residuals are not "
    "priced",
    "a product of two spikes (attention, gates of channels) is priced as one synaptic operation; neither the "
    "memory for K^T V or Q K^T nor a hardware step for the second product, which needs the first, is priced",
)
_EARLY = (
    "early end: a halting unit tells the processor beside the cores when no token is alive, by one message, "
    "and the processor starts the next model step; no published network does that, and its time beyond the "
    "message is not priced"
)
_STREAM = "images in flight are taken to be alike, and messages that gate cores are those of one alone"


def assumptions_of(
    activity: Activity,
    profile: Profile,
    deployment: Deployment,
    running: Running,
    placement: CoreAssignment | None,
) -> tuple[str, ...]:
    """Return the assumptions of a price, the notes of the profile last."""
    found = [f"gating {running.gating}: {GATINGS[running.gating]}"]
    if (sample := activity.sample_note) is not None:
        found.insert(0, sample)
    if running.gating == "none" and activity.counts["updates_gated"].any():
        found.append(ESTIMATED_NONE)
    if running.gating == "core" and not activity.cores:
        found.append(UNMAPPED_CORE)
    if running.flow is not None:
        schedule = deployment.schedule_of(activity)
        found.append(f"schedule {schedule}: {SCHEDULES[schedule]}")
        found += _of_options(profile, deployment, running)
    if placement is not None:
        found.append(_MAPPED if activity.cores else _PACKED)
        if placement.chips > 1 and "time.barrier_multi_chip" in profile.entries():
            found.append(f"{placement.chips} chips: {profile.entry('time.barrier_multi_chip').note}")
    if not activity.cores:
        found.append(_UNMAPPED)
    return (*found, *_LEFT_OUT, *profile.notes)


def _of_options(profile: Profile, deployment: Deployment, running: Running) -> list[str]:
    """Return the assumptions of the options that differ from the defaults, and that of idle neurons."""
    found = []
    if deployment.mode != "single":
        found.append(f"mode {deployment.mode}: {MODES[deployment.mode]}; {_STREAM}")
    if deployment.contexts > 1:
        found.append(
            f"{deployment.contexts} contexts: in hardware step h neurons serve the image of context h mod "
            f"{deployment.contexts}, which has membranes of its own; an update takes no longer for that"
        )
    if deployment.stem != "shared":
        found.append(f"stem {deployment.stem}: {STEMS[deployment.stem]}")
    if deployment.early_end:
        found.append(_EARLY)
    if deployment.microcode:
        found.append("microcode: halting units, products of spikes and neurons that wait have a program")
        found += [
            f"updates of programs are priced as stock ones, {section}.{MICROCODE} is unavailable: {why}"
            for section in ("energy", "time")
            if (why := profile.reason(f"{section}.{MICROCODE}")) is not None
        ]
    if idle_word(profile) == "unknown" or deployment.idle_update is not None:
        known = idle_word(profile)
        why = "unknown for this chip" if known == "unknown" else f"this chip: {known}"
        found.append(f"idle neurons {running.idle} ({why}): {IDLE_UPDATES[running.idle]}")
    return found
