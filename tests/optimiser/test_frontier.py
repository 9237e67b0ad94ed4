"""Frontiers and tests of accuracy, against definitions and scipy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stas_neuro.documents import parse_json
from stas_neuro.optimiser import mcnemar, pareto, wilson
from stas_neuro.optimiser.frontier import spread

costs = hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(0, 5))


@given(costs)
@settings(max_examples=100, deadline=None)
def test_the_frontier_has_the_rows_that_no_other_beats(rows: np.ndarray) -> None:
    found = pareto(rows)
    assert sorted(rows[found, 0]) == list(rows[found, 0])
    kept = {tuple(row) for row in rows[found]}
    assert len(kept) == len(found)
    for row in rows:
        beaten = any((other <= row).all() and (other < row).any() for other in rows)
        assert (tuple(row) in kept) == (not beaten)


def test_a_spread_has_both_ends() -> None:
    assert spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(11, 3) == [0, 5, 10]


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (7, 10), (230, 256)])
def test_intervals_of_shares_are_scipys(successes: int, trials: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    known = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((known.low, known.high), abs=1e-12)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (3, 9), (20, 5), (8, 8)])
def test_mcnemar_is_the_binomial_test_of_images_that_differ(only_first: int, only_second: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    both = [True] * 4
    first = np.array([True] * only_first + [False] * only_second + both)
    second = np.array([False] * only_first + [True] * only_second + both)
    differ = only_first + only_second
    known = stats.binomtest(only_first, differ).pvalue if differ else 1.0
    assert mcnemar(first, second) == pytest.approx(known, rel=1e-9)


def test_p_values_of_any_size_are_numbers_of_documents() -> None:
    right, wrong = np.ones(200, np.bool_), np.zeros(200, np.bool_)
    parse_json(json.dumps({"p": mcnemar(right, wrong)}).encode())
    assert 0 < mcnemar(right, wrong) < 1e-20
