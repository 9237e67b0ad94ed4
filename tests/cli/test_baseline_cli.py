"""`baseline` makes runs that `compare` accepts, by the command that it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from support.cli_support import CONFIG, fine, make_checkpoint, make_data, stas

import stas_neuro
from stas_neuro.activity import hash_images, read_activity
from stas_neuro.baselines import RunOptions
from stas_neuro.bundle import Bundle
from stas_neuro.energy.comparable import halts
from stas_neuro.errors import InputError

IMAGES = 6


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with stage 1, and its run as an integer program on cores."""
    home = tmp_path_factory.mktemp("baseline")
    make_checkpoint(home / "model")
    make_checkpoint(home / "model" / "stage1", seed=4, accumulate="off")
    make_checkpoint(home / "one", seed=5, accumulate="off", time_steps=1)
    make_data(home / "data.npz", 12)
    options = ("--bits", "8", "--placement", "token-major", "--calibrate", home / "data.npz")
    fine("compile", home / "model", *options, "-o", home / "halting.stas")
    run = ("--data", home / "data.npz", "--limit", str(IMAGES), "--arithmetic", "fixed")
    fine("run", home / "halting.stas", *run, "-o", home / "halting")
    return home


@pytest.fixture(autouse=True)
def _here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def test_what_it_prints_compares(home: Path) -> None:
    made = fine(
        "baseline", "halting", "--rival", "T=1=one", "--max-drop", "60%", "-o", "others", "--json"
    ).json
    labels = [row["label"] for row in made["baselines"]]
    assert labels[:2] == ["same weights", "stage 1"] and labels[2].startswith("static, 1 step")
    assert labels[-1] == "T=1" and [row["steps"] for row in made["baselines"][-1:]] == [1]
    assert made == json.loads((home / "others" / "baselines.json").read_text())
    program, *command = shlex.split(made["compare"])
    assert program == "stas-export"
    rows = fine(*command, "--profiles", "loihi1,loihi2", "--json").json["comparison"]["rows"]
    assert {row["baseline"] for row in rows} == set(labels)
    ours = read_activity(home / "halting" / "activity.json")
    for row in made["baselines"]:
        activity = read_activity(Path(row["run"]) / "activity.json")
        assert activity.origin.images == ours.origin.images and halts(activity) is False
        assert activity.origin.arithmetic == ours.origin.arithmetic and activity.cores
        document = json.loads((Path(row["run"]) / "run.json").read_text())
        assert document["bundle"] == row["bundle"] and document["accuracy"] == row["accuracy"]
        again = fine(
            "run", row["bundle"], "--data", "data.npz", "--limit", "6", "--arithmetic", "fixed", "--json"
        )
        assert again.json["accuracy"] == row["accuracy"] and set(again.json) == set(document)
        options = stas_neuro.load_bundle(row["bundle"]).provenance.options
        assert (options["bits"], options["placement"]) == (8, "token-major")


def test_the_same_weights_are_those_compiled_without_halting(home: Path) -> None:
    made = fine("baseline", "halting", "-o", "again", "--json").json
    options = ("--bits", "8", "--placement", "token-major", "--calibrate", "data.npz")
    fine("compile", "model", "--accumulate", "off", *options, "-o", "off.stas")
    fine("compile", "model", "--accumulate", "off", "--steps", "1", *options, "-o", "one.stas")
    rows = {row["label"]: row for row in made["baselines"]}
    for label, by_hand in (("same weights", "off.stas"), ("one step", "one.stas")):
        if label in rows:
            ours, theirs = (stas_neuro.load_bundle(path) for path in (rows[label]["bundle"], by_hand))
            assert ours.sha256 == theirs.sha256
    assert "same weights" in rows


def test_steps_are_chosen_on_images_that_were_not_run(home: Path) -> None:
    """The choice is the fewest steps whose accuracy on the held-back images is high enough."""
    made = fine("baseline", "halting", "--max-drop", "0%", "-o", "exact", "--json").json
    held = stas_neuro.load_data("data.npz").select(slice(IMAGES, None))

    def accuracy(bundle: Bundle) -> float:
        trace = stas_neuro.run(bundle, held, arithmetic="fixed", mapping=None)
        assert held.labels is not None
        return float((trace.predictions == held.labels).mean())

    least = accuracy(stas_neuro.load_bundle("halting.stas"))
    options = {"bits": 8, "calibrate": "data.npz", "accumulate": "off"}
    found = None
    for steps in range(1, CONFIG.time_steps):
        for model in ("model", "model/stage1"):
            score = accuracy(stas_neuro.compile(model, steps=steps, **options))
            if found is None and score >= least:
                found = steps, score
    static = [row for row in made["baselines"] if row["label"].startswith("static")]
    if found is None:
        assert not static and "static" in made["missing"]
    else:
        assert static[0]["steps"] == found[0] and static[0]["held_back"] >= least


def test_where_halting_is_in_the_graph_halted_tokens_are_computed(home: Path) -> None:
    fine("compile", "halting.stas", "-o", "copy.stas")
    fine("run", "copy.stas", "--data", "data.npz", "--limit", "6", "-o", "copy")
    made = fine("baseline", "copy", "-o", "computed", "--json").json
    (row,) = made["baselines"]
    assert row["label"] == "all tokens computed" and "part of the graph" in made["missing"]["same weights"]
    _, *command = shlex.split(made["compare"])
    assert fine(*command, "--profiles", "loihi2", "--json").json["comparison"]["rows"]
    logits = [np.load(path / "outputs.npz")["logits"] for path in (home / "copy", Path(row["run"]))]
    assert np.allclose(*logits, atol=1e-9)


def test_frames_are_cut_for_fewer_steps_and_still_compare(home: Path) -> None:
    config = {"stem": "sps", "event_input": True, "in_channels": 1}
    make_checkpoint(home / "events", seed=7, **config)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (8, CONFIG.time_steps, 1, 8, 8)).astype(float)
    np.savez(home / "events.npz", images=images, labels=np.arange(8) % 3)
    fine("compile", "events", "-o", "events.stas")
    fine("run", "events.stas", "--data", "events.npz", "--limit", "4", "-o", "events-run")
    made = fine("baseline", "events-run", "--max-drop", "90%", "-o", "events-others", "--json").json
    assert {row["steps"] for row in made["baselines"]} == {1, CONFIG.time_steps}
    assert "stage 1" in made["missing"]
    _, *command = shlex.split(made["compare"])
    fine(*command, "--profiles", "loihi2")


def test_the_python_function_returns_runs(home: Path) -> None:
    bundle = stas_neuro.load_bundle("halting.stas")
    images = stas_neuro.load_data("data.npz").select(slice(0, IMAGES))
    found = stas_neuro.make_baselines(bundle, images, options=RunOptions(arithmetic="fixed"))
    assert [each.label for each in found.made] == ["same weights", "stage 1", "one step"]
    assert "no images are left" in found.missing["static"]
    trace = stas_neuro.run(bundle, images, arithmetic="fixed")
    compared = stas_neuro.compare(
        trace.activity,
        {each.label: each.trace.activity for each in found.made},
        [stas_neuro.load_profile("loihi2")],
    )
    assert len(compared.rows) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("halting.stas",),
            "halting.stas is a bundle, not a run; run it first: stas-export run halting.stas",
        ),
        (("nowhere",), "nowhere does not exist; give a directory written by run"),
        (("halting", "--rival", "one"), "--rival one has no label"),
        (("halting", "--rival", "x=halting.stas"), "x halts; give a model that was trained without halting"),
        (("plain",), "the network does not halt"),
        (("halting", "--data", "digits"), "digits"),
        (("halting", "--max-drop", "2"), "is no share"),
    ],
)
def test_what_cannot_be_is_refused(home: Path, arguments: tuple[str, ...], message: str) -> None:
    if arguments == ("plain",) and not (home / "plain").exists():
        fine("compile", "model", "--accumulate", "off", "-o", "plain.stas")
        fine("run", "plain.stas", "--data", "data.npz", "-o", "plain")
    done = stas("baseline", *arguments, "-o", "refused")
    assert done.code == 2 and message in done.err, done.err
    assert not (home / "refused").exists()


def test_a_run_that_left_out_images_is_matched_without_them(home: Path) -> None:
    """It ran on the last 6 of 12 images: baselines run on the same, and no others follow to choose steps."""
    run = ("--data", "data.npz", "--skip", "6", "--arithmetic", "fixed")
    document = fine("run", "halting.stas", *run, "-o", "skipped", "--json").json
    assert (document["skip"], document["images"]) == (6, 6)
    document.pop("accuracy")  # which runs by other tools need not have
    (home / "skipped" / "run.json").write_text(json.dumps(document))
    made = fine("baseline", "skipped", "-o", "skipped-others", "--json").json
    assert "no images are left" in made["missing"]["static"]
    last = stas_neuro.load_data("data.npz").select(slice(6, None))
    for row in made["baselines"]:
        assert read_activity(Path(row["run"]) / "activity.json").origin.images == hash_images(last.images)
        assert json.loads((Path(row["run"]) / "run.json").read_text())["skip"] == 6
    for data in ((), ("--data", "data.npz")):
        page = ("--profiles", "loihi2", "--images", "5", "-o", "page.html", "--force", "--json")
        assert "maps-chart-0" in fine("report", "skipped", *data, *page).json["figures"]


@pytest.mark.parametrize("label", ["stage 1", "Stage-1", "one step", "static 9", "halting", "T 1"])
def test_labels_of_rivals_are_their_own(label: str) -> None:
    done = stas("baseline", "halting", "--rival", "T=1=one", "--rival", f"{label}=one", "-o", "refused")
    assert done.code == 2 and f"the rival '{label}' has the label of" in done.err, done.err
    with pytest.raises(InputError, match="the rival 'same weights' has the label of 'same weights'"):
        stas_neuro.make_baselines("halting.stas", "data.npz", rivals={"same weights": "one"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gating", None),
        ("gating", "sleep"),
        ("arithmetic", None),
        ("arithmetic", ["fixed"]),
        ("images", -1),
        ("images", True),
        ("skip", -1),
        ("cores", "2"),
        ("accuracy", "high"),
    ],
)
def test_a_damaged_document_is_refused(home: Path, tmp_path: Path, field: str, value: object) -> None:
    document = json.loads((home / "halting" / "run.json").read_text()) | {field: value}
    (tmp_path / "run.json").write_text(json.dumps(document))
    done = stas("baseline", tmp_path, "-o", "refused")
    assert done.code == 2 and f"run.json: {field} is {value!r}" in done.err, done.err


def test_a_bundle_that_changed_is_refused(home: Path) -> None:
    fine("compile", "model", "-o", "changing.stas")
    run = ("--data", "data.npz", "--skip", "2", "--limit", "3", "--dtype", "float32", "--gating", "none")
    fine("run", "changing.stas", *run, "--backend", "reference", "-o", "changed")
    fine("compile", "model", "--epsilon", "0.4", "-o", "changing.stas", "--force")
    done = stas("baseline", "changed", "-o", "refused")
    assert done.code == 2 and "changing.stas has changed since changed was made" in done.err
    words = shlex.split(done.err.split("run it again: ")[1])
    assert words[:3] == ["stas-export", "run", "changing.stas"] and words[-2:] == ["-o", "RUN"]
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert given.items() >= dict(zip(run[::2], run[1::2], strict=True)).items()
    assert (given["--backend"], given["--arithmetic"]) == ("reference", "float")
    fine(*words[1:-1], "made-again")
