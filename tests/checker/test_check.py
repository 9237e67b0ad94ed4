"""Pre-flight: every kind of finding is reached, names its layer and remedy, and is true of what runs."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from support.check_cases import CASES, Case, chip, folded, found, of_one, quantised, wide
from support.cli_support import fine, make_checkpoint, stas
from support.ir_random import Recipe, build, recipes
from support.paths import ROOT

import stas_neuro
from stas_neuro.assets import asset
from stas_neuro.checker import RESOURCES, Finding, Preflight, Verdict, check
from stas_neuro.checker.findings import Deployment
from stas_neuro.checker.silent_changes import channel_ranges
from stas_neuro.chips import load_profile
from stas_neuro.errors import CheckFailed, InputError, StasError
from stas_neuro.ir import FixedLIF, Graph
from stas_neuro.passes import Quantise
from stas_neuro.reference import run_reference

DOCS = (ROOT / "docs" / "cli.md").read_text()


def test_every_kind_of_finding_is_reached_and_documented() -> None:
    assert CASES.keys() == RESOURCES.keys()
    (section,) = re.findall(r"^### `stas-export check .*?(?=^###)", DOCS, re.M | re.S)
    for name, meaning in RESOURCES.items():
        assert f"| `{name}` | {meaning} |" in section
    for field in (*fields(Preflight), *fields(Verdict), *fields(Finding)):
        assert f"`{field.name}`" in section, field.name


@pytest.mark.parametrize(
    ("resource", "case"),
    [
        pytest.param(name, case, id=f"{name} {n}")
        for name, cases in CASES.items()
        for n, case in enumerate(cases)
    ],
)
def test_findings(resource: str, case: Case) -> None:
    verdict = case.verdict()
    assert verdict.fits == all(finding.severity != "error" for finding in verdict.findings)
    (finding,) = [each for each in found(verdict, resource) if each.layer == case.layer]
    assert finding.severity == case.severity
    assert case.remedy in finding.remedy
    assert (finding.remedy == "") == (finding.severity == "info")
    assert case.used is None or finding.used == case.used
    assert case.limit is None or finding.limit == case.limit
    assert type(finding.used) in (int, str) and type(finding.limit) in (int, str)


def test_what_is_within_its_limits_is_not_found() -> None:
    verdict = of_one(quantised(fire=">", halting="off", readout="mean-field"))
    assert verdict.fits
    # Random weights leave a channel or two without a chance to fire.
    assert {finding.resource for finding in verdict.findings} - {"silent neurons"} == {
        "spike products", "message bits", "stock convolution", "neurons", "cores", "state bits",
    }  # fmt: skip


def test_all_problems_come_at_once() -> None:
    verdict = of_one(wide(), "loihi1")
    errors = {finding.resource for finding in verdict.findings if finding.severity == "error"}
    assert errors == {"integers", "synaptic memory", "input axons", "fan-in"}
    order = [finding.severity for finding in verdict.findings]
    assert order == sorted(order, key=("error", "warning", "info").index)


@settings(deadline=None, max_examples=25)
@given(recipe=recipes(norm=False, events=False))
def test_channels_found_silent_never_fire_and_constant_ones_always_do(recipe: Recipe) -> None:
    graph = build(recipe)
    rng = np.random.default_rng(recipe.seed)
    # Far biases in some channels make both kinds.
    shifted = {
        name: tensor + rng.choice([-40.0, 0.0, 40.0], tensor.shape)
        for name, tensor in graph.tensors.items()
        if name.endswith("/bias")
    }
    try:
        program = Quantise()(replace(graph, tensors=dict(graph.tensors) | shifted))
    except StasError:
        return  # what does not fit is not what this is about
    deployment = Deployment(program, load_profile("loihi2"), 8)
    images = rng.integers(0, 256, (3, *program.input.shape))
    trace = run_reference(program, images, record_spikes=True)
    for node in program.of_type(FixedLIF):
        ranges, spikes = channel_ranges(deployment, node), trace.spikes[node.name]
        steps = spikes.shape[1]
        axis = 2 if spikes.ndim == 5 else spikes.ndim - 1
        by_channel = np.moveaxis(spikes, axis, 0)
        if len(ranges) == 1:
            by_channel = spikes[None]
        for channel, x in enumerate(ranges):
            fired = by_channel[channel]
            if deployment.membrane(node, x).high <= node.vth << 6:
                assert not fired.any()
            if x.low > node.vth << 6 and "alive" not in program.inputs(node):
                assert fired.all(), (node.name, channel, steps)


@pytest.mark.parametrize(
    "name",
    [
        "fashion-spikformer",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("fashion-spikingformer", "fashion-t1")),
    ],
)
def test_shipped_models_pass_on_loihi_2_and_not_on_loihi_1(name: str) -> None:
    first, second = check(asset(f"models/{name}"), ["loihi2", "loihi1"]).verdicts
    assert first.fits, [finding for finding in first.findings if finding.severity == "error"]
    assert not second.fits
    assert {finding.resource for finding in second.findings if finding.severity == "error"} <= {
        "spike products", "neuron programs", "graded spikes",
    }  # fmt: skip


def test_each_chip_is_told_what_it_would_run() -> None:
    result = check(folded())
    assert [verdict.profile for verdict in result.verdicts] == list(stas_neuro.list_profiles())
    by_name = {verdict.profile: verdict for verdict in result.verdicts}
    assert by_name["cmos45"].fits is None and not by_name["cmos45"].findings
    # Exponents of channels are what Loihi 2 would run, not Loihi 1.
    assert found(by_name["loihi2"], "stock exponents") and not found(by_name["loihi1"], "stock exponents")
    assert "limits.input_axons_per_core" in by_name["loihi2"].unchecked
    assert not by_name["loihi1"].unchecked
    assert not result.passed
    with pytest.raises(CheckFailed, match="loihi1, loihi1-fitted cannot run the network"):
        result.require()
    check(folded(), ["cmos45", "loihi2"]).require()


def test_integers_that_were_chosen_before_are_judged_as_they_are() -> None:
    assert check(quantised(bits=4), ["loihi2"]).weight_bits == 4
    assert check(folded(), ["loihi2"]).weight_bits == 8
    assert check(folded(), ["loihi2"], bits=3).weight_bits == 3
    with pytest.raises(InputError, match="bits is 10"):
        check(folded(), ["loihi2"], bits=10)
    with pytest.raises(InputError, match="bits 4"):
        check(quantised(), ["loihi2"], bits=4)


def test_a_missing_entry_is_an_error_not_a_default() -> None:
    profile = chip()
    rest = {name: entry for name, entry in profile.limits.items() if name != "threshold_bits"}
    with pytest.raises(InputError, match=r"no limits\.threshold_bits"):
        check(quantised(), [replace(profile, limits=rest)])


def test_the_command(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    done = fine("check", checkpoint, "--profile", "loihi2")
    assert "loihi2: Intel Loihi 2 (Intel 4, 2021) can run it: 0 errors" in done.out
    assert "not checked: limits.input_axons_per_core: not published" in done.out
    refused = stas("check", checkpoint)
    assert refused.code == 1
    assert refused.err == "error: loihi1, loihi1-fitted cannot run the network; fix the errors above\n"
    assert "cmos45: 45 nm operation count (a convention, not a chip) has no cores" in refused.out
    assert "loihi1: Intel Loihi (14 nm, 2018) CANNOT run it" in refused.out
    assert re.search(r"^ *error +spike products +blocks\.0\.attn and 1 more ", refused.out, re.M)
    document = json.loads(stas("check", checkpoint, "--json").out)
    result = check(checkpoint)
    assert document == json.loads(json.dumps(result.to_json()))
    assert document["passed"] is False
    assert fine("check", checkpoint, "--profile", "loihi2", "--bits", "3", "--json").json["weight_bits"] == 3
    bundle = tmp_path / "bundle"
    fine("compile", checkpoint, "--bits", "5", "-o", bundle)
    assert fine("check", bundle, "--profile", "loihi2", "--json").json["weight_bits"] == 5
    assert fine("check", bundle, "--profile", "loihi2", "--bits", "6", "--json").json["weight_bits"] == 6
    for wrong in (("check", tmp_path / "none"), ("check", bundle, "--profile", "loihi9")):
        done = stas(*wrong)
        assert done.code == 2 and len(done.err.splitlines()) == 1


def test_findings_are_true_of_the_bundle_format_too(tmp_path: Path) -> None:
    graph = quantised("channel", bits=9)
    assert isinstance(graph, Graph)
    stas_neuro.save_bundle(
        folded(), tmp_path / "b", stas_neuro.bundle.Provenance(source="x"), quantised=graph
    )
    assert check(tmp_path / "b", ["loihi2"]) == check(graph, ["loihi2"])
