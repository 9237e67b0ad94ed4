from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.cli_support import fine, stas
from support.energy_runs import run
from support.paths import ROOT

from stas_neuro.activity import write_activity
from stas_neuro.chips import load_profile
from stas_neuro.energy.calibration import calibrate

DOCS = ROOT / "docs" / "calibration.md"
ROWS = """run,synops,updates_idle,latency_s,cores,chips,energy_j
blank,0,2000000,0.01,11,1,{0}
few,1000000,1900000,0.012,11,1,{1}
some,4000000,1000000,0.008,11,1,{2}
many,9000000,500000,0.02,11,1,{3}
idle,0,100000,0.05,11,1,{4}
"""


@pytest.fixture
def board(tmp_path: Path) -> Path:
    counts = np.array([[0, 2e6], [1e6, 1.9e6], [4e6, 1e6], [9e6, 5e5], [0, 1e5]])
    latency = np.array([0.01, 0.012, 0.008, 0.02, 0.05])
    scatter = np.array([1.01, 0.99, 1.0, 1.01, 0.99])
    energy = (counts @ [30e-12, 50e-12] + latency * (11 * 0.5e-3 + 22.1e-3)) * scatter
    path = tmp_path / "board.csv"
    path.write_text(ROWS.format(*energy))
    return path


def test_calibrate_says_what_the_api_says(board: Path) -> None:
    output = board.parent / "board.toml"
    document = fine("calibrate", board, "--profile", "loihi1", "-o", output, "--json").json
    assert document == calibrate(board, "loihi1").to_json() | {"fits": document["fits"]}
    (fit,), (own,) = document["fits"], calibrate(board, "loihi1").fits
    assert [entry["fitted"]["value"] for entry in fit["entries"]] == [e.fitted.value for e in own.entries]
    assert load_profile(output).extends == "loihi1"
    told = stas("calibrate", board, "--profile", "loihi1", "-o", output)
    assert told.code == 2 and "use --force to replace it" in told.err
    shown = fine("calibrate", board, "--profile", "loihi1", "-o", output, "--force").out
    assert all(run in shown for run in ("blank", "few", "some", "many", "idle"))
    assert all(entry.entry in shown for entry in own.entries) and "95 % interval" in shown
    assert "error of the held-out runs" in shown and "which extends loihi1" in shown
    assert "taken from the profile, and subtracted: power.management" in shown
    fine("profiles", "validate", output)
    assert "fitted" in fine("profiles", "show", output).out


def test_options_reach_the_fit(board: Path) -> None:
    output = board.parent / "board.toml"
    options = ("--fit", "energy.synaptic_operation, power.static", "--confidence", "0.5", "--json")
    (fit,) = fine("calibrate", board, "--profile", "loihi1", "-o", output, *options).json["fits"]
    assert [entry["entry"] for entry in fit["entries"]] == ["energy.synaptic_operation", "power.static"]
    assert "energy.neuron_update_inactive" in fit["kept"]
    assert "50 % confidence" in load_profile(output).entry("power.static").interval


def test_what_speaks_against_a_fit_is_in_text_json_and_profile(tmp_path: Path) -> None:
    board, output = tmp_path / "board.csv", tmp_path / "board.toml"
    rows = ("1000000,0.01,2,1,3e-5", "4000000,0.012,2,1,1.2e-4", "9000000,0.02,2,1,2.7e-4")
    board.write_text("\n".join(("synops,latency_s,cores,chips,energy_j", *rows)))
    told = stas("calibrate", board, "--profile", "loihi1", "-o", output)
    assert told.code == 2 and "(power.management) exceed the measured value in runs 1, 2, 3" in told.err
    assert "nothing is left to fit" in told.err and not output.exists()
    board.write_text("\n".join((board.read_text(), "5000000,0.05,2,1,0.0015", "100,0.5,2,1,0.0118")))
    options = ("calibrate", board, "--profile", "loihi1", "-o", output)
    (fit,) = fine(*options, "--json").json["fits"]
    shown = fine(*options, "--force").out
    assert fit["warnings"] == list(calibrate(board, "loihi1").fits[0].warnings)
    assert any("exceed the measured value in runs 1, 2, 3" in warning for warning in fit["warnings"])
    assert any("the fit misses its own runs" in warning for warning in fit["warnings"])
    for warning in fit["warnings"]:
        assert f"warning: {warning}\n" in shown and warning in load_profile(output).notes


def test_estimates_with_it_say_that_figures_are_own(board: Path) -> None:
    output = board.parent / "board.toml"
    fine("calibrate", board, "--profile", "loihi1", "-o", output)
    write_activity(run(), board.parent / "run.json")
    cost = fine("estimate", board.parent / "run.json", "--profile", output, "--json").json
    assert cost["figures"]["own"] == [
        "energy.synaptic_operation",
        "energy.neuron_update_inactive",
        "power.static",
    ]
    words = "estimated from published figures, figures of own measurements and assumed figures, not measured"
    assert cost["disclaimer"] == words
    shown = fine("estimate", board.parent / "run.json", "--profile", output).out.replace("\n", " ")
    assert f"All figures are {words}." in shown
    shown = fine("compare", board.parent / "run.json", "--profiles", output).out.replace("\n", " ")
    assert f"All figures are {words}." in shown


def test_nothing_else_is_replaced(board: Path) -> None:
    other = board.parent / "other.toml"
    other.write_text("mine = 1\n")
    told = stas("calibrate", board, "--profile", "loihi1", "-o", other, "--force")
    assert told.code == 2 and "was not written by calibrate" in told.err and other.read_text() == "mine = 1\n"
    told = stas("calibrate", board, "--profile", "loihi1", "-o", board.parent / "board.json")
    assert told.code == 2 and "does not end in .toml" in told.err


def test_without_scipy_it_says_how_to_get_it(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    told = stas("calibrate", board, "--profile", "loihi1", "-o", board.parent / "board.toml")
    assert told.code == 2 and "pip install 'scipy>=" in told.err
    assert not (board.parent / "board.toml").exists()


def test_the_example_of_the_docs_works_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```$", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    command = next(line for block in blocks for line in block.splitlines() if " calibrate board.csv" in line)
    (example,) = (block for block in blocks if block.startswith("run,"))
    monkeypatch.chdir(tmp_path)
    Path("board.csv").write_text(example)
    fitted = fine(*command.split()[1:]).out
    assert f"energy of {len(example.splitlines()) - 1} runs" in fitted
    assert load_profile(Path("board.toml")).entry("energy.synaptic_operation").basis == "fitted"
