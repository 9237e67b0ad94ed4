"""Which tokens share cores, and which cores are near: against all there is on small cases."""

from __future__ import annotations

from itertools import pairwise, permutations, product
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.plain_groups import plain_best_change, plain_least_changes
from support.plain_tiles import cost, plain_assign, plain_exchange
from support.plain_traffic import sparse

from stas_neuro.errors import InputError
from stas_neuro.ir import group_numbers
from stas_neuro.placement.groups import (
    CoHalting,
    Group,
    Groups,
    _best_change,
    _ones,
    candidates,
    contiguous_groups,
    greedy_groups,
    least_changes,
    local_search,
    scan_groups,
)
from stas_neuro.placement.limits import Limits
from stas_neuro.placement.tiles import assign, chips_of, exchange, near_sites, row_major_sites


def visits_of(lives: NDArray[np.int64], steps: int) -> NDArray[np.bool_]:
    """Visits (images, T, N) of tokens that live so many steps, (images, N)."""
    return np.arange(steps)[None, :, None] < lives[:, None, :]


@st.composite
def seens(draw: st.DrawFn) -> CoHalting:
    """Visits of a few tokens, and cores that grow with the size of a group."""
    tokens = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    visits = rng.random((int(rng.integers(1, 30)), 2, tokens)) < rng.random(tokens)
    per_core = draw(st.integers(1, tokens))
    cores = [-(-size // per_core) for size in range(1, tokens + 1)]
    prices = draw(st.sampled_from((cores, list(range(1, tokens + 1)))))
    return CoHalting(visits, cores, prices)


def all_groups(seen: CoHalting, groups: int, cores: int) -> list[Groups]:
    """Every way to group tokens without an empty group, on so many cores."""
    found = set()
    for labels in product(range(groups), repeat=seen.tokens):
        if len(set(labels)) == groups:
            parts = [tuple(t for t, of in enumerate(labels) if of == group) for group in range(groups)]
            if seen.cores_of(parts) <= cores:
                found.add(tuple(sorted(parts)))
    return sorted(found)


@settings(max_examples=40)
@given(seen=seens(), data=st.data())
def test_the_dynamic_programme_finds_the_best_contiguous_cut_and_local_search_none_worse(
    seen: CoHalting, data: st.DataObject
) -> None:
    groups = data.draw(st.integers(1, seen.tokens))
    scan = scan_groups(seen.tokens, groups)
    cores = seen.cores_of(scan)
    everything = all_groups(seen, groups, cores)
    place = {int(token): index for index, token in enumerate(seen.order())}
    contiguous = [
        parts
        for parts in everything
        if all(max(map(place.get, p)) - min(map(place.get, p)) == len(p) - 1 for p in parts)
    ]
    exact = contiguous_groups(seen, groups, cores)
    assert exact in everything
    assert seen.total(exact) == min(map(seen.total, contiguous))
    found = candidates(seen, groups)
    assert set(found) <= set(everything)
    assert found[-1] == scan
    assert seen.total(found[0]) <= min(map(seen.total, (exact, scan, greedy_groups(seen, groups))))
    assert seen.total(found[0]) >= min(map(seen.total, everything))
    assert candidates(seen, groups) == found


@settings(max_examples=60)
@given(seen=seens(), cores=st.integers(1, 12), data=st.data())
def test_the_dynamic_programme_takes_the_first_of_equal_cuts(
    seen: CoHalting, cores: int, data: st.DataObject
) -> None:
    """Whether or not the best of all cuts is within the cores."""
    groups = data.draw(st.integers(1, seen.tokens))
    order = seen.order().tolist()

    def best(count: int, end: int, left: int) -> tuple[int, list[int]] | None:
        """Return the least cost of the first tokens on so many cores, and where the groups begin."""
        if left < 0 or (count == 0) != (end == 0):
            return None
        found: list[tuple[int, list[int]]] = [(0, [])] if count == 0 else []
        for first in range(max(0, end - seen.largest), end):
            last = order[first:end]
            if (before := best(count - 1, first, left - seen.cores_of([last]))) is not None:
                found.append((before[0] + seen.total([last]), [*before[1], first]))
        return min(found, key=lambda each: each[0], default=None)

    wanted = best(groups, seen.tokens, cores)
    if wanted is None:
        with pytest.raises(InputError, match="cannot hold"):
            contiguous_groups(seen, groups, cores)
        return
    cuts = pairwise([*wanted[1], seen.tokens])
    parts = tuple(sorted(tuple(sorted(order[first:end])) for first, end in cuts))
    assert contiguous_groups(seen, groups, cores) == parts


@settings(max_examples=60)
@given(seen=seens(), seed=st.integers(0, 2**16), data=st.data())
def test_the_best_changes_are_those_of_all_changes(seen: CoHalting, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(seen.tokens).tolist()
    many = data.draw(st.integers(2, seen.tokens))
    cuts = [0, *sorted(rng.choice(np.arange(1, seen.tokens), many - 1, replace=False).tolist()), seen.tokens]
    groups = [Group.of(seen, order[first:end]) for first, end in pairwise(cuts)]
    if max(len(group.tokens) for group in groups) <= seen.largest:
        for one in groups:
            others = [other for other in groups if other is not one]
            found = least_changes(seen, one, others)
            assert found.tolist() == plain_least_changes(seen, one, others).tolist()
            for other, least in zip(others, found, strict=True):
                best = least, _best_change(seen, one, other)
                assert best == plain_best_change(seen, one.tokens, other.tokens)


@settings(max_examples=30)
@given(seen=seens(), data=st.data())
def test_the_search_takes_the_steps_of_the_plain_one(seen: CoHalting, data: st.DataObject) -> None:
    start = scan_groups(seen.tokens, data.draw(st.integers(1, seen.tokens)))
    if max(map(len, start)) <= seen.largest:
        found = local_search(seen, start)
        with mock.patch("stas_neuro.placement.groups.least_changes", plain_least_changes):
            assert local_search(seen, start) == found


def test_each_algorithm_beats_the_one_before_where_tokens_halt_in_clusters() -> None:
    """Three clusters live long in turn: their means are the same, the search sees who lives together."""
    rng = np.random.default_rng(1)
    cluster = np.array([0, 1, 2] * 4 + [3] * 3)
    long = cluster == np.arange(399)[:, None] % 3
    lives = np.where(long, 4, 1) + (rng.random(long.shape) < 0.05)
    seen = CoHalting(visits_of(lives, 5), [1] * 8, range(1, 9))
    scan = scan_groups(15, 4)
    searched = candidates(seen, 4)[0]
    cuts = (scan, greedy_groups(seen, 4), contiguous_groups(seen, 4, 4), searched)
    prices = [seen.total(groups) for groups in cuts]
    assert all(later < earlier for earlier, later in pairwise(prices)), prices
    assert prices[0] / prices[3] > 1.15
    assert {frozenset(group) for group in searched} == {
        frozenset(np.flatnonzero(cluster == c)) for c in range(4)
    }


def test_local_search_keeps_groups_filled_and_within_their_cores() -> None:
    rng = np.random.default_rng(0)
    seen = CoHalting(rng.random((50, 3, 9)) < 0.4, [1, 1, 2, 2, 3], [1, 1, 2, 2, 3])
    start = scan_groups(9, 3)
    found = local_search(seen, start)
    assert sorted(token for group in found for token in group) == list(range(9))
    assert all(1 <= len(group) <= 5 for group in found)
    assert seen.cores_of(found) <= seen.cores_of(start)


def test_counts_of_visits_are_those_of_the_union() -> None:
    visits = np.random.default_rng(0).random((37, 3, 7)) < 0.3
    seen = CoHalting(visits, [1] * 7, [1] * 7)
    for group in ([0], [1, 4], [0, 2, 3, 6]):
        assert seen.visits(group) == visits[:, :, group].any(axis=2).sum()


def test_ones_are_counted_alike_without_a_popcount(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.random.default_rng(0).integers(0, 2**64, (3, 2, 5), dtype=np.uint64)
    wanted = [[sum(int(word).bit_count() for word in row) for row in rows] for rows in bits]
    assert _ones(bits).tolist() == wanted
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert _ones(bits).tolist() == wanted


def test_groups_that_cannot_hold_all_tokens_are_refused() -> None:
    seen = CoHalting(np.ones((1, 1, 6), np.bool_), [1, 1], [1, 1])
    with pytest.raises(InputError, match="2 groups of at most 2 tokens on 2 cores cannot hold 6"):
        contiguous_groups(seen, 2, 2)


# Cores on tiles ---------------------------------------------------------------------------------------------


def problem(seed: int, cores: int, shape: tuple[int, int] = (3, 2)) -> tuple[NDArray[np.float64], ...]:
    rng = np.random.default_rng(seed)
    flow = rng.integers(0, 9, (cores, cores)).astype(float)
    flow += flow.T
    np.fill_diagonal(flow, 0)
    places = np.array([(place % shape[0], place // shape[0]) for place in range(shape[0] * shape[1])])
    distance = np.abs(places[:, None] - places).sum(axis=2).astype(float)
    return flow, distance, rng.integers(0, 9, cores).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_assignment_finds_the_best_of_all_on_small_meshes(seed: int) -> None:
    flow, distance, outward = problem(seed, 5)
    costs = [
        cost(flow, distance, outward, np.array(places)) for places in permutations(range(len(distance)), 5)
    ]
    found = assign(flow, outward, distance, np.arange(len(distance)))
    assert len(set(found.tolist())) == 5
    assert cost(flow, distance, outward, found) == min(costs)


@pytest.mark.parametrize("seed", range(3))
def test_exchange_ends_where_no_exchange_of_two_is_better(seed: int) -> None:
    """It reckons with changes of cost: here they are held against costs."""
    flow, distance, outward = problem(seed, 12, (4, 3))
    (found,), (least,) = exchange(flow, outward, distance, np.arange(12), np.arange(12)[None])
    assert least == cost(flow, distance, outward, found)
    assert least < cost(flow, distance, outward, np.arange(12))
    for a, b in product(range(12), repeat=2):
        other = found.copy()
        other[[a, b]] = other[[b, a]]
        assert cost(flow, distance, outward, other) >= least - 1e-9


@pytest.mark.parametrize("seed", range(12))
def test_starts_side_by_side_are_those_of_each_by_itself(seed: int) -> None:
    """On tiles of several places, with cores that are alike, so that many exchanges are equally good."""
    rng = np.random.default_rng(seed)
    flow, hops, outward = problem(seed, cores := int(rng.integers(1, 20)))
    flow *= rng.random(flow.shape) < (seed % 4) / 3
    flow, outward = np.triu(flow) + np.triu(flow).T, outward * (seed % 3)
    tile_of = np.repeat(np.arange(len(hops)), -(-20 // len(hops)))
    distance = hops[np.ix_(tile_of, tile_of)]
    assert np.array_equal(assign(flow, outward, hops, tile_of), plain_assign(flow, distance, outward))
    with mock.patch("stas_neuro.placement.tiles._AT_ONCE", 5 * len(tile_of) * len(hops)):
        assert np.array_equal(assign(flow, outward, hops, tile_of), plain_assign(flow, distance, outward))
    starts = np.array([rng.permutation(len(tile_of)) for _ in range(3)])
    flow, outward = (np.pad(each, (0, len(tile_of) - cores)) for each in (flow, outward))
    found, costs = exchange(flow, outward, hops, tile_of, starts)
    for start, places, least in zip(starts, found, costs, strict=True):
        assert np.array_equal(places, plain_exchange(flow, distance, outward, start))
        assert least == cost(flow, distance, outward, places)


def test_assignment_is_as_good_as_scipys() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    options = {"rng": np.random.default_rng(0)}
    ours, theirs = [], []
    for seed in range(4):
        flow, distance, outward = problem(seed, 30, (6, 5))
        found = assign(flow, 0 * outward, distance, np.arange(30))
        ours.append(cost(flow, distance, 0 * outward, found))
        found = optimize.quadratic_assignment(flow, distance, method="faq", options=options)
        start = np.stack([np.arange(30), found.col_ind], axis=1)
        found = optimize.quadratic_assignment(
            flow, distance, method="2opt", options=options | {"partial_guess": start}
        )
        theirs.append(found.fun / 2)
    assert sum(ours) <= sum(theirs)


LIMITS = Limits(
    core={"neurons": 8},
    fan_in=None,
    cores_per_chip=8,
    chips=None,
    mesh=(2, 2, 2),
    weight_sharing=True,
    unchecked={},
)


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=12), per_chip=st.integers(1, 10))
def test_chips_are_filled_in_order_and_domains_stay_whole_where_they_can(
    sizes: list[int], per_chip: int
) -> None:
    domains = [number for number, size in enumerate(sizes) for _ in range(size)]
    chips = chips_of(domains, per_chip)
    assert chips == sorted(chips)
    assert max(map(chips.count, chips)) <= per_chip
    for number, size in enumerate(sizes):
        used = {chip for chip, domain in zip(chips, domains, strict=True) if domain == number}
        assert len(used) == -(-size // per_chip)


def test_cores_that_talk_are_near_and_tiles_hold_what_they_can() -> None:
    traffic = np.zeros((8, 8))
    for a, b in ((0, 7), (1, 6), (2, 5), (3, 4)):
        traffic[a, b] = 10
    sites = near_sites([0] * 8, sparse(traffic), LIMITS)
    assert all(sites.count(site) == 2 for site in sites)
    assert all(sites[core] == sites[7 - core] for core in range(8))
    assert row_major_sites([0] * 8, LIMITS)[0] != row_major_sites([0] * 8, LIMITS)[7]


def test_cores_that_send_to_another_chip_are_near_its_door() -> None:
    traffic = np.zeros((9, 9))
    traffic[7, 8] = 5
    sites = near_sites([0] * 8 + [1], sparse(traffic), LIMITS)
    assert (sites[7].x, sites[7].y, sites[8].chip) == (0, 0, 1)


@pytest.mark.parametrize("tokens", (1, 7, 16, 49))
def test_tokens_that_halt_together_are_those_of_token_major_placement(tokens: int) -> None:
    for count in range(1, tokens + 1):
        numbers = group_numbers(tokens, count)
        groups = tuple(tuple(n for n in range(tokens) if numbers[n] == group) for group in range(count))
        assert groups == scan_groups(tokens, count)
