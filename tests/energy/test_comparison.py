from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.energy_runs import run, without

from stas_neuro.activity import Activity, Origin
from stas_neuro.chips import Profile, load_profile
from stas_neuro.energy import (
    Deployment,
    Gating,
    Interval,
    check_alike,
    check_same_network,
    compare,
    compare_schedules,
    estimate,
)
from stas_neuro.errors import InputError
from stas_neuro.mapping import CoreLocation
from stas_neuro.report import comparison_csv

BASELINE = run(halting=False)


def test_compare_tells_what_halting_saves() -> None:
    profiles = [load_profile(name) for name in ("cmos45", "loihi1", "loihi2")]
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


@pytest.mark.parametrize("gating", ["silent", "none", "core"])
def test_the_operation_count_is_that_of_the_estimates(gating: Gating) -> None:
    (row,) = compare(
        run(), {"off": run(halting=False)}, [load_profile("loihi2-gated-whatif")], Deployment(gating=gating)
    ).rows
    assert row.halting is not None and row.without is not None
    ours, theirs = (cost.op_count_energy_j.value for cost in (row.halting, row.without))
    assert row.op_count_saving == pytest.approx(1 - ours / theirs)


CHIP = load_profile("loihi1")
PRICED = sorted({event.entry for event in (*estimate(run(), CHIP).events, *estimate(BASELINE, CHIP).events)})


def moved(section: str, values: Mapping[str, float]) -> Profile:
    """Loihi with the values of some entries of a section elsewhere."""
    entries = getattr(CHIP, section)
    changed = {name: replace(entries[name], value=value) for name, value in values.items()}
    changes: dict[str, Any] = {section: {**entries, **changed}}
    return replace(CHIP, **changes)


def dynamic_saving(values: Mapping[str, float]) -> float:
    (row,) = compare(run(), {"off": BASELINE}, [moved("energy", values)]).rows
    assert row.halting is not None and row.without is not None
    ours, theirs = row.halting.dynamic_energy_j, row.without.dynamic_energy_j
    assert ours is not None and theirs is not None
    return 1 - ours.value / theirs.value


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=len(PRICED), max_size=len(PRICED)))
def test_a_dynamic_saving_lies_in_its_interval_wherever_the_entries_lie(parts: list[float]) -> None:
    entries = [CHIP.entry(name) for name in PRICED]
    numbers = [
        entry.low + part * (entry.high - entry.low) for entry, part in zip(entries, parts, strict=True)
    ]
    values = {name.removeprefix("energy."): number for name, number in zip(PRICED, numbers, strict=True)}
    saving = compare(run(), {"off": BASELINE}, [CHIP]).rows[0].dynamic_energy_saving
    assert saving is not None
    assert saving.low - 1e-12 <= dynamic_saving(values) <= saving.high + 1e-12


def test_the_interval_of_a_dynamic_saving_is_no_wider_than_it_has_to_be() -> None:
    ends = [(CHIP.entry(name).low, CHIP.entry(name).high) for name in PRICED]
    names = [name.removeprefix("energy.") for name in PRICED]
    reached = [dynamic_saving(dict(zip(names, corner, strict=True))) for corner in product(*ends)]
    saving = compare(run(), {"off": BASELINE}, [CHIP]).rows[0].dynamic_energy_saving
    assert saving is not None and saving.low < saving.high
    assert [min(reached), max(reached)] == pytest.approx([saving.low, saving.high])


@pytest.mark.parametrize("end", ["low", "value", "high"])
def test_other_savings_hold_where_times_and_powers_are_all_at_the_same_end(end: str) -> None:
    (row,) = compare(run(), {"off": BASELINE}, [CHIP]).rows
    at_end = {
        section: {name: replace(entry, value=getattr(entry, end)) for name, entry in entries.items()}
        for section, entries in (("time", CHIP.time), ("power", CHIP.power))
    }
    assert row.energy_saving is not None and row.latency_saving is not None
    for corner in product(*((CHIP.entry(name).low, CHIP.entry(name).high) for name in PRICED)):
        values = zip((name.removeprefix("energy.") for name in PRICED), corner, strict=True)
        chip = replace(moved("energy", dict(values)), time=at_end["time"], power=at_end["power"])
        ours, theirs = estimate(run(), chip), estimate(BASELINE, chip)
        assert ours.energy_j is not None and theirs.energy_j is not None
        total = 1 - ours.energy_j.value / theirs.energy_j.value
        assert row.energy_saving.low - 1e-12 <= total <= row.energy_saving.high + 1e-12
    assert ours.latency_s is not None and theirs.latency_s is not None
    latency = 1 - ours.latency_s.value / theirs.latency_s.value
    assert row.latency_saving.low - 1e-12 <= latency <= row.latency_saving.high + 1e-12


def test_every_run_has_the_fastest_schedule_it_allows_unless_one_is_given() -> None:
    second = replace(BASELINE.layers[1], name="next", stage=1)
    deep = replace(
        BASELINE,
        layers=(*BASELINE.layers, second),
        counts={kind: np.pad(array, ((0, 0), (0, 1), (0, 0))) for kind, array in BASELINE.counts.items()},
    )
    (row,) = compare(run(), {"off": deep}, [CHIP]).rows
    (raster,) = compare(run(), {"off": deep}, [CHIP], baseline=Deployment(schedule="raster")).rows
    assert (row.schedule, row.baseline_schedule) == ("raster", "pipelined")
    assert (raster.schedule, raster.baseline_schedule) == ("raster", "raster")
    for each in (row, raster):
        assert each.without == estimate(
            deep, CHIP, Deployment(schedule="raster" if each is raster else "pipelined")
        )
    assert row.energy_saving is not None and raster.energy_saving is not None
    assert row.energy_saving.value < raster.energy_saving.value
    with pytest.raises(InputError, match="cannot be pipelined"):
        compare(run(), {"off": deep}, [CHIP], Deployment(schedule="pipelined"))
    # What cannot be priced still says how it would have been.
    (lacking,) = compare(run(), {"off": deep}, [without(CHIP, "energy.score_lookup")]).rows
    assert (lacking.schedule, lacking.baseline_schedule) == ("raster", "pipelined")


def test_compare_says_what_is_missing() -> None:
    profile = without(load_profile("loihi1"), "energy.score_lookup")
    (row,) = compare(run(), {"off": run(halting=False)}, [profile]).rows
    assert row.halting is None and row.without is not None
    assert row.missing == ("energy.score_lookup",)
    for name in ("halting", "energy_saving", "dynamic_energy_saving", "latency_saving"):
        assert "profile loihi1 has no energy.score_lookup" in row.unavailable[name]


def test_a_baseline_that_does_nothing_has_no_saving() -> None:
    nothing = replace(BASELINE, counts={kind: 0 * array for kind, array in BASELINE.counts.items()})
    result = compare(run(), {"nothing": nothing}, [load_profile("cmos45")])
    (row,) = result.rows
    assert row.op_count_saving is None and row.dynamic_energy_saving is None
    for name in ("op_count_saving", "dynamic_energy_saving"):
        assert row.unavailable[name] == "the run without halting costs nothing"
    json.dumps(result.to_json(), allow_nan=False)


def test_the_same_run_saves_nothing() -> None:
    alike = replace(BASELINE, visits=None)  # of which nobody knows whether it halts
    (row,) = compare(alike, {"itself": alike}, [load_profile("loihi1")]).rows
    assert row.energy_saving == row.dynamic_energy_saving == row.latency_saving == Interval(0.0, 0.0, 0.0)
    assert [told for told in row.unchecked if "whether it halts" in told] == [
        f"'{name}' does not say whether it halts: this could not be checked"
        for name in ("the halting run", "itself")
    ]


def test_a_chip_that_cannot_run_it_does_not_keep_the_others_from_being_compared() -> None:
    chips = [load_profile(name) for name in ("loihi1", "loihi2-gated-whatif")]
    refused, priced = compare(run(), {"off": BASELINE}, chips, Deployment(gating="core")).rows
    assert refused.halting is None and refused.missing == ()
    for name in ("halting", "without", "energy_saving", "dynamic_energy_saving", "latency_saving"):
        assert "cores of profile loihi1 do not support gating" in refused.unavailable[name]
    assert priced.halting is not None and priced.dynamic_energy_saving is not None


def test_what_has_no_price_saves_nothing_that_is_known() -> None:
    (row,) = compare(run(), {"off": BASELINE}, [load_profile("speck")]).rows
    told = ("energy_saving", "dynamic_energy_saving", "savings_survival", "break_even_token_ratio", "split")
    for name in told:
        assert getattr(row, name) is None
        assert "no event has a price" in row.unavailable[name]
    assert row.op_count_saving is not None


def placed(record: Activity) -> Activity:
    """Put all of it on one core."""
    return replace(
        record, cores=(CoreLocation(),), layers=tuple(replace(row, core=0) for row in record.layers)
    )


KNOWN = Origin(
    images=("a1",),
    labels=(1,),
    classes=10,
    network="n1",
    arithmetic="float64",
    processes="own",
    gating="silent",
    chip="loihi2",
)
UNSAID = (
    "in which arithmetic it was computed, in which processes it was counted, how many classes it has, "
    "on which images it ran: this could not be checked"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ("b2",)}, "image 0 has the hash a1 in 'halts', b2 in 'off'; run both on the same images"),
        ({"labels": (2,)}, "image 0 is labelled 1 in 'halts', 2 in 'off'; run both on the same labelled"),
        ({"classes": 7}, "'halts' has 10 classes, 'off' 7; compare models of one task"),
        (
            {"arithmetic": "float32"},
            "'halts' was computed in float64, 'off' in float32; run both with",
        ),
        ({"processes": "stock"}, "'halts' was counted in own processes, 'off' in stock ones; run both with"),
        (
            {"chip": "loihi1"},
            "'halts' was placed for loihi2, 'off' for loihi1, whose cores differ (819",
        ),
    ],
)
def test_runs_of_other_images_or_arithmetic_are_not_compared(changes: dict[str, Any], message: str) -> None:
    halting, plain = (replace(placed(run(halting=each)), origin=KNOWN) for each in (True, False))
    chips = [load_profile("loihi2")]
    (row,) = compare(halting, {"off": plain}, chips, label="halts").rows
    assert row.unchecked == ()
    other = replace(plain, origin=replace(KNOWN, **changes))
    with pytest.raises(InputError, match=re.escape(message)):
        compare(halting, {"same": plain, "off": other}, chips, label="halts")
    with pytest.raises(InputError, match=re.escape(message)):
        compare_schedules({"halts": halting, "off": other}, chips)
    # What both baselines say has to agree, even where the run with halting says nothing.
    unknown = replace(halting, origin=Origin())
    with pytest.raises(InputError, match=re.escape(message)):
        check_alike({"unknown": unknown, "halts": plain, "off": other})


def test_what_a_record_does_not_say_is_told_and_not_refused() -> None:
    halting, plain = replace(run(), origin=replace(KNOWN, chip=None)), run(halting=False)
    result = compare(halting, {"off": plain}, [load_profile("loihi2")], label="halts")
    assert result.rows[0].unchecked == (f"'off' does not say {UNSAID}",)
    document = json.loads(json.dumps(result.to_json()))
    assert document["rows"][0]["unchecked"] == list(result.rows[0].unchecked)
    table = comparison_csv({"halts": result})
    assert "unchecked" in table.splitlines()[0] and UNSAID in table
    rows = compare_schedules({"halts": halting, "off": plain}, [load_profile("loihi2")])
    assert {row.run: row.unchecked for row in rows} == {
        "halts": (),
        "off": (f"'off' does not say {UNSAID}",),
    }
    # Labels are no part of what a run does: data may have none.
    unlabelled = replace(plain, origin=replace(halting.origin, labels=None))
    assert check_alike({"halts": halting, "off": unlabelled}) == ()


def test_chips_with_the_same_cores_or_cores_that_nobody_knows_are_not_refused() -> None:
    runs = {
        chip: replace(placed(BASELINE), origin=replace(KNOWN, chip=chip))
        for chip in ("loihi2", "loihi2-gated-whatif", "board", None)
    }
    whatif = {name: runs[name] for name in ("loihi2", "loihi2-gated-whatif")}
    assert check_alike(whatif) == ()
    (told,) = check_alike({"a": runs["loihi2"], "b": runs["board"]})
    assert (
        told
        == "'a' was placed for loihi2, 'b' for board: whether these have the same cores could not be "
        + ("checked")
    )
    (told,) = check_alike({"a": runs["loihi2"], "b": runs[None]})
    assert told == "'b' does not say for which chip it was placed: this could not be checked"
    assert check_alike({"a": runs["board"], "b": runs["board"]}) == ()


def test_only_a_baseline_without_halting_is_one() -> None:
    chips = [load_profile("loihi2")]
    with pytest.raises(
        InputError, match=r"baseline 'off' uses halting: its token ratio is 75.0%.*--accumulate off"
    ):
        compare(run(), {"off": run()}, chips)
    seen = replace(run(halting=False), visits=run().visits)  # whatever its layers are called
    with pytest.raises(InputError, match="baseline 'off' uses halting"):
        compare(run(), {"off": seen}, chips)
    alive = replace(run(), visits=np.ones_like(run().visits))  # it could halt, and did not
    with pytest.raises(InputError, match="baseline 'off' uses halting"):
        compare(run(), {"off": alive}, chips)
    with pytest.raises(InputError, match=r"does not halt, .*pass the run with halting first"):
        compare(BASELINE, {"off": BASELINE}, chips)
    with pytest.raises(InputError, match="two runs are called 'off'"):
        compare(run(), {"off": BASELINE}, chips, label="off")


def test_runs_of_one_network_have_one_hash_or_at_least_its_layers() -> None:
    ours = replace(run(), origin=KNOWN)
    late = replace(ours, late=1)
    assert check_same_network({"a": ours, "b": late}) == ()
    other = replace(ours, origin=replace(KNOWN, network="n2"))
    with pytest.raises(InputError, match="'a' ran the network n1, 'b' another, n2; compile both from the sa"):
        check_same_network({"a": ours, "b": other})
    (row,) = [
        row for row in compare_schedules({"a": ours, "b": other}, [load_profile("loihi2")]) if row.run == "b"
    ]
    assert row.visits_changed is None
    unknown = replace(run(), origin=Origin())
    (told,) = check_same_network({"a": ours, "b": unknown})
    assert told == "'b' does not say which network it ran: this could not be checked"
    with pytest.raises(InputError, match=r"'a' and 'b' ran different networks: 'a' has the layer halt \("):
        check_same_network({"a": ours, "b": BASELINE})


def test_runs_that_count_differently_are_not_compared() -> None:
    plain = run(halting=False)
    with pytest.raises(
        InputError, match=r"'the halting run' was run without cores, 'stage 1' on cores.*--no"
    ):
        compare(run(), {"stage 1": placed(plain)}, [load_profile("loihi2")])
    with pytest.raises(InputError, match="'the halting run' covers 1 images, 'off' 2; run both on the same"):
        compare(run(), {"off": plain + plain}, [load_profile("loihi2")])
    for kind in ("macs", "cpu_operations"):
        counts = dict(plain.counts)
        counts[kind], counts["synops"] = counts["synops"], counts[kind]
        reals = replace(plain, counts=counts)
        with pytest.raises(
            InputError,
            match=f"layer fc counts its input as synops in 'the halting run', as {kind} in 'reals'",
        ):
            compare(run(), {"reals": reals}, [load_profile("loihi2")])
        check_alike({"a": reals, "b": reals})
    check_alike({"a": placed(plain), "b": placed(plain)})
