"""Train and measure networks on data in which time carries information, and test whether halting uses it.

    python examples/temporal.py order -o runs/temporal --seeds 0 1 2 3 4
    python examples/temporal.py simulated-glimpses -o runs/temporal
    python examples/temporal.py japanese-vowels -o runs/temporal --seeds 0 1 2 3 4 5 6 7 8 9

For each seed it trains one network without halting for all T frames (stage 1), and from it, for the same
number of further epochs: networks with halting, networks without that see the first T' frames only
(``first 8``), and a control whose frames are in random order. A network with T = 1, of the mean of all
frames, is trained from scratch for all epochs. Results are of the test images, in float32.
An interrupted run is continued. Writes ``TASK.json`` and prints a table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from temporal_report import CUT, HELD_OUT, MEAN, MOST_LOSS, STATIC, Result, report_of, show

import stas_neuro
from stas_neuro.api import preprocess
from stas_neuro.data import LabelledImages
from stas_neuro.documents import parse_json
from stas_neuro.energy.pricing import OP_COUNT
from stas_neuro.files import write_atomically
from stas_neuro.ir import Graph
from stas_neuro.models.checkpoint import load_checkpoint, load_training, save_checkpoint
from stas_neuro.models.config import preset
from stas_neuro.models.stas import StasModel
from stas_neuro.reference import run_reference
from stas_neuro.training.options import TrainOptions
from stas_neuro.training.train import split, train

CONSOLE = Console(width=140, highlight=False, markup=False)
LOG = Console(stderr=True, highlight=False, markup=False)
STAGE1, SHUFFLED, IMAGE = "stage 1", "trained on shuffled frames", "image, not trained"
COUNTED, CHUNK = 400, 100
"""Images whose events are counted, and that run at a time."""
MARGINS = tuple(float(margin) for margin in range(1, 25))
"""Margins of sums of logits that are tried for exits that were trained."""


@dataclass(frozen=True)
class Task:
    """How the networks of a data set, which has a preset of its name, are trained.

    ``policies`` has the changes of the configuration for each network with halting; ``steps`` the numbers of
    frames T' of networks that are trained for the first T' of them; ``shuffles`` says whether a network is
    trained on shuffled frames, which tells nothing where the class is the order.
    """

    stage1_epochs: int
    stage2_epochs: int
    steps: tuple[int, ...]
    policies: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    shuffles: bool = False


TASKS = {
    "order": Task(
        stage1_epochs=11,
        stage2_epochs=4,
        steps=(1, 9),
        policies={"block": {"accumulate": "block", "alpha": -4.0, "beta": 6.0, "readout": "rate"}},
        options={"holdout": 400, "batch_size": 64, "ponder_weight": 0.02},
    ),
    "simulated-glimpses": Task(
        stage1_epochs=5,
        stage2_epochs=2,
        steps=(1, 7),
        policies={"exit": {"accumulate": "image", "readout": "rate", "margin": MARGINS[-1], "summed": True}},
        options={"holdout": 400, "batch_size": 64},
    ),
    "japanese-vowels": Task(
        stage1_epochs=30,
        stage2_epochs=10,
        steps=(1, 8, 12),
        policies={"raster": {"accumulate": "raster", "alpha": 2.0, "beta": -6.0}},
        options={"holdout": 45, "batch_size": 45, "ponder_weight": 0.001},
        shuffles=True,
    ),
}


# Data ---------------------------------------------------------------------------------------------------


@cache
def data(task: str, part: str) -> LabelledImages:
    """Return the images (n, T, C, H, W) of a task."""
    return stas_neuro.load_data(task, part)


def view(images: LabelledImages, network: str) -> LabelledImages:
    """Return what a network sees of the images."""
    frames = np.asarray(images.images)  # large data are read when they are asked for
    if network == MEAN:
        frames = frames.mean(1, keepdims=True) / 255
    elif network == SHUFFLED:
        frames = shuffled(frames)
    elif network.startswith("first "):
        frames = frames[:, : int(network.removeprefix("first "))]
    return LabelledImages(frames, images.labels, images.classes, images.source)


def shuffled(frames: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Shuffle the frames of each sequence of (n, T, C, H, W), up to its last that is not blank."""
    random = np.random.RandomState(seed)
    out = frames.copy()
    for sequence in out:
        shown = np.flatnonzero(sequence.any(axis=(1, 2, 3)))
        count = 1 + int(shown.max(initial=-1))
        sequence[:count] = sequence[random.permutation(count)]
    return out


# Training -----------------------------------------------------------------------------------------------


def names(task: Task) -> list[str]:
    """Return the names of the trained networks of a seed, in the order of training."""
    first = [f"first {steps}" for steps in task.steps]
    return [STAGE1, *task.policies, STATIC, *first, MEAN, *([SHUFFLED] if task.shuffles else [])]


def fit(task: str, name: str, seed: int, directory: Path) -> Path:
    """Train a network, or continue or reuse its training; return the directory of its checkpoint."""
    plan, config = TASKS[task], preset(task)
    images = view(data(task, "train"), name)
    config = config.replace(
        **plan.policies.get(name, {"accumulate": "off"}), time_steps=images.images.shape[1]
    )
    alone = name in (STAGE1, MEAN)
    first, second = plan.stage1_epochs, plan.stage2_epochs
    first, second = (first + second * (name != STAGE1), 0) if alone else (0, second)
    options = TrainOptions(
        stage1_epochs=first,
        stage2_epochs=second,
        stage1_rate=6e-3,
        stage2_rate=3e-3,
        exit_loss=float(config.accumulate == "image"),
        augment="none",
        label_smoothing=0.0,
        seed=seed,
        **plan.options,
    )

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            accuracy, ratio = event["accuracy"], event["token_ratio"]
            place = f"{task}, seed {seed}, {name}, epoch {event['epoch'] + 1} of {event['epochs']}"
            text = f"held-out accuracy {accuracy:.3f}, visits {ratio:.3f}, {event['seconds']:.0f} s"
            LOG.print(f"{place}: {text}", soft_wrap=True)

    out = place_of(directory, task, seed, name)
    init = None if alone else place_of(directory, task, seed, STAGE1)
    train(config, images, options, out, init=init, resume=True, report=report)
    return out


def place_of(directory: Path, task: str, seed: int, name: str) -> Path:
    """Return the directory of a network."""
    return directory / task / f"seed{seed}" / name.replace(" ", "-").replace("=", "").replace(",", "")


# Measuring ----------------------------------------------------------------------------------------------


def measured(graph: Graph, images: LabelledImages) -> Result:
    """Run a network on the float reference; events are counted for the first `COUNTED` images."""
    pixels = preprocess(graph, images).astype(np.float32)
    trace = run_reference(graph, pixels, dtype=np.float32, count=False, chunk=CHUNK)
    counted = run_reference(graph, pixels[:COUNTED], dtype=np.float32, chunk=CHUNK)
    cost = stas_neuro.estimate(counted.activity, OP_COUNT).op_count_energy_j.value
    return Result(trace.predictions == images.labels, trace.token_ratio * trace.visits.shape[1], cost)


def halting_of(task: str) -> list[str]:
    """Return the names of the networks with halting."""
    return [*TASKS[task].policies, IMAGE]


def cut(checkpoint: Path, steps: int) -> Graph:
    """Return a network without halting that ends after fewer steps, with the same weights."""
    return stas_neuro.fold(stas_neuro.load_model(checkpoint, time_steps=steps))


def with_exits(checkpoint: Path, images: LabelledImages) -> StasModel:
    """Return a network with halting `image`, whose margin is chosen on images that it has not learnt."""
    full = load_checkpoint(checkpoint)
    model = StasModel(full.config.replace(accumulate="off"))
    model.load_state_dict(full.state_dict())
    chosen = stas_neuro.choose_halting(stas_neuro.fold(model.eval()), "image", images, max_drop=MOST_LOSS)
    words = {"accumulate": "image", "readout": "rate", "margin": chosen.halting.margin}
    exits = StasModel(full.config.replace(summed=chosen.halting.summed, **words))
    exits.load_state_dict(full.state_dict())
    return exits.eval()


def with_margin(checkpoint: Path, images: LabelledImages) -> StasModel:
    """Return a network trained with exits, with the least margin that classifies held-out images best."""
    right = {}
    for margin in MARGINS:
        graph = stas_neuro.fold(stas_neuro.load_model(checkpoint, margin=margin))
        pixels = preprocess(graph, images).astype(np.float32)
        trace = run_reference(graph, pixels, dtype=np.float32, count=False, chunk=CHUNK)
        right[margin] = int((trace.predictions == images.labels).sum())
    most = max(right.values())
    return stas_neuro.load_model(checkpoint, margin=next(each for each in MARGINS if right[each] == most))


def held_out(task: str, seed: int, checkpoint: Path) -> LabelledImages:
    """Return the training images that were held out from the networks of a seed."""
    record = load_training(checkpoint)
    assert record is not None
    return split(data(task, "train"), TrainOptions(holdout=record.held_out, seed=seed))[1]


def graphs_of(task: str, seed: int, directory: Path) -> dict[str, tuple[Graph, str]]:
    """Return the networks of a seed by name, each with the name of the view that it sees.

    Writes the checkpoints of those with halting `image`, of which margins are chosen here.
    """
    plan, whole = TASKS[task], data(task, "test").images.shape[1]
    place = {name: place_of(directory, task, seed, name) for name in names(plan)}
    found = {name: (stas_neuro.fold(path), name) for name, path in place.items()}
    exits = {IMAGE: (STATIC, with_exits)}
    exits |= {name: (name, with_margin) for name, words in plan.policies.items() if "margin" in words}
    for name, (source, choose) in exits.items():
        made = choose(place[source], held_out(task, seed, place[source]))
        out = place_of(directory, task, seed, f"{name} of margin {made.config.margin:g}")
        save_checkpoint(made, out, load_training(place[source]))
        found[name] = stas_neuro.fold(out), name
    for name in (*plan.policies, STATIC):
        found[f"{name}, frames shuffled"] = found[name][0], SHUFFLED
    for steps in range(1, whole):
        found[f"{CUT}{steps}"] = cut(place[STATIC], steps), f"first {steps}"
    return found


def results_of(task: str, seed: int, directory: Path) -> dict[str, Result]:
    """Measure the networks of a seed on the test images, and those with halting also on the held-out ones.

    The results are kept in a file, with the hashes of the networks that they are of.
    """
    places = [place_of(directory, task, seed, name) for name in names(TASKS[task])]
    weights = hashlib.sha256(b"".join((place / "model.safetensors").read_bytes() for place in places))
    kept = places[0].parent / "results.json"
    if kept.exists():
        document = parse_json(kept.read_bytes())
        if document["weights"] == weights.hexdigest():
            return {name: Result.from_json(result) for name, result in document["results"].items()}
    graphs, test = graphs_of(task, seed, directory), data(task, "test")
    found = {name: measured(graph, view(test, seen)) for name, (graph, seen) in graphs.items()}
    others = held_out(task, seed, places[0])
    found |= {f"{name}{HELD_OUT}": measured(graphs[name][0], others) for name in (STATIC, *halting_of(task))}
    results = {name: result.to_json() for name, result in found.items()}
    write_atomically(kept, json.dumps({"weights": weights.hexdigest(), "results": results}).encode())
    return found


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
    task, directory, seeds = arguments.task, arguments.output, sorted(set(arguments.seeds))
    if len(seeds) < 2:
        parser.error("one seed shows no significance: give two or more")
    torch.set_num_threads(1)
    results = {}
    for seed in seeds:
        for name in names(TASKS[task]):
            fit(task, name, seed, directory)
        results[seed] = results_of(task, seed, directory)
    report = report_of(results, halting_of(task))
    document = {"task": task, "seeds": seeds, **report}
    write_atomically(directory / f"{task}.json", json.dumps(document, indent=1).encode())
    show(report, CONSOLE)


if __name__ == "__main__":
    main()
