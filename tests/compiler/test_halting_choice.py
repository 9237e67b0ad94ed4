"""Halting that is added: what is chosen keeps to the loss where it was chosen, and is measured elsewhere."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from support.cli_support import CLASSES, CONFIG, fine, make_checkpoint, make_data, stas
from support.paths import EXAMPLES
from support.random_models import random_model

import stas_neuro
from stas_neuro import api
from stas_neuro.compiler import HaltingEffect, choose_halting
from stas_neuro.compiler.halting import _series, _strongest
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.ir import POLICIES, Graph, HaltMode
from stas_neuro.passes import AddHalting
from stas_neuro.reference import run_reference


@pytest.fixture(scope="module")
def graph() -> Graph:
    return stas_neuro.fold(random_model(CONFIG.replace(accumulate="off"), 1))


def data_for(graph: Graph, count: int, *, labels: bool = True) -> LabelledImages:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (count, *graph.input.shape), np.uint8)
    known = rng.integers(0, len(CLASSES), count) if labels else None
    return LabelledImages(pixels, known, classes=CLASSES, source="random")


@pytest.mark.parametrize("mode", POLICIES)
def test_the_choice_keeps_to_the_loss_and_reports_other_images(graph: Graph, mode: HaltMode) -> None:
    data = data_for(graph, 24)
    seen: list[tuple[int, int]] = []
    choice = choose_halting(
        graph, mode, data, max_drop=0.1, limit=20, progress=lambda done, images: seen.append((done, images))
    )
    assert seen == sorted(seen) and len({images for _, images in seen}) == 1
    assert seen[0][0] < seen[-1][0] == seen[-1][1]
    assert choice.chosen_on.drop <= 0.1
    pixels = api.preprocess(graph, data, 20).astype(np.float32)
    before = run_reference(graph, pixels, dtype=np.float32).predictions
    after = run_reference(choice.halting(graph), pixels, dtype=np.float32)
    assert data.labels is not None
    for effect, half in ((choice.chosen_on, slice(0, None, 2)), (choice.reported_on, slice(1, None, 2))):
        known = data.labels[:20][half]
        assert effect == HaltingEffect(
            images=10,
            accuracy_without=float((before[half] == known).mean()),
            accuracy=float((after.predictions[half] == known).mean()),
            agreement=float((before[half] == after.predictions[half]).mean()),
            visits=float(after.visits[half].mean()),
        )
    document = choice.to_json()
    assert document["measure"] == "accuracy" and document["reported_on"]["drop"] == choice.reported_on.drop
    assert set(document["parameters"]) == (
        {"margin", "summed"} if mode == "image" else {"alpha", "beta", "epsilon"}
    )


def test_without_labels_the_loss_is_of_agreement(graph: Graph) -> None:
    choice = choose_halting(graph, "image", data_for(graph, 20, labels=False), max_drop=0.0)
    assert choice.chosen_on.accuracy is None and choice.chosen_on.agreement == 1
    assert choice.chosen_on.drop == 0 and choice.to_json()["measure"] == "agreement"
    assert "agreement with the network without halting" in choice.sentence()


def test_the_strongest_of_a_series_is_found_by_bisection() -> None:
    series = [AddHalting(mode="image", margin=float(20 - number)) for number in range(21)]
    for most, length in itertools.product(range(-1, 21), (1, 2, 21)):
        tried = []

        def measure(halting: AddHalting, most: int = most, tried: list[float] = tried) -> HaltingEffect:
            tried.append(halting.margin)
            return HaltingEffect(4, None, None, float(20 - halting.margin <= most), 0.5)

        found = _strongest(series[:length], measure, 0.5)
        assert (found[0] if found else None) == (series[min(most, length - 1)] if most >= 0 else None)
        assert len(tried) <= 5


def test_series_go_from_weak_to_strong_halting(graph: Graph) -> None:
    pixels = api.preprocess(graph, data_for(graph, 6)).astype(np.float32)
    logits = run_reference(graph, pixels).logits
    for mode in ("image", "time"):
        for series in _series(AddHalting(mode=mode), logits, graph.time_steps):  # type: ignore[arg-type]
            tried = [*series[::9], series[-1]]
            visits = [run_reference(each(graph), pixels, count=False).visits.mean() for each in tried]
            assert visits[0] >= visits[-1] and len(set(visits)) > 1


def test_exits_of_events_are_chosen_by_the_sum_of_logits() -> None:
    """Few frames have events: the mean of the logits leads most when they have just come, and fades."""
    model = stas_neuro.load_model(EXAMPLES / "models/simulated-glimpses", accumulate="off")
    images = stas_neuro.load_data("simulated-glimpses", "train").select(slice(0, 120))
    assert not stas_neuro.load_model(model, accumulate="image", margin=3.0, summed=False).config.summed
    choice = choose_halting(stas_neuro.fold(model), "image", images, max_drop=0.0)
    assert choice.halting.summed and choice.chosen_on.drop <= 0 and choice.chosen_on.visits < 1
    assert "of the sum of logits, chosen on 60 images" in choice.sentence()


def test_the_margin_of_a_sum_is_that_of_a_mean_in_the_last_step(graph: Graph) -> None:
    """With k steps, a lead m of the mean after all of them is one of k m of the sum; before, less is due."""
    pixels = api.preprocess(graph, data_for(graph, 20)).astype(np.float32)
    ordered = np.sort(run_reference(graph, pixels).logits, axis=1)
    margin = float(np.median(ordered[:, -1] - ordered[:, -2]))
    mean, of_sum = (
        run_reference(AddHalting(mode="image", **words)(graph), pixels, dtype=np.float32)
        for words in ({"margin": margin}, {"margin": margin * graph.time_steps, "summed": True})
    )
    assert (of_sum.visits >= mean.visits).all() and (of_sum.visits != mean.visits).any()


def test_refusals(graph: Graph) -> None:
    with pytest.raises(InputError, match=r"max-drop is 1; use a share"):
        choose_halting(graph, "time", data_for(graph, 4), max_drop=1)
    with pytest.raises(InputError, match="halting is chosen with 1 image; give at least 2"):
        choose_halting(graph, "time", data_for(graph, 4), limit=1)
    with pytest.raises(InputError, match="halts already"):
        choose_halting(AddHalting(mode="time")(graph), "time", data_for(graph, 4))


def test_the_command_reports_the_choice_and_verify_runs_torch_with_it(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model")
    make_data(tmp_path / "data.npz", 12)
    arguments = ("--halting", "image", "--max-drop", "20%", "--calibrate", tmp_path / "data.npz")
    done = fine("compile", tmp_path / "model", *arguments, "-o", tmp_path / "b.stas", "--json").json
    choice = done["halting_choice"]
    assert choice["max_drop"] == 0.2 and choice["chosen_on"]["images"] == 6
    assert done["accumulate"] == "image" and done["readout"] == "rate"
    assert done["options"]["margin"] == choice["parameters"]["margin"]
    assert [each["pass"] for each in done["passes"]] == ["FoldBatchNorm", "AddHalting"]
    text = fine("compile", tmp_path / "model", *arguments, "-o", tmp_path / "c.stas").out
    assert "halting image: margin" in text and "on 6 other images" in text
    verified = fine("verify", tmp_path / "b.stas", "--data", tmp_path / "data.npz", "--limit", 2, "--json")
    assert any("torch" in str(part) for part in verified.json.values())
    given = ("--halting", "image", "--margin", "0.2", "--summed")
    done = fine("compile", tmp_path / "model", *given, "-o", tmp_path / "s.stas", "--json").json
    assert done["options"]["summed"]
    fine("verify", tmp_path / "s.stas", "--data", tmp_path / "data.npz", "--limit", 2)
    alone = stas("compile", tmp_path / "model", *given[:2], "--summed", "-o", tmp_path / "e.stas")
    assert alone.code == 2 and "summed is of the margin of halting image" in alone.err
    token = stas("compile", tmp_path / "model", "--halting", "time", *given[2:], "-o", tmp_path / "e.stas")
    assert token.code == 2 and "give halting image and margin too, or leave summed out" in token.err
    bad = stas("compile", tmp_path / "model", "--halting", "time", "--max-drop", "lots", "-o", tmp_path / "d")
    assert bad.code == 2 and "'lots' is no share" in bad.err
