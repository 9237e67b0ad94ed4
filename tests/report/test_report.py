from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from support.energy_runs import run, without
from support.rendering import shown

from stas_neuro.chips import list_profiles, load_profile
from stas_neuro.cli.common import emit
from stas_neuro.energy import Comparison, Deployment, compare, compare_schedules, estimate
from stas_neuro.errors import InputError
from stas_neuro.report import (
    comparison_csv,
    comparison_report,
    estimate_report,
    predictions_table,
    schedules_report,
    si,
)
from stas_neuro.trace import Trace


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0.0, "J", "0 J"),
        (1.23456e-5, "J", "12.3 uJ"),
        (999.6e-6, "J", "1 mJ"),
        (4.2e-13, "J", "420 fJ"),
        (1e-18, "s", "0.001 fs"),
        (1.0, "W", "1 W"),
        (30446, "", "30.4 k"),
        (7, "", "7"),
        (2.5e13, "", "2.5e+04 G"),
    ],
)
def test_si(number: float, unit: str, text: str) -> None:
    assert si(number, unit) == text


def trace() -> Trace:
    activity = run() + run(halting=True)
    return Trace(
        logits=np.array([[0.0, 1.0], [2.0, 1.0]]), visits=np.asarray(activity.visits), counted=activity
    )


def test_predictions() -> None:
    text = shown(predictions_table(trace(), np.array([1, 1]), ["cat", "dog [small]"]))
    assert [line.split() for line in text.splitlines() if "right" in line or "wrong" in line] == [
        ["0", "dog", "[small]", "dog", "[small]", "right", "3", "4"],
        ["1", "cat", "dog", "[small]", "wrong", "3", "4"],
    ]
    assert "2 images, token ratio 0.750, accuracy 0.5000 (1 of 2)" in text
    assert "accuracy" not in shown(predictions_table(trace()))
    assert len(shown(predictions_table(trace(), limit=1)).splitlines()) < len(text.splitlines())
    with pytest.raises(InputError, match="labels have shape"):
        predictions_table(trace(), np.array([1]))


@pytest.mark.parametrize("profile", list_profiles())
def test_an_estimate_shows_its_numbers_basis_sources_and_disclaimer(profile: str) -> None:
    cost = estimate(run(), profile)
    text = shown(estimate_report(cost))
    assert "not measured" in text
    if cost.dynamic_energy_j is None:
        assert "no event has a price" in text and "0 J" not in text
    else:
        assert si(cost.dynamic_energy_j.value, "J") in text
    for event in cost.events:
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"{event.event} "))
        assert event.entry in line and event.basis in line and event.source in line
        assert si(event.energy_j.high, "J") in line
    for layer in cost.layers:
        assert layer.name in text
    flowing = " ".join(text.split())
    for sentence in (*cost.assumptions, *cost.sources.values(), *cost.unavailable.values()):
        assert " ".join(sentence.split()) in flowing
    short = shown(estimate_report(cost, details=False))
    assert "Sources" not in short and "not measured" in short


def test_an_estimate_shows_its_options_and_both_totals_where_idle_neurons_are_unknown() -> None:
    options = Deployment(mode="stream", contexts=2, microcode=True, replicas=2, stem="apart")
    cost = estimate(run(), "loihi2", options)
    text = shown(estimate_report(cost))
    assert "gating silent, raster, stream, 2 contexts, 2 replicas, stem apart, microcode, 1 images" in text
    assert "4 hardware steps, 2 from image to image" in text
    assert cost.idle_skipped is not None and cost.idle_skipped.energy_j is not None
    (line,) = [line for line in text.splitlines() if line.startswith("if idle neurons are skipped: energy")]
    assert si(cost.idle_skipped.energy_j.value, "J") in line
    assert "if idle neurons" not in shown(estimate_report(estimate(run(), "loihi1")))
    row = compare(run(), {"off": run(halting=False)}, [load_profile("loihi2")]).rows[0]
    text = shown(comparison_report(compare(run(), {"off": run(halting=False)}, [load_profile("loihi2")])))
    _, told = text.split("Saved if neurons without work are not updated")
    assert row.idle_skipped is not None and row.idle_skipped.energy_saving is not None
    assert f"{row.idle_skipped.energy_saving.value:+.1%}" in told


def test_a_comparison_shows_savings_and_what_is_missing() -> None:
    profiles = [load_profile(name) for name in ("cmos45", "loihi1", "loihi2")]
    profiles.append(replace(without(load_profile("loihi1"), "energy.score_lookup"), name="holey"))
    result = compare(run(), {"stage [1]": run(halting=False)}, profiles)
    text = shown(comparison_report(result))
    energy, rest = text.split("Dynamic energy")
    dynamic, rest = rest.split("Latency")
    latency, rest = rest.split("Limits of the saving")
    limits, rest = rest.split("Causes of the saving")
    parts, rest = rest.split("Remaining share")
    left, reasons = rest.split("Unknown:")
    assert list(rows_of(energy)) == ["cmos45", "loihi1", "loihi2", "holey"]
    for row in result.rows[1:3]:
        assert row.energy_saving is not None and row.halting is not None and row.halting.energy_j is not None
        saving = row.energy_saving
        cells = [f"{end:+.1%}" for end in (saving.value, saving.low, saving.high)]
        assert rows_of(energy)[row.profile].split()[-3:] == cells
        assert si(row.halting.energy_j.value, "J") in rows_of(energy)[row.profile]
    assert all("raster / pipelined" in line for line in rows_of(latency).values())
    assert "unknown" in rows_of(energy)["cmos45"] and "unknown" not in rows_of(dynamic)["cmos45"]
    for row in result.rows[:3]:
        assert row.ceiling is not None and "holey" not in limits
        label = row.profile if row.energy_saving is not None else f"{row.profile} *"
        (line,) = (line for line in limits.splitlines() if line.startswith(f"{label} "))
        assert line.split()[-3] == f"{row.ceiling.value:+.1%}"
    assert "loihi1 relative to stage [1], choice of images: the runs have one image" in reasons
    assert "lacks energy.score_lookup" in rows_of(dynamic)["holey"]
    assert "cmos45 relative to stage [1], latency saved: an operation count has no time" in reasons
    assert (
        "loihi1 relative to stage [1], break-even: halting costs more, even if no token is visited" in reasons
    )
    explained = rows_of(parts)
    assert list(explained) == ["cmos45", "loihi1", "loihi2"]  # the other has nothing to split
    assert "cmos45 * " in explained["cmos45"] and "* dynamic energy only" in parts
    for row in result.rows[:3]:
        assert row.split is not None and row.savings_survival is not None
        for name in ("every_step_j", "operations_saved_j", "halting_j"):
            assert si(getattr(row.split, name).value, "J") in explained[row.profile]
        assert f" {row.savings_survival.value:.2f} " in rows_of(left)[row.profile]
    assert "add [energy.score_lookup] with its source" in text
    assert "not measured" in text


def rows_of(text: str) -> dict[str, str]:
    """Lines of a table by their first word."""
    return {line.split()[0]: line for line in text.splitlines() if "stage [1]" in line}


def test_at_100_columns_no_name_and_no_number_of_a_comparison_is_cut_or_folded() -> None:
    profiles = [load_profile(name) for name in list_profiles()]
    result = compare(run(), {"stage 1": run(halting=False)}, profiles)
    # All but the reasons, which are sentences.
    wide, narrow = (shown(comparison_report(result), width).split("Unknown:")[0] for width in (200, 100))
    for left, right in zip(wide.splitlines(), narrow.splitlines(), strict=True):
        assert left.split() == right.split()
    narrower = "".join(shown(comparison_report(result), 60).split())
    assert "…" not in narrower and "..." not in narrower


def test_the_estimate_of_a_chip_with_gaps_says_each_reason_once_and_nothing_of_what_is_unknown() -> None:
    cost = estimate(run(), "truenorth")
    text = shown(estimate_report(cost, details=False))
    assert cost.cores is None and "None" not in text and "unknown" not in text
    told = " ".join(text.split("Not priced:")[1].split())
    assert len(set(cost.unavailable.values())) < len(cost.unavailable)
    for why in set(cost.unavailable.values()):
        assert told.count(f": {why} ") - told.count(f"no total without static energy: {why} ") == 1
    assert " latency, images per second, " in told and not any(name in told for name in cost.unavailable)
    whole = replace(estimate(run(), "loihi2"), core_steps=972.0, core_steps_gated=1.25)
    assert "core steps 972, gated 1.2\n" in shown(estimate_report(whole, details=False)).replace(" \n", "\n")


def test_what_is_piped_has_the_width_of_columns_and_no_blanks_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = comparison_report(halted_on_chips())
    longest = {}
    for columns in ("70", "100", ""):
        monkeypatch.setenv("COLUMNS", columns)
        emit(report)
        lines = capsys.readouterr().out.splitlines()
        assert all(line == line.rstrip() for line in lines)
        longest[columns] = max(map(len, lines))
    assert longest["70"] <= 70 < longest["100"] <= 100 < longest[""] <= 200


def halted_on_chips() -> Comparison:
    profiles = [load_profile(name) for name in ("cmos45", "loihi1", "odin")]
    return compare(run(), {"a, b": run(halting=False)}, profiles)


def test_a_csv_has_every_figure_of_every_row() -> None:
    result = halted_on_chips()
    rows = list(csv.DictReader(io.StringIO(comparison_csv({"mine": result}))))
    assert [(row["profile"], row["baseline"], row["run"]) for row in rows] == [
        ("cmos45", "a, b", "mine"),
        ("loihi1", "a, b", "mine"),
        ("odin", "a, b", "mine"),
    ]
    for written, row in zip(rows, result.rows, strict=True):
        for name in ("energy_saving", "dynamic_energy_saving", "savings_survival"):
            saving = getattr(row, name)
            ends = [written[name], written[f"{name}_low"], written[f"{name}_high"]]
            assert ends == (
                ["", "", ""] if saving is None else [str(saving.value), str(saving.low), str(saving.high)]
            )
        assert row.split is not None
        assert float(written["split_halting_j"]) == row.split.halting_j.value
        for why in row.unavailable.values():
            assert why in written["unavailable"]
    assert rows[1]["with_hardware_steps"] == "4" and rows[0]["with_latency_s"] == ""
    assert comparison_csv({"mine": replace(result, rows=())}).strip() == ""


def test_schedules_are_told_with_their_steps_and_what_late_decisions_change() -> None:
    late = replace(run(), late=1)
    assert late.visits is not None
    visits = late.visits.copy()
    visits[0, 1, 0, 1] = True  # made because the news came late
    runs = {"halting": run(), "late": replace(late, visits=visits), "off": run(halting=False)}
    rows = compare_schedules(runs, [load_profile("cmos45"), load_profile("loihi1")])
    told = [(row.run, row.schedule, row.hardware_steps, row.visits_changed) for row in rows]
    assert told == [
        ("halting", "raster", 4, 0.0),
        ("late", "pipelined-stale", 3, 0.25),
        ("off", "raster", 2, None),
        ("off", "pipelined", 2, None),
    ]
    for row in rows:
        assert row.profile == "loihi1"  # the other has no time
        cost = estimate(runs[row.run], "loihi1", Deployment(schedule=row.schedule))  # type: ignore[arg-type]
        assert (row.latency_s, row.energy_j) == (cost.latency_s, cost.energy_j)
    text = shown(schedules_report(rows))
    assert (
        "pipelined-stale (late 1)" in text and "25.00%" in text and si(rows[0].latency_s.value, "s") in text
    )
