"""The example on data in time: its controls, its tests of significance, and a run of it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from rich.console import Console
from support.paths import EXAMPLES
from support.random_models import random_model

import stas_neuro
from stas_neuro.data import LabelledImages, load_data, normalise
from stas_neuro.errors import CheckFailed
from stas_neuro.models.checkpoint import TrainingRecord, save_checkpoint
from stas_neuro.models.config import preset
from stas_neuro.models.stas import StasModel
from stas_neuro.reference import run_reference

MODULES = ("temporal", "temporal_report", "temporal_prices")


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ModuleType]]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield [importlib.import_module(name) for name in MODULES]
    for name in MODULES:
        sys.modules.pop(name, None)


def test_views_are_parts_of_the_frames(examples: list[ModuleType]) -> None:
    temporal = examples[0]
    data = load_data("order").select(slice(0, 50))
    np.testing.assert_array_equal(temporal.view(data, "first 3").images, data.images[:, :3])
    assert temporal.view(data, temporal.STATIC).images is data.images
    # The mean has a share of each pixel: two glyphs of ten frames.
    mean = temporal.view(data, temporal.MEAN).images
    np.testing.assert_allclose(10 * 255 * mean[:, 0], data.images.sum(1), atol=1e-9)


def test_shuffling_keeps_frames_and_swaps_the_order_of_every_other_sequence(
    examples: list[ModuleType],
) -> None:
    temporal = examples[0]
    data = load_data("order").select(slice(0, 400))
    shuffled = temporal.view(data, temporal.SHUFFLED).images
    swapped = 0
    for before, after in zip(data.images, shuffled, strict=True):
        assert sorted(frame.tobytes() for frame in before) == sorted(frame.tobytes() for frame in after)
        first, second = np.flatnonzero(before.any((1, 2, 3)))
        times = np.flatnonzero(after.any((1, 2, 3)))
        assert times.max() <= second
        swapped += not np.array_equal(before[first], after[times[0]])
    assert 0.4 < swapped / len(data) < 0.6


def test_a_network_cut_short_is_torch_with_fewer_steps(examples: list[ModuleType], tmp_path: Path) -> None:
    temporal = examples[0]
    config = preset("order").replace(
        accumulate="off", event_input=True, num_classes=6, mean=(0.1,), std=(0.3,)
    )
    model = random_model(config, 4).float()
    torch.nn.init.zeros_(model.head.bias)  # which would decide the class
    save_checkpoint(
        model, tmp_path, TrainingRecord(images=1, held_out=1, split="", seed=0, held_out_sha256="")
    )
    short = StasModel(config.replace(time_steps=4))
    short.load_state_dict(model.state_dict())
    data = replace(load_data("order").select(slice(0, 30)), classes=())
    part = temporal.view(data, "first 4")
    x = torch.from_numpy(normalise(part.images, config.mean, config.std)).double()
    with torch.inference_mode():
        expected = short.double().eval()(x).logits.argmax(1).numpy()
    result = temporal.measured(temporal.cut(tmp_path, 4), part)
    assert len(set(expected.tolist())) > 1
    np.testing.assert_array_equal(result.right, expected == data.labels)
    assert result.steps == 4 and result.op_count_j > 0


def test_exits_of_a_checkpoint_are_those_that_were_chosen(examples: list[ModuleType], tmp_path: Path) -> None:
    temporal = examples[0]
    config = preset("simulated-glimpses").replace(
        accumulate="image", event_input=True, mean=(0.1, 0.1), std=(0.2, 0.2), readout="rate"
    )
    model = random_model(config, 4).float()
    save_checkpoint(
        model, tmp_path, TrainingRecord(images=1, held_out=1, split="", seed=0, held_out_sha256="")
    )
    images = np.random.RandomState(0).randint(2, size=(80, 8, 2, 4, 4)).astype(np.uint8) * 51
    labels = np.arange(80) % config.num_classes
    made = temporal.with_exits(tmp_path, LabelledImages(images, labels))
    without = StasModel(config.replace(accumulate="off"))
    without.load_state_dict(model.state_dict())
    graph = stas_neuro.fold(without.eval())
    chosen = stas_neuro.choose_halting(
        graph, "image", LabelledImages(images, labels), max_drop=temporal.MOST_LOSS
    )
    assert made.config.margin == chosen.halting.margin
    x = normalise(images, config.mean, config.std).astype(np.float32)
    ours, theirs = (
        run_reference(each, x, dtype=np.float32) for each in (stas_neuro.fold(made), chosen.halting(graph))
    )
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-6)
    assert not ours.visits.all()


def test_tests_of_significance(examples: list[ModuleType]) -> None:
    report = examples[1]
    right = np.array([True] * 5 + [False] * 3 + [True])
    wrong = np.array([False] * 8 + [True])
    assert report.mcnemar(right, wrong) == pytest.approx(1 / 32)
    assert report.mcnemar(wrong, right) == 1 == report.mcnemar(right, right)
    better, worse = [0.9, 0.91, 0.95, 0.99, 0.93], [0.8, 0.9, 0.9, 0.9, 0.9]
    assert report.over_seeds(better, worse) == pytest.approx(1 / 32)
    assert report.over_seeds(worse, better) == pytest.approx(1)
    assert report.over_seeds(better[:4], worse[:4]) == pytest.approx(1 / 16)
    assert report.over_seeds(better, better) == pytest.approx(1)


@pytest.mark.parametrize(("short", "accepted"), [(0.7, True), (0.9, False)])
def test_halting_is_accepted_only_where_all_networks_of_fewer_frames_are_worse(
    examples: list[ModuleType], short: float, accepted: bool
) -> None:
    report = examples[1]
    accuracies = {
        "block": 0.9,
        "eager": 0.6,
        "first 1": 0.3,
        report.MEAN: 0.5,
        "cut 1": 0.2,
        "cut 9": short,
        "first 9": 0.6,
    }
    costs = {"block": 2e-9, "cut 9": 3e-9}
    results = {}
    for seed in range(5):
        results[seed] = {
            name: report.Result(np.arange(1000) < 1000 * accuracy + seed, 5.0, costs.get(name, 1e-9))
            for name, accuracy in accuracies.items()
        }
    for found in results.values():
        held = {"block": found["block"], "lazy": report.Result(found["block"].right, 9.0, 3e-9)}
        held |= {report.STATIC: found["block"], "eager": found["first 9"]}
        found |= {f"{name}{report.HELD_OUT}": result for name, result in held.items()}
    # Of networks with halting that are accurate the cheapest is chosen, else the most accurate.
    told = report.report_of(results, ["eager"])
    assert told["verdict"]["network"] == "eager"
    told = report.report_of(results, ["lazy", "eager", "block"])
    outcome = told["verdict"]
    assert outcome["network"] == "block" and outcome["worse"]["T = 1"]
    assert outcome["accepted"] is accepted
    assert outcome["best"] == {
        "T = 1": report.MEAN,
        "static T' < T": "cut 9",
        "static T' < T, no more operations": "first 9",
    }
    console = Console(record=True, width=140)
    report.show(told, console)
    assert ("not accepted" in console.export_text()) is not accepted


def test_results_are_kept_as_they_are(examples: list[ModuleType]) -> None:
    report = examples[1]
    result = report.Result(np.array([True, False, True]), 3.25, 1e-9)
    again = report.Result.from_json(json.loads(json.dumps(result.to_json())))
    np.testing.assert_array_equal(again.right, result.right)
    assert (again.accuracy, again.steps, again.op_count_j) == (2 / 3, 3.25, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [("order", {"block", "first 9", "cut 9"}), ("simulated-glimpses", {"exit", "first 7"})],
)
def test_a_run_is_resumed_and_prices_need_acceptance(
    examples: list[ModuleType],
    name: str,
    expected: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    temporal, _, prices = examples
    task = temporal.TASKS[name]
    options = task.options | {"holdout": 24, "batch_size": 24}
    small = replace(task, stage1_epochs=1, stage2_epochs=1, options=options, shuffles=True)
    monkeypatch.setitem(temporal.TASKS, name, small)
    parts = {part: load_data(name, part).select(slice(0, 96)) for part in ("train", "test")}
    monkeypatch.setattr(temporal, "data", lambda task, part: parts[part])
    command = ["temporal.py", name, "-o", str(tmp_path), "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", command)
    temporal.main()
    told = capsys.readouterr()
    assert "epoch 1 of 1" in told.err and "not accepted: quote no saving" in told.out
    document = json.loads((tmp_path / f"{name}.json").read_text())
    names = [row["network"] for row in document["networks"]]
    assert {"stage 1", "static", temporal.MEAN, temporal.IMAGE, *expected} <= set(names)
    assert all(len(row["accuracies"]) == 2 for row in document["networks"])
    temporal.main()
    again = capsys.readouterr()
    assert "epoch" not in again.err and again.out == told.out
    monkeypatch.setattr(sys, "argv", ["temporal_prices.py", name, "-o", str(tmp_path)])
    with pytest.raises(CheckFailed, match="not significantly worse"):
        prices.main()
