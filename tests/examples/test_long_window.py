"""The example on exits: features of long windows, the choice of a margin, and the networks it prices."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.paths import EXAMPLES

import stas_neuro
from stas_neuro.models.checkpoint import TrainingRecord, save_checkpoint
from stas_neuro.models.config import preset
from stas_neuro.models.stas import StasModel

MODULES = ("temporal", "temporal_report", "long_window", "ponder_surrogate")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module("long_window")
    for name in MODULES:
        sys.modules.pop(name, None)


def test_a_network_with_a_new_head_is_the_one_that_is_measured(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What features predict for 12 frames is what the saved networks do, in torch and in the reference."""
    frames, count = 12, 24
    torch.manual_seed(0)
    short = StasModel(preset("order").replace(event_input=True, num_classes=6, in_channels=1)).eval()
    source = tmp_path / "short"
    record = TrainingRecord(images=2400, held_out=400, split="stratified", seed=0, held_out_sha256="")
    save_checkpoint(short, source, record)
    monkeypatch.setattr(example, "trained", lambda seed, name, directory: source)
    monkeypatch.setattr(example, "ITERATIONS", 20)
    whole = example.sequences
    monkeypatch.setattr(
        example,
        "sequences",
        lambda part, length: whole(part, length).select(slice(0, 430 if part == "train" else count)),
    )
    found = example.made(0, frames, tmp_path)
    test = example.sequences("test", frames)
    exits = stas_neuro.fold(example.place(0, frames, "exit", tmp_path))
    trace = stas_neuro.run(exits, test, dtype=np.float32)
    assert "".join(map(str, (trace.predictions == test.labels).astype(int))) == found["exit"]
    assert trace.visits[:, :, 0, 0].sum(1).mean() == pytest.approx(found["frames"])
    static = stas_neuro.run(stas_neuro.fold(example.place(0, frames, "static", tmp_path)), test)
    assert float((static.predictions == test.labels).mean()) == pytest.approx(
        found["cuts"][-1], abs=1 / count
    )
    places = {name: example.place(0, frames, name, tmp_path) for name in ("static", "exit")}
    rows = example.priced(places, frames, ["loihi2"], 4)
    assert [row["mode"] for row in rows] == ["single", "stream"]
    assert rows[0]["steps"][1] <= rows[0]["steps"][0] + 1  # the score is a stage more


def test_an_exit_is_the_first_frame_with_a_clear_sum(example: ModuleType) -> None:
    sums = torch.tensor([[[1.0, 0.0], [4.0, 0.0], [9.0, 0.0]], [[0.0, 1.0], [0.0, 1.0], [1.5, 0.0]]])
    running = sums / torch.arange(1, 4)[:, None]
    taken, predicted = example.exit_at(running, 3.0)
    assert taken.tolist() == [2, 3] and predicted.tolist() == [0, 0]
    # At a margin of 1 the second is wrong: it exits before its sum has changed sides.
    labels = torch.tensor([0, 0])
    assert example.exit_at(running, 1.0)[1].tolist() == [0, 1]
    margin = example.margin_of(running, labels)
    assert margin > 1.0 and (example.exit_at(running, margin)[1] == labels.numpy()).all()
