from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from support.paths import ROOT

from stas_neuro.chips import load_profile
from stas_neuro.chips.profile import MissingEntry
from stas_neuro.energy import PRICES, estimate
from stas_neuro.energy.calibrated import Calibration, Fit
from stas_neuro.energy.calibration import calibrate
from stas_neuro.energy.measurements import Measurements, read_measurements
from stas_neuro.errors import InputError

from support.energy_runs import run as activity  # isort: skip

DOCS = ROOT / "docs" / "calibration.md"
Columns = dict[str, npt.NDArray[np.float64]]
TRUE = {
    "energy.synaptic_operation": 27e-12,
    "energy.neuron_update_active": 95e-12,
    "energy.neuron_update_inactive": 48e-12,
    "power.static": 0.6e-3,
}


def measured(columns: Columns) -> Measurements:
    """What a file of these columns would be read as."""
    count = len(next(iter(columns.values())))
    return Measurements("board.csv", "0" * 64, tuple(f"r{number}" for number in range(count)), columns)


def runs(
    seed: int = 0,
    count: int = 16,
    noise: float = 0.0,
    true: dict[str, float] = TRUE,
    tied: float | None = None,
) -> Columns:
    """Runs of loihi1 on 11 cores of one chip; events are drawn apart, so that each can be told."""
    rng = np.random.default_rng(seed)
    columns = {
        "synops": rng.integers(10**5, 10**7, count).astype(np.float64),
        "gate_synops": rng.integers(0, 10**5, count).astype(np.float64),
        "updates_active": rng.integers(10**4, 10**6, count).astype(np.float64),
        "updates_idle": rng.integers(10**4, 10**6, count).astype(np.float64),
        "latency_s": rng.uniform(1e-4, 5e-2, count),
        "cores": np.full(count, 11.0),
        "chips": np.ones(count),
    }
    if tied is not None:  # active updates go with synaptic operations, but for this spread
        active = 0.05 * (columns["synops"] + columns["gate_synops"])
        columns["updates_active"] = active * (1 + tied * rng.standard_normal(count))
    dynamic = (columns["synops"] + columns["gate_synops"]) * true["energy.synaptic_operation"]
    dynamic += columns["updates_active"] * true["energy.neuron_update_active"]
    dynamic += columns["updates_idle"] * true["energy.neuron_update_inactive"]
    static = columns["latency_s"] * 11 * true["power.static"]
    management = columns["latency_s"] * load_profile("loihi1").corners("power.management")[1]
    energy = dynamic + static + management
    if noise:
        columns["energy_std_j"] = noise * energy
        energy = energy + columns["energy_std_j"] * rng.standard_normal(count)
    return columns | {"energy_j": np.maximum(energy, 0)}


def fitted(fit: Fit) -> dict[str, float]:
    return {entry.entry: entry.fitted.value for entry in fit.entries}


def only(result: Calibration) -> Fit:
    (fit,) = result.fits
    return fit


POSITIVE = st.floats(0.1, 10)


@settings(max_examples=40, deadline=None)
@given(scales=st.tuples(POSITIVE, POSITIVE, POSITIVE, POSITIVE), seed=st.integers(0, 999))
def test_exact_measurements_give_the_entries_back(scales: tuple[float, ...], seed: int) -> None:
    true = {name: value * scale for (name, value), scale in zip(TRUE.items(), scales, strict=True)}
    fit = only(calibrate(measured(runs(seed, true=true)), "loihi1"))
    assert fitted(fit) == pytest.approx(true, rel=1e-6)
    assert fit.kept == ("power.management",) and fit.error.worst < 1e-6
    assert fit.held_out_error is not None and fit.held_out_error.worst < 1e-5
    for entry in fit.entries:
        assert entry.fitted.low <= entry.fitted.value <= entry.fitted.high
    assert all(run.fitted == pytest.approx(run.measured) for run in fit.residuals)


@pytest.mark.parametrize("deviations", [True, False])
def test_intervals_hold_the_truth_as_often_as_they_say(deviations: bool) -> None:
    rng, held = np.random.default_rng(0), []
    for seed in range(100):
        columns = runs(seed, count=10, noise=0.02 if deviations else 0.0)
        if not deviations:  # the same scatter for all, which the residuals have to tell
            columns["energy_j"] = columns["energy_j"] + 1e-6 * rng.standard_normal(10)
        fit = only(calibrate(measured(columns), "loihi1", confidence=0.9))
        held += [entry.fitted.low <= TRUE[entry.entry] <= entry.fitted.high for entry in fit.entries]
    share = np.mean(held)
    # 400 intervals, not independent. Where residuals scatter less than was given, the given scatter is taken.
    assert 0.86 < share < (1 if deviations else 0.95), share


def test_entries_are_never_negative_and_their_interval_says_that_they_may_be_nothing() -> None:
    true = TRUE | {"energy.neuron_update_active": 0.0}
    zeros = 0
    for seed in range(20):
        fit = only(calibrate(measured(runs(seed, noise=0.02, true=true)), "loihi1"))
        (entry,) = [entry for entry in fit.entries if entry.entry == "energy.neuron_update_active"]
        assert entry.fitted.value >= 0 and entry.fitted.high >= entry.fitted.value >= entry.fitted.low == 0
        zeros += entry.fitted.value == 0
        assert "energy.neuron_update_active is not significantly different from 0" in fit.warnings
    assert 3 <= zeros <= 17  # about half: noise pushes the others up


@pytest.mark.parametrize("deviations", [True, False])
def test_the_fit_and_the_runs_left_out_are_those_of_another_solver(deviations: bool) -> None:
    columns = runs(3, count=9, noise=0.05)
    weights = 1 / columns["energy_std_j"] if deviations else np.ones(9)
    if not deviations:
        del columns["energy_std_j"]
    fit = only(calibrate(measured(columns), "loihi1"))
    management = columns["latency_s"] * 22.1e-3
    table = np.stack(
        [
            columns["synops"] + columns["gate_synops"],
            columns["updates_active"],
            columns["updates_idle"],
            columns["latency_s"] * 11,
        ],
        axis=1,
    ) * np.array([1e-12, 1e-12, 1e-12, 1e-3])

    def other(rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        scaled, right = (
            table[rows] * weights[rows, None],
            (columns["energy_j"] - management)[rows] * weights[rows],
        )
        size = np.linalg.norm(scaled, axis=0)
        solved = lsq_linear(
            scaled / size, right / np.linalg.norm(right), (0, np.inf), tol=1e-14, method="bvls"
        )
        return np.asarray(solved.x / size * np.linalg.norm(right))

    whole = other(np.arange(9))
    assert list(fitted(fit).values()) == pytest.approx(whole * [1e-12, 1e-12, 1e-12, 1e-3], rel=1e-6)
    predicted = np.array(
        [table[row] @ other(np.delete(np.arange(9), row)) + management[row] for row in range(9)]
    )
    assert [run.held_out for run in fit.residuals] == pytest.approx(predicted, rel=1e-6)
    errors = np.abs(predicted - columns["energy_j"]) / columns["energy_j"]
    assert fit.held_out_error is not None
    assert (fit.held_out_error.mean, fit.held_out_error.worst) == pytest.approx((errors.mean(), errors.max()))


def test_the_error_before_is_that_of_the_profile() -> None:
    profile, columns = load_profile("loihi1"), runs(5)
    fit = only(calibrate(measured(columns), "loihi1"))
    value = {name: float(profile.corners(name)[1]) for name in (*TRUE, "power.management")}
    told = (columns["synops"] + columns["gate_synops"]) * value["energy.synaptic_operation"]
    told += columns["updates_active"] * value["energy.neuron_update_active"]
    told += columns["updates_idle"] * value["energy.neuron_update_inactive"]
    told += columns["latency_s"] * (11 * value["power.static"] + value["power.management"])
    assert [run.before for run in fit.residuals] == pytest.approx(told)
    for entry in fit.entries:
        assert entry.before is not None and entry.before.value == value[entry.entry]


def test_what_is_not_fitted_stays_and_is_subtracted() -> None:
    columns = runs(2)
    profile = load_profile("loihi1")
    result = calibrate(measured(columns), "loihi1", fit=["energy.synaptic_operation"])
    fit = only(result)
    assert set(fit.kept) == {*TRUE, "power.management"} - {"energy.synaptic_operation"}
    rest = columns["updates_active"] * 81e-12 + columns["updates_idle"] * 52e-12
    rest += columns["latency_s"] * (11 * 0.47e-3 + 22.1e-3)
    count = columns["synops"] + columns["gate_synops"]
    slope = float(count @ (columns["energy_j"] - rest) / (count @ count))
    assert fitted(fit) == pytest.approx({"energy.synaptic_operation": slope})
    assert profile.entry("power.static").value == 0.47


@pytest.mark.parametrize("spread", [0.0, 0.003])
def test_columns_that_go_together_are_named(spread: float, tmp_path: Path) -> None:
    result = calibrate(measured(runs(1, noise=0.01, tied=spread)), "loihi1")
    fit = only(result)
    (warning,) = [warning for warning in fit.warnings if "separated" in warning]
    assert warning.startswith("energy.synaptic_operation and energy.neuron_update_active cannot be separated")
    assert "fewer targets" in warning
    by_name = {entry.entry: entry for entry in fit.entries}
    pair = by_name["energy.synaptic_operation"], by_name["energy.neuron_update_active"]
    others = by_name["energy.neuron_update_inactive"], by_name["power.static"]
    if spread:
        assert fit.condition_number is not None and fit.condition_number > 30
        assert all((entry.inflation or 0) > 100 for entry in pair)
    else:
        assert fit.condition_number is None and "20 to 20 of the first for each of the second" in warning
        assert all(entry.inflation is None and entry.fitted.low == 0 for entry in pair)
        # Alone, each would take what both take together.
        both = pair[0].fitted.value + 0.05 * pair[1].fitted.value
        assert pair[0].fitted.high > 0.95 * both and 0.05 * pair[1].fitted.high > 0.95 * both
        # Of all that explain the runs equally well, the nearest to the profile: both above it, none at 0.
        assert all(entry.before and entry.fitted.value > 0.5 * entry.before.value for entry in pair)
    assert all(entry.inflation is not None and entry.inflation < 30 for entry in others)
    for entry in others:
        assert entry.fitted.low <= TRUE[entry.entry] <= entry.fitted.high
    written = result.write(tmp_path / "board.toml")
    assert warning in written.notes
    well = only(calibrate(measured(runs(1, noise=0.01)), "loihi1"))
    assert not any("separated" in told for told in well.warnings)


def test_time_is_fitted_where_it_is_a_sum(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    columns: Columns = {
        "busiest_synops": rng.integers(10**4, 10**5, 8).astype(np.float64),
        "busiest_updates_idle": rng.integers(10**4, 10**5, 8).astype(np.float64),
        "hardware_steps": rng.integers(10, 200, 8).astype(np.float64),
    }
    columns["time_s"] = columns["busiest_synops"] * 4e-9 + columns["busiest_updates_idle"] * 6e-9
    columns["time_s"] += columns["hardware_steps"] * 2e-6
    result = calibrate(measured(columns), "loihi1")
    true = {"time.synaptic_operation": 4e-9, "time.neuron_update_inactive": 6e-9, "time.barrier": 2e-6}
    assert only(result).quantity == "time_s" and fitted(only(result)) == pytest.approx(true)
    written = result.write(tmp_path / "board.toml")
    assert written.entry("time.barrier").unit == "ns" and written.entry(
        "time.barrier"
    ).value == pytest.approx(2000)
    assert "contained in the barrier" in str(written.reason("time.management_step"))
    # A barrier that is not fitted is subtracted together with the time of the processors.
    known = columns["busiest_updates_idle"] * 5.3e-9 + columns["hardware_steps"] * (465e-9 + 9.7e-6)
    whole = columns | {"time_s": columns["busiest_synops"] * 4e-9 + known}
    kept = calibrate(measured(whole), "loihi1", fit=["time.synaptic_operation"])
    assert fitted(only(kept)) == pytest.approx({"time.synaptic_operation": 4e-9})
    assert only(kept).kept == ("time.neuron_update_inactive", "time.barrier", "time.management_step")
    assert kept.write(tmp_path / "kept.toml").reason("time.management_step") is None
    many = calibrate(measured(columns | {"chips": np.full(8, 2.0)}), "loihi1")
    assert "time.barrier_multi_chip" in fitted(only(many)) and "time.barrier" not in fitted(only(many))
    with pytest.raises(InputError, match="step_law max"):
        calibrate(measured(columns), "loihi2")
    with pytest.raises(InputError, match="has no column time_s"):
        calibrate(measured({name: columns[name] for name in columns if name != "time_s"}), "loihi1")


def test_energy_and_time_can_be_fitted_at_once() -> None:
    columns = runs(6)
    columns["time_s"] = columns.pop("latency_s")
    columns["busiest_synops"] = columns["synops"] / 11
    result = calibrate(measured(columns), "loihi1")
    assert [fit.quantity for fit in result.fits] == ["energy_j", "time_s"]
    assert fitted(result.fits[0]) == pytest.approx(TRUE, rel=1e-6)  # time_s is the latency, too


def test_the_file_extends_the_profile_and_prices(tmp_path: Path) -> None:
    above = tmp_path / "mine.toml"
    above.write_text('schema_version = 1\nname = "mine"\ntitle = "Mine"\nextends = "loihi1"\n')
    result = calibrate(measured(runs(noise=0.02)), above)
    written = result.write(tmp_path / "deep" / "board 3.toml")
    again = load_profile(tmp_path / "deep" / "board 3.toml")
    assert again == written and again.name == "board 3" and again.extends == "../mine.toml"
    assert again.missing() == [] and again.title == "Mine, calibrated"
    for entry in only(result).entries:
        given = again.entry(entry.entry)
        assert given.basis == "fitted" and "16 measured runs" in again.sources[given.source].citation
        assert given.interval == "95 % confidence interval of a fit to 16 runs"
        known = entry.fitted
        assert again.corners(entry.entry) == pytest.approx([known.low, known.value, known.high], rel=1e-5)
        assert entry.entry not in again.inherited
    assert again.inherited["energy.hop_x"] == "loihi1"
    assert any("fitted within" in note for note in again.notes)
    assert any(note.startswith("mine: ") for note in again.notes)
    fitted_cost, cost = estimate(activity(), again), estimate(activity(), "loihi1")
    for new, old in zip(fitted_cost.events, cost.events, strict=True):
        if new.entry in again.inherited:
            assert new.energy_j == old.energy_j
        else:
            assert new.energy_j.value == pytest.approx(new.count * again.corners(new.entry)[1])
            assert new.basis == "fitted" and new.source in fitted_cost.sources
    twice = calibrate(replace(measured(runs(9)), sha256="1" * 64), tmp_path / "deep" / "board 3.toml")
    last = twice.write(tmp_path / "deep" / "board 3 again.toml")
    assert last.entry("energy.synaptic_operation").source != again.entry("energy.synaptic_operation").source
    same = replace(twice, source="other.csv").write(tmp_path / "other" / "board 3.toml")
    assert same.entry("energy.synaptic_operation").source == "board-3-2"


@pytest.mark.parametrize("name", ['quoted "3" \\ of \x7f\u00fc', "tab\tand\nline", "\u00e9"])
def test_any_file_name_makes_a_profile(name: str, tmp_path: Path) -> None:
    written = calibrate(measured(runs()), "loihi1").write(tmp_path / f"{name}.toml")
    assert written.name == name and load_profile(tmp_path / f"{name}.toml") == written


def test_an_entry_that_the_profile_did_not_have_is_added(tmp_path: Path) -> None:
    columns: Columns = {"chip_crossings": np.array([1e5, 2e5, 4e5, 8e5])}
    columns["energy_j"] = columns["chip_crossings"] * 5e-11
    result = calibrate(measured(columns), "loihi1")
    assert only(result).entries[0].before is None and only(result).error_before is None
    written = result.write(tmp_path / "links.toml")
    assert (
        written.entry("energy.chip_crossing").unit == "pJ" and written.reason("energy.chip_crossing") is None
    )
    assert written.corners("energy.chip_crossing")[1] == pytest.approx(5e-11)
    assert written.entry("energy.chip_crossing").note == ""


def test_events_that_never_happened_stay(tmp_path: Path) -> None:
    columns = runs() | {"hops_x": np.zeros(16)}
    result = calibrate(measured(columns), "loihi1")
    assert "energy.hop_x has no counts in any run: it is not changed" in only(result).warnings
    written = result.write(tmp_path / "board.toml")
    assert written.entry("energy.hop_x") == load_profile("loihi1").entry("energy.hop_x")


def test_without_latency_energy_is_taken_as_dynamic() -> None:
    columns = runs()
    dynamic = {
        name: column for name, column in columns.items() if name not in ("latency_s", "cores", "chips")
    }
    fit = only(calibrate(measured(dynamic), "loihi1"))
    assert "power.static" not in fitted(fit) and fit.kept == ()


def _part(*names: str, **changes: Any) -> Columns:
    columns = runs(count=5) | changes
    return {name: columns[name] for name in columns if name not in names}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({name: column[:3] for name, column in runs().items()}, {}, "has 3 runs for 4 entries"),
        ({name: column[:4] for name, column in runs().items()}, {}, "has 4 runs for 4 entries"),
        (_part("energy_j"), {}, "has nothing to fit"),
        ({"energy_j": np.ones(3)}, {}, "has nothing to fit"),
        (_part(), {"fit": ["energy.hop_x"]}, "has no columns for energy.hop_x"),
        (_part("cores"), {}, "has no column cores, and power.static is per core"),
        (_part("chips"), {}, "has no column chips, and power.management is per chip"),
        (_part(), {"confidence": 1.0}, "confidence is 1.0"),
        (_part(energy_j=np.zeros(5)), {}, "all measured values are 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(columns: Columns, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        calibrate(measured(columns), "loihi1", **options)
    assert message in str(caught.value)


def test_runs_that_repeat_are_no_more_runs() -> None:
    one = {name: np.repeat(column[:1], 6) for name, column in runs().items()}
    with pytest.raises(InputError, match=r"has 6 runs for 4 entries .*, of which 1 differ in their counts"):
        calibrate(measured(one), "loihi1")


def test_nothing_is_fitted_to_what_is_less_than_the_part_that_stays() -> None:
    columns = runs()
    management = columns["latency_s"] * load_profile("loihi1").corners("power.management")[1]
    low = columns | {"energy_j": 0.3 * management}
    with pytest.raises(InputError, match=r"\(power.management\) exceed .* nothing is left to fit; fit the"):
        calibrate(measured(low), "loihi1")
    # Where all of it is fitted, nothing is subtracted.
    calibrate(measured(low), "loihi1", fit=[*TRUE, "power.management"])
    energy = np.where(np.arange(16) < 4, 0.3 * management, columns["energy_j"])
    fit = only(calibrate(measured(columns | {"energy_j": energy}), "loihi1"))
    told = [warning for warning in fit.warnings if "exceed the measured value in" in warning]
    assert len(told) == 1 and "in runs r0, r1, r2 and 1 more" in told[0] and "(--fit)" in told[0]


def test_a_fit_of_nothing_is_refused() -> None:
    columns: Columns = {
        "synops": np.array([1e6, 2e6, 3e6, 4e6]),
        "updates_idle": np.array([9e9, 0.0, 0.0, 0.0]),
        "energy_j": np.array([1e-6, 1e-9, 1e-9, 1e-9]),
    }
    with pytest.raises(InputError, match=r"is 0 for each of energy.synaptic_operation.*subtracted \(ene"):
        calibrate(measured(columns), "loihi1", fit=["energy.synaptic_operation"])


def warnings_of(columns: Columns, **options: Any) -> str:
    fit = only(calibrate(measured(columns), "loihi1", **options))
    assert all("\n" not in warning for warning in fit.warnings)
    return "\n".join(fit.warnings)


def small(*energies: float) -> Columns:
    """Runs of two entries that can be told apart."""
    counts = np.array([[1e6, 1e5], [2e6, 4e4], [3e6, 3e5], [5e6, 1e5], [8e6, 6e5], [9e6, 2e5]])
    return {"synops": counts[:, 0], "updates_active": counts[:, 1], "energy_j": np.array(energies)}


SCATTER = np.array([1.02, 0.98, 1.01, 0.99, 1.01, 0.99])
GOOD = (small(*np.zeros(6))["synops"] * 25e-12 + small(*np.zeros(6))["updates_active"] * 90e-12) * SCATTER


def test_nothing_speaks_against_a_good_fit() -> None:
    assert warnings_of(small(*GOOD)) == ""


def test_what_speaks_against_a_fit_is_told() -> None:
    exact = warnings_of(small(*(GOOD / SCATTER)))
    assert "the interval of energy.synaptic_operation has no width" in exact
    nothing = warnings_of(small(*GOOD[:5], 0.0))
    assert "run r5 measured 0 J" in nothing and "the fit misses its own runs by" in nothing
    few = warnings_of({name: column[:3] for name, column in small(*GOOD).items()})
    assert "3 different runs for 2 entries leave 1 to test the fit:" in few
    large = small(*GOOD)
    for name, factor in (("synops", 1e4), ("updates_active", 1e2), ("energy_j", 1e4)):
        large[name] = large[name] * np.where(np.arange(6) == 2, factor, 1)
    alone = warnings_of(large)
    assert "run r2 alone determines" in alone and "add standard deviations" in alone
    given = warnings_of(large | {"energy_std_j": 0.02 * large["energy_j"]})
    assert "alone determines" not in given
    # Only one run tells of hops, at another price than before: nothing predicts it.
    lone = small(*GOOD) | {"hops_x": np.array([0, 0, 0, 0, 0, 1e8])}
    lone["energy_j"] = lone["energy_j"] + lone["hops_x"] * 60e-12
    assert "runs left out of a fit are missed by" in warnings_of(lone)


def test_an_entry_at_its_bound_is_told_and_has_an_interval() -> None:
    columns = small(*GOOD)
    columns["energy_j"] = GOOD - columns["updates_active"] * 120e-12  # less than nothing for each update
    fit = only(calibrate(measured(columns), "loihi1"))
    update = fit.entries[1]
    assert update.fitted.value == update.fitted.low == 0 < update.fitted.high
    assert any("energy.neuron_update_active is fitted to 0" in warning for warning in fit.warnings)
    assert "energy.neuron_update_active is not significantly different from 0" in fit.warnings


def test_a_profile_that_was_better_is_told() -> None:
    profile = load_profile("loihi1")
    columns = small(*GOOD)
    synapse, update = (
        profile.corners(f"energy.{name}")[1] for name in ("synaptic_operation", "neuron_update_active")
    )
    columns["energy_j"] = columns["synops"] * synapse + columns["updates_active"] * update
    columns["energy_j"][-1] *= 2  # one large run is off, and decides the fit
    assert "the original profile misses the runs by" in warnings_of(columns)


def test_every_entry_that_the_runs_leave_open_is_told() -> None:
    columns = runs(count=8, noise=0.01)
    columns["updates_idle"] = columns["synops"] + columns["gate_synops"]
    columns["updates_active"] = 2 * columns["updates_idle"]
    fit = only(calibrate(measured(columns), "loihi1"))
    for entry in fit.entries:
        if entry.inflation is None:
            assert any(entry.entry in warning for warning in fit.warnings), entry.entry


def test_runs_that_took_no_time_are_told() -> None:
    columns = runs(noise=0.01)
    columns["latency_s"][:2] = 0
    told = warnings_of(columns)
    for name in ("power.static", "power.management"):
        assert (
            f"runs r0, r1 took no time, or no cores or chips, so {name} contributes nothing to them" in told
        )
    columns["latency_s"][:] = 0
    assert (
        "power.static has no counts in any run: it is not changed (time, or cores or chips, are 0"
        in warnings_of(columns)
    )


def test_a_confidence_that_rounds_to_1_is_refused() -> None:
    with pytest.raises(InputError, match="confidence is"):
        calibrate(measured(runs()), "loihi1", confidence=float(np.nextafter(1, 0)))


def test_what_is_kept_has_to_be_in_the_profile() -> None:
    columns = _part() | {"chip_crossings": np.ones(5)}
    with pytest.raises(MissingEntry, match=r"energy\.chip_crossing"):
        calibrate(measured(columns), "loihi1", fit=["energy.synaptic_operation"])


def test_as_many_runs_as_entries_need_their_deviations() -> None:
    columns = {name: column[:4] for name, column in runs(noise=1e-6).items()}
    fit = only(calibrate(measured(columns), "loihi1"))
    assert fit.held_out_error is None and all(run.held_out is None for run in fit.residuals)
    assert fitted(fit) == pytest.approx(TRUE, rel=1e-3)
    assert all(entry.fitted.low < entry.fitted.value < entry.fitted.high for entry in fit.entries)


def write_csv(path: Path, columns: Columns, label: str = "run") -> Path:
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow([label, *columns])
        for number, cells in enumerate(zip(*columns.values(), strict=True)):
            rows.writerow([f"r{number}", *(repr(float(cell)) for cell in cells)])
    return path


def test_a_file_says_what_its_columns_say(tmp_path: Path) -> None:
    columns = runs(noise=0.01)
    path = write_csv(tmp_path / "board.csv", columns)
    read = read_measurements(path)
    assert read.runs[:2] == ("r0", "r1") and len(read.sha256) == 64
    assert all((read.columns[name] == column).all() for name, column in columns.items())
    result, same = calibrate(path, "loihi1"), calibrate(measured(columns), "loihi1")
    assert only(result) == only(same)
    path.write_bytes(
        b"\xef\xbb\xbf" + path.read_bytes().replace(b"run,", b" synops ,", 1).replace(b"synops,", b"macs,", 1)
    )
    with pytest.raises(InputError, match="synops is 'r0'"):
        read_measurements(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no run"),
        ("synops,energy_j\n", "has no run"),
        ("spikes,energy_j\n1,2\n", "there is no column 'spikes'"),
        ("synops,synops\n1,2\n", "column synops occurs more than once"),
        ("run,synops,energy_j\na,1\n", "run 1 has 2 cells, the header has 3"),
        ("run,synops,energy_j\na,x,1\n", "run a: synops is 'x'"),
        ("synops,energy_j\n1,1\n-1,1\n", "run 2: synops is '-1'"),
        ("synops,energy_j\nnan,1\n", "run 1: synops is 'nan'"),
        ("synops,energy_std_j\n1,0\n", "run 1: energy_std_j is 0"),
        ('synops\n"1', "unexpected end of data"),
        ("synops\n\xff", "decode"),
    ],
)
def test_wrong_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        read_measurements(path)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))


def test_the_docs_name_every_column_and_field() -> None:
    from dataclasses import fields

    from stas_neuro.energy import calibrated, measurements

    text = DOCS.read_text()
    assert all(f"`{price.event}`" in (DOCS.parent / "energy.md").read_text() for price in PRICES)
    for name in (measurements.LABEL, *measurements.QUANTITIES, measurements.BUSIEST):
        assert f"`{name}" in text, name
    for kind in (Calibration, Fit, calibrated.FittedEntry, calibrated.RunResidual, calibrated.Error):
        for field in fields(kind):
            assert f"`{field.name}`" in text, field.name
