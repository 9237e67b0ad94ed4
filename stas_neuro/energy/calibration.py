"""Fit entries of a profile to measured runs: non-negative least squares of energy, and of time.

energy_j = sum of counts x energy of an event + static power x latency x cores or chips
time_s   = sum of counts on the busiest core x time of an event + hardware steps x barrier
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stas_neuro.chips.profile import Profile, load_profile
from stas_neuro.energy.calibrated import Calibration, Error, Fit, FittedEntry, RunResidual
from stas_neuro.energy.doubts import Evidence, doubts, require_enough, require_something
from stas_neuro.energy.events import PRICES
from stas_neuro.energy.least_squares import Numbers, Problem, condition, inflation, intervals, solve
from stas_neuro.energy.measurements import BUSIEST, QUANTITIES, Measurements, read_measurements
from stas_neuro.energy.result import Interval
from stas_neuro.errors import InputError


def calibrate(
    measurements: Measurements | str | Path,
    profile: str | Path,
    *,
    fit: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> Calibration:
    """Fit entries of a profile to measured runs.

    Parameters
    ----------
    measurements : Measurements, str or Path
        Or the CSV file of them; docs/calibration.md has its columns.
    profile : str or Path
        Name of the catalogue or path. What is not fitted stays as it says, and its part is subtracted from
        what was measured.
    fit : sequence of str, optional
        Entries to fit, `energy.synaptic_operation` for one; if not given, all that the columns tell of but
        management power.
    confidence : float
        Of the intervals, between 0 and 1.

    Raises
    ------
    InputError
        When the file is wrong, there is nothing to fit, there are fewer runs than entries, or the runs cannot
        be explained at all. What else speaks against a fit is in its `warnings`.
    MissingEntry
        When the columns tell of an entry that is not fitted, and the profile has none.
    """
    if not 0 < confidence < 1 or (1 + confidence) / 2 == 1:  # rounding must leave something beside it
        raise InputError(f"confidence is {confidence}", "give one between 0 and 1, as 0.95")
    if not isinstance(measurements, Measurements):
        measurements = read_measurements(measurements)
    loaded = load_profile(profile)
    terms = {"energy_j": _energy_terms(measurements, loaded), "time_s": _time_terms(measurements, loaded)}
    known = [entry for columns in terms.values() for entry in columns]
    for entry in fit or ():
        if entry not in known:
            remedy = f"give its columns, or fit {', '.join(known)}"
            raise InputError(f"{measurements.source} does not tell of {entry}", remedy)
    wanted = [entry for entry in known if entry != "power.management"] if fit is None else list(fit)
    fits = [
        _fit(quantity, columns, wanted, measurements, loaded, confidence)
        for quantity, columns in terms.items()
        if any(columns[entry].any() for entry in wanted if entry in columns)
    ]
    if not fits:
        raise InputError(
            f"{measurements.source} has nothing to fit",
            "give energy_j with counts of events, or time_s with counts on the busiest core",
        )
    return Calibration(
        profile=loaded,
        extends=str(profile),
        source=measurements.source,
        sha256=measurements.sha256,
        runs=len(measurements.runs),
        confidence=confidence,
        fits=tuple(fits),
    )


def _energy_terms(measurements: Measurements, profile: Profile) -> dict[str, Numbers]:
    """Give the column of each entry that energy depends on, by its name."""
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
                f"{measurements.source} has no column {scope}s, and power.{name} is that of a {scope}",
                f"give the {scope}s in use",
            )
        terms[f"power.{name}"] = latency * columns[f"{scope}s"]
    return terms


def _time_terms(measurements: Measurements, profile: Profile) -> dict[str, Numbers]:
    """Give the column of each entry that time depends on; none where no column tells of the busiest core."""
    columns = measurements.columns
    terms = _counts(measurements, "time", BUSIEST)
    if "hardware_steps" in columns:
        many = columns.get("chips", np.ones(len(measurements.runs))) > 1
        for name, where in (("barrier", ~many), ("barrier_multi_chip", many)):
            if where.any():
                terms[f"time.{name}"] = columns["hardware_steps"] * where
    if terms and "time_s" not in columns:
        raise InputError(f"{measurements.source} has no column time_s", f"give the {QUANTITIES['time_s']}")
    if terms and profile.step_law == "max":
        raise InputError(
            f"profile {profile.name} takes the longest part of a step (step_law max): no sum to be fitted",
            f"leave out hardware_steps and the columns {BUSIEST}...",
        )
    return terms


def _counts(measurements: Measurements, section: str, prefix: str) -> dict[str, Numbers]:
    """Add up the columns of events that share an entry."""
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
    kept = {
        name: profile.corners(name)[1] * terms[name]
        for name in terms
        if name not in wanted and terms[name].any()
    }
    base = sum(kept.values(), np.zeros(runs))
    before = [_before(profile, name) for name in fitted]
    problem = Problem(
        counts=np.stack([terms[name] for name in fitted], axis=1),
        measured=measured - base,
        deviation=measurements.columns.get(quantity.replace("_", "_std_")),
        prior=np.array([0.0 if known is None else known.value for known in before]),
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


def _absent(name: str) -> str:
    told = f"no run has any of {name}: it stays as it is"
    return f"{told} (time, or cores or chips, are 0 in all)" if name.startswith("power.") else told


def _before(profile: Profile, name: str) -> Interval | None:
    if name not in profile.entries():
        return None
    low, value, high = profile.corners(name).tolist()
    return Interval(value=value, low=low, high=high)


def _held_out(problem: Problem) -> Numbers:
    """Predict each run by a fit to the others, (runs,)."""
    return np.array(
        [problem.counts[run] @ solve(problem.without(run)) for run in range(len(problem.measured))]
    )


def _error(predicted: Numbers, measured: Numbers) -> Error:
    """Give the relative error over the runs that measured something."""
    some = measured > 0
    errors = np.abs(predicted[some] / measured[some] - 1)
    return Error(mean=float(errors.mean()), worst=float(errors.max()))
