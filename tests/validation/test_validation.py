"""Published measurements against the model: the bounds that are promised hold; a wrong model breaks them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.paths import ROOT

from stas_neuro.chips import load_profile
from stas_neuro.energy import Interval, estimate
from stas_neuro.errors import InputError
from stas_neuro.report import si
from stas_neuro.validation import (
    BETWEEN,
    LEVEL,
    Check,
    between_setups,
    coverage,
    evidence,
    leave_out,
    loihi_runs,
    nearest,
    pilotnet,
    pilotnet_activity,
    prediction,
    predictions,
    quartz,
    spread_between,
    validate_published,
)
from stas_neuro.validation.evidence import ends
from stas_neuro.validation.loihi import nearest_activity, step_regression, stepped_activity
from stas_neuro.validation.prediction import Spread


def test_pilotnet_counts_are_the_published_ones() -> None:
    measured = pilotnet()
    assert len(measured.cores) == 74
    assert sum(core.neurons for core in measured.cores) == 158_509
    synops = sum(core.synops or 0 for core in measured.cores) / measured.steps_counted
    assert synops == pytest.approx(2.29e6, rel=0.001)
    # A neuron is two dendrite updates a step, a spike one more: nothing is skipped.
    updates = sum(core.updates or 0 for core in measured.cores) / measured.steps_counted
    assert updates == pytest.approx(2 * 158_509, rel=0.15) and updates > 2 * 158_509
    assert {run.name for run in measured.runs} == {"baa23ad", "b9e3691"}


@pytest.mark.parametrize("active", [False, True])
def test_pilotnet_record_is_what_the_cores_did(active: bool) -> None:
    measured = pilotnet()
    record = pilotnet_activity(measured, active=active)
    assert record.total("updates_active" if active else "updates_inactive") == 158_509
    assert record.total("synops") == record.total("synops_unary") == 2_289_150
    assert record.total("axon_messages") == record.total("spikes_out") == 43_288
    assert sorted(layer.core for layer in record.layers if layer.core is not None) == list(range(74))


def test_pilotnet_energy_is_within_ten_per_cent_without_fitting() -> None:
    """Both usable runs, whichever neurons were active: 63.1 to 66.3 uJ for 66.9 and 68.3 measured."""
    checks = [check for check in validate_published() if check.promise == "error"]
    assert len(checks) == 4
    assert all(check.holds and check.bound == 0.1 for check in checks)
    assert min(check.error for check in checks) == pytest.approx(-0.077, abs=0.002)
    assert max(check.error for check in checks) == pytest.approx(-0.009, abs=0.002)


def test_a_scaled_down_profile_breaks_the_promise() -> None:
    profile = load_profile("loihi2")
    entry = profile.energy["synaptic_operation"]
    cheap = replace(entry, value=entry.value / 2, low=entry.low / 2)
    wrong = replace(profile, energy={**profile.energy, "synaptic_operation": cheap})
    measured = pilotnet()
    cost = estimate(pilotnet_activity(measured, active=True), wrong)
    check = Check(
        case="", quantity="", unit="J", predicted=cost.dynamic_energy_j,
        measured=measured.runs[0].step_energy_j, promise="error", bound=0.1,
    )  # fmt: skip
    assert not check.holds


def test_quartz_step_is_between_idle_and_active_neurons() -> None:
    measured = quartz()
    per_sample, per_step = step_regression(measured)
    per_neuron = per_step / measured.neurons
    assert 52e-12 < per_neuron < 81e-12
    assert per_sample > 0
    (promised,) = (check for check in validate_published() if check.promise == "interval")
    assert promised.holds and promised.measured == per_step
    # The longest run spends most on steps without work, so that it alone is in the band too.
    longest = max(measured.runs, key=lambda run: run.steps)
    assert 52e-12 < longest.step_energy_j / measured.neurons < 81e-12


def test_quartz_record_steps_every_neuron_once() -> None:
    measured = quartz()
    for active, kind in ((False, "updates_inactive"), (True, "updates_active")):
        record = stepped_activity(measured.neurons, measured.cores, active=active)
        assert record.total(kind) == measured.neurons and len(record.layers) == 11


def test_regression_finds_a_known_line() -> None:
    runs = tuple(
        replace(run, dynamic_power_w=(2e-6 / run.steps + 3e-7) / run.step_s) for run in quartz().runs
    )
    np.testing.assert_allclose(step_regression(replace(quartz(), runs=runs)), (2e-6, 3e-7), rtol=1e-9)
    with pytest.raises(InputError, match="the same number of steps"):
        step_regression(replace(quartz(), runs=runs[:1] * 2))


def test_nearly_all_measurements_are_inside_the_intervals() -> None:
    checks = validate_published()
    energy, time, power, everything = coverage(checks)
    assert [row.kind for row in (energy, time, power, everything)] == ["energy", "time", "power", "all"]
    assert everything.measurements == energy.measurements + time.measurements + power.measurements == 41
    assert everything.inside >= 0.9 * everything.measurements
    assert energy.width < 2 and time.width < 60 and power.width < 10
    outside = [check.case for check in checks if not check.inside]
    assert outside == ["Quartz 51 steps"]


def test_nine_in_ten_are_inside_intervals_that_know_nothing_of_their_run() -> None:
    checks = validate_published()
    energy, time, power, _ = rows = coverage(checks)
    assert [row.held_out for row in rows] == [10, 11, 18, 39]  # two figures of PilotNet nothing else measured
    assert all(row.held_out_inside >= 0.9 * row.held_out for row in rows)
    # That a processor takes no time was never measured: times are narrower without that end.
    assert energy.held_out_width < 2 and time.held_out_width < 25 and power.held_out_width < 50
    outside = {
        (check.case, check.unit)
        for check in checks
        if check.held_out and not check.held_out.low <= check.measured <= check.held_out.high
    }
    assert outside == {("Quartz 51 steps", "J"), ("RelNet", "s"), ("RelNet", "W")}


def test_a_prediction_is_that_of_a_sample_of_setups() -> None:
    """Two entries of three and two set-ups, by hand: deviations of logarithms -1, 0, 1 and -1, 1."""
    one = [("a", np.exp(1.0)), ("b", np.exp(2.0)), ("c", np.exp(3.0))]
    figures = {"one": one, "two": [("a", np.exp(4.0)), ("b", np.exp(5.0)), ("b", np.exp(7.0))]}
    assert spread_between(figures) == Spread(pytest.approx(np.sqrt((1 + 1 + 1 + 1) / 3)), 3)
    found = prediction(figures, "one")
    half = 2.3533634 * np.sqrt(4 / 3) * np.sqrt(4 / 3)  # 95 % of Student's t with 3 degrees of freedom
    expected = np.exp([2 - half, 2, 2 + half])
    assert (found.low, found.value, found.high) == pytest.approx(tuple(expected), rel=1e-6)
    # Without c: means 1.5 and 5, deviations -0.5, 0.5 and -1, 1.
    assert spread_between(figures, without="c") == Spread(pytest.approx(np.sqrt(2.5 / 2)), 2)
    assert prediction(figures, "one", without="c").value == pytest.approx(np.exp(1.5))
    with pytest.raises(InputError, match="only a measured it"):
        prediction({"it": [("a", 1.0)], **figures}, "it", without="a")
    with pytest.raises(InputError, match="no two set-ups"):
        spread_between({"it": [("a", 1.0), ("a", 2.0)]})


def test_predictions_contain_as_many_setups_as_they_promise() -> None:
    """Of set-ups that are drawn as the model says, nine in ten lie in what the others predict."""
    rng = np.random.default_rng(1)
    inside = count = 0
    for _ in range(200):
        figures = {
            entry: [(name, float(np.exp(rng.normal(mean)))) for name in "abcde"]
            for entry, mean in (("one", 0.0), ("two", 5.0))
        }
        for found in predictions(figures):
            inside, count = inside + found.inside, count + found.setups
    assert inside / count == pytest.approx(LEVEL, abs=0.02)


def test_the_notes_of_the_profile_have_the_predictions() -> None:
    profile = load_profile("loihi1")
    (note,) = (each for each in profile.notes if "set-up" in each)
    for found in predictions(between_setups(profile)):
        unit = "s" if found.entry.startswith("time") else "W"
        low, high = (si(float(f"{end:.2g}"), unit) for end in (found.interval.low, found.interval.high))
        assert f"{low} to {high}" in note and found.setups in (4, 5, 6)


def test_coverage_merges_predictions_of_one_measurement() -> None:
    low, high = (
        Check(
            case="", quantity="", unit="J", predicted=Interval(middle, middle / 2, middle * 2), measured=3.0
        )
        for middle in (1.0, 2.0)
    )
    held = replace(high, predicted=Interval(5.0, 4.0, 6.0), measured=5.0, held_out=Interval(8.0, 7.0, 9.0))
    row = coverage([low, high, held])[0]
    assert (row.measurements, row.inside, row.held_out, row.held_out_inside) == (2, 2, 2, 1)
    assert row.held_out_width == pytest.approx(np.sqrt(4 / 0.5 * 9 / 7))
    alone = coverage([low, high, replace(held, alone=True)])[0]
    assert (alone.inside, alone.held_out, alone.held_out_inside) == (2, 1, 1)
    assert alone.held_out_width == pytest.approx(4 / 0.5)
    assert np.isnan(coverage([replace(held, alone=True)])[0].held_out_width)
    assert row.width == pytest.approx(np.sqrt(4 / 0.5 * 6 / 4)) and row.error == pytest.approx(0.25)


def test_ends_of_the_profile_are_those_of_the_evidence() -> None:
    profile = load_profile("loihi1")
    for name in evidence(profile):
        low, _, high = profile.corners(name)
        assert (low, high) == pytest.approx(ends(profile, name), rel=0.01, abs=1e-12), name
        known = [number for _, number in evidence(profile)[name]]
        assert all(low <= number * 1.005 and number <= high * 1.005 for number in known)
    processors = [n for run, n in evidence(profile)["time.management_step"] if run != "RelNet"]  # one chip
    mean = np.exp(np.log(processors).mean())
    assert profile.corners("time.management_step")[1] == pytest.approx(mean, rel=0.01)


def test_a_run_left_out_leaves_no_figure_in_the_profile() -> None:
    profile = load_profile("loihi1")
    without = leave_out(profile, "RelNet")
    figures = between_setups(profile)
    for name in BETWEEN:
        found = prediction(figures, name, without="RelNet")
        assert without.corners(name) == pytest.approx([found.low, found.value, found.high])
    others = {name: [each for each in figures[name] if each[0] != "RelNet"] for name in BETWEEN}
    assert prediction(others, "power.static") == prediction(figures, "power.static", without="RelNet")
    assert without.energy == profile.energy
    without = leave_out(profile, "nearest neighbours")
    assert without.corners("energy.synaptic_operation")[0] == pytest.approx(21.12e-12)
    assert without.power["management"] == profile.power["management"]
    assert leave_out(profile, "no such run") == profile


def test_records_have_what_the_runs_say() -> None:
    search = nearest()
    record = nearest_activity(search, search.synops[1])
    assert record.total("synops") == 57_600_000 and record.total("updates_inactive") == 4_608_000
    braille = next(run for run in loihi_runs() if run.title == "braille")
    assert braille.neurons is not None
    assert stepped_activity(braille.neurons, braille.cores, active=False).total("updates_inactive") == 526


def test_a_check_says_what_it_promised() -> None:
    check = Check(case="", quantity="", unit="J", predicted=Interval(1.0, 0.9, 1.2), measured=1.25)
    assert check.error == pytest.approx(-0.2) and check.holds
    assert not replace(check, promise="interval").holds
    assert not replace(check, promise="error", bound=0.1).holds
    assert replace(check, promise="error", bound=0.21).holds


def test_documented_coverage_is_what_is_found() -> None:
    documented = (ROOT / "docs" / "validation.md").read_text()
    for row in coverage(validate_published()):
        inside = f"{row.inside} ({row.inside / row.measurements:.0%})"
        others = f"{row.held_out_inside} of {row.held_out} ({row.held_out_inside / row.held_out:.0%})"
        widths = (f"{row.width:.2g}", f"{row.held_out_width:.2g}")
        first = f"{row.kind}: {row.measurements}"
        cells = (first, inside, widths[0], others, widths[1], f"{row.error:.0%}")
        assert f"| {' | '.join(cells)} |".replace("%", " %") in documented, row


def test_documented_table_is_what_is_predicted() -> None:
    documented = (ROOT / "docs" / "validation.md").read_text()
    energies = [check for check in validate_published() if check.unit == "J" or "PilotNet" in check.case]
    assert len(energies) == 16
    for check in energies:
        predicted = check.predicted
        figures = (predicted.value, predicted.low, predicted.high, check.measured)
        cells = (check.case, check.quantity, *(si(figure, check.unit) for figure in figures))
        assert f"| {' | '.join(cells)} | {100 * check.error:+.1f} % |" in documented, check.case
