"""The schedules of compile, and what the other commands make of a bundle whose decisions are late."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.cli_support import Done, fine, make_checkpoint, make_data, stas

import stas_neuro
from stas_neuro import api
from stas_neuro.analysis import spiking_stages
from stas_neuro.bundle import load_bundle
from stas_neuro.exporters.lava.saved import load_network
from stas_neuro.passes import DelayDecisions


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that halts in raster order, one that does not, and data."""
    home = tmp_path_factory.mktemp("stale")
    make_checkpoint(home / "raster")
    make_checkpoint(home / "rectangular", accumulate="rectangular")
    make_data(home / "data.npz", 6)
    fine("compile", home / "raster", "--bits", 8, "--schedule", "pipelined-stale", "-o", home / "late.stas")
    return home


def test_compile_stores_late_decisions_in_both_arithmetics(home: Path, tmp_path: Path) -> None:
    raster = stas_neuro.fold(home / "raster")
    most = spiking_stages(raster) - 1
    bundle = load_bundle(home / "late.stas")
    assert bundle.graph == DelayDecisions(most)(raster)
    assert bundle.quantised is not None
    assert {node.late for node in bundle.quantised.accumulators} == {most}
    assert bundle.provenance.options["schedule"] == "pipelined-stale"
    assert bundle.provenance.options["late"] == most
    out = tmp_path / "two.stas"
    done = fine("compile", home / "raster", "--schedule", "pipelined-stale", "--late", 2, "-o", out, "--json")
    assert done.json["late"] == 2 == done.json["options"]["late"]
    assert load_bundle(out).graph == DelayDecisions(2)(raster)


def test_schedules_that_change_no_decision(home: Path, tmp_path: Path) -> None:
    for model, schedule in (("raster", "raster"), ("rectangular", "pipelined")):
        out = tmp_path / f"{model}.stas"
        done = fine("compile", home / model, "--schedule", schedule, "-o", out, "--json").json
        assert done["options"] == {"schedule": schedule}
        assert done["late"] == 0
        assert load_bundle(out).graph == stas_neuro.fold(home / model)


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("raster", ("--schedule", "pipelined"), "use the schedule pipelined-stale"),
        ("raster", ("--schedule", "raster", "--late", "2"), "requires the schedule pipelined-stale"),
        ("raster", ("--late", "2"), "late (2) requires the schedule pipelined-stale"),
        ("raster", ("--schedule", "pipelined-stale", "--late", "99"), "in model steps of"),
        ("rectangular", ("--schedule", "pipelined-stale"), "use the schedule pipelined"),
        ("raster", ("--schedule", "pipelined-stale", "--accumulate", "off"), "halting is off"),
    ],
)
def test_compile_refuses(home: Path, tmp_path: Path, model: str, options: tuple[str, ...], told: str) -> None:
    done = stas("compile", home / model, *options, "-o", tmp_path / "no.stas")
    assert done.code == 2
    assert told in done.err
    assert not (tmp_path / "no.stas").exists()


def test_the_schedule_leaves_weights_as_they_are(home: Path, tmp_path: Path) -> None:
    options = ("--bits", 8, "--calibrate", home / "data.npz")
    fine("compile", home / "raster", *options, "-o", tmp_path / "raster.stas")
    late = ("--schedule", "pipelined-stale", "--late", 2)
    fine("compile", home / "raster", *options, *late, "-o", tmp_path / "late.stas")
    ours, theirs = (load_bundle(tmp_path / f"{name}.stas").quantised for name in ("raster", "late"))
    assert ours is not None and theirs is not None
    assert DelayDecisions(2)(ours) == theirs


def test_inspect_tells(home: Path) -> None:
    most = spiking_stages(stas_neuro.fold(home / "raster")) - 1
    told = fine("inspect", home / "late.stas").out
    assert f"halting raster, decided {most} hardware steps late (pipelined-stale)" in told
    assert fine("inspect", home / "late.stas", "--json").json["late"] == most
    assert f"late={most}, lags=(" in fine("inspect", home / "late.stas", "--text").out


def test_verify_compares_what_can_run_it(home: Path) -> None:
    done = fine("verify", home / "late.stas", "--data", home / "data.npz", "--limit", 2, "--json").json
    assert done["passed"]
    runs = {each["run"] for part in done["parts"] for each in part["runs"]}
    assert runs == {"Lava, in-process", "reference"}
    assert "pipelined-stale" in done["left_out"]["torch"]
    refused = stas("verify", home / "late.stas", "--data", home / "data.npz", "--model", home / "raster")
    assert refused.code == 2
    assert "torch cannot run the network" in refused.err


def test_a_run_says_how_late_its_decisions_were(home: Path, tmp_path: Path) -> None:
    most = spiking_stages(stas_neuro.fold(home / "raster")) - 1
    for arithmetic in ("float", "fixed"):
        out = tmp_path / arithmetic
        fine("run", home / "late.stas", "--data", home / "data.npz", "--arithmetic", arithmetic, "-o", out)
        assert stas_neuro.read_activity(out / "activity.json").late == most


def test_only_late_runs_of_the_same_weights_are_compared(home: Path, tmp_path: Path) -> None:
    options = ("--data", home / "data.npz", "--arithmetic", "fixed", "--limit", 2)
    late = ("--schedule", "pipelined-stale")
    fine("compile", home / "raster", "--bits", 8, "-o", tmp_path / "raster.stas")
    fine("compile", home / "raster", "--bits", 4, *late, "-o", tmp_path / "narrow.stas")
    fine("compile", home / "raster", "--bits", 8, *late, "--epsilon", 0.3, "-o", tmp_path / "eager.stas")
    bundles = [tmp_path / f"{name}.stas" for name in ("raster", "narrow", "eager")]
    for bundle in (*bundles, home / "late.stas"):
        fine("run", bundle, *options, "-o", tmp_path / bundle.stem)

    def compared(name: str) -> Done:
        chips = ("--profiles", "loihi2", "--json")
        return stas("compare", tmp_path / "raster", "--stale", tmp_path / name, *chips)

    done = compared("late")
    assert done.code == 0 and done.json["unchecked"] == []
    assert {row["run"] for row in done.json["schedules"]} == {"raster", "late"}
    for name, message in (
        ("narrow", "weights of 8 bits, 'narrow' in integers, weights of 4 bits"),
        ("eager", "'eager' another"),
    ):
        refused = compared(name)
        assert refused.code == 2 and message in refused.err


def test_a_lava_package_decides_late(home: Path, tmp_path: Path) -> None:
    fine("convert", home / "late.stas", "--to", "lava", "-o", tmp_path / "package")
    bundle = load_bundle(home / "late.stas")
    assert load_network(tmp_path / "package") == bundle.graph
    data = stas_neuro.load_data(str(home / "data.npz"))
    ours, theirs = (api.run(bundle, data, backend=backend) for backend in ("reference", "lava"))
    np.testing.assert_array_equal(ours.visits, theirs.visits)
