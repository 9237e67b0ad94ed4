"""Compiles, runs and prices chosen deployments, on images that they were not chosen with."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.bundle import Bundle, save_bundle
from stas_neuro.chips import Profile
from stas_neuro.energy import Estimate, estimate
from stas_neuro.errors import InputError
from stas_neuro.optimiser.measure import Bench, first_frames, labels_of
from stas_neuro.optimiser.result import Candidate, Point, Price
from stas_neuro.optimiser.space import FULL
from stas_neuro.reference import run_reference

Z95 = 1.959963984540054
"""Quantile of the normal distribution for a 95 % interval."""


class Confirmer:
    """Makes points of candidates; what points share is done once.

    Parameters
    ----------
    benches : dict
        The models by their labels.
    profile : Profile
    folder : Path, optional
        An existing directory where a bundle is written for each point.
    """

    def __init__(self, benches: dict[str, Bench], profile: Profile, folder: Path | None) -> None:
        self.benches, self.profile, self.folder = benches, profile, folder
        self._bundles: dict[tuple[str, Any], tuple[str, Bundle]] = {}
        self._correct: dict[str, NDArray[np.bool_]] = {}

    def point(self, candidate: Candidate, roles: tuple[str, ...]) -> Point:
        """Compile a candidate, run it on the images of the second part, and price the run."""
        bench = self.benches[candidate.variant.model]
        name, bundle = self._bundle(bench, candidate)
        images = first_frames(bundle.of("fixed"), bench.images.reported_on)
        gating = candidate.deployment.gating or "silent"
        trace = api.run(bundle, images, arithmetic="fixed", gating=gating)
        cost = estimate(trace.activity, self.profile, candidate.deployment)
        correct = trace.predictions == labels_of(bundle.graph, images)
        low, high = wilson(int(correct.sum()), len(correct))
        price = _price(cost)
        return Point(
            candidate=candidate,
            roles=roles,
            accuracy=float(correct.mean()),
            accuracy_low=low,
            accuracy_high=high,
            p_value=None if candidate.variant.family == FULL else mcnemar(correct, self._full(bench)),
            price=price,
            estimate=cost,
            errors=_errors(candidate.price, price),
            bundle=None if self.folder is None else name,
        )

    def _bundle(self, bench: Bench, candidate: Candidate) -> tuple[str, Bundle]:
        key = candidate.variant.name, candidate.placing
        if key not in self._bundles:
            bundle = bench.compilation(candidate.variant, candidate.placing).bundle()
            name = f"point{len(self._bundles) + 1:02d}.stas"
            if self.folder is not None:
                save_bundle(
                    bundle.graph,
                    self.folder / name,
                    bundle.provenance,
                    quantised=bundle.quantised,
                    mapping=bundle.mapping,
                )
            self._bundles[key] = name, bundle
        return self._bundles[key]

    def _full(self, bench: Bench) -> NDArray[np.bool_]:
        """Return which images of the second part the network without halting classifies correctly."""
        if bench.label not in self._correct:
            graph = bench.compilation(bench.full()).quantise()
            assert graph is not None  # `full` has bits
            images = bench.images.reported_on
            ran = run_reference(graph, api.preprocess(graph, images), count=False)
            self._correct[bench.label] = ran.predictions == labels_of(graph, images)
        return self._correct[bench.label]


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score (E. B. Wilson, JASA 22, 1927)."""
    share, square = successes / trials, Z95**2 / trials
    centre = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of McNemar's exact test that two classifiers are equally accurate.

    It is the binomial test on the images that only one of them classifies correctly (Q. McNemar,
    Psychometrika 12, 1947).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(differ, k) for k in range(fewer + 1)) / 2**differ
    return min(1.0, 2.0 * float(tail))


def _price(cost: Estimate) -> Price:
    price = Price.of(cost)
    if price is None:
        raise InputError(f"{cost.profile} has no total energy or no time", "use a profile that has them")
    return price


def _errors(predicted: Price, price: Price) -> dict[str, float]:
    """Return predicted / priced - 1 for each price."""
    return {
        each.name: getattr(predicted, each.name).value / getattr(price, each.name).value - 1
        for each in fields(Price)
    }
