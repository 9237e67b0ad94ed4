"""Comparison of estimates with published measurements, using the catalogue's profiles without any fit."""

from __future__ import annotations

import numpy as np

from stas_neuro.activity import Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.energy import Estimate, Interval, estimate
from stas_neuro.errors import InputError
from stas_neuro.mapping import CoreLocation
from stas_neuro.validation.checks import Check
from stas_neuro.validation.measurements import PilotNet, Quartz, pilotnet, quartz

PILOTNET_BOUND = 0.1
"""Guaranteed bound of the relative error of PilotNet's dynamic energy, whichever neurons were active."""
_STEP = "step1"
_OWN_DATA = "the profile has it from here"


def validate_published() -> tuple[Check, ...]:
    """Compare all published measurements with estimates, in the order of docs/validation.md."""
    return _check_pilotnet(pilotnet()) + _check_quartz(quartz())


def pilotnet_activity(measured: PilotNet, *, active: bool) -> Activity:
    """Return the record of one step of PilotNet from its counters, one row per core.

    It is not published which neurons had input: all are counted as active, or none. Nor are the locations of
    the cores, so no hops are counted, and the tiles are arbitrary. Values that the plot does not show are
    counted as 0.
    """
    cores = len(measured.cores)
    sites = tuple(CoreLocation(x=core // 4 % 8, y=core // 32) for core in range(cores))
    layers = [
        _neurons(f"{core.layer}@{core.core}", core.neurons, core.core, of=core.layer)
        for core in measured.cores
    ]
    builder = ActivityBuilder(layers, step_labels(1), 1, cores=sites)
    for layer, core in zip(layers, measured.cores, strict=True):
        builder.add("updates_active" if active else "updates_inactive", layer.name, _STEP, core.neurons)
        counted = {"synops": core.synops, "synops_unary": core.synops}
        counted |= {"spikes_out": core.spikes, "axon_messages": core.spikes}
        for kind, count in counted.items():
            if count is not None:
                builder.add(kind, layer.name, _STEP, round(count / measured.steps_counted))
    return builder.build()


def quartz_activity(measured: Quartz, *, active: bool) -> Activity:
    """Return the record of a step of Quartz in which neurons are stepped and nothing else happens."""
    sites = tuple(CoreLocation(x=core // 4, y=0) for core in range(measured.cores))
    share = np.diff(np.linspace(0, measured.neurons, measured.cores + 1).round().astype(int))
    layers = [_neurons(f"neurons@{core}", int(share[core]), core, of="neurons") for core in range(len(sites))]
    builder = ActivityBuilder(layers, step_labels(1), 1, cores=sites)
    for layer in layers:
        builder.add("updates_active" if active else "updates_inactive", layer.name, _STEP, layer.neurons)
    return builder.build()


def _neurons(name: str, neurons: int, core: int, *, of: str) -> Layer:
    return Layer(
        name=name, kind="LIF", scope=of, neurons=neurons, out_features=neurons, stage=0, core=core, of=of
    )


def step_regression(measured: Quartz) -> tuple[float, float]:
    """Fit dynamic energy of a sample = a + b x steps by least squares, and return (a, b) in J.

    b is the energy of a step in which only neurons are stepped; a is the energy of a sample that does not
    depend on the number of steps: its input and its spikes. Rows are weighted by 1 / energy, as errors of a
    power meter are relative. Raises InputError where all runs have the same number of steps.
    """
    steps = np.array([run.steps for run in measured.runs], dtype=np.float64)
    energy = np.array([run.step_energy_j for run in measured.runs]) * steps
    if len(set(steps)) < 2:
        raise InputError("all runs have the same number of steps", "use runs with at least two numbers")
    columns = np.stack([np.ones_like(steps), steps], axis=1) / energy[:, None]
    (per_sample, per_step), *_ = np.linalg.lstsq(columns, np.ones_like(steps), rcond=None)
    return float(per_sample), float(per_step)


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
                    predicted=_known(cost.dynamic_energy_j),
                    measured=run.step_energy_j,
                    promise="error",
                    bound=PILOTNET_BOUND,
                )
            )
    for run in measured.runs:
        case = f"{measured.title} {run.name}"
        checks.append(
            Check(
                case=case,
                quantity="time of a step",
                unit="s",
                predicted=_known(cost.latency_s),
                measured=run.step_s,
                note="a lower bound, its high end fitted on this run",
            )
        )
        checks.append(
            Check(
                case=case,
                quantity="static power",
                unit="W",
                predicted=_known(cost.static_power_w),
                measured=run.static_power_w,
                note=_OWN_DATA,
            )
        )
    return tuple(checks)


def _check_quartz(measured: Quartz) -> tuple[Check, ...]:
    idle, busy = (estimate(quartz_activity(measured, active=active), "loihi1") for active in (False, True))
    band = _band(idle, busy)
    _, per_step = step_regression(measured)
    checks = [
        Check(
            case=f"{measured.title} {run.steps} steps",
            quantity="dynamic energy of a step",
            unit="J",
            predicted=band,
            measured=run.step_energy_j,
            note="with a share of the sample's input and spikes",
        )
        for run in measured.runs
    ]
    checks.append(
        Check(
            case=f"{measured.title}, all runs",
            quantity="dynamic energy of one step more",
            unit="J",
            predicted=band,
            measured=per_step,
            promise="interval",
            note="low: no neuron active, high: all",
        )
    )
    for run in measured.runs:
        case = f"{measured.title} {run.steps} steps"
        figures = (
            ("time of a step", "s", idle.latency_s, run.step_s, "the chip waits for the host"),
            ("static power", "W", idle.static_power_w, run.static_power_w, _OWN_DATA),
            ("management power", "W", idle.management_power_w, run.management_power_w, _OWN_DATA),
        )
        checks += [
            Check(case=case, quantity=quantity, unit=unit, predicted=_known(own), measured=theirs, note=note)
            for quantity, unit, own, theirs, note in figures
            if theirs is not None
        ]
    return tuple(checks)


def _band(idle: Estimate, busy: Estimate) -> Interval:
    """Return the interval from all neurons idle to all active; few spike, so idle is the value."""
    low, high = _known(idle.dynamic_energy_j), _known(busy.dynamic_energy_j)
    return Interval(value=low.value, low=low.low, high=high.high)


def _known(figure: Interval | None) -> Interval:
    if figure is None:
        raise InputError("the profile lacks a figure", "validate with a complete profile")
    return figure
