"""What measured runs say about entries of the profile `loihi1`, and the profile without one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from stas_neuro.chips import Profile
from stas_neuro.chips.entries import UNITS
from stas_neuro.validation.loihi import known, priced_step, step_regression
from stas_neuro.validation.measurements import loihi_runs, nearest, quartz
from stas_neuro.validation.prediction import Figures, prediction

STATIC, MANAGEMENT = "power.static", "power.management"
STEP, VALUE = "time.management_step", "time.io_message"
SYNAPSE, IDLE = "energy.synaptic_operation", "energy.neuron_update_inactive"
_WITHOUT_RUNS: Mapping[str, tuple[float, ...]] = {
    SYNAPSE: (24.0e-12 * 0.88, 35.5e-12 * 1.12),
    IDLE: (51.2e-12 * 0.88, 51.2e-12 * 1.12),
    STEP: (0.0,),
    VALUE: (2.5e-9, 478e-9),
}
"""Ends in SI units that come from no run: Boyle 2025 with its claimed errors; a chip without processors;
an operation of a processor."""
_CLOCK_W = 18.0e-3
"""Power of the clock of the x86 processors in Quartz: an end of their power, not a measurement of it."""
BETWEEN = (STATIC, MANAGEMENT, STEP)
"""Entries that differ from set-up to set-up, and that several set-ups measured."""


def evidence(profile: Profile) -> dict[str, list[tuple[str, float]]]:
    """Return what each run says about an entry, (title of the run, number in SI units), by entry.

    The time of processors is what remains of a step without those of cores and barrier at their values.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    for entry, run, number in _figures(profile):
        found.setdefault(entry, []).append((run, number))
    return found


def between_setups(profile: Profile) -> Figures:
    """Return what each run says about the entries that differ from set-up to set-up."""
    found = evidence(profile)
    return {entry: found[entry] for entry in BETWEEN}


def ends(profile: Profile, entry: str, *, without: str = "") -> tuple[float, float]:
    """Return the ends of an entry in SI units by the evidence, optionally without a run."""
    numbers = [number for run, number in evidence(profile)[entry] if run != without]
    numbers += _WITHOUT_RUNS.get(entry, ())
    if entry == MANAGEMENT and without != quartz().title:
        numbers.append(_CLOCK_W)
    return min(numbers), max(numbers)


def leave_out(profile: Profile, run: str) -> Profile:
    """Return the profile without the figures of a run, by the evidence of the other runs.

    Entries that differ from set-up to set-up are predicted for another one (`prediction`), as the smallest
    and largest of a few figures do not contain the next one. Of the other entries, which rest on published
    energies and their errors too, the ends are those that remain.
    """
    figures = between_setups(profile)
    sections: dict[str, dict[str, object]] = {name: dict(getattr(profile, name)) for name in UNITS}
    for name, numbers in evidence(profile).items():
        if all(title != run for title, _ in numbers):
            continue
        section, key = name.split(".")
        entry = profile.entry(name)
        scale = UNITS[section][entry.unit]
        if name in BETWEEN:
            found = prediction(figures, name, without=run)
            low, value, high = found.low / scale, found.value / scale, found.high / scale
        else:
            low, high = (end / scale for end in ends(profile, name, without=run))
            value = float(np.clip(entry.value, low, high))
        sections[section][key] = replace(entry, low=low, value=value, high=high)
    return replace(profile, **sections)  # type: ignore[arg-type]


def _figures(profile: Profile) -> Iterator[tuple[str, str, float]]:
    alone = replace(
        profile,
        time={name: entry for name, entry in profile.time.items() if f"time.{name}" != STEP},
        unavailable={**profile.unavailable, STEP: "what the runs are compared without"},
    )
    for run in loihi_runs():
        if run.static_power_w is not None:
            yield STATIC, run.title, run.static_power_w / run.cores
        if run.management_power_w is not None:
            yield MANAGEMENT, run.title, run.management_power_w / run.chips
        if run.step_s is not None and run.neurons is not None:
            yield STEP, run.title, run.step_s - _step(run.neurons, run.cores if run.neurons else 1, alone)
    search, many = nearest(), quartz()
    yield STATIC, search.title, search.static_power_w / search.cores
    updates = search.neurons * profile.corners(IDLE)[1]
    yield SYNAPSE, search.title, float(search.dynamic_energy_j - updates) / search.synops[1]
    for measured in many.runs:
        yield STATIC, many.title, measured.static_power_w / many.cores
        if measured.management_power_w is not None:
            yield MANAGEMENT, many.title, measured.management_power_w
    yield IDLE, many.title, step_regression(many, weighted=False)[1] / many.neurons
    *_, some, most = sorted(many.runs, key=lambda measured: measured.steps)
    longer = most.steps * most.step_s - some.steps * some.step_s
    slope = longer / (most.steps - some.steps)
    yield STEP, many.title, slope - _step(many.neurons, many.cores, alone)
    shortest = min(measured.steps * measured.step_s for measured in many.runs)
    yield VALUE, many.title, shortest / many.pixels


def _step(neurons: int, cores: int, profile: Profile) -> float:
    return known(priced_step(neurons, cores, profile)[0].latency_s).value
