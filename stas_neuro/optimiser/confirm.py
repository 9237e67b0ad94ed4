"""Compiles, runs and prices chosen deployments, on images that they were not chosen with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.bundle import Bundle, save_bundle
from stas_neuro.chips import Profile
from stas_neuro.documents import SMALLEST
from stas_neuro.energy import Estimate, estimate
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.optimiser.measure import Bench, first_frames, labels_of
from stas_neuro.optimiser.result import Candidate, Point, Price
from stas_neuro.optimiser.search import Target
from stas_neuro.optimiser.space import Variant
from stas_neuro.trace import Trace

Z95 = 1.959963984540054
"""Quantile of the normal distribution for a 95 % interval."""


@dataclass(frozen=True)
class Chosen:
    """A candidate to be confirmed for a target, and where its bundle is written, if it is."""

    target: Target
    candidate: Candidate
    roles: tuple[str, ...]
    bundle: Path | None


@dataclass(frozen=True)
class Batch:
    """Chosen candidates whose networks share steps of their compilation, as those of a `Task`."""

    bench: int
    chosen: tuple[Chosen, ...]


@dataclass(frozen=True)
class Confirmer:
    """Makes points of candidates.

    Parameters
    ----------
    benches : sequence of Bench
    """

    benches: Sequence[Bench]
    _full: dict[tuple[str, str], NDArray[np.bool_]] = field(default_factory=dict, compare=False)
    """Which images of the second part the full network of a model classifies correctly on a chip."""

    def points(self, batch: Batch) -> list[Point]:
        """Compile each candidate, run it on the images of the second part, and price the run."""
        bench = self.benches[batch.bench]
        compiler = bench.compiler()
        bundles: dict[tuple[Any, ...], Bundle] = {}
        traces: dict[tuple[Any, ...], Trace] = {}
        again: dict[tuple[Any, ...], Trace] = {}
        written: set[Path] = set()
        points = []
        for chosen in batch.chosen:
            candidate, profile = chosen.candidate, chosen.target.profile
            key = (profile.name, candidate.variant.name, candidate.placing)
            if key not in bundles:
                made = bench.compilation(compiler, candidate.variant, profile, candidate.placing)
                bundles[key] = made.bundle()
            if chosen.bundle is not None and chosen.bundle not in written:
                _save(bundles[key], chosen.bundle)
                written.add(chosen.bundle)
            gating = candidate.deployment.gating or "silent"
            run = (*key, gating)
            if run not in traces:
                sample = bench.images.chosen_on.select(np.array(candidate.sample))
                for ran, images in ((traces, bench.images.reported_on), (again, sample)):
                    frames = first_frames(bundles[key].of("fixed"), images)
                    ran[run] = api.run(
                        bundles[key], frames, arithmetic="fixed", gating=gating, per_image=True
                    )
            points.append(self._point(bench, chosen, bundles[key].of("fixed"), traces[run], again[run]))
        return points

    def _point(self, bench: Bench, chosen: Chosen, graph: Graph, trace: Trace, again: Trace) -> Point:
        """Price a run on the images to report, and compare it and one on the sample with the prediction."""
        candidate, profile = chosen.candidate, chosen.target.profile
        cost = estimate(trace.activity, profile, candidate.deployment)
        same = _price(estimate(again.activity, profile, candidate.deployment))
        correct = trace.predictions == labels_of(graph, bench.images.reported_on)
        low, high = wilson(int(correct.sum()), len(correct))
        price, full = _price(cost), bench.full()
        itself = candidate.variant == full
        return Point(
            candidate=candidate,
            roles=chosen.roles,
            accuracy=float(correct.mean()),
            accuracy_low=low,
            accuracy_high=high,
            p_value=None if itself else mcnemar(correct, self._correct(bench, full, profile)),
            price=price,
            estimate=cost,
            errors=_errors(candidate.price, price),
            errors_same_images=_errors(candidate.price, same),
            bundle=None if chosen.bundle is None else chosen.bundle.name,
        )

    def _correct(self, bench: Bench, full: Variant, profile: Profile) -> NDArray[np.bool_]:
        """Return which images of the second part the full network classifies correctly."""
        key = bench.label, profile.name
        if key not in self._full:
            graph = bench.integers(bench.compiler(), full, profile)
            images = bench.images.reported_on
            ran = api.run(graph, images)
            self._full[key] = ran.predictions == labels_of(graph, images)
        return self._full[key]


def _save(bundle: Bundle, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_bundle(bundle.graph, path, bundle.provenance, quantised=bundle.quantised, mapping=bundle.mapping)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score (E. B. Wilson, JASA 22, 1927)."""
    share, square = successes / trials, Z95**2 / trials
    centre = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of McNemar's exact test that two classifiers are equally accurate.

    It is the binomial test on the images that only one of them classifies correctly (Q. McNemar,
    Psychometrika 12, 1947). Below `SMALLEST`, which documents do not hold, it is that.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(differ, k) for k in range(fewer + 1)) / 2**differ
    return min(1.0, max(2.0 * float(tail), SMALLEST))


def _price(cost: Estimate) -> Price:
    price = Price.of(cost)
    if price is None:
        raise InputError(f"{cost.profile} has no energy or no time", "use a profile that has them")
    return price


def _errors(predicted: Price, price: Price) -> dict[str, float]:
    """Return predicted / priced - 1 for each price."""
    return {
        each.name: getattr(predicted, each.name).value / getattr(price, each.name).value - 1
        for each in fields(Price)
    }
