"""What speaks against a fit to measured runs, in sentences that say what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.energy.calibrated import Error
from stas_neuro.energy.least_squares import Numbers, Problem, alike, condition, inflation, leverage
from stas_neuro.errors import InputError

_TELLING: Mapping[str, str] = {
    "synaptic_operation": "more spikes, or more targets each, at the same neurons and steps",
    "multiply_accumulate": "larger real-valued inputs at the same spikes",
    "neuron_update_active": "more neurons at the same synaptic operations, so fewer targets each",
    "neuron_update_inactive": "neurons with nothing to do: blank images, or more steps",
    "spike_message": "more spikes with fewer targets each",
    "hop_x": "cores further apart, east to west",
    "hop_y": "cores further apart, north to south",
    "chip_crossing": "the same network on more chips",
    "io_message": "input that no synapse takes up",
    "static": "the same work more slowly, or idle time",
    "barrier": "more hardware steps with less work in each",
}
"""What a run needs to tell an entry from others; for any other entry it is more of its event."""
_POOR = 0.1
"""Mean relative error from which a fit, or what it predicts, is called poor."""
_WORSE = 2.0
"""How much larger than that of the fit a held-out error is where the fit follows its runs too closely."""
_ALONE = 0.95
"""Leverage from which a run decides the fit alone; it is 1 where the fit has to pass through the run."""
_EXACT = 1e-9
"""Relative width below which an interval has none: rounding, and no scatter of measurements."""
_NAMED = 3
"""Runs that a sentence names."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A fit and the runs it was made from; arrays are (runs,) or (entries,), in J or s.

    Parameters
    ----------
    source : str
        File of the runs.
    unit : str
        Of `measured`.
    runs, entries : tuple of str
        Labels of the runs, and the fitted entries.
    problem : Problem
    measured : float (runs,)
        With the part of entries that stayed as they were, which `problem.measured` is without.
    kept : mapping of entry to float (runs,)
        That part.
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
        """How many runs have other counts than those before."""
        return len(np.unique(self.problem.counts, axis=0))


def require_enough(evidence: Evidence) -> None:
    """Refuse runs that no fit can be made from.

    Raises
    ------
    InputError
        When there are fewer runs than entries (one more without standard deviations), or fewer that differ in
        their counts; when nothing was measured; or when nothing is left of any run without the part of the
        entries that stay.
    """
    runs, many, names = len(evidence.runs), len(evidence.entries), ", ".join(evidence.entries)
    more = "measure more runs, or fit fewer entries (--fit)"
    if runs < many + (evidence.problem.deviation is None):
        raise InputError(
            f"{evidence.source} has {runs} runs for {many} entries ({names})",
            f"{more}; as many as entries need standard deviations",
        )
    if evidence.different < many:
        raise InputError(
            f"{evidence.source} has {runs} runs for {many} entries ({names}), of which {evidence.different} "
            "differ in their counts",
            more.replace("more runs", "runs with other counts"),
        )
    if not evidence.measured.any():
        raise InputError("no run measured more than 0", "give what was measured")
    if evidence.kept and (evidence.problem.measured <= 0).all():
        raise InputError(f"{_exceeding(evidence)}: nothing is left to fit", _FITTED_TOO)


def require_something(evidence: Evidence, values: Numbers) -> None:
    """Refuse a fit, (entries,), that puts every entry at 0: the runs do not follow from their counts."""
    if not values.any():
        raise InputError(
            f"the best fit to {evidence.source} has 0 for each of {', '.join(evidence.entries)}: the runs do "
            "not follow from their counts",
            f"check the columns, and what is subtracted ({', '.join(evidence.kept) or 'nothing'})",
        )


def doubts(
    evidence: Evidence,
    values: Numbers,
    ends: Numbers,
    error: Error,
    held_out: Error | None,
    before: Error | None,
) -> tuple[str, ...]:
    """Say what speaks against a fit, the worst first.

    Parameters
    ----------
    values, ends : float (entries,), (entries, 2)
        The fit and its intervals.
    error, held_out, before : Error
        Of the fit, of the runs it left out, and of the profile before.
    """
    return (
        *_of_runs(evidence),
        *_of_errors(error, held_out, before),
        *_of_entries(evidence, values, ends),
        *_of_pairs(evidence, ends),
    )


_FITTED_TOO = (
    "fit these entries too (--fit), or declare them unavailable in a profile of your own if the meter does "
    "not see them"
)


def _exceeding(evidence: Evidence) -> str:
    """Say where what is subtracted is more than what was measured."""
    rows = np.flatnonzero(evidence.problem.measured < 0)
    rows = rows if len(rows) else np.arange(len(evidence.runs))
    subtracted = evidence.measured - evidence.problem.measured
    worst = rows[np.argmax(subtracted[rows] - evidence.measured[rows])]
    return (
        f"what is kept as in the profile and subtracted ({', '.join(evidence.kept)}) is more than was "
        f"measured in {_named(evidence, rows)}: {subtracted[worst]:.3g} {evidence.unit} of "
        f"{evidence.measured[worst]:.3g} {evidence.unit} in run {evidence.runs[worst]}"
    )


def _of_runs(evidence: Evidence) -> Iterator[str]:
    problem = evidence.problem
    if (problem.measured < 0).any():
        yield f"{_exceeding(evidence)}; {_FITTED_TOO}"
    nothing = np.flatnonzero(evidence.measured == 0)
    if len(nothing):
        yield f"{_named(evidence, nothing)} measured 0 {evidence.unit}: leave out what was not measured"
    for name in ("power.static", "power.management"):
        column = evidence.kept.get(name)
        if name in evidence.entries:
            column = problem.counts[:, evidence.entries.index(name)]
        if column is not None and not column.all():
            told = _named(evidence, np.flatnonzero(column == 0))
            yield f"{told} took no time, or no cores or chips, so that {name} has no part in them"
    spare = evidence.different - len(evidence.entries)
    if spare <= 1:
        yield (
            f"{evidence.different} different runs for {len(evidence.entries)} entries leave {spare} to test "
            "the fit by: its errors and intervals say little; measure more runs"
        )
    if len(evidence.runs) > len(evidence.entries):
        weigh = ", or give standard deviations, by which large runs weigh less"
        for run, share in zip(evidence.runs, leverage(problem), strict=True):
            if share >= _ALONE:
                yield (
                    f"run {run} alone decides what is fitted to it (leverage {share:.3f} of 1), no other run "
                    f"tests that; measure more like it{weigh if problem.deviation is None else ''}"
                )


def _of_errors(error: Error, held_out: Error | None, before: Error | None) -> Iterator[str]:
    if error.mean > _POOR:
        yield (
            f"the fit misses its own runs by {error.mean:.0%} on average, as they do not follow from their "
            "counts; look for a column that is missing"
        )
    if held_out is not None and held_out.mean > max(_WORSE * error.mean, _POOR / 2):
        yield (
            f"runs that a fit left out are missed by {held_out.mean:.0%} on average, those of the fit by "
            f"{error.mean:.1%}: it follows its runs too closely to predict others; measure more runs"
        )
    if before is not None and before.mean < error.mean:
        yield (
            f"the profile before misses the runs by {before.mean:.0%} on average, the fit by "
            f"{error.mean:.0%}; give standard deviations, without which errors of small runs hardly count"
        )


def _of_entries(evidence: Evidence, values: Numbers, ends: Numbers) -> Iterator[str]:
    for name, value, (low, high) in zip(evidence.entries, values, ends, strict=True):
        if value == 0:
            yield (
                f"{name} is fitted to 0, the least that it can be: the runs ask for less; look for a column "
                "that is missing, or for what is subtracted and was not measured"
            )
        if high - low <= _EXACT * high:
            yield (
                f"the interval of {name} has no width: the runs follow the fit exactly, as measured ones "
                "do not"
            )


def _of_pairs(evidence: Evidence, ends: Numbers) -> Iterator[str]:
    """Say which entries the runs cannot tell apart, leave open, or cannot tell from 0."""
    problem, names = evidence.problem, evidence.entries
    pairs = alike(problem)
    for pair in pairs:
        one, other = problem.counts[:, pair[0]], problem.counts[:, pair[1]]
        ratios = one[other > 0] / other[other > 0]
        first, second = names[pair[0]], names[pair[1]]
        seen = f"{ratios.min():.4g} to {ratios.max():.4g} of the first for each of the second"
        yield (
            f"{first} and {second} cannot be told apart: runs have {seen} (condition number "
            f"{condition(problem):.3g}); measure runs with {_telling(first)}, or with {_telling(second)}"
        )
    open_ = np.isinf(inflation(problem))
    for column, (name, (low, _)) in enumerate(zip(names, ends, strict=True)):
        if any(column in pair for pair in pairs):
            continue
        if open_[column]:
            yield f"the runs leave {name} open; measure runs with {_telling(name)}"
        elif low == 0:
            yield f"{name} cannot be told from 0"


def _telling(entry: str) -> str:
    name = entry.split(".")[1]
    return _TELLING.get(name, f"more of {name} at the same work otherwise")


def _named(evidence: Evidence, rows: npt.NDArray[np.intp]) -> str:
    names = [evidence.runs[int(row)] for row in rows]
    told = ", ".join(names[:_NAMED])
    more = len(names) - _NAMED
    if more > 0:
        told += f" and {more} more"
    return f"run {told}" if len(names) == 1 else f"runs {told}"
