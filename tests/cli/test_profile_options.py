"""`--set` of every command that takes a profile, and `profiles new`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from support.cli_support import fine, stas
from support.energy_runs import run as energy_run

from stas_neuro.activity import write_activity
from stas_neuro.chips import load_profile
from stas_neuro.cli import COMMANDS, cli

SETTING = "energy.synaptic_operation=20pJ"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "halting.json"
    write_activity(energy_run(), path)
    write_activity(energy_run(halting=False), tmp_path / "without.json")
    return path


def test_every_command_that_takes_a_profile_takes_set() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        flags = {flag for parameter in command.params for flag in parameter.opts}
        if {"--profile", "--profiles"} & flags:
            assert "--set" in flags, name


def test_a_set_value_is_in_the_report_and_in_the_json(record: Path) -> None:
    shown = fine("estimate", record, "--profile", "loihi2", "--set", SETTING).out
    line = "loihi2: set on the command line: energy.synaptic_operation is 20 pJ, instead of 23.6 pJ (18.9"
    assert line in shown and "figures set by the user" in shown
    document = json.loads(fine("estimate", record, "--profile", "loihi2", "--set", SETTING, "--json").out)
    assert document["set"] == {"loihi2": {"energy.synaptic_operation": "20.0 pJ"}}
    (row,) = [event for event in document["events"] if event["event"] == "synops"]
    assert (row["basis"], row["source"]) == ("set", "set on the command line")
    assert row["energy_j"]["low"] == row["energy_j"]["high"] == pytest.approx(row["count"] * 20e-12)
    assert "set on the command line" in document["sources"]
    assert "set" not in json.loads(fine("estimate", record, "--profile", "loihi2", "--json").out)


def test_set_applies_to_each_chip_of_a_comparison(record: Path) -> None:
    arguments = ("compare", record, "--baseline", f"other={record.parent / 'without.json'}")
    arguments += ("--profiles", "loihi2,loihi1", "--set", SETTING)
    shown = fine(*arguments).out
    assert shown.count("energy.synaptic_operation is 20 pJ, instead of 23.6 pJ") == 2
    document = json.loads(fine(*arguments, "--json").out)
    assert set(document["set"]) == {"loihi1", "loihi2"}
    for cost in document["estimates"]:
        assert cost["figures"]["set"] == ["energy.synaptic_operation"]


def test_wrong_settings_are_all_reported(record: Path) -> None:
    wrong = ("--set", "energy.synaptic_operation=20ns", "--set", "time.bar=3us")
    refused = stas("estimate", record, "--profile", "loihi2", *wrong)
    assert refused.code == 2
    assert refused.err.splitlines() == [
        "error: set on the command line: 2 problems; see docs/profiles.md",
        refused.err.splitlines()[1],
        "  energy.synaptic_operation is '20ns', in s (time); write energy in J, such as 20 pJ",
    ]
    assert "time.bar: there is no such entry; did you mean time.barrier?" in refused.err
    refused = stas("estimate", record, "--profile", "loihi2", "--set", "energy")
    assert refused.code == 2 and "--set 'energy' sets nothing; write ENTRY=VALUE" in refused.err


def test_profiles_show_and_validate_take_set() -> None:
    (line,) = [
        line
        for line in fine("profiles", "show", "loihi2", "--set", SETTING).out.splitlines()
        if line.startswith("energy.synaptic_operation  ")
    ]
    assert line.split()[1:4] == ["20", "pJ", "set"] and "set on the command line" in line
    assert "complete" in fine("profiles", "validate", "loihi2", "--set", SETTING).out


def test_a_fitted_profile_keeps_what_was_set(tmp_path: Path) -> None:
    board = tmp_path / "board.csv"
    board.write_text("run,spikes_out,energy_j\n" + "".join(f"{n},{n}e6,{n}e-4\n" for n in range(1, 6)))
    out = tmp_path / "fitted.toml"
    fine("calibrate", board, "--profile", "loihi1", "--set", SETTING, "-o", out)
    fitted = load_profile(out)
    found = fitted.entry("energy.synaptic_operation")
    assert (found.value, found.basis, found.source) == (20.0, "set", "set on the command line")
    assert fitted.entry("energy.spike_message").basis == "fitted"


def test_profiles_new_writes_a_profile_to_start_from(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    assert "fill it in" in fine("profiles", "new", "mine", "--from", "loihi2", "-o", path).out
    assert load_profile(path).extends == "loihi2" and "complete" in fine("profiles", "validate", path).out
    refused = stas("profiles", "new", "mine", "-o", path)
    assert refused.code == 2 and "exists" in refused.err
    document = json.loads(fine("profiles", "new", "mine", "-o", path, "--force", "--json").out)
    assert document == {"profile": str(path), "name": "mine", "extends": ""}
    path.write_text("schema_version = 1\n")
    assert stas("profiles", "new", "mine", "-o", path, "--force").code == 2
    for arguments, message in (
        (("mine", "-o", tmp_path / "mine.txt"), "does not end in .toml"),
        (("", "-o", tmp_path / "other.toml"), "name of a profile is ''"),
        (("mine", "--from", "loihi3", "-o", tmp_path / "other.toml"), "did you mean loihi2?"),
    ):
        wrong = stas("profiles", "new", *arguments)
        assert wrong.code == 2 and message in wrong.err
