"""A page is made of the right runs, prices and sections, and refuses what does not fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.cli_support import fine, stas
from support.energy_runs import run
from support.mapped_runs import CHIP, HALTED

import stas_neuro
from stas_neuro.activity import Origin, hash_images
from stas_neuro.chips import load_profile
from stas_neuro.data import LabelledImages
from stas_neuro.energy import Deployment, Estimate, compare, estimate
from stas_neuro.errors import InputError
from stas_neuro.page import Run, make_report
from stas_neuro.page.runs import price_runs
from stas_neuro.report.refused import Refused
from stas_neuro.verifier.certificate import sealed

CHIPS = [load_profile(name) for name in ("cmos45", "loihi1", "loihi2", "speck")]
MINE, OFF = Run(label="mine", activity=run()), Run(label="off", activity=run(halting=False))


def test_runs_without_halting_are_what_the_first_is_compared_with() -> None:
    other = Run(label="other", activity=run())
    told: list[tuple[int, int]] = []
    prices = price_runs([MINE, other, OFF], CHIPS, Deployment(), lambda *each: told.append(each))
    assert told == [(number, 4) for number in (1, 2, 3, 4)]
    assert list(prices.costs) == ["mine", "other", "off"]
    assert prices.comparison is not None
    assert {row.baseline for row in prices.comparison.rows} == {"off"}
    direct = compare(run(), {"off": run(halting=False)}, CHIPS, label="mine")
    assert sorted(prices.comparison.rows, key=lambda row: row.profile) == list(direct.rows)
    order = [cost.profile for cost in prices.costs["mine"]]
    assert order == ["loihi1", "loihi2", "cmos45", "speck"]  # totals, events only, no price
    for label, activity in (("mine", run()), ("other", run())):
        assert prices.costs[label] == tuple(estimate(activity, name) for name in order)
    off = prices.costs["off"]
    assert off == tuple(estimate(run(halting=False), name, Deployment().without_halting()) for name in order)


def test_without_a_halting_run_first_nothing_is_compared() -> None:
    assert price_runs([OFF, MINE], CHIPS, Deployment()).comparison is None
    assert price_runs([MINE], CHIPS, Deployment()).comparison is None


def test_chips_that_refuse_a_run_stay_with_their_reason() -> None:
    on_cores = Run(label="mine", activity=HALTED)
    prices = price_runs([on_cores], [CHIP, load_profile("truenorth")], Deployment())
    assert all(isinstance(cost, Estimate) for cost in prices.costs["mine"][:1])
    tiny = replace(CHIP, name="tiny", limits={**CHIP.limits, "neurons_per_core": one()})
    refused = price_runs([on_cores], [tiny, CHIP], Deployment()).costs["mine"]
    assert [cost.profile for cost in refused] == [CHIP.name, "tiny"]
    assert isinstance(refused[1], Refused) and "was not placed for tiny" in refused[1].reason
    report = make_report([on_cores], profiles=[tiny, CHIP])
    assert "was not placed for tiny" in report.html and report.profile == CHIP.name
    with pytest.raises(InputError, match="mine has no price on tiny"):
        make_report([on_cores], profile=tiny, profiles=[CHIP])
    with pytest.raises(InputError, match=r"no profile could price mine. tiny: the run"):
        make_report([on_cores], profiles=[tiny])


def one() -> object:
    limit = CHIP.limits["neurons_per_core"]
    return replace(limit, value=1, low=1, high=1)


def test_a_page_of_a_run_that_was_not_placed_says_so() -> None:
    report = stas_neuro.make_report({"mine": run(), "off": run(halting=False)}, profiles=["loihi2", "cmos45"])
    assert report.profile == "loihi2"
    assert any("no placement on cores" in why for why in report.to_json()["not_shown"])
    assert any("need the images" in why for why in report.to_json()["not_shown"])
    assert "work-chart-0" in report.to_json()["figures"] and "work-chart-1" in report.to_json()["figures"]


def test_names_and_notes_are_text_not_code() -> None:
    nasty = "</script><script>alert(1)</script>"
    html = make_report({nasty: run(), "off": run(halting=False)}, profiles=["loihi2"]).html
    assert nasty not in html and html.count("<script") == 3 == html.count("</script>")
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.S)
    assert found is not None and nasty in json.dumps(json.loads(found[1]), ensure_ascii=False)


def test_every_constant_has_its_source() -> None:
    report = make_report({"mine": run()}, profiles=["loihi2"])
    (section,) = (each for each in report.sections if each.name == "constants")
    rows = {row[1].text: row for row in section.tables[0].rows}
    cost, profile = estimate(run(), "loihi2"), load_profile("loihi2")
    assert set(rows) == {name for names in cost.figures.values() for name in names}
    for name, row in rows.items():
        entry = profile.entry(name)
        assert [cell.value for cell in row[3:6]] == [entry.value, entry.low, entry.high]
        assert profile.sources[entry.source].citation in [cell.text for cell in row]


def test_maps_are_of_the_images_of_the_runs() -> None:
    rng = np.random.default_rng(0)
    data = LabelledImages(rng.integers(0, 256, (1, 1, 4, 8)).astype(np.uint8), np.array([1]), ("a", "b"))
    origin = Origin(images=hash_images(data.images), labels=(0,), classes=2)
    mine = Run(label="mine", activity=replace(run(), origin=origin), predictions=np.array([0]))
    report = make_report([mine], profiles=["loihi2"], data=data)
    assert "maps-chart-0" in report.to_json()["figures"]
    assert "0: b (right)" in report.html and mine.accuracy == 1.0
    other = LabelledImages(data.images[:, :, ::-1], data.labels, data.classes)
    for images, chosen, message in (
        (other, (0,), "are not those of mine"),
        (data, (0, 1), "there is no image 1 in mine; give numbers from 0 to 0"),
        (data, range(33), "maps of 33 images; choose at most 32"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            make_report([mine], profiles=["loihi2"], data=images, images=chosen)


def test_what_cannot_be_reported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run to report on"):
        make_report([])
    with pytest.raises(InputError, match="two runs are called 'mine'"):
        make_report([MINE, MINE])
    two = replace(run() + run(), origin=Origin(images=("a", "b")))
    one_image = replace(run(halting=False), origin=Origin(images=("c",)))
    with pytest.raises(InputError, match="images"):
        make_report({"mine": two, "off": one_image}, profiles=["loihi2"])


def test_a_profile_takes_the_place_of_the_one_with_its_name() -> None:
    changed = load_profile("loihi2", {"energy.synaptic_operation": "10 nJ"})
    for profiles in (["loihi1", "loihi2"], ["loihi1"]):
        report = make_report([MINE], profile=changed, profiles=profiles)
        (price,) = (cost for cost in report.prices.costs["mine"] if cost.profile == "loihi2")
        assert price == estimate(run(), changed) != estimate(run(), "loihi2")
        assert report.profile == "loihi2"
    report = make_report([MINE], profile="loihi2", profiles=[changed])
    assert report.prices.costs["mine"] == (estimate(run(), changed),)


def test_values_that_were_set_are_told(tmp_path: Path) -> None:
    activity, page = tmp_path / "counts.json", tmp_path / "page.html"
    stas_neuro.write_activity(run(), activity)
    options = ("--set", "energy.synaptic_operation=20pJ", "--profiles", "loihi2", "-o", page)
    document = fine("report", activity, *options, "--profile", "loihi1", "--json").json
    value = {"energy.synaptic_operation": "20.0 pJ"}
    assert document["set"] == {"loihi2": value, "loihi1": value}
    told = fine("report", activity, *options, "--force").out
    assert "loihi2: set on the command line: energy.synaptic_operation" in told
    plain = fine("report", activity, "--profiles", "loihi2", "-o", page, "--force", "--json").json
    assert "set" not in plain


def test_the_command_writes_a_page_and_replaces_only_pages(tmp_path: Path) -> None:
    activity = tmp_path / "counts.json"
    stas_neuro.write_activity(run(), activity)
    page = tmp_path / "page.html"
    document = fine("report", activity, "--profiles", "loihi2", "-o", page, "--json").json
    assert document["runs"] == ["counts.json"] and document["bytes"] == page.stat().st_size < 6_000_000
    assert "Estimated, not measured." in page.read_text()
    again = ("report", f"other={activity}", "--profiles", "loihi2", "-o", page)
    assert f"{page} exists" in stas(*again).err
    assert "it needs no network" in fine(*again, "--force").out
    (tmp_path / "mine.html").write_text("<p>my own</p>")
    refused = stas(*again[:-1], tmp_path / "mine.html", "--force")
    assert refused.code == 2 and "is not a page of stas-neuro" in refused.err
    damaged = tmp_path / "certificate.json"
    damaged.write_text('{"format": "stas-neuro certificate", "schema_version": 1, "passed": true}')
    assert "the certificate was changed" in stas(*again[:2], damaged, *again[2:], "--force").err
    hollow = sealed({"format": "stas-neuro certificate", "schema_version": 1, "passed": True})
    damaged.write_text(json.dumps(hollow))
    assert "the certificate: images: Field required" in stas(*again[:2], damaged, *again[2:], "--force").err


def test_two_profiles_of_one_name_are_refused() -> None:
    changed = load_profile("loihi2", {"energy.synaptic_operation": "10 pJ"})
    with pytest.raises(InputError, match=r"two different profiles are called 'loihi2'; give each a name of"):
        make_report([Run(label="mine", activity=run())], profiles=["loihi2", changed])
    own = replace(changed, name="my_loihi2")
    rows = make_report([Run(label="mine", activity=run())], profiles=["loihi2", own, "loihi2"])
    assert sorted(cost.profile for cost in rows.prices.costs["mine"]) == ["loihi2", "my_loihi2"]
