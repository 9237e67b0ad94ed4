"""Does the single-pass stem help a converted network of ReLUs? Accuracy and similarity of tokens by steps T.

    python examples/ann_to_snn.py                # three seeds of the small CNN, trained here

Trains networks of `relu_networks.py` on Fashion-MNIST, converts them for each T, and runs each with the
stem in every step, with the stem's first step alone (one-step), and with the mean of its steps (late-mean).
Scales are chosen on training images. Similarity is the mean cosine between what the tokens behind the stem
bring to the next neurons in one step and in the next. p is of McNemar's exact test that the stem is right as
often as the stem in every step; the largest of the seeds is shown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from relu_networks import MEAN, STD, train
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stas_neuro.data import LabelledImages, load_data, normalise
from stas_neuro.importers.ann import convert
from stas_neuro.optimiser import mcnemar

STEMS = {"every step": ("", "one-step"), "one-step": ("stem", "one-step"), "late-mean": ("stem", "late-mean")}
"""Stems by name, with the arguments of `convert`."""
SAMPLE = 256
"""Training images on which scales are chosen."""


@dataclass(frozen=True)
class Row:
    """One network, converted to T steps with a stem."""

    seed: int
    steps: int
    stem: str
    accuracy: float
    spikes: float
    """Per image, all layers together."""
    similarity: float
    correct: list[bool]


def inputs_of(data: LabelledImages) -> Tensor:
    """Give normalised images."""
    return torch.from_numpy(normalise(data.images[:], MEAN, STD)).float()


@torch.no_grad()
def predicted(network: nn.Module, images: Tensor) -> Tensor:
    """Give the predicted classes."""
    return torch.cat([network(part).argmax(1) for part in images.split(100)])


class Watch:
    """Counts the spikes of a converted network, and compares tokens behind its stem between steps."""

    def __init__(self, network: nn.Module, steps: int) -> None:
        self.steps, self.spikes, self.similar = steps, 0.0, []
        neurons = [each for name, each in network.named_modules() if name.endswith(".neuron")]
        for each in neurons:
            each.register_forward_hook(self._count)
        body = next(each for name, each in network.named_modules() if name.startswith("body.") and
                    name.endswith(".neuron"))  # fmt: skip
        body.register_forward_pre_hook(self._compare)

    def _count(self, module: nn.Module, inputs: tuple[Tensor], spikes: Tensor) -> None:
        self.spikes += float(spikes.sum())

    def _compare(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        """Compare what the first neurons behind the stem take: tokens are positions."""
        tokens = inputs[0].flatten(3)
        if len(tokens) > 1:
            cosine = nn.functional.cosine_similarity(tokens[1:], tokens[:-1], dim=2)
            self.similar.append(float(cosine.mean()))


def rows_of(
    seed: int, network: nn.Module, sample: Tensor, test: tuple[Tensor, Tensor], steps: list[int]
) -> Iterator[Row]:
    """Convert a network in all ways, and run it."""
    images, labels = test
    for count in steps:
        for stem, (path, mode) in STEMS.items():
            spiking = convert(network, sample, count, stem=path, mode=mode)
            watch = Watch(spiking, count)
            correct = predicted(spiking, images) == labels
            similarity = float(np.mean(watch.similar)) if watch.similar else float("nan")
            spikes = watch.spikes / len(images)
            yield Row(seed, count, stem, float(correct.float().mean()), spikes, similarity, correct.tolist())


def network_of(seed: int, arguments: argparse.Namespace, data: LabelledImages) -> nn.Module:
    """Load the trained network of a seed, or train it."""
    from relu_networks import NETWORKS

    path = arguments.weights / f"{arguments.network}-{seed}.pth" if arguments.weights else None
    if path is not None and path.is_file():
        network = NETWORKS[arguments.network]()
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    network = train(arguments.network, data, seed, arguments.epochs)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), path)
    return network


def show(rows: list[Row], ann: dict[int, list[bool]], console: Console) -> None:
    """Print means over seeds, and what the stems change."""
    accuracies = [float(np.mean(each)) for each in ann.values()]
    console.print(f"ReLUs: {np.mean(accuracies):.2%} ({', '.join(f'{each:.2%}' for each in accuracies)})")
    table = Table("T", "stem", "accuracy", "by seed", "loss", "spikes/image", "similarity", "largest p")
    for steps in sorted({row.steps for row in rows}):
        base = [np.array(row.correct) for row in rows if (row.steps, row.stem) == (steps, "every step")]
        for stem in STEMS:
            mine = [row for row in rows if (row.steps, row.stem) == (steps, stem)]
            accuracy = [row.accuracy for row in mine]
            p = max(
                mcnemar(np.array(row.correct), np.array(other)) for row, other in zip(mine, base, strict=True)
            )
            table.add_row(
                str(steps), stem, f"{np.mean(accuracy):.2%}", " ".join(f"{each:.1%}" for each in accuracy),
                f"{np.mean(accuracies) - np.mean(accuracy):.2%}",
                f"{np.mean([row.spikes for row in mine]):,.0f}",
                f"{np.mean([row.similarity for row in mine]):.3f}",
                "" if stem == "every step" else f"{p:.2g}",
            )  # fmt: skip
    console.print(table)


def main() -> None:
    """Train, convert, run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="fashion-mnist", help="images to train on and to test on")
    parser.add_argument("--network", choices=("cnn",), default="cnn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 4, 8, 16, 32], metavar="T")
    parser.add_argument("--limit", type=int, default=1000, help="test images")
    parser.add_argument(
        "--weights", type=Path, help="directory of trained weights, which are reused if there"
    )
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    arguments = parser.parse_args()
    data, held = load_data(arguments.data, "train"), load_data(arguments.data, "test")
    held = held.select(slice(arguments.limit))
    images, labels = inputs_of(held), torch.as_tensor(held.labels)
    sample, rows, ann, console = inputs_of(data.select(slice(SAMPLE))), [], {}, Console(width=120)
    for seed in range(arguments.seeds):
        network = network_of(seed, arguments, data)
        ann[seed] = (predicted(network, images) == labels).tolist()
        for row in rows_of(seed, network, sample, (images, labels), arguments.steps):
            console.print(f"seed {row.seed}, T = {row.steps}, {row.stem}: {row.accuracy:.2%}")
            rows.append(row)
    show(rows, ann, console)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
