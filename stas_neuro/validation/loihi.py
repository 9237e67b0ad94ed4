"""Measured runs on Loihi, compared with estimates of what of them can be priced."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stas_neuro.activity import Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.chips import Profile
from stas_neuro.energy import Estimate, Interval, estimate
from stas_neuro.errors import InputError
from stas_neuro.mapping import CoreLocation
from stas_neuro.validation.checks import Check
from stas_neuro.validation.measurements import (
    LoihiRun,
    Measured,
    Nearest,
    Quartz,
    loihi_runs,
    nearest,
    quartz,
)

STEP = "step1"


def stepped_activity(neurons: int, cores: int, *, active: bool) -> Activity:
    """Return the record of a step in which neurons are stepped and nothing else happens."""
    sites = tuple(CoreLocation(x=core // 4 % 8, y=core // 32) for core in range(cores))
    share = np.diff(np.linspace(0, neurons, cores + 1).round().astype(int))
    layers = [neuron_row(f"neurons@{core}", int(share[core]), core, of="neurons") for core in range(cores)]
    builder = ActivityBuilder(layers, step_labels(1), 1, cores=sites)
    for layer in layers:
        builder.add("updates_active" if active else "updates_inactive", layer.name, STEP, layer.neurons)
    return builder.build()


def nearest_activity(measured: Nearest, synops: int) -> Activity:
    """Return the counts of an inference of a search for nearest neighbours, a row for each chip."""
    rows = [
        neuron_row(f"chip{chip}", measured.neurons // measured.chips, None) for chip in range(measured.chips)
    ]
    builder = ActivityBuilder(rows, step_labels(1), 1)
    for row in rows:
        builder.add("updates_inactive", row.name, STEP, row.neurons)
        for kind in ("synops", "synops_unary"):
            builder.add(kind, row.name, STEP, synops // measured.chips)
    return builder.build()


def neuron_row(name: str, neurons: int, core: int | None, *, of: str = "") -> Layer:
    """Return a row of neurons that have their turn in every step."""
    return Layer(
        name=name, kind="LIF", scope=of, neurons=neurons, out_features=neurons, stage=0, core=core, of=of
    )


def step_regression(measured: Quartz, *, weighted: bool = True) -> tuple[float, float]:
    """Fit dynamic energy of a sample = a + b x steps by least squares, and return (a, b) in J.

    b is the energy of a step in which only neurons are stepped; a is the energy of a sample that does not
    depend on the number of steps: its input and its spikes. Rows are weighted by 1 / energy, as errors of a
    power meter are relative, or all alike. Raises InputError where all runs have the same number of steps.
    """
    steps = np.array([run.steps for run in measured.runs], dtype=np.float64)
    energy = np.array([run.step_energy_j for run in measured.runs]) * steps
    if len(set(steps)) < 2:
        raise InputError("all runs have the same number of steps", "use runs with at least two numbers")
    weight = 1 / energy if weighted else np.ones_like(energy)
    columns = np.stack([np.ones_like(steps), steps], axis=1) * weight[:, None]
    (per_sample, per_step), *_ = np.linalg.lstsq(columns, energy * weight, rcond=None)
    return float(per_sample), float(per_step)


def check_loihi(profile: Profile) -> Iterator[Check]:
    """Compare all measured runs on Loihi with estimates of a profile."""
    yield from _check_quartz(quartz(), profile)
    for run in loihi_runs():
        yield from _check_run(run, profile)
    yield from _check_nearest(nearest(), profile)


def priced_step(neurons: int, cores: int, profile: Profile) -> tuple[Estimate, Estimate]:
    """Price a step in which no neuron, and one in which every neuron, is active."""
    idle, busy = (
        estimate(stepped_activity(neurons, cores, active=active), profile, variants=False)
        for active in (False, True)
    )
    return idle, busy


def known(figure: Interval | None) -> Interval:
    """Return a figure; raises InputError where the profile lacks it."""
    if figure is None:
        raise InputError("the profile lacks a figure", "validate with a complete profile")
    return figure


def power_of(profile: Profile, name: str, many: int) -> Interval:
    """Return `many` times a power of the profile."""
    low, value, high = (profile.corners(f"power.{name}") * many).tolist()
    return Interval(value=value, low=low, high=high)


def _check_quartz(measured: Quartz, profile: Profile) -> Iterator[Check]:
    idle, busy = priced_step(measured.neurons, measured.cores, profile)
    band, title = _band(idle.dynamic_energy_j, busy.dynamic_energy_j), measured.title
    for run in measured.runs:
        yield Check(
            case=f"{title} {run.steps} steps",
            quantity="dynamic energy of a step",
            unit="J",
            predicted=band,
            measured=run.step_energy_j,
            note="measured with a share of the sample's input and spikes",
            run=title,
        )
    yield Check(
        case=f"{title}, all runs",
        quantity="dynamic energy of one step more",
        unit="J",
        predicted=band,
        measured=step_regression(measured)[1],
        promise="interval",
        note="low: no neuron active, high: all",
        run=title,
    )
    for run in measured.runs:
        case = f"{title} {run.steps} steps"
        pixels = profile.corners("time.io_message") * measured.pixels / run.steps
        step = _band(idle.latency_s, busy.latency_s)
        time = Interval(step.value + pixels[1], step.low + pixels[0], step.high + pixels[2])
        yield Check(
            case=case,
            quantity="time of a step",
            unit="s",
            predicted=time,
            measured=run.step_s,
            note="with its share of the sample's input",
            run=title,
        )
        yield from _check_powers(case, title, profile, run, (measured.cores, 1))


def _check_run(run: LoihiRun, profile: Profile) -> Iterator[Check]:
    if run.neurons is not None and run.step_s is not None:
        idle, busy = priced_step(run.neurons, run.cores if run.neurons else 1, profile)
        figures = [("time of a step", "s", _band(idle.latency_s, busy.latency_s), run.step_s)]
        if run.dynamic_power_w is not None:
            energy = _band(idle.dynamic_energy_j, busy.dynamic_energy_j)
            figures.append(("dynamic energy of a step", "J", energy, run.dynamic_power_w * run.step_s))
        for quantity, unit, predicted, measured in figures:
            yield Check(
                case=run.title,
                quantity=quantity,
                unit=unit,
                predicted=predicted,
                measured=measured,
                note="only updates are priced" if run.neurons else "only barrier and processors are priced",
                run=run.title,
            )
    yield from _check_powers(run.title, run.title, profile, run, (run.cores, run.chips))


def _check_nearest(measured: Nearest, profile: Profile) -> Iterator[Check]:
    fewest, most = (
        known(estimate(nearest_activity(measured, synops), profile, variants=False).dynamic_energy_j)
        for synops in measured.synops
    )
    yield Check(
        case=measured.title,
        quantity="dynamic energy of an inference",
        unit="J",
        predicted=Interval(value=(fewest.value + most.value) / 2, low=fewest.low, high=most.high),
        measured=measured.dynamic_energy_j,
        note="from the fewest to the most published synaptic operations",
        run=measured.title,
    )
    yield from _check_powers(measured.title, measured.title, profile, measured, (measured.cores, 0))


def _check_powers(
    case: str, run: str, profile: Profile, measured: Measured | LoihiRun | Nearest, many: tuple[int, int]
) -> Iterator[Check]:
    """Compare static power of the cores and management power of the chips, where they were measured."""
    for name, number in zip(("static", "management"), many, strict=True):
        power = getattr(measured, f"{name}_power_w", None)
        if power is not None:
            yield Check(
                case=case,
                quantity=f"{name} power",
                unit="W",
                predicted=power_of(profile, name, number),
                measured=power,
                run=run,
            )


def _band(idle: Interval | None, busy: Interval | None) -> Interval:
    """Return the interval from all neurons idle to all active; few spike, so idle is the value."""
    low, high = known(idle), known(busy)
    return Interval(value=low.value, low=low.low, high=high.high)
