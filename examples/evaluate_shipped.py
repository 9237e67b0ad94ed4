"""Measure accuracy and halting of the shipped models and their baselines on Fashion-MNIST.

    python examples/evaluate_shipped.py --split test

Baselines of a halting model are its own truncation, where every token stops after the same number of visits,
and models trained for fewer time steps. ``--split test`` uses the 10,000 test images, ``--split holdout``
held-out training images, for model selection: those that a checkpoint records, or the last 5,000 for the
shipped models, which record none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.models.checkpoint import load_checkpoint, load_config, load_training
from stas_neuro.models.config import StasConfig
from stas_neuro.models.halting import Halting
from stas_neuro.models.stas import StasModel
from stas_neuro.training.options import TrainOptions
from stas_neuro.training.train import evaluate, split

MODELS = Path(__file__).parent / "models"
HOLDOUT = 5000


class Truncated(Halting):
    """Stop all tokens after ``stop`` visits (raster order), independent of their scores.

    Visits have the weights of halting until these sum to 1; the last visit has the remainder. With ``even``
    the weight of every visit is its share of the scores instead.
    """

    def __init__(self, config: StasConfig, like: Tensor, stop: int, even: bool) -> None:
        super().__init__(config, like)
        self.stop, self.even = stop, even
        self.count = 0

    def open(self, step: int, block: int) -> Tensor:
        """Return the mask of all tokens until the stop, then of none."""
        self.visits.append(self.live)
        return self.live

    def visit(self, step: int, block: int, z: Tensor) -> Tensor:
        """Return the weight of a visit, zero after the stop."""
        config = self.config
        self.count += 1
        h = torch.sigmoid(config.alpha * z[..., 0] + config.beta) * self.live
        if not self.even:
            rest = self.live * (1 - self.total)
            h = rest if self.count == self.stop else torch.minimum(h, rest)
        self.total = self.total + h
        if self.count == self.stop:
            self.live = torch.zeros_like(self.live)
        return h


def truncations(model: StasModel, data: Any) -> list[dict[str, Any]]:
    """Evaluate the model with all tokens stopped after 1, 2, ... visits; the better of two weightings."""
    visits = model.config.time_steps * model.config.depth
    rows = []
    for stop in range(1, visits + 1):
        results = []
        for even in (False, True):
            model.make_halting = lambda config, like, e=even, s=stop: Truncated(config, like, s, e)
            readout = "rectangular" if even else "raster"  # rectangular normalises by the sum of weights
            model.config = model.config.replace(accumulate=readout)
            results.append(evaluate(model, data))
        rows.append(
            max(results, key=lambda result: result["accuracy"])
            | {"model": f"  all tokens {stop} of {visits}"}
        )
    del model.make_halting
    model.config = model.config.replace(accumulate="raster")
    return rows


def held_out(checkpoint: Path, data: LabelledImages) -> LabelledImages:
    """Return the training images that a checkpoint was not trained on."""
    record = load_training(checkpoint)
    if record is None:
        return data.select(slice(len(data) - HOLDOUT, None))
    if record.images != len(data):
        what = f"{checkpoint} was trained on {record.images} of {len(data)} images"
        raise InputError(what, "evaluate it on the test images")
    return split(data, TrainOptions(holdout=record.held_out, seed=record.seed))[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("test", "holdout"), default="holdout")
    parser.add_argument("--models", type=Path, default=MODELS, help="directory of checkpoint directories")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    images = load_data("fashion-mnist", "test" if arguments.split == "test" else "train")
    rows: list[dict[str, Any]] = []
    for directory in sorted(path.parent for path in arguments.models.rglob("config.json")):
        if (directory / "quantisation.json").exists():
            continue  # examples/evaluate_integers.py measures integer programs
        if load_config(directory).class_names != images.classes:
            continue  # examples/temporal.py measures models of other data
        model = load_checkpoint(directory)
        data = images if arguments.split == "test" else held_out(directory, images)
        rows.append({"model": str(directory.relative_to(arguments.models)), **evaluate(model, data)})
        if model.config.accumulate == "raster":
            rows += truncations(model, data)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("model", "accuracy", "token ratio", "visits std", "within an image")
    for row in rows:
        values = (f"{row[key]:.4f}" for key in ("accuracy", "token_ratio", "visits_std", "visits_std_within"))
        table.add_row(row["model"], *values)
    Console().print(table)


if __name__ == "__main__":
    main()
