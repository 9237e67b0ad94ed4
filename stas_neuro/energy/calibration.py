"""Fit entries of a profile to measured energy and time by non-negative least squares.

energy_j = sum of (event count x energy of the event) + static power x latency x cores or chips
time_s   = sum of (event count on the busiest core x time of the event) + hardware steps x barrier

A fitted barrier contains `time.management_step`: both occur once in each hardware step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stas_neuro.chips.catalogue import list_profiles, load_profile
from stas_neuro.chips.profile import Profile
from stas_neuro.energy.calibrated import (
    BARRIERS,
    MANAGEMENT_STEP,
    Calibration,
    Error,
    Fit,
    FittedEntry,
    RunResidual,
    contained,
)
from stas_neuro.energy.doubts import Evidence, doubts, require_enough, require_something
from stas_neuro.energy.events import PRICES
from stas_neuro.energy.least_squares import Numbers, Problem, condition, inflation, intervals, solve
from stas_neuro.energy.measurements import BUSIEST, QUANTITIES, Measurements, read_measurements
from stas_neuro.energy.result import Interval
from stas_neuro.errors import InputError

_NOT_FITTED = ("power.management", MANAGEMENT_STEP)
"""Entries that are fitted only if asked for."""


def calibrate(
    measurements: Measurements | str | Path,
    profile: Profile | str | Path,
    *,
    extends: str | Path | None = None,
    fit: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> Calibration:
    """Fit entries of a profile to measured runs.

    Parameters
    ----------
    measurements : Measurements, str or Path
        Measured runs, or the path of their CSV file (columns: docs/calibration.md).
    profile : Profile, str or Path
        A profile, or its name or path. Entries that are not fitted keep their values, and their contribution
        is subtracted from the measurements.
    extends : str or Path, optional
        Name or path of the profile that the written one extends. Default: `profile`, or of a `Profile` its
        name, if it is in the catalogue.
    fit : sequence of str, optional
        Entries to fit, such as `energy.synaptic_operation`. Default: all entries for which there are
        columns, except management power and `time.management_step`.
    confidence : float
        Confidence level of the intervals, between 0 and 1.

    Raises
    ------
    InputError
        When the file is invalid, there is nothing to fit, there are fewer runs than entries, or the runs
        cannot be explained at all. Lesser problems of a fit are listed in its `warnings`.
    MissingEntry
        When there are columns for an entry that is neither fitted nor in the profile.
    """
    if not 0 < confidence < 1 or (1 + confidence) / 2 == 1:  # rounds to a quantile of 1
        raise InputError(f"confidence is {confidence}", "use a value between 0 and 1, such as 0.95")
    if not isinstance(measurements, Measurements):
        measurements = read_measurements(measurements)
    loaded = load_profile(profile)
    terms = {"energy_j": _energy_terms(measurements, loaded), "time_s": _time_terms(measurements, loaded)}
    known = [entry for columns in terms.values() for entry in columns]
    for entry in fit or ():
        if entry not in known:
            remedy = f"add its columns, or fit one of {', '.join(known)}"
            raise InputError(f"{measurements.source} has no columns for {entry}", remedy)
    wanted = [entry for entry in known if entry not in _NOT_FITTED] if fit is None else list(fit)
    fits = [
        _fit(quantity, columns, wanted, measurements, loaded, confidence)
        for quantity, columns in terms.items()
        if any(columns[entry].any() for entry in wanted if entry in columns)
    ]
    if not fits:
        raise InputError(
            f"{measurements.source} has nothing to fit",
            "add energy_j with event counts, or time_s with event counts on the busiest core",
        )
    return Calibration(
        profile=loaded,
        extends=str(_extended(profile, loaded) if extends is None else extends),
        source=measurements.source,
        sha256=measurements.sha256,
        runs=len(measurements.runs),
        confidence=confidence,
        fits=tuple(fits),
    )


def _energy_terms(measurements: Measurements, profile: Profile) -> dict[str, Numbers]:
    """Return the column of each entry that energy depends on, by entry name."""
    columns = measurements.columns
    if "energy_j" not in columns:
        return {}
    terms = _counts(measurements, "energy", "")
    latency = columns.get("latency_s", columns.get("time_s"))
    scopes = {"static": profile.static_scope, "management": "chip" if "management" in profile.power else None}
    for name, scope in scopes.items():
        if latency is None or scope is None:
            continue
        if f"{scope}s" not in columns:
            raise InputError(
                f"{measurements.source} has no column {scope}s, and power.{name} is per {scope}",
                f"add a column with the number of {scope}s in use",
            )
        terms[f"power.{name}"] = latency * columns[f"{scope}s"]
    return terms


def _time_terms(measurements: Measurements, profile: Profile) -> dict[str, Numbers]:
    """Return the column of each entry that time depends on, by entry name.

    The result is empty if there are no columns for the busiest core.
    """
    columns = measurements.columns
    terms = _counts(measurements, "time", BUSIEST)
    if "hardware_steps" in columns:
        many = columns.get("chips", np.ones(len(measurements.runs))) > 1
        for name, where in (("barrier", ~many), ("barrier_multi_chip", many)):
            if where.any():
                terms[f"time.{name}"] = columns["hardware_steps"] * where
        if profile.reason(MANAGEMENT_STEP) is None:
            terms[MANAGEMENT_STEP] = columns["hardware_steps"]
    if terms and "time_s" not in columns:
        raise InputError(f"{measurements.source} has no column time_s", f"add the {QUANTITIES['time_s']}")
    if terms and profile.step_law == "max":
        raise InputError(
            f"profile {profile.name} times a step by its longest part (step_law max), not by a sum that "
            "can be fitted",
            f"remove hardware_steps and the {BUSIEST}... columns",
        )
    return terms


def _counts(measurements: Measurements, section: str, prefix: str) -> dict[str, Numbers]:
    """Return the sum of the columns of all events priced by an entry, by entry name."""
    terms: dict[str, Numbers] = {}
    for price in PRICES:
        column = measurements.columns.get(prefix + price.event)
        if column is not None:
            entry = f"{section}.{price.entry}"
            terms[entry] = terms[entry] + column if entry in terms else column
    return terms


def _fit(
    quantity: str,
    terms: Mapping[str, Numbers],
    wanted: Sequence[str],
    measurements: Measurements,
    profile: Profile,
    confidence: float,
) -> Fit:
    measured, runs = measurements.columns[quantity], len(measurements.runs)
    fitted = [name for name in terms if name in wanted and terms[name].any()]
    within = contained(fitted, profile)
    kept = {
        name: profile.corners(name)[1] * terms[name]
        for name in terms
        if name not in (*wanted, *within) and terms[name].any()
    }
    base = sum(kept.values(), np.zeros(runs))
    before = [_before(profile, name) for name in fitted]
    problem = Problem(
        counts=np.stack([terms[name] for name in fitted], axis=1),
        measured=measured - base,
        deviation=measurements.columns.get(quantity.replace("_", "_std_")),
        prior=np.array(
            [
                (0.0 if known is None else known.value)
                + sum(profile.corners(part)[1] for part in within if name in BARRIERS)
                for name, known in zip(fitted, before, strict=True)
            ]
        ),
    )
    evidence = Evidence(
        source=measurements.source,
        unit="J" if quantity == "energy_j" else "s",
        runs=measurements.runs,
        entries=tuple(fitted),
        problem=problem,
        measured=measured,
        kept=kept,
    )
    require_enough(evidence)
    values = solve(problem)
    require_something(evidence, values)
    ends = intervals(problem, values, confidence)
    explained = base + problem.counts @ values
    held_out = base + _held_out(problem) if runs > len(fitted) else None
    old = base + problem.counts @ problem.prior if None not in before else None
    errors = (
        _error(explained, measured),
        None if held_out is None else _error(held_out, measured),
        None if old is None else _error(old, measured),
    )
    number = condition(problem)
    return Fit(
        quantity=quantity,
        entries=tuple(
            FittedEntry(
                entry=name,
                fitted=Interval(float(value), float(min(low, value)), float(max(high, value))),
                before=known,
                inflation=float(inflates) if np.isfinite(inflates) else None,
            )
            for name, value, (low, high), known, inflates in zip(
                fitted, values, ends, before, inflation(problem), strict=True
            )
        ),
        kept=tuple(kept),
        residuals=tuple(
            RunResidual(
                run=run,
                measured=float(measured[row]),
                fitted=float(explained[row]),
                held_out=None if held_out is None else float(held_out[row]),
                before=None if old is None else float(old[row]),
            )
            for row, run in enumerate(measurements.runs)
        ),
        error=errors[0],
        held_out_error=errors[1],
        error_before=errors[2],
        condition_number=number if np.isfinite(number) else None,
        warnings=(
            *(_absent(name) for name in terms if not terms[name].any()),
            *doubts(evidence, values, ends, *errors),
        ),
    )


def _extended(given: Profile | str | Path, profile: Profile) -> str | Path:
    """Return what a file can extend for a profile that was given."""
    if not isinstance(given, Profile):
        return given
    if profile.name not in list_profiles():
        what = f"profile {profile.name} is not in the catalogue, which a fitted one extends"
        raise InputError(what, "give the path of its file as extends")
    return profile.name


def _absent(name: str) -> str:
    text = f"{name} has no counts in any run: it is not changed"
    return f"{text} (time, or cores or chips, are 0 in all)" if name.startswith("power.") else text


def _before(profile: Profile, name: str) -> Interval | None:
    if name not in profile.entries():
        return None
    low, value, high = profile.corners(name).tolist()
    return Interval(value=value, low=low, high=high)


def _held_out(problem: Problem) -> Numbers:
    """Predict each run from a fit to the others, (runs,)."""
    return np.array(
        [problem.counts[run] @ solve(problem.without(run)) for run in range(len(problem.measured))]
    )


def _error(predicted: Numbers, measured: Numbers) -> Error:
    """Return the relative error over the runs with a measured value above 0."""
    some = measured > 0
    errors = np.abs(predicted[some] / measured[some] - 1)
    return Error(mean=float(errors.mean()), worst=float(errors.max()))
