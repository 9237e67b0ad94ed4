"""Non-negative weighted least squares, with intervals and with what the measurements cannot tell apart.

Rows are runs, columns what is fitted. Columns are scaled to length 1, so that nothing depends on units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.errors import InputError

Numbers = npt.NDArray[np.float64]

HARMFUL = 30.0
"""Condition index from which a dependency between columns degrades estimates (Belsley, Kuh, Welsch 1980)."""
_SINGULAR = 1e-9
"""Singular values below this part of the largest are taken as 0: rounding of counts, not information."""
_PULL = 1e-6
"""Weight of the prior where runs leave a combination of columns open: decides that, and nothing else."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Runs to be explained.

    Parameters
    ----------
    counts : float (runs, columns)
        Not negative; no column is all 0.
    measured : float (runs,)
    deviation : float (runs,) or None
        Standard deviations of `measured`; None where they are not known, and taken as equal.
    prior : float (columns,)
        What a column is, where runs leave it open.
    """

    counts: Numbers
    measured: Numbers
    deviation: Numbers | None
    prior: Numbers

    def without(self, run: int) -> Problem:
        """Leave a run out."""
        left = np.arange(len(self.measured)) != run
        deviation = None if self.deviation is None else self.deviation[left]
        return Problem(self.counts[left], self.measured[left], deviation, self.prior)


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A problem with weights in it, columns of length 1 (or 0) and `measured` of length 1."""

    matrix: Numbers
    measured: Numbers
    columns: Numbers
    length: float

    @staticmethod
    def of(problem: Problem) -> _Scaled:
        weights = 1 / (np.ones(len(problem.measured)) if problem.deviation is None else problem.deviation)
        weights = weights / weights.max()
        matrix, measured = problem.counts * weights[:, None], problem.measured * weights
        columns = np.linalg.norm(matrix, axis=0)
        columns = np.where(columns > 0, columns, 1.0)
        length = float(np.linalg.norm(measured)) or 1.0
        return _Scaled(matrix / columns, measured / length, columns, length)

    def decompose(self) -> tuple[Numbers, Numbers]:
        """Give all singular values, (columns,), and the right vectors as rows."""
        runs, columns = self.matrix.shape
        # Of the left vectors, which nobody needs, all would take memory with the square of the runs.
        _, values, vectors = np.linalg.svd(self.matrix, full_matrices=runs < columns)
        return np.pad(values, (0, len(vectors) - len(values))), vectors


def solve(problem: Problem) -> Numbers:
    """Find the non-negative columns that explain the runs best, (columns,).

    Where that leaves some open, those nearest to the prior. Raises InputError where scipy is missing.
    """
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        remedy = "pip install 'stas-neuro[calibrate]' (in a checkout: uv sync --all-extras)"
        raise InputError(f"scipy cannot be used here: {error}", remedy) from error
    scaled = _Scaled.of(problem)
    matrix, measured = scaled.matrix, scaled.measured
    values, _ = scaled.decompose()
    if values[-1] < _SINGULAR * values[0]:
        prior = problem.prior * scaled.columns / scaled.length
        matrix = np.vstack([matrix, _PULL * np.eye(matrix.shape[1])])
        measured = np.concatenate([measured, _PULL * prior])
    found: Numbers = nnls(matrix, measured)[0]
    return found / scaled.columns * scaled.length


def intervals(problem: Problem, fitted: Numbers, confidence: float) -> Numbers:
    """Give the ends, (columns, 2), between which each column lies; `fitted` (columns,) are those of `solve`.

    They are those of the fit without the constraint, cut off at 0; where that fit is below 0 they are those
    around 0. Normal errors given, each holds the truth with at least `confidence`, whichever columns the
    constrained fit puts at 0. (A bootstrap of a few runs often draws too few different ones to fit anything.)
    The scatter is that of the residuals, with the constraint where it is larger (runs that ask for less than
    nothing of a column do not follow the sum), or the given one where that is larger still; the quantile is
    Student's. A column that the runs leave open lies between 0 and what explains a run alone.

    There are more runs than columns, or as many with their deviations.
    """
    from scipy.special import ndtri, stdtrit

    scaled = _Scaled.of(problem)
    values, vectors = scaled.decompose()
    kept = values >= _SINGULAR * values[0]
    parts = vectors[kept] / values[kept][:, None]
    covariance = parts.T @ parts
    free = covariance @ (scaled.matrix.T @ scaled.measured)
    degrees = len(scaled.measured) - int(kept.sum())
    held = fitted * scaled.columns / scaled.length
    residuals = (((scaled.measured - scaled.matrix @ found) ** 2).sum() for found in (free, held))
    variance = float(max(residuals)) / degrees if degrees else 0.0
    if problem.deviation is not None:
        variance = max(variance, (problem.deviation.min() / scaled.length) ** 2)
    quantile = float(stdtrit(degrees, (1 + confidence) / 2) if degrees else ndtri((1 + confidence) / 2))
    half = quantile * np.sqrt(variance * np.diag(covariance))
    ends = (
        np.stack([free - half, np.maximum(free, 0.0) + half], axis=1)
        / scaled.columns[:, None]
        * scaled.length
    )
    error = quantile * np.sqrt(variance) * scaled.length
    if problem.deviation is not None:
        error = error * problem.deviation / problem.deviation.min()
    with np.errstate(divide="ignore"):
        alone = ((np.maximum(problem.measured, 0) + error)[:, None] / problem.counts).min(axis=0)
    ends = np.where(
        np.isinf(inflation(problem))[:, None], np.stack([np.zeros_like(alone), alone], axis=1), ends
    )
    return np.maximum(ends, 0.0)


def condition(problem: Problem) -> float:
    """Give the condition number of the scaled columns; endless where runs leave a combination open."""
    values, _ = _Scaled.of(problem).decompose()
    return float(values[0] / values[-1]) if values[-1] >= _SINGULAR * values[0] else float("inf")


def leverage(problem: Problem) -> Numbers:
    """Give the part that each run has in its own fitted value, (runs,): 1 where it decides that alone."""
    matrix = _Scaled.of(problem).matrix
    vectors, values, _ = np.linalg.svd(matrix, full_matrices=False)
    share: Numbers = (vectors[:, values >= _SINGULAR * values[0]] ** 2).sum(axis=1)
    return share


def inflation(problem: Problem) -> Numbers:
    """Give by how much the other columns inflate the variance of each, (columns,); endless where open."""
    values, vectors = _Scaled.of(problem).decompose()
    kept = values >= _SINGULAR * values[0]
    open_ = (np.abs(vectors[~kept]) > 1e-6).any(axis=0)
    inflated: Numbers = ((vectors[kept] / values[kept][:, None]) ** 2).sum(axis=0)
    return np.where(open_, np.inf, inflated)


def alike(problem: Problem) -> list[tuple[int, int]]:
    """Name the pairs of columns that the runs cannot tell apart, the worst first.

    One pair for each condition index above `HARMFUL`: the two columns with the largest part in it.
    """
    values, vectors = _Scaled.of(problem).decompose()
    pairs: list[tuple[int, int]] = []
    for value, vector in sorted(zip(values, vectors, strict=True), key=lambda pair: float(pair[0])):
        if value * HARMFUL >= values[0]:
            break
        second, first = np.argsort(np.abs(vector))[-2:]
        pair = (int(min(first, second)), int(max(first, second)))
        if pair not in pairs:
            pairs.append(pair)
    return pairs
