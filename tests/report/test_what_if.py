"""A chip that cannot run a network is compiled for and priced, and all that say so call it a what-if."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from support.cli_support import Place, fine, make_checkpoint, make_place
from support.energy_runs import run, without
from support.paths import DOCS

import stas_neuro
from stas_neuro.activity import ActivityBuilder, Layer, step_labels, write_activity
from stas_neuro.assets import IMAGES, asset
from stas_neuro.checker import check
from stas_neuro.chips import load_profile
from stas_neuro.energy import compare, estimate


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("what-if"), 3)


def test_compile_says_what_check_says(place: Place, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    arguments = ("compile", place.checkpoint, "--bits", "8", "-o", bundle)
    done = fine(*arguments, "--profile", "loihi1", "--json")
    (verdict,) = check(bundle, ["loihi1"]).verdicts
    assert done.json["check"] == json.loads(json.dumps(asdict(verdict)))
    assert done.json["check_unknown"] is None and verdict.fits is False
    told = fine(*arguments, "--profile", "loihi1", "--force").out
    worst = verdict.findings[0]
    line = (
        f"loihi1 cannot run this network: {verdict.count('error')} problems, the worst is "
        f"{worst.resource} of {worst.layer} ({worst.used}; limit: {worst.limit})"
    )
    assert line in told and "what-if" in told
    assert f"stas-export check {bundle} --profile loihi1 lists all" in told
    other = fine(*arguments, "--force")
    assert "cannot run" not in other.out
    assert fine(*arguments, "--force", "--json").json["check"]["profile"] == "loihi2"
    # A float network by itself is of no chip; on cores it is.
    assert fine("compile", place.checkpoint, "-o", tmp_path / "float", "--json").json["check"] is None
    cores = ("--placement", "token-major", "--profile", "loihi1")
    assert "loihi1 cannot run" in fine("compile", place.checkpoint, "-o", tmp_path / "c", *cores).out


def test_every_field_of_compile_is_documented(place: Place, tmp_path: Path) -> None:
    options = ("--bits", "8", "--placement", "token-major", "-o", tmp_path / "bundle", "--json")
    text = (DOCS / "cli.md").read_text()
    (section,) = re.findall(r"^### `stas-export compile .*?(?=^###)", text, re.M | re.S)
    for field in fine("compile", place.checkpoint, *options).json:
        assert f"`{field}`" in section, field


def test_compile_does_not_need_all_that_a_check_does(place: Place, tmp_path: Path) -> None:
    text = (Path(stas_neuro.__file__).parent / "hw_profiles/loihi2.toml").read_text()
    holey = re.sub(r"(?ms)^\[limits.threshold_bits\].*?(?=^\[)", "", text)
    (tmp_path / "holey.toml").write_text(holey)
    arguments = ("compile", place.checkpoint, "--bits", "8", "--profile", tmp_path / "holey.toml")
    document = fine(*arguments, "-o", tmp_path / "a", "--json").json
    assert document["check"] is None and "no limits.threshold_bits" in document["check_unknown"]
    assert (
        "holey.toml can run it: profile loihi2 has no limits.threshold_bits"
        in fine(*arguments, "-o", tmp_path / "b").out
    )


def test_compile_warns_of_weights_that_became_0(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["blocks.0.q_bn.weight"] *= 1e-9
    tensors["blocks.1.fc1_bn.weight"][3] = 0
    save_file(tensors, checkpoint / "model.safetensors")
    told = fine("compile", checkpoint, "--bits", "8", "-o", tmp_path / "bundle").out
    assert "warning: blocks.0.q: all weights of 16 of 16 output channels are 0; raise the scale" in told
    assert "warning: blocks.0.q: 256 of its 256 weights became 0; raise the scale" in told
    assert "warning: blocks.1.fc1: all weights of 1 of 16 output channels are 0; more weight bits" in told
    assert told.count("warning: ") == 3 and "cannot run" not in told
    again = fine("compile", checkpoint, "--bits", "8", "-o", tmp_path / "bundle", "--force", "--json").json
    lost = [f for f in again["check"]["findings"] if f["resource"] in ("zero weights", "lost weights")]
    assert [(f["layer"], f["used"], f["limit"]) for f in lost] == [
        ("blocks.0.q", 16, 16), ("blocks.0.q", 256, 256), ("blocks.1.fc1", 1, 16),
    ]  # fmt: skip


@pytest.mark.parametrize("arithmetic", ["float", "fixed"])
def test_a_record_shows_what_check_finds(arithmetic: str) -> None:
    """Of the shipped Spikformer all of it: its stem adds up nothing, and no residual current is sent."""
    graph = stas_neuro.fold(asset("models/fashion-spikformer"))
    profile = load_profile("loihi1")
    program = stas_neuro.quantise(graph, arithmetic=profile.arithmetic)
    data = stas_neuro.load_data(str(asset(IMAGES)))
    trace = stas_neuro.run(graph if arithmetic == "float" else program, data, limit=2)
    (verdict,) = check(program, [profile]).verdicts
    errors = [finding for finding in verdict.findings if finding.severity == "error"]
    found = estimate(trace.activity, profile).what_if
    assert found is not None
    ours, theirs = ([(f.resource, f.layer, f.remedy) for f in each] for each in (found, errors))
    assert ours == theirs and len(ours) == 17
    assert estimate(trace.activity, "loihi2").what_if == ()


def test_prices_say_that_they_are_what_ifs(place: Place, tmp_path: Path) -> None:
    known = estimate(stas_neuro.read_activity(place.run / "activity.json"), "loihi1").what_if
    assert known
    line = (
        f"what-if: loihi1 cannot run this network, according to the counts: {len(known)} problems, the "
        "worst is spike products of blocks.0.attn (needed; limit: none); stas-export check lists all"
    )
    assert line in fine("estimate", place.run, "--profile", "loihi1").out
    assert fine("estimate", place.run, "--profile", "loihi1", "--json").json["what_if"] == [
        asdict(finding) for finding in known
    ]
    assert "what-if" not in fine("estimate", place.run, "--profile", "loihi2").out
    shown = fine("compare", place.run, "--profiles", "loihi2,loihi1").out
    assert line in shown and shown.count("what-if") == 1
    with_baseline = (
        "compare", place.run, "--baseline", f"none={place.without}", "--profiles", "loihi1,loihi2",
        "--csv", tmp_path / "s.csv",
    )  # fmt: skip
    told = " ".join(fine(*with_baseline).out.split())
    assert "what-if: loihi1 cannot run the network with halting, 'none', according to the counts: " in told
    assert told.count("what-if") == 1
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert [(row["profile"], row["with_what_if"]) for row in rows] == [
        ("loihi1", str(len(known))), ("loihi2", "0"),
    ]  # fmt: skip
    assert 0 < int(rows[0]["without_what_if"]) < len(known)
    (document,) = fine(*with_baseline[:-2], "--profiles", "loihi1", "--json").json["estimates"]
    assert document["what_if"] == [asdict(finding) for finding in known]


def test_counts_of_another_tool_show_what_they_have(tmp_path: Path) -> None:
    """Binary spikes through stored weights are what every chip with cores takes."""
    rows = (
        Layer(name="fc", kind="Linear", scope="b", neurons=8, in_features=4, out_features=8, weights=32,
              placed_with="lif", stage=0),
        Layer(name="lif", kind="LIF", scope="b", neurons=8, out_features=8, stage=0),
    )  # fmt: skip
    builder = ActivityBuilder(rows, step_labels(1), images=2)
    builder.add("synops", "fc", "step1", 16)
    builder.add("synops_unary", "fc", "step1", 16)
    plain = builder.build()
    assert estimate(plain, "loihi1").what_if == ()
    builder.add("synops_unary", "fc", "step1", np.array([0, 3]))
    (finding,) = estimate(builder.build(), "loihi1").what_if or ()
    assert (finding.resource, finding.layer, finding.used) == ("graded spikes", "fc", "integers above 1")
    builder.add("cpu_operations", "fc", "step1", 5)
    write_activity(builder.build(), tmp_path / "counts.json")
    loihi2 = load_profile("loihi2")
    words = dict(loihi2.capabilities) | {"processor": replace(loihi2.capabilities["processor"], value="no")}
    (finding,) = estimate(builder.build(), replace(loihi2, capabilities=words)).what_if or ()
    assert (finding.resource, finding.used, finding.limit) == ("processor", 5, "none")
    assert (
        "1 problem, the worst is graded spikes of fc"
        in fine("estimate", tmp_path / "counts.json", "--profile", "loihi1").out
    )


def test_what_nobody_knows_is_not_taken_for_able() -> None:
    unsaid = without(load_profile("loihi2"), "capabilities.neuron_programs")
    cost = estimate(run(), unsaid)
    assert cost.what_if is None and "no capabilities.neuron_programs" in cost.unavailable["what_if"]
    declared = replace(
        unsaid, unavailable=dict(unsaid.unavailable) | {"capabilities.neuron_programs": "secret"}
    )
    assert estimate(run(), declared).unavailable["what_if"] == "secret"
    assert estimate(run(halting=False), unsaid).what_if == ()  # it needs none
    assert estimate(run(), "cmos45").what_if is None
    assert "an operation count has no cores" in estimate(run(), "cmos45").unavailable["what_if"]
    (row,) = compare(run(), {"off": run(halting=False)}, [load_profile("loihi1")]).rows
    assert row.halting is not None and row.halting.what_if
    assert row.without is not None and [f.resource for f in row.without.what_if or ()] == ["graded spikes"]
