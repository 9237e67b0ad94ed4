"""Warnings about a fit to measured runs, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.energy.calibrated import Error
from stas_neuro.energy.least_squares import Numbers, Problem, collinear, condition, inflation, leverage
from stas_neuro.errors import InputError

_SEPARATING: Mapping[str, str] = {
    "synaptic_operation": "more spikes, or more targets each, at the same neurons and steps",
    "multiply_accumulate": "larger real-valued inputs at the same spikes",
    "neuron_update_active": "more neurons at the same synaptic operations, so fewer targets each",
    "neuron_update_inactive": "neurons with nothing to do: blank images, or more steps",
    "spike_message": "more spikes with fewer targets each",
    "hop_x": "cores further apart, east to west",
    "hop_y": "cores further apart, north to south",
    "chip_crossing": "the same network on more chips",
    "io_message": "input that reaches no synapse",
    "static": "the same work at lower speed, or idle time",
    "barrier": "more hardware steps with less work in each",
}
"""Kinds of runs that separate an entry from the others; for other entries, runs with more of their event."""
_POOR = 0.1
"""Mean relative error above which a fit or its predictions are called poor."""
_WORSE = 2.0
"""Ratio of held-out error to fit error above which a fit is called overfitted."""
_ALONE = 0.95
"""Leverage from which one run determines the fit; it is 1 where the fit must pass through the run."""
_EXACT = 1e-9
"""Relative width below which an interval is rounding, not scatter of measurements."""
_NAMED = 3
"""Largest number of runs named in a sentence."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A fit and the measured runs; arrays are (runs,) or (entries,), in J or s.

    Parameters
    ----------
    source : str
        File of the runs.
    unit : str
        Unit of `measured`.
    runs, entries : tuple of str
        Labels of the runs, and names of the fitted entries.
    problem : Problem
    measured : float (runs,)
        Measured values, including the contribution of entries that are not fitted. `problem.measured`
        excludes it.
    kept : mapping of entry to float (runs,)
        Contribution of each entry that is not fitted.
    """

    source: str
    unit: str
    runs: tuple[str, ...]
    entries: tuple[str, ...]
    problem: Problem
    measured: Numbers
    kept: Mapping[str, Numbers]

    @property
    def different(self) -> int:
        """Number of runs with distinct counts."""
        return len(np.unique(self.problem.counts, axis=0))


def require_enough(evidence: Evidence) -> None:
    """Refuse runs that cannot be fitted.

    Raises
    ------
    InputError
        When there are fewer runs than entries (or than entries + 1 without standard deviations), or fewer
        runs with distinct counts than entries; when all measured values are 0; or when, in every run, the
        entries that are not fitted account for the whole measured value.
    """
    runs, many, names = len(evidence.runs), len(evidence.entries), ", ".join(evidence.entries)
    more = "measure more runs, or fit fewer entries (--fit)"
    if runs < many + (evidence.problem.deviation is None):
        raise InputError(
            f"{evidence.source} has {runs} runs for {many} entries ({names})",
            f"{more}; with as many runs as entries, standard deviations are required",
        )
    if evidence.different < many:
        raise InputError(
            f"{evidence.source} has {runs} runs for {many} entries ({names}), of which {evidence.different} "
            "differ in their counts",
            more.replace("more runs", "runs with other counts"),
        )
    if not evidence.measured.any():
        raise InputError("all measured values are 0", "add the measured values")
    if evidence.kept and (evidence.problem.measured <= 0).all():
        raise InputError(f"{_exceeding(evidence)}: nothing is left to fit", _FITTED_TOO)


def require_something(evidence: Evidence, values: Numbers) -> None:
    """Raise InputError when every fitted value, (entries,), is 0: the counts do not explain the runs."""
    if not values.any():
        raise InputError(
            f"the best fit to {evidence.source} is 0 for each of {', '.join(evidence.entries)}: the counts "
            "do not explain the runs",
            f"check the columns, and the entries subtracted ({', '.join(evidence.kept) or 'none'})",
        )


def doubts(
    evidence: Evidence,
    values: Numbers,
    ends: Numbers,
    error: Error,
    held_out: Error | None,
    before: Error | None,
) -> tuple[str, ...]:
    """Return warnings about a fit, the most serious first.

    Parameters
    ----------
    values, ends : float (entries,), (entries, 2)
        Fitted values and their intervals.
    error, held_out, before : Error
        Errors of the fit, of leave-one-out predictions, and of the original profile.
    """
    return (
        *_of_runs(evidence),
        *_of_errors(error, held_out, before),
        *_of_entries(evidence, values, ends),
        *_of_pairs(evidence, ends),
    )


_FITTED_TOO = (
    "fit these entries too (--fit), or, if the meter does not measure them, declare them unavailable in a "
    "profile of your own"
)


def _exceeding(evidence: Evidence) -> str:
    """Describe the runs in which the subtracted energy or time exceeds the measured one."""
    rows = np.flatnonzero(evidence.problem.measured < 0)
    rows = rows if len(rows) else np.arange(len(evidence.runs))
    subtracted = evidence.measured - evidence.problem.measured
    worst = rows[np.argmax(subtracted[rows] - evidence.measured[rows])]
    return (
        f"the entries kept from the profile and subtracted ({', '.join(evidence.kept)}) exceed the measured "
        f"value in {_named(evidence, rows)}: {subtracted[worst]:.3g} {evidence.unit} of "
        f"{evidence.measured[worst]:.3g} {evidence.unit} in run {evidence.runs[worst]}"
    )


def _of_runs(evidence: Evidence) -> Iterator[str]:
    problem = evidence.problem
    if (problem.measured < 0).any():
        yield f"{_exceeding(evidence)}; {_FITTED_TOO}"
    nothing = np.flatnonzero(evidence.measured == 0)
    if len(nothing):
        yield f"{_named(evidence, nothing)} measured 0 {evidence.unit}: remove runs that were not measured"
    for name in ("power.static", "power.management"):
        column = evidence.kept.get(name)
        if name in evidence.entries:
            column = problem.counts[:, evidence.entries.index(name)]
        if column is not None and not column.all():
            affected = _named(evidence, np.flatnonzero(column == 0))
            yield f"{affected} took no time, or no cores or chips, so {name} contributes nothing to them"
    spare = evidence.different - len(evidence.entries)
    if spare <= 1:
        yield (
            f"{evidence.different} different runs for {len(evidence.entries)} entries leave {spare} to test "
            "the fit: its errors and intervals are unreliable; measure more runs"
        )
    if len(evidence.runs) > len(evidence.entries):
        weigh = ", or add standard deviations, which reduce the weight of large runs"
        for run, share in zip(evidence.runs, leverage(problem), strict=True):
            if share >= _ALONE:
                yield (
                    f"run {run} alone determines its fitted value (leverage {share:.3f} of 1), no other run "
                    f"tests it; measure more similar runs{weigh if problem.deviation is None else ''}"
                )


def _of_errors(error: Error, held_out: Error | None, before: Error | None) -> Iterator[str]:
    if error.mean > _POOR:
        yield (
            f"the fit misses its own runs by {error.mean:.0%} on average, as their counts do not explain "
            "them; look for a missing column"
        )
    if held_out is not None and held_out.mean > max(_WORSE * error.mean, _POOR / 2):
        yield (
            f"runs left out of a fit are missed by {held_out.mean:.0%} on average, runs in the fit by "
            f"{error.mean:.1%}: it overfits and does not predict other runs; measure more runs"
        )
    if before is not None and before.mean < error.mean:
        yield (
            f"the original profile misses the runs by {before.mean:.0%} on average, the fit by "
            f"{error.mean:.0%}; add standard deviations, without which errors of small runs hardly count"
        )


def _of_entries(evidence: Evidence, values: Numbers, ends: Numbers) -> Iterator[str]:
    for name, value, (low, high) in zip(evidence.entries, values, ends, strict=True):
        if value == 0:
            yield (
                f"{name} is fitted to 0, its lower bound, and the runs would fit better below it; look for a "
                "missing column, or for a subtracted entry that was not measured"
            )
        if high - low <= _EXACT * high:
            yield (
                f"the interval of {name} has no width: the runs match the fit exactly, which measured runs "
                "do not"
            )


def _of_pairs(evidence: Evidence, ends: Numbers) -> Iterator[str]:
    """Yield the entries that the runs do not separate, do not determine, or do not distinguish from 0."""
    problem, names = evidence.problem, evidence.entries
    pairs = collinear(problem)
    for pair in pairs:
        one, other = problem.counts[:, pair[0]], problem.counts[:, pair[1]]
        ratios = one[other > 0] / other[other > 0]
        first, second = names[pair[0]], names[pair[1]]
        ratio = f"{ratios.min():.4g} to {ratios.max():.4g} of the first for each of the second"
        yield (
            f"{first} and {second} cannot be separated: runs have {ratio} (condition number "
            f"{condition(problem):.3g}); measure runs with {_separating(first)}, or with "
            f"{_separating(second)}"
        )
    open_ = np.isinf(inflation(problem))
    for column, (name, (low, _)) in enumerate(zip(names, ends, strict=True)):
        if any(column in pair for pair in pairs):
            continue
        if open_[column]:
            yield f"the runs do not determine {name}; measure runs with {_separating(name)}"
        elif low == 0:
            yield f"{name} is not significantly different from 0"


def _separating(entry: str) -> str:
    name = entry.split(".")[1]
    return _SEPARATING.get(name, f"more of {name} at otherwise the same work")


def _named(evidence: Evidence, rows: npt.NDArray[np.intp]) -> str:
    names = [evidence.runs[int(row)] for row in rows]
    text = ", ".join(names[:_NAMED])
    more = len(names) - _NAMED
    if more > 0:
        text += f" and {more} more"
    return f"run {text}" if len(names) == 1 else f"runs {text}"
