"""Which of the found deployments are shown: the frontier, the best one, and its rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stas_neuro.choices import GOALS, Goal
from stas_neuro.compiler.halting import MAX_DROP
from stas_neuro.errors import InputError, unknown
from stas_neuro.optimiser.frontier import pareto, spread
from stas_neuro.optimiser.result import BEST, FRONTIER, Candidate
from stas_neuro.optimiser.search import Explored, Target
from stas_neuro.optimiser.space import FULL, STATIC, Variant

POINTS = 16
"""Largest number of points of the frontier that are compiled and run, besides the best and the rivals."""


@dataclass(frozen=True)
class Picked:
    """What is shown of a target: candidates with their roles, the least accuracy of the best, and the rest.

    `left_out` counts the points of the frontier that are not among the candidates.
    """

    target: Target
    candidates: tuple[tuple[Candidate, tuple[str, ...]], ...]
    least: float
    left_out: int


@dataclass(frozen=True)
class Choice:
    """What is chosen by; fields as the parameters of `optimise`.

    Raises
    ------
    InputError
        When the objective is unknown, or both limits of the accuracy are given.
    """

    objective: Goal = "energy"
    min_accuracy: float | None = None
    max_drop: float | None = None
    points: int = POINTS

    def __post_init__(self) -> None:
        if self.objective not in GOALS:
            raise unknown("objective", self.objective, tuple(GOALS))
        if self.min_accuracy is not None and self.max_drop is not None:
            raise InputError("min-accuracy and max-drop both limit the accuracy", "leave out one of the two")

    def of(self, explored: Explored, target: Target) -> Picked:
        """Pick what is shown of a target; nothing where no deployment could be priced."""
        found = explored.found
        full = max((each.accuracy for each in found if _is_full(each)), default=0.0)
        drop = MAX_DROP if self.max_drop is None else self.max_drop
        least = full - drop if self.min_accuracy is None else self.min_accuracy
        frontier = frontier_of(found) if found else []
        best = best_of(found, self.objective, least)
        others = [*rivals_of(found, self.objective, least).items()]
        others += [] if best is None else [(BEST, best)]
        spread_out = spread(len(frontier), self.points)
        # Rivals and the best are shown in any case: those on the frontier are marked so.
        shown = [
            each
            for index, each in enumerate(frontier)
            if index in spread_out or any(each is other for _, other in others)
        ]
        wanted = [*((FRONTIER, each) for each in shown), *others]
        return Picked(target, tuple(_with_roles(wanted)), least, len(frontier) - len(shown))


def _with_roles(wanted: Iterable[tuple[str, Candidate]]) -> list[tuple[Candidate, tuple[str, ...]]]:
    """List each candidate once, with all of its roles."""
    found: list[tuple[Candidate, list[str]]] = []
    for role, candidate in wanted:
        same = next((roles for known, roles in found if known is candidate), None)
        if same is None:
            found.append((candidate, [role]))
        else:
            same.append(role)
    return [(candidate, tuple(roles)) for candidate, roles in found]


def frontier_of(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that no other beats in accuracy, energy and latency, in the order of energy."""
    prices = [(each.price.energy_j.value, each.price.latency_s.value, -each.accuracy) for each in found]
    costs = np.array(prices)
    return [found[index] for index in pareto(costs)]


def best_of(found: Iterable[Candidate], objective: Goal, least: float) -> Candidate | None:
    """Return the candidate that the objective prefers, among those that are accurate enough."""
    allowed = [each for each in found if each.accuracy >= least]
    return min(allowed, key=lambda each: each.price.cost(objective), default=None)


def _is_full(candidate: Candidate) -> bool:
    return candidate.variant.family == FULL and not candidate.variant.model


def _halts_tokens(variant: Variant) -> bool:
    return not variant.model and variant.family not in (FULL, STATIC) and not variant.by_image


def _exits(variant: Variant) -> bool:
    return not variant.model and variant.by_image


def rivals_of(found: Sequence[Candidate], objective: Goal, least: float) -> dict[str, Candidate]:
    """Return the best candidate of each kind, by name; accurate enough if one is.

    Kinds are halting of tokens, and what it competes with: the full network, fewer steps, image exit, and
    each rival model. Deployments that rest on an early end, which is assumed, are kinds of their own.
    """

    def ends(each: Candidate) -> bool:
        return each.deployment.early_end

    kinds: dict[str, Callable[[Candidate], bool]] = {
        "token halting": lambda each: _halts_tokens(each.variant) and not ends(each),
        "token halting, early end": lambda each: _halts_tokens(each.variant) and ends(each),
        "full network": _is_full,
        "one step": lambda each: each.variant.options.get("steps") == 1 and not each.variant.model,
        "fewer steps": lambda each: each.variant.family == STATIC and not each.variant.model,
        "image exit": lambda each: _exits(each.variant) and not ends(each),
        "image exit, early end": lambda each: _exits(each.variant) and ends(each),
    }
    for label in dict.fromkeys(each.variant.model for each in found if each.variant.model):
        kinds[label] = lambda each, label=label: each.variant.model == label  # type: ignore[misc]
    chosen: dict[str, Candidate] = {}
    for name, belongs in kinds.items():
        own = [each for each in found if belongs(each)]
        most = max((each.accuracy for each in own), default=0.0)
        best = best_of(own, objective, min(least, most))
        if best is not None:
            chosen[name] = best
    return chosen
