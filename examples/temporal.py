"""Train and measure networks on data in which time carries information, and test whether halting uses it.

    python examples/temporal.py order -o runs/temporal --seeds 0 1 2 3 4
    python examples/temporal.py japanese-vowels -o runs/temporal --seeds 0 1 2 3 4 5 6 7 8 9

For each seed it trains one network without halting for all T frames (stage 1), and from it, for the same
number of further epochs: networks with halting, networks without that see the first T' frames only
(``first 8``), and a control whose frames are in random order. Networks with T = 1, of the first frame and of
the mean of all frames, are trained from scratch for all epochs. Results are of the test images, in float32.
An interrupted run is continued. Writes ``TASK.json`` and prints a table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest, permutation_test

import stas_neuro
from stas_neuro.data import LabelledImages
from stas_neuro.energy.pricing import OP_COUNT
from stas_neuro.files import write_atomically
from stas_neuro.ir import Graph
from stas_neuro.models.checkpoint import load_checkpoint, load_training
from stas_neuro.models.config import preset
from stas_neuro.models.stas import StasModel
from stas_neuro.training.options import TrainOptions
from stas_neuro.training.train import evaluate, split, train

CONSOLE = Console(width=140, highlight=False, markup=False)
LOG = Console(stderr=True, highlight=False, markup=False)
STAGE1, STATIC, SHUFFLED, IMAGE = "stage 1", "static", "trained on shuffled frames", "image, not trained"
FIRST, MEAN = "T = 1, first frame", "T = 1, mean of all frames"
ALPHA = 0.05
"""Level of significance."""


@dataclass(frozen=True)
class Task:
    """How the networks of a data set, which has a preset of its name, are trained.

    ``policies`` has the changes of the configuration for each network with halting; ``steps`` the numbers of
    frames T' of networks that are trained for the first T' of them.
    """

    stage1_epochs: int
    stage2_epochs: int
    steps: tuple[int, ...]
    policies: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    max_drop: float = 0.0


TASKS = {
    "order": Task(
        stage1_epochs=8,
        stage2_epochs=3,
        steps=(6, 8, 9),
        policies={
            "block": {"accumulate": "block", "alpha": -4.0, "beta": 6.0, "readout": "rate"},
            "time": {"accumulate": "time"},
        },
        options={"holdout": 400, "batch_size": 64, "ponder_weight": 0.02},
    ),
    "japanese-vowels": Task(
        stage1_epochs=30,
        stage2_epochs=10,
        steps=(8, 12, 16, 20),
        policies={
            "raster": {"accumulate": "raster", "alpha": 2.0, "beta": -6.0},
            "image": {"accumulate": "image", "margin": 4.0},
        },
        options={"holdout": 45, "batch_size": 32, "ponder_weight": 0.001},
    ),
}


# Data ---------------------------------------------------------------------------------------------------


@cache
def data(task: str, part: str) -> LabelledImages:
    """Return the images (n, T, C, H, W) of a task."""
    return stas_neuro.load_data(task, part)


def view(images: LabelledImages, network: str) -> LabelledImages:
    """Return what a network sees of the images."""
    frames = images.images
    if network == MEAN:
        frames = frames.mean(1, keepdims=True) / 255
    elif network == SHUFFLED:
        frames = shuffled(frames)
    elif network == FIRST:
        frames = frames[:, :1]
    elif network.startswith("first "):
        frames = frames[:, : int(network.removeprefix("first "))]
    return LabelledImages(frames, images.labels, images.classes, images.source)


def shuffled(frames: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Shuffle the frames of each sequence of (n, T, C, H, W), up to its last that is not blank."""
    random = np.random.RandomState(seed)
    out = frames.copy()
    for sequence in out:
        shown = np.flatnonzero(sequence.any(axis=(1, 2, 3)))
        count = 1 + int(shown[-1])
        sequence[:count] = sequence[random.permutation(count)]
    return out


# Training -----------------------------------------------------------------------------------------------


def names(task: Task) -> list[str]:
    """Return the names of the trained networks of a seed, in the order of training."""
    return [
        STAGE1,
        *task.policies,
        STATIC,
        *(f"first {steps}" for steps in task.steps),
        FIRST,
        MEAN,
        SHUFFLED,
    ]


def fit(task: str, name: str, seed: int, directory: Path) -> Path:
    """Train a network, or continue or reuse its training; return the directory of its checkpoint."""
    plan, config = TASKS[task], preset(task)
    images = view(data(task, "train"), name)
    config = config.replace(
        **plan.policies.get(name, {"accumulate": "off"}), time_steps=images.images.shape[1]
    )
    alone = name in (STAGE1, FIRST, MEAN)
    first, second = plan.stage1_epochs, plan.stage2_epochs
    first, second = (first + second * (name != STAGE1), 0) if alone else (0, second)
    options = TrainOptions(
        stage1_epochs=first,
        stage2_epochs=second,
        stage1_rate=6e-3,
        stage2_rate=3e-3,
        augment=False,
        label_smoothing=0.0,
        seed=seed,
        **plan.options,
    )

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            accuracy, ratio = event["accuracy"], event["token_ratio"]
            place = f"{task}, seed {seed}, {name}, epoch {event['epoch'] + 1} of {event['epochs']}"
            LOG.print(
                f"{place}: held-out accuracy {accuracy:.3f}, visits {ratio:.3f}, {event['seconds']:.0f} s"
            )

    out = place_of(directory, task, seed, name)
    init = None if alone else place_of(directory, task, seed, STAGE1)
    train(config, images, options, out, init=init, resume=True, report=report)
    return out


def place_of(directory: Path, task: str, seed: int, name: str) -> Path:
    """Return the directory of a network."""
    return directory / task / f"seed{seed}" / name.replace(" ", "-").replace("=", "").replace(",", "")


# Measuring ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What a network does on the test images.

    ``right`` is bool (n,); ``steps`` the mean number of model steps of a token, its visits / L;
    ``op_count_j`` the energy of an image by the count of operations (45 nm).
    """

    right: NDArray[np.bool_]
    steps: float
    op_count_j: float

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly."""
        return float(self.right.mean())


def measured(graph: Graph, images: LabelledImages) -> Result:
    """Run a network on the float reference."""
    trace = stas_neuro.run(graph, images, dtype=np.float32)
    cost = stas_neuro.estimate(trace.activity, OP_COUNT).op_count_energy_j.value
    return Result(trace.predictions == images.labels, trace.token_ratio * trace.visits.shape[1], cost)


def cut(checkpoint: Path, steps: int) -> StasModel:
    """Return a network without halting that ends after fewer steps, with the same weights."""
    full = load_checkpoint(checkpoint)
    model = StasModel(full.config.replace(time_steps=steps))
    model.load_state_dict(full.state_dict())
    return model.eval()


def held_out(task: str, seed: int, checkpoint: Path) -> LabelledImages:
    """Return the training images that were held out from the networks of a seed."""
    record = load_training(checkpoint)
    assert record is not None
    return split(data(task, "train"), TrainOptions(holdout=record.held_out, seed=seed))[1]


def over_time(checkpoint: Path, images: LabelledImages) -> list[float]:
    """Return the accuracy of a network that ends after 1, 2, ... frames."""
    parts = {steps: view(images, f"first {steps}") for steps in range(1, images.images.shape[1] + 1)}
    return [evaluate(cut(checkpoint, steps), part)["accuracy"] for steps, part in parts.items()]


def results_of(task: str, seed: int, directory: Path) -> dict[str, Result]:
    """Measure all networks of a seed on the test images, by name."""
    test, plan = data(task, "test"), TASKS[task]
    found = {}
    for name in names(plan):
        found[name] = measured(stas_neuro.fold(place_of(directory, task, seed, name)), view(test, name))
    static = place_of(directory, task, seed, STATIC)
    graph = stas_neuro.fold(static)
    choice = stas_neuro.choose_halting(graph, "image", held_out(task, seed, static), max_drop=0.0)
    found[IMAGE] = measured(choice.halting(graph), test)
    for name in (*plan.policies, STATIC):
        checkpoint = place_of(directory, task, seed, name)
        found[f"{name}, shuffled frames"] = measured(stas_neuro.fold(checkpoint), view(test, SHUFFLED))
    return found


def mcnemar(better: NDArray[np.bool_], worse: NDArray[np.bool_]) -> float:
    """Return the exact one-sided p of McNemar's test: the first is right more often, on the same images."""
    gained, lost = int((better & ~worse).sum()), int((worse & ~better).sum())
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue) if gained + lost else 1.0


def over_seeds(better: Sequence[float], worse: Sequence[float]) -> float:
    """Return the exact one-sided p that the first are larger: the mean difference, over all signs by seed.

    Its smallest value is 1/2^seeds, 0.03 for five.
    """
    test = permutation_test(
        (np.array(better), np.array(worse)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
        vectorized=True,
    )
    return float(test.pvalue)


# Report -------------------------------------------------------------------------------------------------


def summary(task: str, results: Mapping[int, Mapping[str, Result]], chosen: str) -> list[dict[str, Any]]:
    """Return a row for each network, and how the chosen network compares with it."""
    rows = []
    ours = [found[chosen] for found in results.values()]
    for name in next(iter(results.values())):
        theirs = [found[name] for found in results.values()]
        accuracies = [each.accuracy for each in theirs]
        tests = [mcnemar(a.right, b.right) for a, b in zip(ours, theirs, strict=True)]
        rows.append(
            {
                "network": name,
                "accuracy": float(np.mean(accuracies)),
                "std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
                "accuracies": accuracies,
                "steps": float(np.mean([each.steps for each in theirs])),
                "op_count_j": float(np.mean([each.op_count_j for each in theirs])),
                "p_over_seeds": over_seeds([each.accuracy for each in ours], accuracies),
                "p_mcnemar": tests,
            }
        )
    return rows


def verdict(rows: Sequence[Mapping[str, Any]], chosen: str) -> dict[str, Any]:
    """Test whether T = 1 and networks that stop after T' < T frames are worse than the chosen one.

    The best of them is the one with the highest accuracy on the test images, which favours it.
    """
    by_name = {row["network"]: row for row in rows}
    cuts = [row for name, row in by_name.items() if name.startswith("first ")]
    cheap = [row for row in cuts if row["op_count_j"] <= by_name[chosen]["op_count_j"]]
    groups = {
        "T = 1": [by_name[FIRST], by_name[MEAN]],
        "static T' < T": cuts,
        "static T' < T, no more operations": cheap,
    }
    best = {what: max(group, key=lambda row: row["accuracy"]) for what, group in groups.items() if group}
    worse = {what: row["p_over_seeds"] < ALPHA for what, row in best.items()}
    return {
        "network": chosen,
        "best": {what: row["network"] for what, row in best.items()},
        "p": {what: row["p_over_seeds"] for what, row in best.items()},
        "worse": worse,
        "accepted": worse["T = 1"] and worse["static T' < T"],
    }


def table_of(rows: Sequence[Mapping[str, Any]], chosen: str) -> Table:
    """Lay out the rows."""
    table = Table("network", "accuracy", "std", "steps", "nJ (45 nm)", f"p ({chosen} better)", "seeds p<.05")
    for row in rows:
        significant = sum(p < ALPHA for p in row["p_mcnemar"])
        std = "" if row["std"] is None else f"{row['std']:.2%}"
        cost = f"{1e9 * row['op_count_j']:.1f}"
        p = f"{row['p_over_seeds']:.4f}"
        cells = (f"{row['accuracy']:.2%}", std, f"{row['steps']:.2f}", cost, p)
        table.add_row(row["network"], *cells, f"{significant} of {len(row['p_mcnemar'])}")
    return table


def main() -> None:
    """Train, measure and report."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="directory of checkpoints and results"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="default: 0 to 4")
    arguments = parser.parse_args()
    task, directory = arguments.task, arguments.output
    plan = TASKS[task]
    torch.set_num_threads(1)
    accuracies: dict[str, list[float]] = {name: [] for name in plan.policies}
    results, curves = {}, {}
    for seed in arguments.seeds:
        for name in names(plan):
            fit(task, name, seed, directory)
        for name in plan.policies:
            checkpoint = place_of(directory, task, seed, name)
            accuracies[name].append(
                evaluate(load_checkpoint(checkpoint), held_out(task, seed, checkpoint))["accuracy"]
            )
        results[seed] = results_of(task, seed, directory)
        curves[seed] = over_time(place_of(directory, task, seed, STATIC), data(task, "test"))
    chosen = max(accuracies, key=lambda name: float(np.mean(accuracies[name])))
    rows = summary(task, results, chosen)
    outcome = verdict(rows, chosen)
    document = {"task": task, "seeds": arguments.seeds, "held_out": accuracies, "verdict": outcome}
    document |= {"networks": rows, "accuracy_over_time": curves}
    write_atomically(directory / f"{task}.json", json.dumps(document, indent=1).encode())
    CONSOLE.print(table_of(rows, chosen))
    mean = np.mean(list(curves.values()), axis=0)
    CONSOLE.print(f"{STATIC}, stopped after 1, 2, ... frames: {', '.join(f'{value:.1%}' for value in mean)}")
    for what, worse in outcome["worse"].items():
        CONSOLE.print(
            f"{what}, at best {outcome['best'][what]}: {'worse' if worse else 'not worse'} than {chosen}"
        )
    CONSOLE.print("accepted" if outcome["accepted"] else "not accepted: quote no saving")


if __name__ == "__main__":
    main()
