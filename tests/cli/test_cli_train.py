"""The two long commands: train, which makes a checkpoint, and demo, which takes one through everything."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from support.cli_support import (
    CLASSES,
    Done,
    fine,
    make_checkpoint,
    make_data,
    stas,
)
from support.paths import EXAMPLES
from support.random_models import random_model

from stas_neuro.chips import list_profiles
from stas_neuro.cli.train import _Progress
from stas_neuro.cli.train import command as train_command
from stas_neuro.models.checkpoint import load_config, load_training, save_checkpoint
from stas_neuro.training.options import TrainOptions

QUICK = ("--preset", "tiny", "--dim", "8", "--depth", "1", "--time-steps", "2", "--batch-size", "16")


def train(data: Path, out: Path, *more: str | Path) -> Done:
    return stas("train", "--data", data, *QUICK, "--holdout", "8", *more, "-o", out)


def test_train_resumes_and_its_checkpoint_runs(tmp_path: Path) -> None:
    data = make_data(tmp_path / "train.npz", 40)
    epochs = ("--stage1-epochs", "1", "--stage2-epochs", "1")
    options = (*epochs, "--beta", "-1.5", "--stem", "max", "--augment", "none", "--accumulate", "block")
    done = train(data, tmp_path / "model", *options, "--json")
    assert done.code == 0, done.err
    assert [(epoch["stage"], epoch["epoch"]) for epoch in done.json["epochs"]] == [(1, 0), (2, 0)]
    lines = done.err.splitlines()
    assert lines[0].startswith("1 + 1 epochs on ") and lines[-1].startswith("stage 2 epoch 1 of 1: loss")
    config = load_config(tmp_path / "model")
    assert (config.dim, config.depth, config.time_steps) == (8, 1, 2)
    assert (config.beta, config.stem, config.accumulate, config.classes) == (-1.5, "max", "block", CLASSES)
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    refused = train(data, tmp_path / "model", *options)
    assert refused.code == 2 and "--resume" in refused.err and "--force" in refused.err
    resumed = train(data, tmp_path / "model", *options, "--resume")
    assert resumed.code == 0 and resumed.err == ""  # nothing was left to do
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
    other = train(data, tmp_path / "model", *options, "--resume", "--seed", "1")
    assert other.code == 2 and "other options" in other.err
    impossible = train(data, tmp_path / "model", *options, "--force", "--batch-size", "99")
    assert impossible.code == 2
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
    forced = train(data, tmp_path / "model", *options, "--force", "--seed", "1")
    assert forced.code == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != weights
    assert (tmp_path / "model" / "log.jsonl").read_text().count("\n") == 2
    fine("compile", tmp_path / "model", "-o", tmp_path / "b")
    assert fine("verify", tmp_path / "b", "--data", data, "--limit", "1", "--json").json["passed"]


def test_train_holds_out_a_tenth_and_starts_from_weights(tmp_path: Path) -> None:
    data = make_data(tmp_path / "train.npz", 40)
    epochs = ("--stage1-epochs", "1", "--stage2-epochs", "0")
    first = stas("train", "--data", data, *QUICK, *epochs, "--limit", "30", "-o", tmp_path / "a", "--json")
    assert first.code == 0 and first.json["images"] == 30
    with safe_open(tmp_path / "a" / "last.safetensors", "np") as state:
        _, options, _ = json.loads(json.loads(state.metadata()["progress"])["key"])
    assert options["holdout"] == 3
    done = train(
        data, tmp_path / "b", "--stage1-epochs", "0", "--stage2-epochs", "1", "--init", tmp_path / "a"
    )
    assert done.code == 0, done.err
    bad = train(data, tmp_path / "c", *epochs, "--init", tmp_path / "a", "--mlp-ratio", "1.0")
    assert bad.code == 2 and "its layers differ from those" in bad.err


def test_train_draws_a_sample_of_every_class(tmp_path: Path) -> None:
    """Data sorted by class: the first 30 images would all be of one."""
    data = tmp_path / "sorted.npz"
    given = dict(np.load(make_data(tmp_path / "data.npz", 99)))
    order = np.argsort(given["labels"], kind="stable")
    np.savez(data, images=given["images"][order], labels=given["labels"][order], classes=given["classes"])
    options = ("--stage1-epochs", "1", "--stage2-epochs", "0", "--limit", "30", "--json")
    records = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        done = train(data, tmp_path / name, *options, "--seed", seed)
        assert done.code == 0, done.err
        assert (done.json["images"], done.json["held_out"]) == (30, 8)
        assert load_config(tmp_path / name).classes == CLASSES
        records.append(load_training(tmp_path / name))
    assert records[0] == records[1] != records[2]
    train(data, tmp_path / "d", *options, "--seed", "2", "--resume")
    assert train(data, tmp_path / "d", *options, "--seed", "1", "--resume").code == 2


def test_train_keeps_the_classes_of_the_weights_it_starts_from(tmp_path: Path) -> None:
    make_data(tmp_path / "data.npz", 40)
    given = dict(np.load(tmp_path / "data.npz"))
    order = np.array([2, 0, 1])
    renamed = {"labels": np.argsort(order)[given["labels"]], "classes": given["classes"][order]}
    np.savez(tmp_path / "renamed.npz", images=given["images"], **renamed)
    some = given["labels"] > 0
    np.savez(
        tmp_path / "some.npz",
        images=given["images"][some],
        labels=given["labels"][some] - 1,
        classes=given["classes"][1:],
    )
    make_checkpoint(tmp_path / "init", dim=8, depth=1, heads=2, time_steps=2)
    tune = ("--qat", "6", "--batch-size", "16", "--holdout", "8", "--stage2-epochs", "1")
    weights = []
    for name in ("data", "renamed"):
        out = tmp_path / f"of-{name}"
        fine("train", "--data", tmp_path / f"{name}.npz", "--init", tmp_path / "init", *tune, "-o", out)
        assert load_config(out).classes == CLASSES
        weights.append((out / "model.safetensors").read_bytes())
    done = fine(
        *("train", "--data", tmp_path / "some.npz", "--init", tmp_path / "init", *tune),
        *("-o", tmp_path / "of-some", "--json"),
    )
    assert load_config(tmp_path / "of-some").classes == CLASSES
    absent, trained_on, *_ = done.json["notes"]
    assert absent.endswith("some.npz has no images of nought, which the model may forget")
    assert trained_on.startswith(f"{tmp_path / 'init'} may have been trained on images held out here")
    epochs = ("--stage1-epochs", "0", "--stage2-epochs", "1", "--mlp-ratio", "1.0", "--heads", "2")
    started = train(tmp_path / "renamed.npz", tmp_path / "e", *epochs, "--init", tmp_path / "init")
    assert started.code == 0 and load_config(tmp_path / "e").classes == CLASSES
    again = ("--stage1-epochs", "0", "--stage2-epochs", "1", "--mlp-ratio", "1.0", "--heads", "2", "--json")
    for seed, notes in (("0", 0), ("1", 1)):
        data, out = tmp_path / "renamed.npz", tmp_path / f"g{seed}"
        done = train(data, out, *again, "--seed", seed, "--init", tmp_path / "e")
        found = [note for note in done.json["notes"] if "it held out 8 of 40 with seed 0" in note]
        assert len(found) == notes
    np.savez(tmp_path / "other.npz", **given | {"classes": ["two", "three", "four"]})
    done = train(tmp_path / "other.npz", tmp_path / "f", *epochs, "--init", tmp_path / "init")
    assert done.code == 2 and "the model has no class three, four" in done.err


def test_train_has_an_option_for_every_training_option() -> None:
    helps = {
        parameter.name: parameter.help or ""
        for parameter in train_command.params
        if isinstance(parameter, click.Option)
    }
    for field in dataclasses.fields(TrainOptions):
        shown = (
            {False: "off", True: "on"}[field.default] if isinstance(field.default, bool) else field.default
        )
        assert f"[default: {shown}" in helps[field.name]


@pytest.mark.slow
def test_train_with_two_processes(tmp_path: Path) -> None:
    data = make_data(tmp_path / "train.npz", 40)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    arguments = (
        "train",
        "--data",
        data,
        *QUICK,
        "--holdout",
        "8",
        "--stage1-epochs",
        "1",
        "--stage2-epochs",
        "1",
    )
    command = [*launcher, "stas_neuro.cli", *map(str, arguments), "-o", str(tmp_path / "two"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["epochs"]) == 2
    fine("compile", tmp_path / "two", "-o", tmp_path / "b")


@pytest.fixture
def shipment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the demo needs, small and random, where it looks for the shipped models."""
    root = tmp_path / "shipped"
    (root / "data").mkdir(parents=True)
    make_data(root / "data" / "fashion-mnist-512.npz", 10)
    make_checkpoint(root / "models" / "fashion-spikformer")
    make_checkpoint(root / "models" / "fashion-spikformer" / "stage1", accumulate="off")
    make_checkpoint(root / "models" / "fashion-t1", accumulate="off", time_steps=1)
    frames = load_config(EXAMPLES / "models" / "order").replace(dim=8, heads=1)
    for name, halting in (("order", "block"), ("order/stage1", "off")):
        model = random_model(frames.replace(accumulate=halting), 3, torch.float32)
        save_checkpoint(model, root / "models" / name)
    monkeypatch.setattr("stas_neuro.assets.ROOT", root)
    return root


def test_demo_goes_all_the_way(shipment: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    document = fine("demo", "-o", out, "--images", "4", "--json").json
    assert document["verification"]["passed"] and document["verification"]["images"] == 4
    models = {model["model"]: model for model in document["models"]}
    assert len(models) == 4 and 0 < models["halting"]["token_ratio"] < 1
    assert all(0 <= model["accuracy"] <= 1 for model in models.values())
    baselines = {row["baseline"] for row in document["comparison"]["rows"]}
    assert baselines == set(models) - {"halting"}
    assert {row["profile"] for row in document["comparison"]["rows"]} == set(list_profiles())
    with Image.open(document["halting_map"]) as picture:
        assert picture.format == "PNG"
    assert {(row["schedule"], row["baseline_schedule"]) for row in document["comparison"]["rows"]} == {
        ("raster", "pipelined")
    }
    # The raster price of the same baseline is higher: pipelining is what halting gives up.
    pipelined = {
        row["profile"]: row for row in document["comparison"]["rows"] if "stage 1" in row["baseline"]
    }
    raster = {row["profile"]: row for row in document["comparison_raster"]["rows"]}
    assert raster.keys() == pipelined.keys()
    for chip in ("loihi1", "loihi2"):
        assert raster[chip]["baseline_schedule"] == "raster" and "stage 1" in raster[chip]["baseline"]
        costs = [rows[chip]["without"]["dynamic_energy_j"]["value"] for rows in (pipelined, raster)]
        assert costs[0] < costs[1]
    # Bundles are placed for loihi2, so that their runs have the price of the demo.
    runs = out / "runs" / "halting", "--baseline", out / "runs" / "stage1"
    (saved,) = fine("compare", *runs, "--profiles", "loihi2", "--json").json["comparison"]["rows"]
    of_demo = pipelined["loihi2"]
    assert saved["energy_saving"] is not None and saved["energy_saving"] == of_demo["energy_saving"]
    assert of_demo["halting"]["cores_breakdown"] and pipelined["cmos45"]["halting"]["cores"] is None
    in_time = document["in_time"]
    assert [model["model"] for model in in_time["models"]] == ["halting", "stage 1, without halting"]
    assert {row["profile"] for row in in_time["comparison"]["rows"]} == set(list_profiles())
    assert in_time["comparison_raster"] is None  # block halting is pipelined, too
    assert fine(
        "verify", out / "halting.stas", "--data", shipment / "data" / "fashion-mnist-512.npz", "--limit", "1"
    )
    assert stas("demo", "-o", out, "--images", "4").code == 2


def test_demo_shows_what_it_found(shipment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = fine("demo", "--images", "3")
    (directory,) = re.findall(r"Bundles and runs are in (\S+);", done.out)
    assert Path(directory).parent == tmp_path and (Path(directory) / "halting.png").is_file()
    for text in ("accuracy", "token ratio", "equal", "halting ignored", "cmos45", "not measured"):
        assert text in done.out
    assert len(re.findall(r" equal *$", done.out, re.MULTILINE)) == 5  # the last one in integers
    costs = re.findall(r"^ *(halting|stage 1, without halting) +(raster|pipelined) ", done.out, re.MULTILINE)
    stage1 = "stage 1, without halting"
    still = [("halting", "raster"), (stage1, "pipelined"), (stage1, "raster")]
    assert costs == [*still, ("halting", "pipelined"), (stage1, "pipelined")]


def test_a_missing_shipment_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("stas_neuro.assets.ROOT", tmp_path)
    done = stas("demo")
    assert done.code == 2 and "fashion-mnist-512.npz is missing" in done.err


def test_progress_says_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("stas_neuro.cli.train.time.monotonic", lambda: now[0])
    settings = TrainOptions(stage1_epochs=2, stage2_epochs=2)
    seen = _Progress("the plan", settings, None, silent=False)
    batch = {"event": "batch", "epochs": 2, "steps": 10, "loss": 1.0, "accuracy": 0.5}
    seen(batch | {"stage": 1, "epoch": 0, "step": 0})
    now[0] += 40
    seen(batch | {"stage": 1, "epoch": 0, "step": 4})  # 4 of 39 steps in 40 s: 35 are left
    now[0] += 1
    seen(batch | {"stage": 1, "epoch": 0, "step": 5})
    now[0] += 359
    seen(batch | {"stage": 2, "epoch": 1, "step": 8})
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "the plan"
    assert second == "stage 1 epoch 1 of 2, loss 1.000, accuracy 50.00 %, about 6 min left"
    assert third == "stage 2 epoch 2 of 2, loss 1.000, accuracy 50.00 %, about 11 s left"


def test_quiet_training_prints_only_its_result(tmp_path: Path) -> None:
    data = make_data(tmp_path / "train.npz", 40)
    done = train(data, tmp_path / "a", "--stage1-epochs", "1", "--stage2-epochs", "0", "--quiet")
    assert done.code == 0 and not done.err and "held-out accuracy" in done.out


def test_an_interrupted_training_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path / "train.npz", 40)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stas_neuro.training.train.train", stop)
    done = train(data, tmp_path / "a")
    assert done.code == 130
    assert done.err == "interrupted; --resume continues from the last finished epoch\n"
