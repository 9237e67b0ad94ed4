"""What limits a saving besides the profile: against a second bootstrap, and against a run without visits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.energy_runs import run

from stas_neuro.activity import Activity
from stas_neuro.chips import load_profile
from stas_neuro.energy import Deployment, compare, estimate
from stas_neuro.energy.bounds import over_images

BASELINE = run(halting=False)


def several(activity: Activity, factors: list[int]) -> Activity:
    """Return the record with an image for each factor, which multiplies its synaptic operations."""
    counts = {}
    for kind, counted in activity.counts.items():
        each = np.array(factors if kind.startswith("synops") else [1] * len(factors))
        counts[kind] = counted * each[:, None, None]
    visits = None if activity.visits is None else np.repeat(activity.visits, len(factors), axis=0)
    return replace(activity, counts=counts, visits=visits)


def of(values: np.ndarray) -> dict[str, np.ndarray | None]:
    return {"energy_saving": values, "dynamic_energy_saving": None, "latency_saving": None}


def test_the_interval_over_images_is_that_of_a_bootstrap() -> None:
    rng = np.random.default_rng(7)
    theirs = rng.uniform(1, 2, 200)
    ours = theirs * rng.uniform(0.4, 0.8, 200)
    found = over_images(of(ours), of(theirs))
    saving = found["energy_saving"]
    assert saving is not None and found["latency_saving"] is None
    assert saving.value == pytest.approx(1 - ours.sum() / theirs.sum())
    # Counts of drawn images are multinomial: other random numbers, the same distribution.
    drawn = rng.multinomial(200, np.full(200, 1 / 200), size=4000)
    low, high = np.quantile(1 - drawn @ ours / (drawn @ theirs), [0.025, 0.975])
    assert (saving.low, saving.high) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert over_images(of(ours), of(theirs)) == found, "the seed is fixed"


def test_images_that_differ_in_the_same_way_in_both_runs_leave_no_doubt() -> None:
    theirs = np.array([1.0, 10.0, 100.0])
    saving = over_images(of(theirs / 4), of(theirs))["energy_saving"]
    assert saving is not None and (saving.low, saving.high) == pytest.approx((0.75, 0.75))


def test_compare_tells_the_interval_over_images_where_there_are_several() -> None:
    ours, theirs = several(run(), [1, 5, 9]), several(BASELINE, [2, 8, 9])
    (row,) = compare(ours, {"off": theirs}, [load_profile("loihi1")]).rows
    images = row.over_images
    assert images is not None and images.energy_saving is not None and row.energy_saving is not None
    assert images.energy_saving.value == pytest.approx(row.energy_saving.value)
    dynamic, total = images.dynamic_energy_saving, row.dynamic_energy_saving
    assert dynamic is not None and total is not None and dynamic.low < dynamic.value < dynamic.high
    (alone,) = compare(run(), {"off": BASELINE}, [load_profile("loihi1")]).rows
    assert alone.over_images is None and alone.unavailable["over_images"] == "the runs have one image"


def without_visits(activity: Activity) -> Activity:
    """Return the record of a run in which no block works: what an oracle that halts everything leaves."""
    blocks = [layer.scope.startswith("block") for layer in activity.layers]
    counts = {kind: counted.copy() for kind, counted in activity.counts.items()}
    for counted in counts.values():
        counted[:, blocks] = 0
    return replace(activity, counts=counts)


def test_the_ceiling_is_the_saving_of_a_run_without_visits() -> None:
    loihi = load_profile("loihi2")
    nothing = replace(loihi.energy["neuron_update_inactive"], value=0.0, low=0.0)
    free = replace(loihi, energy={**loihi.energy, "neuron_update_inactive": nothing})
    for chip in (loihi, free):
        (row,) = compare(run(), {"off": BASELINE}, [chip]).rows
        whole, least = (estimate(record, chip) for record in (BASELINE, without_visits(BASELINE)))
        assert row.ceiling is not None and whole.energy_j is not None and least.energy_j is not None
        assert row.ceiling.low <= row.ceiling.value <= row.ceiling.high
        saved = (whole.dynamic_energy_j.value - least.dynamic_energy_j.value) / whole.energy_j.value
        assert 0 < saved <= row.ceiling.value
        if chip is free:  # neurons without work cost nothing, so an oracle reaches the ceiling
            assert saved == pytest.approx(row.ceiling.value)
        assert row.energy_saving is not None and row.energy_saving.value < row.ceiling.value


def test_there_is_no_ceiling_where_halting_saves_more_than_visits() -> None:
    chip = load_profile("loihi2-gated-whatif")
    (row,) = compare(run(), {"off": BASELINE}, [chip], Deployment(gating="core")).rows
    assert row.ceiling is None and "gating of cores" in row.unavailable["ceiling"]
