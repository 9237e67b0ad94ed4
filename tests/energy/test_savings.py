"""Where a saving comes from, and how many tokens have to halt for one."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from support.energy_runs import run
from support.mapped_runs import CHIP, HALTED, run_on_cores

from stas_neuro.activity import Activity, ActivityBuilder, Layer, Origin
from stas_neuro.chips import load_profile
from stas_neuro.energy import Deployment, Interval, Saving, compare, estimate
from stas_neuro.energy.savings import at_every_step, split

PARTS = ("stem_saved_j", "schedule_saved_j", "operations_saved_j", "gating_saved_j")
ALL_LIVE = replace(run_on_cores([[[1, 1], [1, 1]]], [[[3, 2], [2, 2]]]), origin=Origin(gating="none"))


def with_stem(record: Activity) -> Activity:
    """Put two layers that are computed once before a run."""
    stem = [
        Layer(name=f"stem{stage}", kind="LIF", scope="stem", neurons=6, phase="once", stage=stage)
        for stage in (0, 1)
    ]
    builder = ActivityBuilder([*stem, *record.layers], record.steps, record.images)
    for kind, counted in record.counts.items():
        for image, row, step in zip(*np.nonzero(counted), strict=True):
            one = np.arange(record.images) == image
            builder.add(kind, record.layers[row].name, int(step), one * counted[image, row, step])
    for layer in stem:
        builder.add("updates_active", layer.name, "once", 4)
        builder.add("updates_inactive", layer.name, "once", 2)
        builder.add("synops", layer.name, "once", 50)
        builder.add("synops_unary", layer.name, "once", 50)
    return builder.build(record.visits)


def test_a_stem_at_every_step_does_the_work_of_one_pass_in_each() -> None:
    record = with_stem(run(halting=False))
    every = at_every_step(record)
    for kind in ("synops", "updates_active", "updates_inactive"):
        once, step = record.counts[kind][0, :2, 0], every.counts[kind][0, :2]
        assert step[:, every.steps.index("once")].sum() == 0
        for label in ("step1", "step2"):
            assert step[:, every.steps.index(label)].tolist() == once.tolist()
        # The rest of the network does what it did.
        assert (every.counts[kind][:, 2:] == record.counts[kind][:, 2:]).all()
    assert [row.stage for row in every.layers] == [0, 1, 2, 2]
    assert {row.phase for row in every.layers} == {"step"}
    assert at_every_step(run()) == run()  # which computes nothing once


def row_of(halting: Activity, baseline: Activity, profile: str = "loihi1") -> Saving:
    (row,) = compare(halting, {"stage 1": baseline}, [load_profile(profile)]).rows
    return row


@pytest.mark.parametrize("profile", ["cmos45", "loihi1", "loihi2", "loihi2-gated-whatif"])
def test_parts_of_a_saving_sum_to_it(profile: str) -> None:
    plain = with_stem(run(halting=False))
    second = replace(plain.layers[-1], name="next", stage=1)
    counts = {kind: np.pad(counted, ((0, 0), (0, 1), (0, 0))) for kind, counted in plain.counts.items()}
    baseline = replace(plain, layers=(*plain.layers, second), counts=counts)
    row = row_of(with_stem(run()), baseline, profile)
    parts = row.split
    assert parts is not None and row.without is not None and row.halting is not None
    total = profile != "cmos45"
    assert parts.of == ("energy_j" if total else "dynamic_energy_j")
    left = parts.every_step_j.value - sum(getattr(parts, name).value for name in PARTS)
    assert left + parts.halting_cost_j.value == pytest.approx(parts.halting_j.value)
    assert parts.without_j == getattr(row.without, parts.of)
    assert parts.halting_j == getattr(row.halting, parts.of)
    assert parts.stem_saved_j.value > 0
    if not total:
        assert [parts.schedule_saved_j.value, parts.gating_saved_j.value] == [0, 0]
        return
    # The pipeline that raster halting gives up, and its own events.
    assert parts.schedule_saved_j.value < 0
    assert parts.halting_cost_j.value == pytest.approx(row.halting.halting_energy_j.value)
    assert parts.operations_saved_j.value > 0


def test_gating_saves_what_is_not_stepped() -> None:
    silent, core, power = (
        compare(HALTED, {"off": ALL_LIVE}, [CHIP], Deployment(gating=gating)).rows[0].split
        for gating in ("silent", "core", "power")
    )
    assert silent and core and power
    # Gated cores spare both runs what is not at work; only halting closes others besides.
    assert core.without_j.value < silent.without_j.value
    assert core.operations_saved_j == silent.operations_saved_j
    assert power.gating_saved_j.value > core.gating_saved_j.value
    assert core.halting_cost_j.value > silent.halting_cost_j.value  # messages to cores


def test_savings_survival_is_the_saving_by_that_of_the_operation_count() -> None:
    row = row_of(run(), run(halting=False))
    assert row.savings_survival and row.energy_saving and row.op_count_saving
    assert row.savings_survival.value == pytest.approx(row.energy_saving.value / row.op_count_saving)
    counted = row_of(run(), run(halting=False), "cmos45").savings_survival
    assert counted is not None and counted.value == pytest.approx(1)
    nothing = row_of(run(), scaled(0))
    assert nothing.savings_survival is None
    assert nothing.unavailable["savings_survival"] == "the operation count saves nothing"


def test_the_break_even_token_ratio_by_hand() -> None:
    """On the operation count energy is 0.9 pJ a synaptic operation: 32 with halting at a ratio of 3/4."""
    row = row_of(run(), run(halting=False), "cmos45")  # 36 without
    assert row.break_even_token_ratio is not None
    assert row.break_even_token_ratio.value == pytest.approx(0.75 * (1 + (36 - 32) / 32))
    free, dear = (row_of(run(), scaled(factor), "cmos45") for factor in (0, 2))
    assert free.break_even_token_ratio is not None and free.break_even_token_ratio.value == 0
    assert dear.break_even_token_ratio is None
    assert "less, even if all are visited" in dear.unavailable["break_even_token_ratio"]
    # A tiny network on a chip: its halting units alone cost more.
    lost = row_of(run(), run(halting=False))
    assert "more, even if no token is visited" in lost.unavailable["break_even_token_ratio"]


def scaled(factor: int) -> Activity:
    """The run without halting with more synaptic operations, or none."""
    base = run(halting=False)
    counts = {kind: counted * (factor if "synops" in kind else 1) for kind, counted in base.counts.items()}
    return replace(base, counts=counts)


def test_at_the_break_even_ratio_both_cost_the_same() -> None:
    """Energy that comes with visits, changed in proportion to the ratio, makes the difference."""
    row = row_of(run(), scaled(1000))
    assert row.break_even_token_ratio is None  # far above 1
    cost, base = estimate(run(), "loihi1"), estimate(scaled(1), "loihi1")
    assert cost.energy_j and base.energy_j and cost.token_ratio
    even = cost.token_ratio * (1 + (base.energy_j.value - cost.energy_j.value) / cost.visit_energy_j.value)
    fixed = cost.energy_j.value - cost.visit_energy_j.value
    assert fixed + cost.visit_energy_j.value * even / cost.token_ratio == pytest.approx(base.energy_j.value)


def test_a_run_with_late_decisions_is_compared_with_a_baseline_as_late() -> None:
    late = replace(run(), late=1)
    row = row_of(late, run(halting=False))
    assert (row.schedule, row.baseline_schedule) == ("pipelined-stale", "pipelined")
    # The baseline has one stage: it cannot overlap further, and takes one hardware step a model step anyway.
    assert row.split is not None and row.split.schedule_saved_j.value == 0


@pytest.mark.parametrize(("part", "told"), [(1e-13, False), (1e-11, True)])
def test_dust_of_rounding_is_no_saving(part: float, told: bool) -> None:
    cost = estimate(run(), "cpu")
    assert cost.dynamic_energy_j is not None
    more = part * cost.dynamic_energy_j.value
    energies = [Interval(*(end + more for end in astuple(event.energy_j))) for event in cost.events]
    events = [replace(event, energy_j=energy) for event, energy in zip(cost.events, energies, strict=True)]
    parts = split(cost, cost, replace(cost, events=tuple(events)), cost)
    for saved in (parts.operations_saved_j, parts.gating_saved_j):
        assert bool(saved.value) == bool(saved.high) == told
