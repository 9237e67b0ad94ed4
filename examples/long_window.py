"""Image exit trained for the chip: when a run may end, and what that saves of the total energy.

    python examples/long_window.py -o runs/long --frames 64 --seeds 0 1 2

Networks are trained on `order` (10 frames), and then for 12 more epochs without halting (`static`), or
with the cross-entropy of an exit after each frame (`exit`; `train --accumulate image --exit-loss 1`). For
windows of `--frames` frames the blocks stay, and only the head is fitted again: for the last frame alone, or
for exits after each frame, whose margin is chosen on held-out sequences. Reports the accuracy on test
sequences, that of the static network cut to fewer frames, and energy on chips, on whose cores both are
placed: of the static network in a pipeline, and of a pipeline that ends with the exit. An interrupted run
continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import ttest_1samp
from temporal import STAGE1, data, fit, place_of
from temporal_report import STATIC
from torch import Tensor, nn

import stas_neuro
from stas_neuro.activity import Activity
from stas_neuro.chips import Profile, load_profile
from stas_neuro.choices import MODES
from stas_neuro.data import LabelledImages, normalise
from stas_neuro.energy import Deployment, compare
from stas_neuro.files import write_atomically
from stas_neuro.models.checkpoint import load_checkpoint, load_training, save_checkpoint
from stas_neuro.models.config import preset
from stas_neuro.models.stas import StasModel
from stas_neuro.optimiser import mcnemar
from stas_neuro.passes import PipelineExit
from stas_neuro.sequences import order
from stas_neuro.training.options import TrainOptions
from stas_neuro.training.train import split, train

CONSOLE = Console(width=140, highlight=False, markup=False)
LOG = Console(stderr=True, highlight=False, markup=False)
TASK, EXIT = "order", "exit"
OPTIONS: dict[str, Any] = {"holdout": 400, "batch_size": 64, "label_smoothing": 0.0}
OPTIONS |= {"stage1_rate": 6e-3, "stage2_rate": 3e-3}
EPOCHS = 12
"""Epochs with and without exits."""
ITERATIONS, DECAY = 300, 1e-4
"""Most iterations of L-BFGS by which a head is fitted, and the weight of its squared parameters."""
MARGINS = 200
"""Quantiles of the lead that are tried as margin."""


@dataclass(frozen=True)
class Windows:
    """Features of sequences, means of the last block's tokens up to each frame (n, T, D), and classes."""

    means: Tensor
    labels: Tensor

    def logits(self, head: nn.Linear) -> Tensor:
        """Return the mean logits up to each frame, (n, T, classes)."""
        with torch.no_grad():
            logits: Tensor = head(self.means)
        return logits


def sequences(part: str, frames: int) -> LabelledImages:
    """Return sequences of any length."""
    return LabelledImages(*order(part, frames), f"order of {frames} frames")


def trained(seed: int, name: str, directory: Path) -> Path:
    """Train a network on short sequences, then go on with or without exits; return its directory."""
    first = fit(TASK, STAGE1, seed, directory)
    config = preset(TASK).replace(accumulate="off")
    if name == EXIT:
        config = config.replace(accumulate="image", readout="rate")
    options = TrainOptions(
        stage1_epochs=0,
        stage2_epochs=EPOCHS,
        exit_loss=float(name == EXIT),
        ponder_weight=0.0,
        seed=seed,
        **OPTIONS,
    )
    out = place_of(directory, TASK, seed, f"{name} of {EPOCHS} epochs")

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            epoch = f"epoch {event['epoch'] + 1} of {EPOCHS}"
            LOG.print(f"seed {seed}, {name}, {epoch}: {event['accuracy']:.3f}")

    train(config, data(TASK, "train"), options, out, init=first, resume=True, report=report)
    return out


def windows(model: StasModel, images: LabelledImages, chunk: int = 200) -> Windows:
    """Run a network on all frames of sequences; its last block's tokens are read before the head."""
    x = torch.from_numpy(normalise(images.images[:], model.config.mean, model.config.std)).float()
    read: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    with torch.no_grad():
        for start in range(0, len(x), chunk):
            model(x[start : start + chunk])
    hook.remove()
    features = torch.cat(read, 1).transpose(0, 1)  # the head reads (T, B, D) of all steps
    means = features.cumsum(1) / torch.arange(1, features.shape[1] + 1)[:, None]
    assert images.labels is not None
    return Windows(means, torch.from_numpy(images.labels))


def reader(model: StasModel, frames: int) -> StasModel:
    """Return the network for longer windows, which computes all steps of all images."""
    config = model.config.replace(time_steps=frames, accumulate="image")
    longer = StasModel(config).train()
    longer.load_state_dict(model.state_dict())
    for module in longer.modules():
        module.training = module is longer  # inference, but all steps
    return longer


def fitted(seen: Windows, model: StasModel, exits: bool) -> nn.Linear:
    """Fit a head to the last frame of windows, or to exits after each frame as well.

    The loss is the cross-entropy of the sums of logits up to a frame, of which the margin of an exit is one
    too. It is convex in the head, so that L-BFGS finds its minimum whatever the start.
    """
    frames = seen.means.shape[1]
    counts = torch.arange(1, frames + 1)[:, None].double()
    sums = torch.cat([seen.means * counts, counts.expand(len(seen.means), -1, -1)], 2)
    scale = sums[:, -1].std(0) + 1e-6
    scale[-1] = frames  # the bias, which is added in each frame
    sums /= scale
    weights = torch.zeros(sums.shape[2], model.config.num_classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weights], max_iter=ITERATIONS, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (
            nn.functional.cross_entropy(sums[:, -1] @ weights, seen.labels) + DECAY * weights.square().sum()
        )
        if exits:
            running = (sums @ weights).flatten(0, 1)
            loss = loss + nn.functional.cross_entropy(running, seen.labels.repeat_interleave(frames))
        loss.backward()
        return loss

    optimiser.step(closure)
    fitted = (weights.detach() / scale[:, None]).float()
    head = nn.Linear(model.config.dim, model.config.num_classes)
    head.load_state_dict({"weight": fitted[:-1].T, "bias": fitted[-1]})
    return head


def leads(logits: Tensor) -> Tensor:
    """Return by how much the largest sum of logits up to each frame leads, (n, T)."""
    first, second = logits.topk(2, dim=2).values.unbind(2)
    lead: Tensor = (first - second) * torch.arange(1, logits.shape[1] + 1)
    return lead


def exit_at(logits: Tensor, margin: float) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the number of frames (n,) that sequences take, and their predictions (n,)."""
    clear = leads(logits) >= margin
    clear[:, -1] = True
    frame = clear.int().argmax(1)
    return frame.numpy() + 1, logits[torch.arange(len(frame)), frame].argmax(1).numpy()


def margin_of(logits: Tensor, labels: Tensor) -> float:
    """Choose the margin with which held-out sequences are classified best, in the fewest frames."""
    tried = np.quantile(leads(logits).numpy(), np.linspace(0, 1, MARGINS))
    right = [float((exit_at(logits, margin)[1] == labels.numpy()).mean()) for margin in tried]
    fewest = min(margin for margin, share in zip(tried, right, strict=True) if share == max(right))
    return float(fewest)


def made(seed: int, frames: int, directory: Path) -> dict[str, Any]:
    """Make the networks of a seed for a window, save them, and measure them on test sequences."""
    sources = {name: trained(seed, name, directory) for name in (EXIT, STATIC)}
    short = {name: load_checkpoint(source) for name, source in sources.items()}
    kept, held = split(sequences("train", frames), TrainOptions(seed=seed, **OPTIONS))
    readers = {name: reader(model, frames) for name, model in short.items()}
    heads = {name: fitted(windows(model, kept), short[name], name == EXIT) for name, model in readers.items()}
    chosen = windows(readers[EXIT], held)
    margin = margin_of(chosen.logits(heads[EXIT]), chosen.labels)
    test = {name: windows(model, sequences("test", frames)) for name, model in readers.items()}
    for name, head in heads.items():
        words = {"accumulate": "image", "readout": "rate", "margin": margin, "summed": True}
        words = words if name == EXIT else {}
        config = short[name].config.replace(time_steps=frames, **({"accumulate": "off"} | words))
        network = StasModel(config)
        network.load_state_dict(short[name].state_dict())
        network.head = head
        save_checkpoint(network, place(seed, frames, name, directory), load_training(sources[name]))
    labels = test[EXIT].labels.numpy()
    static = test[STATIC].logits(heads[STATIC]).argmax(2).numpy()
    taken, predicted = exit_at(test[EXIT].logits(heads[EXIT]), margin)
    cuts = (static == labels[:, None]).mean(0)
    return {
        "margin": margin,
        "frames": float(taken.mean()),
        "exit": "".join(map(str, (predicted == labels).astype(int))),
        "static": "".join(map(str, (static[:, -1] == labels).astype(int))),
        "cuts": cuts.tolist(),
    }


def place(seed: int, frames: int, name: str, directory: Path) -> Path:
    """Return the directory of a network for a window."""
    return directory / f"frames{frames}" / f"seed{seed}" / name


def record(network: Path, frames: int, name: str, chip: Profile, images: int) -> Activity:
    """Count the events of a network on the cores of a chip, of test sequences; exits end a pipeline."""
    graph = stas_neuro.fold(network)
    graph = PipelineExit()(graph) if name == EXIT else graph
    seen = sequences("test", frames).select(slice(0, images))
    mapping = stas_neuro.place(graph, chip, strategy="token-major")
    return stas_neuro.run(graph, seen, dtype=np.float32, mapping=mapping, per_image=True).activity


def priced(places: Mapping[str, Path], frames: int, chips: list[str], images: int) -> list[dict[str, Any]]:
    """Price the networks of a seed, and return a row for each chip and mode."""
    rows = []
    for chip in map(load_profile, chips):
        runs = {name: record(network, frames, name, chip, images) for name, network in places.items()}
        for mode in MODES:
            options = Deployment(mode=mode, early_end=True)
            row = compare(runs[EXIT], {STATIC: runs[STATIC]}, [chip], options).rows[0]
            assert row.halting is not None and row.without is not None and row.energy_saving is not None
            rows.append(
                {
                    "chip": chip.name,
                    "mode": mode,
                    "static_j": row.without.energy_j.value,
                    "exit_j": row.halting.energy_j.value,
                    "steps": [row.without.hardware_steps_per_image, row.halting.hardware_steps_per_image],
                    "saving": row.energy_saving.value,
                    "low": row.energy_saving.low,
                    "high": row.energy_saving.high,
                }
            )
    return rows


def accuracy_table(results: Mapping[int, Mapping[str, Any]]) -> Table:
    """Show the accuracy of each seed, and the paired test."""
    table = Table("seed", "static", "exit", "difference", "p (McNemar)", "frames", "static, a frame less")
    differences = []
    for seed, found in results.items():
        static, ours = (np.array(list(found[name])) == "1" for name in (STATIC, EXIT))
        differences.append(float(ours.mean() - static.mean()))
        table.add_row(
            str(seed),
            f"{static.mean():.2%}",
            f"{ours.mean():.2%}",
            f"{100 * differences[-1]:+.2f}",
            f"{mcnemar(ours, static):.2g}",
            f"{found['frames']:.2f}",
            f"{found['cuts'][-2]:.2%}",
        )
    mean = 100 * float(np.mean(differences))
    if len(differences) > 1:
        low = ttest_1samp(100 * np.array(differences), 0).confidence_interval(0.9).low
        table.caption = f"mean difference {mean:+.2f} points, at least {low:+.2f} (paired over seeds, 95 %)"
    return table


def price_table(prices: Mapping[int, list[dict[str, Any]]]) -> Table:
    """Show the savings, as means over the seeds, and the least of a seed."""
    table = Table("chip", "mode", "static", "exit", "hardware steps", "saved", "least", "interval")
    for rows in zip(*prices.values(), strict=True):
        mean = {
            key: np.mean([row[key] for row in rows], axis=0) for key in rows[0] if key not in ("chip", "mode")
        }
        table.add_row(
            rows[0]["chip"],
            rows[0]["mode"],
            f"{1e6 * mean['static_j']:.1f} uJ",
            f"{1e6 * mean['exit_j']:.1f} uJ",
            "{:.1f} -> {:.1f}".format(*mean["steps"]),
            f"{mean['saving']:.1%}",
            f"{min(row['saving'] for row in rows):.1%}",
            f"{mean['low']:.0%} to {mean['high']:.0%}",
        )
    return table


def main() -> None:
    """Train, measure, price and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="directory of checkpoints and results"
    )
    parser.add_argument("--frames", type=int, default=64, help="frames of a sequence (64)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    parser.add_argument("--images", type=int, default=32, help="test sequences to price (32)")
    parser.add_argument("--chips", nargs="+", default=["loihi1", "loihi2"], help="default: loihi1, loihi2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frames, directory = arguments.frames, arguments.output
    results, prices = {}, {}
    for seed in arguments.seeds:
        kept = place(seed, frames, "networks.json", directory)
        if not kept.exists():
            write_atomically(kept, json.dumps(made(seed, frames, directory)).encode())
        results[seed] = json.loads(kept.read_bytes())
        places = {name: place(seed, frames, name, directory) for name in (STATIC, EXIT)}
        prices[seed] = priced(places, frames, arguments.chips, arguments.images)
    CONSOLE.print(accuracy_table(results))
    CONSOLE.print(price_table(prices))


if __name__ == "__main__":
    main()
