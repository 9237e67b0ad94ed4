"""Commands on runs: run, estimate, compare and verify give what the API gives, as docs/cli.md says."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli_support import (
    Place,
    fine,
    make_checkpoint,
    make_data,
    make_place,
    start,
    stas,
)
from support.paths import ROOT

import stas_neuro
import stas_neuro.cli.common
from stas_neuro import compiler
from stas_neuro.activity import read_activity
from stas_neuro.bundle import load_bundle
from stas_neuro.chips import list_profiles, load_profile
from stas_neuro.data import load_data
from stas_neuro.energy import Deployment, compare, estimate, scale_width, width_of
from stas_neuro.ir import LIF
from stas_neuro.models.checkpoint import load_checkpoint, save_checkpoint
from stas_neuro.verifier import runs

DOCS = (ROOT / "docs" / "cli.md").read_text()
IMAGES = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("cli"), IMAGES)


def test_run_records_what_the_network_did(place: Place) -> None:
    data, bundle = load_data(str(place.data)), load_bundle(place.bundle)
    trace = stas_neuro.run(bundle, data)
    document = json.loads((place.run / "run.json").read_text())
    assert data.labels is not None
    assert document["accuracy"] == float((trace.predictions == data.labels).mean())
    assert document["token_ratio"] == trace.token_ratio < 1
    assert document["bundle_sha256"] == bundle.sha256
    assert document["images"] == IMAGES
    assert all(f"`{key}`" in DOCS for key in document)
    with np.load(place.run / "outputs.npz") as outputs:
        assert np.array_equal(outputs["logits"], trace.logits)
        assert np.array_equal(outputs["visits"], trace.visits)
        assert np.array_equal(outputs["labels"], data.labels)
        assert all(f"`{key}`" in DOCS for key in outputs)
    assert read_activity(place.run / "activity.json") == trace.activity


def test_backends_give_the_same_run(place: Place, tmp_path: Path) -> None:
    options = ("--data", place.data, "--limit", "3", "--backend", "lava", "-o", tmp_path / "lava", "--json")
    document = fine("run", place.bundle, *options).json
    assert (document["backend"], document["runtime"], document["images"]) == ("lava", "in-process", 3)
    assert all(f"`{key}`" in DOCS for key in document)
    with np.load(tmp_path / "lava" / "outputs.npz") as lava, np.load(place.run / "outputs.npz") as reference:
        assert np.array_equal(lava["visits"], reference["visits"][:3])
        assert np.allclose(lava["logits"], reference["logits"][:3], rtol=0, atol=1e-9)
    expected = read_activity(place.run / "activity.json").restrict(slice(0, 3))
    assert read_activity(tmp_path / "lava" / "activity.json") == expected


def test_the_deadline_reaches_lavas_own_runtime(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where even the start has no time, no run can be in time.
    monkeypatch.setattr("stas_neuro.exporters.lava.supervisor.START_S", 0.0)
    arguments = ("run", place.bundle, "--data", place.data, "--backend", "lava", "--runtime", "multiprocess")
    done = stas(*arguments, "--deadline", "0.01")
    assert done.code == 1 and "finished nothing for 0.01 s" in done.err and "raise --deadline" in done.err
    assert done.err.count("\n") == 1
    assert stas(*arguments, "--deadline", "0").code == 2


def test_run_in_float32_without_labels_or_output(place: Place, tmp_path: Path) -> None:
    unlabelled = make_data(tmp_path / "unlabelled.npz", labels=False)
    document = fine("run", place.bundle, "--data", unlabelled, "--dtype", "float32", "--json").json
    assert document["accuracy"] is None and document["dtype"] == "float32"
    assert "accuracy -" in fine("run", place.bundle, "--data", unlabelled, "--limit", "1").out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unlabelled.npz"]


def test_run_replaces_a_run_by_force_only(place: Place, tmp_path: Path) -> None:
    arguments = ("run", place.bundle, "--data", place.data, "-o", tmp_path / "run", "--limit")
    fine(*arguments, "2")
    assert stas(*arguments, "3").code == 2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"] == 2
    fine(*arguments, "3", "--force")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_estimate_is_what_the_api_says(place: Place) -> None:
    activity = read_activity(place.run / "activity.json")
    for run in (place.run, place.run / "activity.json"):
        document = fine("estimate", run, "--profile", "loihi2", "--json").json
        assert document == json.loads(json.dumps(estimate(activity, "loihi2").to_json()))
    options = ("--gating", "core", "--weight-bits", "4", "--profile", "loihi2-gated-whatif", "--json")
    cost = fine("estimate", place.run, *options).json
    assert (cost["gating"], cost["weight_bits"]) == ("core", 4)
    gated = estimate(activity, "loihi2-gated-whatif", Deployment(gating="core", weight_bits=4))
    assert cost == json.loads(json.dumps(gated.to_json()))
    full, short = (
        fine("estimate", place.run, "--profile", "loihi1", *more).out for more in (("--full",), ())
    )
    assert "Sources" in full and "Sources" not in short and "--full" in short
    assert "not measured" in full and "not measured" in short


def test_estimate_scales_a_run_to_other_widths(place: Place) -> None:
    activity = read_activity(place.run / "activity.json")
    width = width_of(activity)
    widths = f"{width},{2 * width}"
    arguments = ("estimate", place.run, "--profile", "loihi2", "--mode", "stream", "--scale-width", widths)
    found = fine(*arguments, "--json").json
    wide = estimate(scale_width(activity, 2 * width), "loihi2", Deployment(mode="stream"))
    assert [each["width"] for each in found] == [width, 2 * width]
    assert found[1]["estimate"] == json.loads(json.dumps(wide.to_json()))
    shown = fine(*arguments).out
    assert re.search(rf"^ *{2 * width} ", shown, re.MULTILINE) and "not measured" in shown


def test_compare_ranks_chips_and_tells_what_halting_saves(place: Place, tmp_path: Path) -> None:
    halting, without = (read_activity(run / "activity.json") for run in (place.run, place.without))
    profiles = [load_profile(name) for name in list_profiles()]
    document = fine("compare", place.run, "--baseline", f"no halting={place.without}", "--json").json
    expected = compare(halting, {"no halting": without}, profiles)
    assert document["comparison"] == json.loads(json.dumps(expected.to_json()))
    totals = [cost["energy_j"] and cost["energy_j"]["value"] for cost in document["estimates"]]
    assert sorted(cost["profile"] for cost in document["estimates"]) == sorted(list_profiles())
    known = [total for total in totals if total is not None]
    assert known == sorted(known) and totals[: len(known)] == known
    against = ("compare", place.run, "--baseline", str(place.without), "--profiles", "loihi2,loihi1")
    shown, short = fine(*against, "--full").out, fine(*against).out
    assert "raster / pipelined" in shown and "raster / pipelined" not in short
    assert "Energy with and without halting" in short and "not measured" in short
    flattering = ("--baseline", str(place.without), "--baseline-schedule", "raster", "--json")
    rows = fine("compare", place.run, *flattering).json["comparison"]["rows"]
    assert {(row["schedule"], row["baseline_schedule"]) for row in rows} == {("raster", "raster")}
    assert "relative to" in shown and "without" in shown and "cmos45" not in shown
    assert "relative to" not in fine("compare", place.run).out
    files = ("--csv", tmp_path / "savings.csv", "--picture", tmp_path / "savings.png")
    written = fine("compare", place.run, "--baseline", str(place.without), *files, "--json").json
    assert {row["schedule"] for row in written["schedules"]} == {"raster", "pipelined"}
    assert (tmp_path / "savings.csv").read_text().startswith("profile,baseline,run,gating,schedule")
    assert (tmp_path / "savings.png").read_bytes().startswith(b"\x89PNG")
    assert "exists" in stas("compare", place.run, "--baseline", str(place.without), *files).err
    assert "there is no baseline" in stas("compare", place.run, "--csv", tmp_path / "new.csv").err
    twice = ("--baseline", f"off={place.without}", "--baseline", f"off={place.without}")
    for same in (
        twice,
        ("--baseline", f"{place.run.name}={place.without}"),
        (*twice[:2], "--stale", twice[1]),
    ):
        assert "two runs are called" in stas("compare", place.run, *same, "--profiles", "loihi1").err
    holey = re.sub(
        r"(?ms)^\[energy.score_lookup\].*?(?=^\[)",
        "",
        (Path(stas_neuro.__file__).parent / "hw_profiles/loihi1.toml").read_text(),
    )
    (tmp_path / "holey.toml").write_text(holey)
    told = fine("compare", place.run, "--profiles", f"{tmp_path / 'holey.toml'},loihi2").out
    assert "loihi1 was not priced" in told and "energy.score_lookup" in told


def test_verify_prints_the_certificate(place: Place) -> None:
    document = fine("verify", place.bundle, "--data", place.data, "--limit", "2", "--json").json
    assert document["passed"] and document["images"] == 2 and not document["left_out"]
    (part,) = document["parts"]
    assert {run["run"] for run in part["runs"]} >= {"torch, skipping", "Lava, in-process"}
    shown = fine("verify", place.checkpoint, "--data", place.data, "--limit", "1").out
    assert (
        len(re.findall(r" equal$", shown, re.M)) == 4 and len(re.findall(r" not required$", shown, re.M)) == 3
    )
    assert "never fire" not in shown and "was not tested" not in shown


def test_verify_tells_what_it_did_not_test(place: Place, tmp_path: Path) -> None:
    model = load_checkpoint(place.checkpoint)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.config = model.config.replace(beta=-50.0)  # no score ever adds up to 1
    save_checkpoint(model, tmp_path / "silent")
    shown = fine("verify", tmp_path / "silent", "--data", place.data, "--limit", "1").out
    layers = [node.name for node in compiler.fold(model).of_type(LIF)]
    assert f"{len(layers)} of {len(layers)} layers never fire: {', '.join(layers)}\n" in shown
    assert "1 images, 0 spikes fired" in shown
    assert "no token halted, so halting was not tested\n" in shown


def test_verify_fails_where_runs_differ(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.run_lava

    def differing(graph: Any, images: Any, **options: Any) -> Any:
        trace = run(graph, images, **options)
        spikes = {name: array.copy() for name, array in trace.spikes.items()}
        spikes["blocks.1.k_lif"][0, 1, 2, 3] ^= 1
        return dataclasses.replace(trace, spikes=spikes)

    monkeypatch.setattr(runs, "run_lava", differing)
    done = stas("verify", place.bundle, "--data", place.data, "--limit", "1")
    assert done.code == 1
    assert "DIFFERS" in done.out and "blocks.1.k_lif: 1 of " in done.out
    assert "image 0, layer blocks.1.k_lif, step 2, token 2, channel 3" in done.err
    as_json = stas("verify", place.bundle, "--data", place.data, "--limit", "1", "--json")
    assert as_json.code == 1 and as_json.json["passed"] is False


def test_verify_says_when_torch_is_left_out(place: Place, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    fine("compile", checkpoint, "-o", tmp_path / "b")
    checkpoint.rename(tmp_path / "moved")
    arguments = ("verify", tmp_path / "b", "--data", place.data, "--limit", "1")
    assert "torch was skipped" in fine(*arguments).out
    assert "was skipped" not in fine(*arguments, "--model", tmp_path / "moved").out


def test_progress_without_a_terminal_is_lines_on_stderr(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = fine("run", place.bundle, "--data", place.data, "--backend", "lava", "--json")
    assert quiet.err == ""
    monkeypatch.setattr(stas_neuro.cli.common, "PLAIN_INTERVAL_S", 0.0)
    told = fine("run", place.bundle, "--data", place.data, "--limit", "3", "--backend", "lava", "--json")
    lines = [re.sub(r"about \d+ s", "about N s", line) for line in told.err.splitlines()]
    assert lines == [f"running on lava: {done} of 3, about N s left" for done in (1, 2)]
    assert told.json["images"] == 3


def test_progress_on_a_terminal_is_a_bar(place: Place) -> None:
    reading, terminal = pty.openpty()
    arguments = ("run", place.bundle, "--data", place.data, "--json")
    done = start(*arguments, stderr=terminal)
    os.close(terminal)
    drawn = os.read(reading, 65536).decode()
    os.close(reading)
    assert done.returncode == 0
    assert json.loads(done.stdout)["images"] == IMAGES
    assert "running on reference" in drawn and f"{IMAGES}/{IMAGES}" in drawn


def test_compare_refuses_what_it_cannot_price_or_compare(place: Place, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(
        'schema_version = 1\nname = "tiny"\ntitle = "Tiny"\nextends = "loihi1"\n'
        '[limits.neurons_per_core]\nvalue = 1\nlow = 1\nhigh = 1\nunit = "1"\nbasis = "assumed"\n'
        'source = "davies2018"\nnote = "a test"\n'
        '[limits.synaptic_memory_per_core]\nvalue = 1\nlow = 1\nhigh = 1\nunit = "B"\nbasis = "assumed"\n'
        'source = "davies2018"\nnote = "a test"\n'
    )
    for more in ((), ("--json",)):
        none = stas("compare", place.run, "--profiles", tmp_path / "tiny.toml", *more)
        assert none.code == 2 and "no profile could price" in none.err and "a core has 1" in none.err
    fine("compile", place.checkpoint, "--placement", "token-major", "-o", tmp_path / "placed.stas")
    fine("run", tmp_path / "placed.stas", "--data", place.data, "-o", tmp_path / "placed")
    fine("compile", place.checkpoint, "--bits", "8", "-o", tmp_path / "bits.stas")
    integers = ("--arithmetic", "fixed", "-o", tmp_path / "integers")
    fine("run", tmp_path / "bits.stas", "--data", place.data, *integers)
    for name, message in (
        ("placed", "'halting' was run without cores, 'on' on cores"),
        ("integers", "'halting' was computed in float64, 'on' in integers, weights of 8 bits"),
    ):
        told = stas("compare", place.run, "--baseline", f"on={tmp_path / name}", "--profiles", "loihi2")
        assert told.code == 2 and message in told.err
    other = make_data(tmp_path / "other.npz", IMAGES, seed=1)
    fine("run", place.bundle, "--data", other, "-o", tmp_path / "elsewhere")
    fine("run", place.bundle, "--data", place.data, "--gating", "none", "-o", tmp_path / "computed")
    for name, message in (
        ("elsewhere", "image 0 has the hash"),
        (place.run, "baseline 'on' uses halting: its token ratio is"),
    ):
        told = stas("compare", place.run, "--baseline", f"on={tmp_path / name}", "--profiles", "loihi2")
        assert told.code == 2 and message in told.err
    fine("compare", place.run, "--baseline", f"on={tmp_path / 'computed'}", "--profiles", "loihi2")
    told = stas("compare", place.without, "--baseline", place.run, "--profiles", "loihi2")
    assert told.code == 2 and f"'{place.without.name}' does not halt" in told.err


def test_compare_tells_what_old_records_do_not_say(place: Place, tmp_path: Path) -> None:
    document = json.loads((place.without / "activity.json").read_text())
    del document["origin"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    options = ("--baseline", tmp_path / "old.json", "--profiles", "loihi2")
    told = fine("compare", place.run, *options, "--json").json
    (sentence,) = told["unchecked"]
    assert sentence.startswith("'old.json' does not say ") and "on which images it ran" in sentence
    assert told["comparison"]["rows"][0]["unchecked"] == [sentence]
    shown = fine("compare", place.run, *options).out
    assert shown.count("Not checked:") == 1 and sentence in " ".join(shown.split())
    # Equal images from another file, of another type.
    data = np.load(place.data)
    np.savez(tmp_path / "copy.npz", images=(data["images"] / 255).astype(np.float32), labels=data["labels"])
    fine("run", place.bundle, "--data", tmp_path / "copy.npz", "-o", tmp_path / "copied")
    options = ("--baseline", f"off={place.without}", "--profiles", "loihi2", "--json")
    assert fine("compare", tmp_path / "copied", *options).json["unchecked"] == []
