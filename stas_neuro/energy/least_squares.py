"""Non-negative weighted least squares, with intervals and collinearity diagnostics.

Rows are runs, columns are the fitted entries. Columns are scaled to length 1, so results do not depend on
units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.extras import needs

Numbers = npt.NDArray[np.float64]

HARMFUL = 30.0
"""Condition index from which a dependency between columns degrades estimates (Belsley, Kuh, Welsch 1980)."""
_SINGULAR = 1e-9
"""Singular values below this fraction of the largest are taken as 0: they are due to rounding of counts."""
_PULL = 1e-6
"""Weight of the prior: small enough to affect only combinations of columns that runs do not determine."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A least-squares problem.

    Parameters
    ----------
    counts : float (runs, columns)
        Not negative; no column is all 0.
    measured : float (runs,)
    deviation : float (runs,) or None
        Standard deviations of `measured`; None if unknown, and then taken as equal.
    prior : float (columns,)
        Value of a column that the runs do not determine.
    """

    counts: Numbers
    measured: Numbers
    deviation: Numbers | None
    prior: Numbers

    def without(self, run: int) -> Problem:
        """Return the problem without a run."""
        left = np.arange(len(self.measured)) != run
        deviation = None if self.deviation is None else self.deviation[left]
        return Problem(self.counts[left], self.measured[left], deviation, self.prior)


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A problem with weights applied, columns of length 1 (or 0) and `measured` of length 1."""

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
        """Return all singular values, (columns,), and the right singular vectors as rows."""
        runs, columns = self.matrix.shape
        # The left vectors are not needed; all of them would take memory quadratic in the number of runs.
        _, values, vectors = np.linalg.svd(self.matrix, full_matrices=runs < columns)
        return np.pad(values, (0, len(vectors) - len(values))), vectors


def solve(problem: Problem) -> Numbers:
    """Return the non-negative least-squares solution, (columns,).

    Where it is not unique, the result is the solution closest to the prior. Raises InputError where scipy is
    not installed.
    """
    with needs("calibrate"):
        from scipy.optimize import nnls
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
    """Return the confidence interval of each column, (columns, 2).

    `fitted`, (columns,), is the result of `solve`. The interval is that of the unconstrained fit, clipped at
    0; if that fit is negative, an interval around 0. With normal errors, each interval contains the true
    value with a probability of at least `confidence`, whichever columns the constrained fit sets to 0. (A
    bootstrap of a few runs often draws too few different runs for a fit.) The variance is that of the
    residuals of the unconstrained or of the constrained fit (runs that would fit better with a negative
    column do not follow the model), or that of the given deviations, whichever is the largest; the quantile
    is Student's. The interval of a column that the runs do not determine is from 0 to the value that explains
    a run alone.

    Requires more runs than columns, or as many if deviations are given.
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
    """Return the condition number of the scaled columns; inf where runs do not determine a combination."""
    values, _ = _Scaled.of(problem).decompose()
    return float(values[0] / values[-1]) if values[-1] >= _SINGULAR * values[0] else float("inf")


def leverage(problem: Problem) -> Numbers:
    """Return the leverage of each run, (runs,): 1 where a run alone determines its fitted value."""
    matrix = _Scaled.of(problem).matrix
    vectors, values, _ = np.linalg.svd(matrix, full_matrices=False)
    share: Numbers = (vectors[:, values >= _SINGULAR * values[0]] ** 2).sum(axis=1)
    return share


def inflation(problem: Problem) -> Numbers:
    """Return the variance inflation factor of each column, (columns,); inf where it is not determined."""
    values, vectors = _Scaled.of(problem).decompose()
    kept = values >= _SINGULAR * values[0]
    open_ = (np.abs(vectors[~kept]) > 1e-6).any(axis=0)
    inflated: Numbers = ((vectors[kept] / values[kept][:, None]) ** 2).sum(axis=0)
    return np.where(open_, np.inf, inflated)


def collinear(problem: Problem) -> list[tuple[int, int]]:
    """Return the pairs of columns that the runs cannot separate, the worst first.

    There is one pair for each condition index above `HARMFUL`: the two columns that contribute most to it.
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
