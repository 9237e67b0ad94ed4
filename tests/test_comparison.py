from __future__ import annotations

import json
from dataclasses import replace

import pytest
from energy_runs import run, without
from hypothesis import given, settings
from hypothesis import strategies as st

from stas_neuro.energy import (
    GATINGS,
    Gating,
    Interval,
    compare,
    estimate,
    list_profiles,
    load_profile,
)
from stas_neuro.errors import InputError


def test_compare_tells_what_halting_saves() -> None:
    profiles = [load_profile(name) for name in list_profiles()]
    result = compare(run(), {"stage 1": run(halting=False)}, profiles)
    assert [(row.profile, row.baseline) for row in result.rows] == [(p.name, "stage 1") for p in profiles]
    for row in result.rows:
        assert row.op_count_saving == pytest.approx(1 - 32 / 36)
        assert row.halting is not None and row.without is not None
        saving = row.dynamic_energy_saving
        assert saving is not None and saving.low <= saving.value <= saving.high
        ours, theirs = row.halting.dynamic_energy_j.value, row.without.dynamic_energy_j.value
        assert saving.value == pytest.approx(1 - ours / theirs)
    operations, loihi1, _ = result.rows
    assert operations.energy_saving is None and operations.latency_saving is None
    assert "an operation count has no static power" in operations.unavailable["energy_saving"]
    assert loihi1.energy_saving is not None and loihi1.latency_saving is not None
    # A tiny network: the halting unit costs more than it saves, and the operation count does not see it.
    assert loihi1.op_count_saving is not None
    assert loihi1.energy_saving.high < 0 < loihi1.op_count_saving


@pytest.mark.parametrize("gating", GATINGS)
def test_the_operation_count_is_that_of_the_estimates(gating: Gating) -> None:
    (row,) = compare(run(), {"off": run(halting=False)}, [load_profile("loihi1")], gating).rows
    assert row.halting is not None and row.without is not None
    ours, theirs = (cost.op_count_energy_j.value for cost in (row.halting, row.without))
    assert row.op_count_saving == pytest.approx(1 - ours / theirs)


@settings(max_examples=40)
@given(ends=st.lists(st.sampled_from(["low", "value", "high"]), min_size=8, max_size=8))
def test_a_saving_lies_in_its_interval_wherever_the_entries_lie(ends: list[str]) -> None:
    profile = load_profile("loihi1")
    without_halting = run(halting=False)
    saving = compare(run(), {"off": without_halting}, [profile]).rows[0].dynamic_energy_saving
    moved = {
        name: replace(entry, value=getattr(entry, end))
        for (name, entry), end in zip(profile.energy.items(), ends, strict=False)
    }
    chip = replace(profile, energy=moved)
    ours, theirs = (estimate(record, chip).dynamic_energy_j.value for record in (run(), without_halting))
    assert saving is not None
    assert saving.low - 1e-12 <= 1 - ours / theirs <= saving.high + 1e-12


def test_compare_says_what_is_missing() -> None:
    profile = without(load_profile("loihi1"), "energy.score_lookup")
    (row,) = compare(run(), {"off": run(halting=False)}, [profile]).rows
    assert row.halting is None and row.without is not None
    assert row.missing == ("energy.score_lookup",)
    for name in ("halting", "energy_saving", "dynamic_energy_saving", "latency_saving"):
        assert "profile loihi1 has no energy.score_lookup" in row.unavailable[name]
    with pytest.raises(InputError, match="baseline 'off' covers 2 images"):
        compare(run(), {"off": run() + run()}, [profile])


def test_a_baseline_that_does_nothing_has_no_saving() -> None:
    nothing = replace(run(), counts={kind: 0 * array for kind, array in run().counts.items()})
    result = compare(run(), {"nothing": nothing}, [load_profile("cmos45")])
    (row,) = result.rows
    assert row.op_count_saving is None and row.dynamic_energy_saving is None
    for name in ("op_count_saving", "dynamic_energy_saving"):
        assert row.unavailable[name] == "the run without halting costs nothing"
    json.dumps(result.to_json(), allow_nan=False)


def test_the_same_run_saves_nothing() -> None:
    (row,) = compare(run(), {"itself": run()}, [load_profile("loihi1")]).rows
    assert row.energy_saving == row.dynamic_energy_saving == row.latency_saving == Interval(0.0, 0.0, 0.0)
