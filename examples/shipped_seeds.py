"""Compare trainings of the shipped model with its rivals over seeds, on the 10,000 test images.

    for seed in 0 1 2; do
        SEED=$seed IMAGES=12000 bash examples/train_shipped.sh runs/seeds/$seed fashion-spikformer fashion-t1
    done
    python examples/shipped_seeds.py runs/seeds

Rivals without halting are the same weights, their stage 1, both also cut to fewer time steps, and the model
that was trained for one. Differences of accuracy are paired by image; their 95 % intervals are those of a
bootstrap that draws seeds, and images within them. p is that of McNemar's exact two-sided test.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from stas_neuro import load_model
from stas_neuro.data import LabelledImages, load_data, normalise
from stas_neuro.labels import match_classes
from stas_neuro.models.stas import StasModel
from stas_neuro.optimiser import mcnemar

DRAWS = 2000
BATCH = 500


def networks_of(directory: Path) -> dict[str, StasModel]:
    """Return the networks of one seed by name; the first is the one with halting."""
    halting, stage1 = (load_model(directory / "fashion-spikformer" / part) for part in ("", "stage1"))
    steps = range(halting.config.time_steps, 0, -1)
    return {
        "halting": halting,
        **{f"same weights, {t} steps": load_model(halting, accumulate="off", time_steps=t) for t in steps},
        **{f"stage 1, {t} steps": load_model(stage1, accumulate="off", time_steps=t) for t in steps},
        "trained for one step": load_model(directory / "fashion-t1"),
    }


def measure(model: StasModel, data: LabelledImages) -> tuple[NDArray[np.bool_], float]:
    """Return which images are classified correctly, and the mean visits of a token."""
    data = match_classes(data, model.config.class_names)
    assert data.labels is not None
    right, visits = [], 0.0
    with torch.inference_mode():
        for start in range(0, len(data), BATCH):
            part = data.select(slice(start, start + BATCH))
            x = torch.from_numpy(normalise(part.images[:], model.config.mean, model.config.std))
            output = model(x.to(next(model.parameters()).dtype), skip=True)
            right.append(output.logits.argmax(1).numpy() == part.labels)
            visits += float(output.visits.sum()) / output.visits.shape[-1]  # (images, T, L, tokens)
    return np.concatenate(right), visits / len(data)


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of differences (seeds, images)."""
    rng = np.random.default_rng(0)
    seeds, images = differences.shape
    means = [
        np.mean([differences[seed, rng.integers(images, size=images)].mean() for seed in drawn])
        for drawn in rng.integers(seeds, size=(DRAWS, seeds))
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def compare(right: dict[str, NDArray[np.bool_]], visits: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row for each network, with how much the first is better; ``right`` is bool (seeds, images)."""
    first = next(iter(right))
    rows = []
    for name, theirs in right.items():
        difference = right[first].astype(float) - theirs
        rows.append(
            {
                "network": name,
                "accuracy": float(theirs.mean()),
                "std": float(theirs.mean(1).std(ddof=1)),
                "visits": visits[name],
                "better_by": float(difference.mean()),
                "interval": interval(difference),
                "p_values": [mcnemar(a, b) for a, b in zip(right[first], theirs, strict=True)],
            }
        )
    return rows


def main() -> None:
    """Measure all networks of all seeds, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="has a directory of models for each seed")
    parser.add_argument("--data", default="fashion-mnist", help="test images: a name or a file")
    parser.add_argument("--limit", type=int, help="use only the first N test images")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    data = load_data(arguments.data, "test").select(slice(arguments.limit))
    seeds = sorted(path.parent.parent for path in arguments.directory.glob("*/fashion-t1/model.safetensors"))
    if len(seeds) < 2:
        parser.error(f"{arguments.directory} has {len(seeds)} finished seeds; at least two are needed")
    measured = [{name: measure(model, data) for name, model in networks_of(seed).items()} for seed in seeds]
    right = {name: np.stack([found[name][0] for found in measured]) for name in measured[0]}
    visits = {name: float(np.mean([found[name][1] for found in measured])) for name in measured[0]}
    rows = compare(right, visits)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("network", "accuracy, %", "visits", "halting better by", "p of each seed")
    for row in rows:
        low, high = row["interval"]
        table.add_row(
            row["network"],
            f"{100 * row['accuracy']:.2f} ± {100 * row['std']:.2f}",
            f"{row['visits']:.2f}",
            f"{100 * row['better_by']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
            ", ".join(f"{p:.2g}" for p in row["p_values"]),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
