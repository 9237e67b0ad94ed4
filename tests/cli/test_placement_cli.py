"""Placement by the commands: what compile writes, inspect tells, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli_support import Place, fine, make_place, stas
from support.paths import ROOT

from stas_neuro.bundle import load_bundle


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("placement"), 4)


@pytest.mark.parametrize("strategy", ["channel-major", "token-major", "halting-aware"])
def test_compile_places_what_it_compiles(place: Place, strategy: str, tmp_path: Path) -> None:
    bundle = tmp_path / "net"
    options = ("--placement", strategy, "--groups", "3", "--profile-run", place.data, "--limit", "3")
    done = fine("compile", place.checkpoint, "-o", bundle, *options, "--json")
    mapping = load_bundle(bundle).mapping
    assert mapping is not None
    assert (mapping.strategy, mapping.profile) == (strategy, "loihi2")
    assert (done.json["cores"], done.json["chips"], done.json["groups"]) == (len(mapping.cores), 1, 3)
    asked = {"placement": strategy, "groups": 3, "profile_run": str(place.data), "limit": 3}
    assert asked.items() <= done.json["options"].items()


def test_the_integer_program_is_placed_where_there_is_one(place: Place, tmp_path: Path) -> None:
    """Its weights of 4 bits take half of the memory; images to choose scales by are learned from, too."""
    integers = ("--bits", "4", "--calibrate", place.data)
    memory = {}
    for name, options in (("float", ()), ("fixed", integers)):
        learning = () if options else ("--profile-run", place.data)
        made = ("--placement", "halting-aware", "--groups", "2", *options, *learning)
        fine("compile", place.checkpoint, "-o", tmp_path / name, *made)
        use = fine("inspect", tmp_path / name, "--json").json["utilisation"]
        assert use["weight_bits"] == (4 if options else 8)
        memory[name] = sum(core["synaptic_memory"] for core in use["cores"])
    assert 0.5 <= memory["fixed"] / memory["float"] < 0.6


def test_inspect_tells_how_full_cores_are(place: Place, tmp_path: Path) -> None:
    bundle = tmp_path / "net"
    said = fine(
        "compile", place.checkpoint, "-o", bundle, "--placement", "token-major", "--profile", "loihi1"
    )
    text = fine("inspect", bundle, "--cores").out
    use = fine("inspect", bundle, "--json").json["utilisation"]
    assert use["profile"] == "loihi1"
    assert {"neurons", "synaptic_memory", "input_axons", "output_axons"} == set(use["limits"])
    for resource, limit in use["limits"].items():
        used = [core[resource] for core in use["cores"]]
        assert used[use["worst_core"][resource]] == max(used) <= limit
        assert f"{max(used)}" in said.out
    assert "on loihi1:" in said.out
    chosen = load_bundle(bundle).mapping
    assert chosen is not None and use["groups"] == chosen.groups
    for shown in (said.out, text):
        assert f"token-major, each block in {chosen.groups} groups" in shown
    again = tmp_path / "again"
    options = ("--placement", "token-major", "--profile", "loihi1", "--groups", str(chosen.groups))
    fine("compile", place.checkpoint, "-o", again, *options)
    assert load_bundle(again).mapping == chosen
    assert "blocks.0.q_lif" in text
    elsewhere = fine("inspect", bundle, "--profile", "loihi2", "--json").json["utilisation"]
    assert set(elsewhere["unchecked"]) == {"input_axons_per_core", "output_axons_per_core", "fan_in"}
    assert "not checked: fan_in" in fine("inspect", bundle, "--profile", "loihi2").out


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--groups", "2"), "groups requires a placement"),
        (("--minimise", "core-steps"), "minimise requires a placement"),
        (("--cores", "5"), "cores requires a placement"),
        (("--placement", "token-major", "--cores", "1"), "cores of loihi2, cores is 1; give at least"),
        (("--placement", "token-major", "--contexts", "2", "--mode", "single"), "use the mode stream"),
        (("--placement", "token-major", "--contexts", "9999"), "use 1 to 256"),
        (("--placement", "halting-aware"), "halting-aware learns from visits"),
        (
            ("--placement", "token-major", "--minimise", "core-steps"),
            "minimise core-steps requires halting-aware placement",
        ),
        (("--placement", "token-major", "--limit", "5"), "limit requires a profile-run"),
        (("--placement", "token-major", "--groups", "17"), "17 groups of 16 tokens"),
        (("--placement", "token-major", "--profile", "cmos45"), "cmos45 has no cores"),
        (("--bits", "8", "--profile", "truenorth"), "256 x 256 synapses of one bit"),
    ],
)
def test_what_cannot_be_is_refused(place: Place, options: tuple[str, ...], what: str, tmp_path: Path) -> None:
    done = stas("compile", place.checkpoint, "-o", tmp_path / "net", *options)
    assert (done.code, done.out) == (2, "")
    assert what in done.err
    assert not (tmp_path / "net").exists()


def test_check_tells_the_cores_of_a_placement(place: Place, tmp_path: Path) -> None:
    bundle = tmp_path / "net"
    fine("compile", place.checkpoint, "-o", bundle, "--placement", "token-major", "--groups", "3")
    cores = fine("inspect", bundle, "--json").json["utilisation"]["cores"]
    document = fine("check", bundle, "--profile", "loihi2", "--json").json
    assert document["placed"] == {"profile": "loihi2", "cores": len(cores), "chips": 1}
    said = fine("check", bundle, "--profile", "loihi2").out
    assert f"placed on {len(cores)} cores of 1 chip of loihi2" in said
    assert fine("check", bundle, "--profile", "loihi2", "--bits", "4", "--json").json["placed"] is None
    assert fine("check", place.bundle, "--profile", "loihi2", "--json").json["placed"] is None


def test_gating_says_where_nothing_halts_and_why_late_decisions_need_the_wait(
    place: Place, tmp_path: Path
) -> None:
    never, late = tmp_path / "never", tmp_path / "late"
    placed = ("--placement", "token-major")
    fine("compile", place.checkpoint, "-o", never, "--accumulate", "off", *placed)
    run = ("--data", place.data, "--limit", "1", "--gating")
    assert "this network does not halt tokens" in fine("run", never, *run, "core").out
    assert "does not halt tokens" not in fine("run", never, *run, "silent").out
    stale = ("--accumulate", "raster", "--schedule", "pipelined-stale")
    fine("compile", place.checkpoint, "-o", late, *stale)
    refused = stas("run", late, *run, "none")
    assert refused.code == 2 and "compiled without --schedule pipelined-stale" in refused.err
    assert "ComputeHalted" not in refused.err


def test_run_of_a_checkpoint_says_to_compile_it(place: Place) -> None:
    refused = stas("run", place.checkpoint, "--data", place.data)
    assert refused.code == 2
    assert (
        f"is a checkpoint, not a bundle; compile it first: stas-export compile {place.checkpoint}"
        in refused.err
    )


def test_a_bundle_on_no_cores_has_no_utilisation(place: Place) -> None:
    assert "utilisation" not in fine("inspect", place.bundle, "--json").json
    assert "is not placed on cores" in stas("inspect", place.bundle, "--cores").err


def test_a_bundle_placed_by_a_profile_of_a_file_is_inspected_with_that_file(
    place: Place, tmp_path: Path
) -> None:
    chip, bundle = tmp_path / "chip.toml", tmp_path / "net"
    text = (ROOT / "hw_profiles" / "loihi2.toml").read_text(encoding="utf-8")
    chip.write_text(text.replace('name = "loihi2"', 'name = "mine"', 1), encoding="utf-8")
    fine("compile", place.checkpoint, "-o", bundle, "--placement", "token-major", "--profile", chip)
    without = fine("inspect", bundle)
    assert "blocks.0.q_lif" in without.out and "--profile FILE" in without.out
    document = fine("inspect", bundle, "--json").json
    assert (
        document["utilisation"] is None and "placed for the profile mine" in document["utilisation_unknown"]
    )
    assert "on mine:" in fine("inspect", bundle, "--profile", chip).out
    document = fine("inspect", bundle, "--profile", chip, "--json").json
    assert document["utilisation"]["fits"] and document["utilisation_unknown"] is None


def test_a_bundle_that_does_not_fit_another_chip_fails_the_check(place: Place, tmp_path: Path) -> None:
    """The chip has half of the neurons that the fullest core holds, and one core."""
    chip, bundle = tmp_path / "chip.toml", tmp_path / "net"
    fine("compile", place.checkpoint, "-o", bundle, "--placement", "token-major", "--groups", "2")
    use = fine("inspect", bundle, "--json").json["utilisation"]
    most, cores = max(core["neurons"] for core in use["cores"]), len(use["cores"])
    small = {"neurons_per_core": most // 2, "cores_per_chip": 1}
    limits = [
        f"[limits.{name}]\nvalue = {value}\nlow = {value}\nhigh = {value}\n"
        'unit = "1"\nbasis = "assumed"\nsource = "davies2018"\nnote = "made up"\n'
        for name, value in small.items()
    ]
    head = 'schema_version = 1\nname = "small"\ntitle = "Small"\nextends = "loihi2"\n'
    chip.write_text(head + "".join(limits), encoding="utf-8")
    shown = stas("inspect", bundle, "--profile", chip)
    assert shown.code == 1 and cores > 1
    for said in (shown.out, shown.err):
        assert "does not fit small" in said and "on small:" not in said
        assert f"cores on a chip {cores} of 1" in said and f"neurons {most} of {most // 2}" in said
    document = stas("inspect", bundle, "--profile", chip, "--json")
    assert document.code == 1 and document.json["utilisation"]["fits"] is False
