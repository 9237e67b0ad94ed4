"""What limits a saving besides the profile: the choice of images, and the energy that halting can reach."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from stas_neuro.energy.costs import Cost
from stas_neuro.energy.result import Estimate, Interval

RESAMPLES = 1000
SHARE = 0.95
"""Share of the resampled sets of images whose saving lies in the interval."""
_SEED = 0
_FIELDS = ("energy_saving", "dynamic_energy_saving", "latency_saving")
PerImage = Mapping[str, npt.NDArray[np.float64] | None]
"""Cost of each image at the values of the profile, float (images,), by the name of its saving."""


def costs_of_images(cost: Cost) -> PerImage:
    """Return what each image costs, for `over_images`."""
    dynamic = cost.dynamic.per_image if cost.priced else None
    known = (cost.total, dynamic, None if cost.took is None else cost.took.per_image)
    return {
        name: None if each is None else np.asarray(each[:, 1])
        for name, each in zip(_FIELDS, known, strict=True)
    }


def over_images(halting: PerImage, without: PerImage) -> dict[str, Interval | None]:
    """Return the savings with the interval that comes from the choice of images; None for less than two.

    Percentile bootstrap (Efron 1979): the images are drawn with replacement, both runs with the same ones,
    and the interval has the middle 95 % of the savings of 1000 such sets. The profile has its values.
    """
    return {name: _over_images(halting[name], without[name]) for name in _FIELDS}


def _over_images(
    ours: npt.NDArray[np.float64] | None, theirs: npt.NDArray[np.float64] | None
) -> Interval | None:
    if ours is None or theirs is None or len(ours) < 2 or not theirs.all():
        return None
    rng = np.random.default_rng(_SEED)
    savings = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        drawn = rng.integers(len(ours), size=len(ours))
        savings[number] = 1 - ours[drawn].sum() / theirs[drawn].sum()
    low, high = np.quantile(savings, [(1 - SHARE) / 2, (1 + SHARE) / 2]).tolist()
    value = float(1 - ours.sum() / theirs.sum())
    return Interval(value=value, low=min(low, value), high=max(high, value))


def ceiling(without: Estimate) -> Interval | None:
    """Return the largest saving of halting that only omits visits: their share of the energy of a run.

    An oracle that halts every token before its first visit, at no cost, saves this, on the schedule of the
    run without halting. Updates of neurons without work, and static and management energy, remain. The
    interval has all entries at the low end, value or high end. None where the run has no price or no visits.
    """
    whole = without.energy_j or without.dynamic_energy_j
    if whole is None or without.visit_energy_j is None or not whole.low:
        return None
    value, low, high = (
        getattr(without.visit_energy_j, end) / getattr(whole, end) for end in ("value", "low", "high")
    )
    return Interval(value=value, low=min(value, low, high), high=max(value, low, high))
