"""Two-stage training: it learns, refuses what does not fit, and spreads over processes."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training_runs import CONFIG, OPTIONS, digits, log_of

from stas_neuro.data import LabelledImages, load_data, normalise
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.models.checkpoint import (
    TrainingRecord,
    load_checkpoint,
    load_config,
    load_training,
    save_checkpoint,
)
from stas_neuro.models.config import PRESETS, StasConfig, preset
from stas_neuro.models.stas import Output, StasModel
from stas_neuro.training.options import RECIPES, Augmentation, TrainOptions, recipe
from stas_neuro.training.train import augmented, evaluate, fit_config, one_cycle, split, train


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Learning -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", pytest.param("tiny-spikingformer", marks=pytest.mark.slow)])
def test_the_loss_falls(tmp_path: Path, name: str):
    events: list[dict[str, Any]] = []
    options = TrainOptions(
        stage1_epochs=8, stage2_epochs=2, batch_size=32, holdout=64, augment="none", stage1_rate=0.01
    )
    model = train(preset(name), digits(320), options, tmp_path, report=events.append)
    log = log_of(tmp_path)
    assert [(line["stage"], line["epoch"]) for line in log] == [(1, e) for e in range(8)] + [(2, 0), (2, 1)]
    assert [event for event in events if event["event"] == "epoch"] == log
    assert log[7]["loss"] < log[0]["loss"] - 0.5
    assert log[-1]["loss"] < log[0]["loss"] - 0.5
    assert log[7]["accuracy"] > 0.3  # of ten classes
    assert all(line["token_ratio"] == 1 for line in log[:8])
    assert 0 < log[-1]["token_ratio"] < 1, "stage 2 halts"
    batches = [event for event in events if event["event"] == "batch"]
    assert [event["step"] for event in batches] == list(range(8)) * 10
    # What is left is what was reported: weights, configuration, and stage 1's without halting.
    assert not model.training
    loaded = load_checkpoint(tmp_path)
    _, held_out = split(digits(320), options)
    assert evaluate(loaded, held_out)["accuracy"] == log[-1]["accuracy"]
    assert load_config(tmp_path) == fit_config(preset(name), digits(320))
    assert load_config(tmp_path / "stage1").accumulate == "off"
    assert evaluate(load_checkpoint(tmp_path / "stage1"), held_out)["accuracy"] == log[7]["accuracy"]


def test_ponder_weight_shortens_visits(tmp_path: Path):
    """The same stage 1, then stage 2 without and with much weight on ponder."""
    config, data = preset("tiny").replace(beta=-1.5), digits(256)
    stage1 = TrainOptions(**OPTIONS.to_json() | {"stage2_epochs": 0})
    train(config, data, stage1, tmp_path / "base")
    ratios = []
    for weight in (0.0, 4.0):
        changes = {"stage1_epochs": 0, "stage2_epochs": 5, "stage2_rate": 0.02, "ponder_ramp": 0.0}
        options = TrainOptions(**OPTIONS.to_json() | changes | {"ponder_weight": weight})
        train(config, data, options, tmp_path / str(weight), init=tmp_path / "base")
        ratios.append(log_of(tmp_path / str(weight))[-1]["token_ratio"])
    assert ratios[1] < ratios[0] - 0.1


def test_every_epoch_sees_all_images_in_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[list[bytes]] = []
    forward = StasModel.forward

    def note(model: StasModel, images: torch.Tensor, **options: bool) -> Output:
        if model.training:
            seen.append([image.numpy().tobytes() for image in images])
        return forward(model, images, **options)

    monkeypatch.setattr(StasModel, "forward", note)
    data = digits()
    config = fit_config(CONFIG, data)
    train(CONFIG, data, OPTIONS, tmp_path)
    kept, held_out = split(data, OPTIONS)
    assert len(held_out) == 32
    images = torch.from_numpy(normalise(kept.images, config.mean, config.std)).float()
    epochs = [[image for batch in seen[start : start + 3] for image in batch] for start in range(0, 12, 3)]
    assert all(sorted(epoch) == sorted(image.numpy().tobytes() for image in images) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_event_data_train(tmp_path: Path):
    rng = np.random.default_rng(0)
    data = LabelledImages(rng.random((24, 2, 2, 4, 4)), rng.integers(0, 3, 24), source="events")
    config = CONFIG.replace(image_size=4, stem="sps")
    options = TrainOptions(stage1_epochs=1, stage2_epochs=1, batch_size=8, holdout=8)
    model = train(config, data, options, tmp_path)
    assert model.config.event_input and model.config.in_channels == 2 and model.config.num_classes == 3
    with pytest.raises(InputError, match="events: 2 frames per image, the model needs 4; set time_steps"):
        fit_config(config.replace(time_steps=4), data)


def test_learning_rate():
    rates = [one_cycle(i / 100) for i in range(101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 15
    assert rates[0] == pytest.approx(0.05) and rates[-1] == pytest.approx(0.0)
    steps = np.diff(rates)
    assert (steps[:15] > 0).all() and (steps[15:] < 0).all()


@pytest.mark.parametrize("how", ["none", "shift", "shift-and-mirror"])
def test_augmentation_is_a_shift_and_maybe_a_mirror(how: Augmentation) -> None:
    x = torch.arange(2 * 3 * 28 * 28).reshape(2, 3, 28, 28).float()
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    found = set()
    for seed in range(12):
        y = augmented(x, how, torch.Generator().manual_seed(seed))
        for image in range(2):
            (place,) = (
                (mirrored, dy, dx)
                for mirrored, side in enumerate((padded, padded.flip(3)))
                for dy in range(5)
                for dx in range(5)
                if torch.equal(y[image], side[image, :, dy : dy + 28, dx : dx + 28])
            )
            found.add(place)
    if how == "none":
        assert found == {(0, 2, 2)}
    else:
        assert len(found) > 10 and {mirrored for mirrored, *_ in found} == {0, how == "shift-and-mirror"}
    frames = augmented(x.unsqueeze(1).expand(-1, 4, -1, -1, -1), how, torch.Generator().manual_seed(0))
    assert all(torch.equal(frames[:, t], frames[:, 0]) for t in range(4))


def test_small_images_are_shifted_less() -> None:
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    shifted = [augmented(x, "shift", torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert {int(y[0, 0, 4, 4] - x[0, 0, 4, 4]) for y in shifted} == {
        8 * dy + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    }


def test_presets_have_options_of_their_own(tmp_path: Path) -> None:
    assert recipe("tiny").batch_size == 32 and recipe("tiny", batch_size=8).batch_size == 8
    assert recipe("fashion").augment == "shift-and-mirror" and recipe("order").augment == "none"
    assert recipe(None) == TrainOptions()
    assert RECIPES.keys() <= PRESETS.keys()


# What cannot be trained ---------------------------------------------------------------------------------


def test_options_out_of_range():
    for values, message in (
        ({"stage1_epochs": -1}, "stage1_epochs=-1 is below 0"),
        ({"batch_size": 0}, "batch_size=0 is below 1"),
        ({"holdout": 0}, "holdout=0 is below 1"),
        ({"stage1_rate": float("nan")}, "stage1_rate=nan is not a finite number of at least 0"),
        ({"ponder_weight": -1.0}, "ponder_weight=-1.0 is not a finite number of at least 0"),
        ({"augment": "flip"}, "there is no augmentation 'flip'; use one of none, shift, shift-and-mirror"),
        ({"ponder_ramp": 1.5}, r"ponder_ramp=1.5 is outside \[0, 1\]"),
    ):
        with pytest.raises(InputError, match=message):
            TrainOptions(**values)


def test_data_that_cannot_be_trained_on(tmp_path: Path):
    data = digits(64)
    unlabelled = LabelledImages(data.images, None, source="u.npz")
    oblong = LabelledImages(data.images[:, :, :6], data.labels, source="o.npz")
    odd = LabelledImages(data.images[:, :, :7, :7], data.labels, source="7.npz")
    options = TrainOptions(holdout=32, batch_size=32)
    for bad, message in (
        (unlabelled, r"u\.npz: has no labels; add an array named labels"),
        (oblong, r"o\.npz: images are 6x8; crop or pad"),
        (odd, "patch_size=2 does not divide image_size=7"),
        (data.select(slice(0, 32)), "digits: with holdout=32 of 32 images, none are left to train on"),
        (data.select(slice(0, 40)), "8 training images are fewer than batch_size=32; lower the batch size"),
    ):
        with pytest.raises(InputError, match=message):
            train(CONFIG, bad, options, tmp_path)


def test_missing_data_in_one_line(tmp_path: Path):
    """What a user sees who has no Fashion-MNIST."""
    command = [
        sys.executable,
        "-m",
        "stas_neuro.cli",
        "train",
        "--data",
        "fashion-mnist",
        "--preset",
        "fashion",
    ]
    process = subprocess.run(
        [*command, "-o", str(tmp_path / "run")],
        env=os.environ | {"STAS_FASHION_MNIST": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith(
        f"error: Fashion-MNIST is not in {tmp_path / 'nowhere'}; install the Debian package"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"stage1_rate": 1e22}, r"the loss is \d\S*e\+2\d at stage 1 epoch 1 of 2, step 2 of 3, "),
        ({"stage1_rate": 1e38}, "the loss is (inf|nan) at stage 1 epoch 1 of 2, step 2 of 3, "),
        ({"stage2_rate": 1e6}, r"the loss is \S+ at stage 2 epoch 1 of 2, step 2 of 3, "),
        # The only step of the epoch: nothing but the held-out images shows what it did.
        (
            {"stage1_rate": 1e22, "batch_size": 96},
            "the loss of held-out images is .* end of stage 1 epoch 1 of 2",
        ),
    ],
)
def test_a_training_that_diverges_ends_where_it_does(tmp_path: Path, changes: dict[str, float], where: str):
    (stage,) = [name[:6] for name in changes if name.endswith("rate")]
    with pytest.raises(CheckFailed) as caught:
        train(CONFIG, digits(), TrainOptions(**OPTIONS.to_json() | changes), tmp_path)
    assert re.match(f"training diverges: {where}", caught.value.what), caught.value.what
    assert "a learning rate of " in caught.value.what and "(the loss of guessing is 2.3)" in caught.value.what
    assert caught.value.remedy == f"lower {stage}_rate, which is {changes[f'{stage}_rate']:g}"
    assert not (tmp_path / "model.safetensors").exists()
    assert all(np.isfinite(line["loss"]) and line["loss"] < 10 for line in log_of(tmp_path))


def test_weights_that_diverged_before_are_not_blamed_on_the_rate(tmp_path: Path):
    model = StasModel(fit_config(CONFIG, digits()))
    with torch.no_grad():
        model.head.weight *= 1e9
    save_checkpoint(model, tmp_path / "init")
    with pytest.raises(CheckFailed, match=r"epoch 1 of 2, step 1 of 3.*; start from other weights"):
        train(CONFIG, digits(), OPTIONS, tmp_path / "run", init=tmp_path / "init")


def test_a_gradient_that_is_not_finite_ends_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(
        CheckFailed, match="the norm of the gradient is nan at stage 1 epoch 1 of 2, step 1 of 3"
    ):
        train(CONFIG, digits(), OPTIONS, tmp_path)


# Which images are held out ------------------------------------------------------------------------------


def test_images_of_sorted_data_are_held_out_from_every_class(tmp_path: Path):
    data = digits(200)
    data = data.select(np.argsort(data.labels, kind="stable"))
    options = TrainOptions(**OPTIONS.to_json() | {"holdout": 40, "stage2_epochs": 0, "seed": 7})
    kept, held_out = split(data, options)
    sizes = np.bincount(data.labels)
    assert (abs(np.bincount(held_out.labels) - sizes / 5) < 1).all()
    assert len(kept) == 160 and not np.array_equal(kept.labels, np.sort(kept.labels))
    again, other = (split(data, replace(options, seed=seed))[1] for seed in (7, 8))
    assert np.array_equal(again.images, held_out.images) and not np.array_equal(other.images, held_out.images)
    train(CONFIG, data, options, tmp_path)
    record = load_training(tmp_path)
    assert record is not None and load_training(tmp_path / "stage1") == record
    digest = hashlib.sha256(held_out.images.tobytes() + held_out.labels.tobytes()).hexdigest()
    assert record == TrainingRecord(
        images=200, held_out=40, split="stratified", seed=7, held_out_sha256=digest
    )
    accuracy = evaluate(load_checkpoint(tmp_path), held_out)["accuracy"]
    assert accuracy == log_of(tmp_path)[-1]["accuracy"]


def test_evaluating_matches_labels_by_name():
    model = StasModel(fit_config(CONFIG, digits())).eval()
    data = digits()
    renamed = LabelledImages(data.images, 9 - data.labels, data.classes[::-1])
    assert evaluate(model, renamed) == evaluate(model, data)
    with pytest.raises(InputError, match=r"the label of image 0 is 10, outside 0\.\.9"):
        evaluate(model, LabelledImages(data.images, data.labels + 10))


def test_without_stage_2_the_model_does_not_halt(tmp_path: Path):
    model = train(CONFIG, digits(), TrainOptions(**OPTIONS.to_json() | {"stage2_epochs": 0}), tmp_path)
    assert model.config.accumulate == load_config(tmp_path).accumulate == "off"


def test_configuration_is_fitted_to_the_data():
    data = LabelledImages(
        np.stack([np.full((8, 8), 51), np.full((8, 8), 204)]).astype(np.uint8)[:, None],
        np.array([1, 0]),
        source="two",
    )
    config = fit_config(StasConfig(patch_size=2, image_size=28), data)
    assert (config.image_size, config.in_channels, config.num_classes) == (8, 1, 2)
    assert config.classes == ("0", "1")
    assert config.mean == pytest.approx((0.5,)) and config.std == pytest.approx((0.3,))
    assert not config.event_input
    named = LabelledImages(data.images / 255, data.labels, tuple("ab"), "named")
    config = fit_config(config, named)
    assert config.classes == ("a", "b") and config.mean == pytest.approx((0.5,))
    assert fit_config(config, named, tuple("cba")).classes == (
        "c",
        "b",
        "a",
    )  # those of weights to start from
    with pytest.raises(
        InputError, match="named: the model has no class b; the data have a, b, the model a, c"
    ):
        fit_config(config, named, ("a", "c"))
    with pytest.raises(InputError, match="the weights are for a single class, a; start from other weights"):
        fit_config(config, named, ("a",))
    constant = LabelledImages(np.zeros((2, 1, 8, 8)), np.array([0, 1]))
    assert fit_config(config, constant).std == (0.001,)


# Several processes --------------------------------------------------------------------------------------


def launch(directory: Path, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Train by torch's launcher with two processes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    training = [
        "-m",
        "stas_neuro.cli",
        "train",
        "--data",
        str(data),
        "--preset",
        "tiny",
        "-o",
        str(directory),
    ]
    model = ["--dim", "8", "--heads", "1", "--time-steps", "2", "--stem", "max", "--beta", "-0.3"]
    rates = ["--stage1-rate", "0.01", "--stage2-rate", "0.01", "--holdout", "32", "--augment", "none"]
    return subprocess.run(
        [*launcher, *training, *model, *rates, *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow  # it starts three interpreters, twice
def test_two_processes_train_as_one(tmp_path: Path):
    """What processes share is the gradient, the statistics of live tokens and the global batch.

    Each normalises the stem (and in stage 1 the blocks) by the statistics of its own half of the batch. So
    only with images that are all alike can two processes follow one, their labels differing: then to within
    rounding in stage 1, and in stage 2, which uses the running statistics, to what n/(n - 1) of an unbiased
    variance makes of halves.
    """
    image, labels = digits().images[3], np.random.default_rng(0).integers(0, 10, 96)
    np.savez(tmp_path / "data.npz", images=np.stack([image] * 96), labels=labels)
    options = ["--stage1-epochs", "2", "--stage2-epochs", "2", "--batch-size", "16"]
    process = launch(tmp_path / "two", tmp_path / "data.npz", *options)
    assert process.returncode == 0, process.stderr
    settings = TrainOptions(**OPTIONS.to_json() | {"batch_size": 16})
    train(CONFIG, load_data(str(tmp_path / "data.npz"), "train"), settings, tmp_path / "one")
    two, one = (log_of(tmp_path / name) for name in ("two", "one"))
    assert len(two) == len(one) == 4
    for ours, theirs, tolerance in zip(two, one, (1e-6, 1e-6, 5e-3, 5e-3), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=tolerance)
        # All images make the same of 64 visits, one of which may be so close to the threshold that it flips.
        assert ours["train_token_ratio"] == pytest.approx(theirs["train_token_ratio"], abs=1.01 / 64)
    assert one[-1]["loss"] < one[0]["loss"]


@pytest.mark.slow
def test_two_processes_learn_and_resume(tmp_path: Path):
    data = digits(320)
    np.savez(tmp_path / "data.npz", images=data.images, labels=data.labels)
    options = ["--stage1-epochs", "6", "--stage2-epochs", "2", "--batch-size", "32"]
    process = launch(tmp_path / "run", tmp_path / "data.npz", *options)
    assert process.returncode == 0, process.stderr
    log = log_of(tmp_path / "run")
    assert [(line["stage"], line["epoch"]) for line in log] == [(1, e) for e in range(6)] + [(2, 0), (2, 1)]
    assert log[5]["loss"] < log[0]["loss"] - 0.2
    assert isinstance(load_checkpoint(tmp_path / "run"), StasModel)
    (tmp_path / "run" / "model.safetensors").unlink()
    process = launch(tmp_path / "run", tmp_path / "data.npz", *options, "--resume")
    assert process.returncode == 0, process.stderr
    assert log_of(tmp_path / "run") == log
    load_checkpoint(tmp_path / "run")
    process = launch(tmp_path / "odd", tmp_path / "data.npz", *options[:4], "--batch-size", "31")
    assert process.returncode != 0
    assert "batch_size=31 is not a multiple of 2 processes; use a batch size" in process.stderr
