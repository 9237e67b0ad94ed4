"""What the tests of training share: a tiny model, digits, options, and how to compare two runs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch

from stas_neuro.data import LabelledImages, load_data
from stas_neuro.models.checkpoint import load_checkpoint
from stas_neuro.models.config import preset
from stas_neuro.training.options import TrainOptions
from stas_neuro.training.train import train

CONFIG = preset("tiny").replace(dim=8, heads=1, time_steps=2, stem="max", beta=-0.3)
OPTIONS = TrainOptions(
    stage1_epochs=2,
    stage2_epochs=2,
    batch_size=32,
    holdout=32,
    stage1_rate=0.01,
    stage2_rate=0.01,
    augment="none",
)


def digits(count: int = 128) -> LabelledImages:
    return load_data("digits", "train").select(slice(0, count))


def log_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def assert_same_run(directory: Path, whole: Path) -> None:
    """Bit-identical weights of both stages, and the same log but for how long it took."""
    assert log_of(whole)[-1]["token_ratio"] < 1, "no token halts"
    for part in (".", "stage1"):
        ours, theirs = (load_checkpoint(run / part) for run in (directory, whole))
        assert ours.config == theirs.config
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), f"{part} {name}"
    logs = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in log_of(d)] for d in (directory, whole)
    ]
    assert logs[0] == logs[1]


def train_until_killed(directory: Path) -> None:
    """Train, and kill this process in the midst of the last epoch."""

    def report(event: dict[str, Any]) -> None:
        if (event["event"], event["stage"], event["epoch"], event.get("step")) == ("batch", 2, 1, 1):
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)  # sums in one order, as in the tests
    train(CONFIG, digits(), OPTIONS, directory, report=report)
