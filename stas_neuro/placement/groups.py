"""Groups of tokens that share cores, chosen so that their tokens halt at similar times.

A group is stepped in a visit while any of its tokens is live. The objective is the sum over groups of the
number of these visits, times the cost of a stepped group, which depends on its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.errors import InputError
from stas_neuro.placement.packing import equal_parts

Groups = tuple[tuple[int, ...], ...]
Bits = NDArray[np.uint64]
_ONES = np.array([bin(number).count("1") for number in range(1 << 16)], dtype=np.uint8)
"""Number of ones in each 16-bit word, for numpy < 2, which has no popcount."""
_AT_ONCE = 1 << 18
"""Words of unions that are made at once, which fit a cache."""
_NEVER = np.int64(1) << 62
"""Cost of a change that is not allowed."""
_TOO_MANY = np.int64(1) << 40
"""Cores of groups that there are not."""


class CoHalting:
    """Counts and costs of the visits of groups of tokens.

    Parameters
    ----------
    visits : bool (..., tokens)
        Whether a token is visited; counts are over the leading axes (images, model steps).
    cores, prices : sequence of int
        `cores[n - 1]` is the number of cores of a group of n tokens, and `prices[n - 1]` the cost of one of
        its visits. Their length is the largest size of a group.
    """

    def __init__(self, visits: NDArray[np.bool_], cores: Sequence[int], prices: Sequence[int]) -> None:
        tokens: int = visits.shape[-1]
        bits = np.packbits(visits.reshape(-1, tokens).T, axis=1)
        self.bits = np.ascontiguousarray(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))).view(np.uint64)
        self.tokens = tokens
        self.cores = np.array(cores, dtype=np.intp)
        self.prices = np.array(prices, dtype=np.int64)

    @property
    def largest(self) -> int:
        """Largest number of tokens in a group."""
        return min(len(self.cores), self.tokens)

    def visits(self, group: Sequence[int]) -> int:
        """Count the visits in which any token of a group is live."""
        together: Bits = np.bitwise_or.reduce(self.bits[list(group)], axis=0)
        return int(_ones(together))

    def total(self, groups: Sequence[Sequence[int]]) -> int:
        """Return the total cost of groups."""
        return sum(self.visits(group) * int(self.prices[len(group) - 1]) for group in groups)

    def cores_of(self, groups: Sequence[Sequence[int]]) -> int:
        """Return the number of cores that groups need."""
        return sum(int(self.cores[len(group) - 1]) for group in groups)

    def order(self) -> NDArray[np.intp]:
        """Return the tokens sorted by their number of visits, int (tokens,)."""
        return np.argsort([self.visits([token]) for token in range(self.tokens)], kind="stable")

    def intervals(self, order: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the cost of each interval [i, j) of an order, (tokens, tokens + 1); inf if not a group."""
        prices = np.full((self.tokens, self.tokens + 1), np.inf)
        for first in range(self.tokens):
            run = self.bits[order[first : first + self.largest]]
            visits = _ones(np.bitwise_or.accumulate(run, axis=0))
            prices[first, first + 1 : first + 1 + len(run)] = visits * self.prices[: len(run)]
        return prices


def scan_groups(tokens: int, groups: int) -> Groups:
    """Cut the tokens in scan order (row by row) into groups whose sizes differ by one token at most."""
    return tuple(tuple(part) for part in equal_parts(tokens, groups))


def greedy_groups(seen: CoHalting, groups: int) -> Groups:
    """Cut the tokens, sorted by their visits, into equal groups."""
    order = seen.order()
    return _sorted([order[part.start : part.stop].tolist() for part in equal_parts(seen.tokens, groups)])


def contiguous_groups(seen: CoHalting, groups: int, cores: int) -> Groups:
    """Cut the tokens, sorted by their visits, into the groups of least cost (exact dynamic programming).

    No group is empty, and all groups together need at most `cores` cores.

    Raises
    ------
    InputError
        When such groups cannot contain all tokens.
    """
    order = seen.order()
    end = np.arange(1, seen.tokens + 1)[:, None]
    first = end - np.arange(seen.largest, 0, -1)  # where the last group begins, (end, size), ascending
    begun, exists = first.clip(0), first >= 0
    of_run = np.where(exists, seen.intervals(order)[begun, end], np.inf)
    of_cores = np.where(exists, seen.cores[end - begun - 1], _TOO_MANY)
    # fewest[g, j]: fewest cores for the first j tokens in g groups.
    fewest = np.full((groups + 1, seen.tokens + 1), _TOO_MANY)
    fewest[0, 0] = 0
    for group in range(1, groups + 1):
        fewest[group, 1:] = (fewest[group - 1, begun] + of_cores).min(axis=1).clip(max=_TOO_MANY)
    spare = cores - int(min(fewest[groups, seen.tokens], cores + 1))
    if spare < 0:
        what = f"{groups} groups of at most {seen.largest} tokens on {cores} cores cannot hold {seen.tokens}"
        raise InputError(what, "use another number of groups (--groups)")

    def left(group: int) -> NDArray[np.int64]:
        """Return the change in spare cores from a prefix to that without its last group, at most 0."""
        return np.asarray(fewest[group, 1:, None] - fewest[group - 1, begun] - of_cores)

    # Mostly the best of all cuts is within the cores. Where it is, the search within them finds it, too.
    ends = _cheapest_ends(of_run, begun, groups, lambda group: np.zeros_like(begun), 0)
    if sum(int(seen.cores[b - a - 1]) for a, b in pairwise(ends)) > cores:
        ends = _cheapest_ends(of_run, begun, groups, left, spare)
    return _sorted([order[a:b].tolist() for a, b in pairwise(ends)])


def _cheapest_ends(
    of_run: NDArray[np.float64],
    begun: NDArray[np.intp],
    groups: int,
    left: Callable[[int], NDArray[np.int64]],
    spare: int,
) -> list[int]:
    """Return 0 and the ends of the groups of least cost that need at most `spare` cores more than the fewest.

    Of equal groups the first is taken, the last group decided first; parameters as in `contiguous_groups`.
    """
    tokens = len(of_run)
    # best[s, j]: least cost of the first j tokens in so many groups on at most s cores more than the fewest.
    best = np.full((spare + 1, tokens + 1), np.inf)
    best[:, 0] = 0
    cut = np.zeros((groups + 1, *best.shape), dtype=np.intp)
    for group in range(1, groups + 1):
        before, best, change = best, np.full_like(best, np.inf), left(group)
        for most in range(spare + 1):
            rest = most + change
            costs = np.where(rest >= 0, before[rest.clip(0), begun], np.inf) + of_run
            cut[group, most, 1:] = costs.argmin(axis=1)
            best[most, 1:] = costs.min(axis=1)
    ends = [tokens]
    for group in range(groups, 0, -1):
        at = ends[-1] - 1, cut[group, spare, ends[-1]]
        spare += int(left(group)[at])
        ends.append(int(begun[at]))
    return ends[::-1]


@dataclass(frozen=True, eq=False)
class Group:
    """Tokens that share cores, the visits of each, and those of all others together, (tokens, words)."""

    tokens: Sequence[int]
    bits: Bits
    rest: Bits

    @staticmethod
    def of(seen: CoHalting, tokens: Sequence[int]) -> Group:
        """Return the group of some tokens."""
        bits = seen.bits[list(tokens)]
        return Group(tokens, bits, _or_of_others(bits))


def local_search(seen: CoHalting, start: Groups) -> Groups:
    """Move and swap tokens between groups, the best change first, until no change lowers the cost.

    No group becomes empty or larger than `largest`, and no pair of groups needs more cores than before.
    """
    groups = [Group.of(seen, tokens) for tokens in start]
    change = np.zeros((len(groups), len(groups)), np.int64)
    """How the best change of two groups changes the cost, by the smaller and the larger number."""

    def look(one: int, others: NDArray[np.intp]) -> None:
        found = least_changes(seen, groups[one], [groups[other] for other in others])
        change[np.minimum(one, others), np.maximum(one, others)] = found

    for one in range(len(groups) - 1):
        look(one, np.arange(one + 1, len(groups)))
    while change.min() < 0:
        a, b = divmod(int(change.argmin()), len(groups))
        changed = _changed(groups[a].tokens, groups[b].tokens, _best_change(seen, groups[a], groups[b]))
        groups[a], groups[b] = (Group.of(seen, tokens) for tokens in changed)
        # Only pairs with one of these two groups have changed.
        others = np.delete(np.arange(len(groups)), [a, b])
        look(a, np.array([*others, b]))
        if len(others):
            look(b, others)
    return _sorted([group.tokens for group in groups])


def _changed(a: Sequence[int], b: Sequence[int], which: int) -> tuple[list[int], list[int]]:
    """Make a change of two groups: swaps of i and j are numbered first, then moves of i, then those of j."""
    if which < len(a) * len(b):
        i, j = a[which // len(b)], b[which % len(b)]
        return [*_without(a, i), j], [*_without(b, j), i]
    move = which - len(a) * len(b)
    if move < len(a):
        return _without(a, a[move]), [*b, a[move]]
    j = b[move - len(a)]
    return [*a, j], _without(b, j)


def _best_change(seen: CoHalting, a: Group, b: Group) -> int:
    """Return the number of the best change of two groups, the first of equal ones, as in `_changed`."""
    return int(np.concatenate([costs.ravel() for costs in _costs(seen, a, [b])]).argmin())


def least_changes(seen: CoHalting, group: Group, others: Sequence[Group]) -> NDArray[np.int64]:
    """Return how the best change of a group with each of some others changes the cost, int64 (others,)."""
    sizes = np.array([len(other.tokens) for other in others])
    swaps, to_others, from_others = _costs(seen, group, others)
    of_tokens = np.minimum(swaps.min(axis=0), from_others)
    least = np.minimum(np.minimum.reduceat(of_tokens, np.cumsum(sizes) - sizes), to_others.min(axis=0))
    together = np.array([other.bits[0] | other.rest[0] for other in others])
    now = _ones(group.bits[0] | group.rest[0]) * seen.prices[len(group.tokens) - 1]
    return np.asarray(least - now - _ones(together) * seen.prices[sizes - 1])


def _costs(
    seen: CoHalting, group: Group, others: Sequence[Group]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the cost of a group and of another after each change.

    These are swaps of their tokens i and j, int64 (i, j), with the j of all others in a row; moves of i to
    each of the others, (i, others); and moves of j, (j,).
    """
    size, sizes = len(group.tokens), np.array([len(other.tokens) for other in others])
    of_b, rest_b = (np.concatenate([getattr(other, name) for other in others]) for name in ("bits", "rest"))
    all_a, all_b = group.bits[0] | group.rest[0], np.array([each.bits[0] | each.rest[0] for each in others])
    of_each = np.repeat(sizes, sizes)
    swaps = _swaps(seen, (group.bits, group.rest), (of_b, rest_b), of_each)
    left, joined = _ones(group.rest)[:, None], _ones(group.bits[:, None] | all_b)
    to_others = _moves(seen, size, sizes, left, joined)
    return swaps, to_others, _moves(seen, of_each, size, _ones(rest_b), _ones(of_b | all_a))


def _swaps(
    seen: CoHalting, first: tuple[Bits, Bits], second: tuple[Bits, Bits], sizes: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Return the cost of a group and of another after each swap of their tokens i and j, int64 (i, j).

    `first` and `second` are the bits of the tokens, and of all others of the group of each; `sizes` has the
    size of the group of each j.
    """
    (of_a, rest_a), (of_b, rest_b) = first, second
    price_a, price_b = seen.prices[len(of_a) - 1], seen.prices[sizes - 1]
    rows = max(1, _AT_ONCE // max(of_b.size, 1))
    costs = [
        _ones(rest_a[part, None] | of_b) * price_a + _ones(of_a[part, None] | rest_b) * price_b
        for part in (slice(start, start + rows) for start in range(0, len(of_a), rows))
    ]
    found: NDArray[np.int64] = np.concatenate(costs)
    return found


def _moves(seen: CoHalting, size: Any, other: Any, left: Any, joined: Any) -> NDArray[np.int64]:
    """Return the cost of two groups after moves of a token of the first, whose visits are then as given.

    `size` and `other` are the tokens of either before, `left` and `joined` the visits of either after it. Of
    moves that make the first empty, the other too large, or both together need more cores, it is `_NEVER`.
    """
    allowed = (np.asarray(size) > 1) & (np.asarray(other) < seen.largest)
    smaller, larger = np.maximum(size - 1, 1) - 1, np.minimum(other + 1, seen.largest) - 1
    allowed &= seen.cores[smaller] + seen.cores[larger] <= seen.cores[size - 1] + seen.cores[other - 1]
    costs = left * seen.prices[smaller] + joined * seen.prices[larger]
    return np.where(allowed, costs, _NEVER)


def _or_of_others(bits: Bits) -> Bits:
    """Return for each row the OR of all other rows."""
    before, after = np.zeros_like(bits), np.zeros_like(bits)
    np.bitwise_or.accumulate(bits[:-1], axis=0, out=before[1:])
    np.bitwise_or.accumulate(bits[:0:-1], axis=0, out=after[-2::-1])
    return before | after


def _ones(bits: Bits) -> NDArray[np.int64]:
    """Count the ones of each row."""
    ones = np.bitwise_count(bits) if hasattr(np, "bitwise_count") else _ONES[bits.view(np.uint16)]
    return np.asarray(ones.sum(axis=-1, dtype=np.int64))


def candidates(seen: CoHalting, groups: int) -> tuple[Groups, ...]:
    """Return groupings that need no more cores than equal groups, by local search from each simple grouping.

    The first is the cheapest; the last is scan order itself.
    """
    scan = scan_groups(seen.tokens, groups)
    starts = [contiguous_groups(seen, groups, seen.cores_of(scan)), greedy_groups(seen, groups), scan]
    found = dict.fromkeys(local_search(seen, start) for start in starts)
    return (*sorted(found, key=seen.total), scan)


def _without(group: Sequence[int], token: int) -> list[int]:
    return [other for other in group if other != token]


def _sorted(groups: Sequence[Sequence[int]]) -> Groups:
    return tuple(sorted(tuple(sorted(group)) for group in groups))
