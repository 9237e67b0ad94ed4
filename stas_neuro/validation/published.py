"""Comparison of estimates with published measurements, using the catalogue's profiles without any fit."""

from __future__ import annotations

from dataclasses import replace

from stas_neuro.activity import Activity, ActivityBuilder, step_labels
from stas_neuro.chips import Profile, load_profile
from stas_neuro.energy import estimate
from stas_neuro.mapping import CoreLocation
from stas_neuro.validation.checks import Check
from stas_neuro.validation.evidence import leave_out
from stas_neuro.validation.loihi import STEP, check_loihi, known, neuron_row, power_of
from stas_neuro.validation.measurements import PilotNet, Resting, pilotnet, speck

PILOTNET_BOUND = 0.1
"""Guaranteed bound of the relative error of PilotNet's dynamic energy, whichever neurons were active."""
_OWN_DATA = "the profile has it from here, and one other board is no spread"


def validate_published() -> tuple[Check, ...]:
    """Compare all published measurements with estimates, in the order of docs/validation.md."""
    loihi = _check_loihi(load_profile("loihi1"))
    return (*_check_pilotnet(pilotnet()), *loihi, _check_speck(speck()))


def pilotnet_activity(measured: PilotNet, *, active: bool) -> Activity:
    """Return the record of one step of PilotNet from its counters, one row per core.

    It is not published which neurons had input: all are counted as active, or none. Nor are the locations of
    the cores, so no hops are counted, and the tiles are arbitrary. Values that the plot does not show are
    counted as 0.
    """
    cores = len(measured.cores)
    sites = tuple(CoreLocation(x=core // 4 % 8, y=core // 32) for core in range(cores))
    layers = [
        neuron_row(f"{core.layer}@{core.core}", core.neurons, core.core, of=core.layer)
        for core in measured.cores
    ]
    builder = ActivityBuilder(layers, step_labels(1), 1, cores=sites)
    for layer, core in zip(layers, measured.cores, strict=True):
        builder.add("updates_active" if active else "updates_inactive", layer.name, STEP, core.neurons)
        counted = {"synops": core.synops, "synops_unary": core.synops}
        counted |= {"spikes_out": core.spikes, "axon_messages": core.spikes}
        for kind, count in counted.items():
            if count is not None:
                builder.add(kind, layer.name, STEP, round(count / measured.steps_counted))
    return builder.build()


def _check_pilotnet(measured: PilotNet) -> tuple[Check, ...]:
    checks = []
    for active in (False, True):
        cost = estimate(pilotnet_activity(measured, active=active), "loihi2")
        active_ones = "all neurons active" if active else "no neuron active"
        for run in measured.runs:
            checks.append(
                Check(
                    case=f"{measured.title} {run.name}, {active_ones}",
                    quantity="dynamic energy of a step",
                    unit="J",
                    predicted=known(cost.dynamic_energy_j),
                    measured=run.step_energy_j,
                    promise="error",
                    bound=PILOTNET_BOUND,
                    run=measured.title,
                )
            )
    for run in measured.runs:
        case = f"{measured.title} {run.name}"
        checks.append(
            Check(
                case=case,
                quantity="time of a step",
                unit="s",
                predicted=known(cost.latency_s),
                measured=run.step_s,
                note="a lower bound, to which the high end adds the parts",
                run=measured.title,
            )
        )
        checks.append(
            Check(
                case=case,
                quantity="static power",
                unit="W",
                predicted=known(cost.static_power_w),
                measured=run.static_power_w,
                note=_OWN_DATA,
                run=measured.title,
                alone=True,
            )
        )
    return tuple(checks)


def _check_loihi(profile: Profile) -> tuple[Check, ...]:
    """Compare the runs on Loihi, each also with a profile without its own figures."""
    checks = tuple(check_loihi(profile))
    others = {run: tuple(check_loihi(leave_out(profile, run))) for run in {check.run for check in checks}}
    return tuple(
        replace(check, held_out=others[check.run][place].predicted) for place, check in enumerate(checks)
    )


def _check_speck(measured: Resting) -> Check:
    return Check(
        case=measured.title,
        quantity="static power",
        unit="W",
        predicted=power_of(load_profile("speck"), "static", 1),
        measured=measured.static_power_w,
        note=measured.note,
        run=measured.title,
    )
