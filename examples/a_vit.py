"""A-ViT, which halts the tokens of a transformer without spikes, beside a spiking one of the same size.

    for seed in 0 1 2; do stas-export train --data digits --preset tiny --seed $seed -o runs/tiny/$seed; done
    python examples/a_vit.py runs/tiny/0 runs/tiny/1 runs/tiny/2

Trains an ANN (ReLU, GELU, LayerNorm, softmax) for each checkpoint of a spiking model that halts by `raster`:
the same channels, blocks, tokens, training images, epochs, ponder weight and score, first without halting,
then with it. The accumulated score, the remainder and the ponder loss are A-ViT's (Yin et al., CVPR 2022,
arXiv 2112.07658), without its distribution loss, and the mean over tokens is classified, not a class token.
An ANN has no time steps: it passes its blocks once, or as often as the spiking model does, with the same
weights, so its size is the same. Prints accuracy and operations over visits; the spiking model is set to the
threshold at which its visits are nearest. MACs and additions for spikes differ, and are not added or priced.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from experiment_panels import markdown
from torch import Tensor, nn

import stas_neuro
from stas_neuro.activity.neurobench import neurobench_metrics
from stas_neuro.data import LabelledImages, normalise
from stas_neuro.labels import match_classes
from stas_neuro.models.config import StasConfig
from stas_neuro.models.halting import Halting, Readout
from stas_neuro.models.stas import StasModel
from stas_neuro.training.driver import default_holdout
from stas_neuro.training.options import TrainOptions, recipe
from stas_neuro.training.train import one_cycle, split

EPSILONS = (None, 0.01, 0.3, 0.5, 0.7)
"""Thresholds of halting, 1 - epsilon, of the ANN; None: without halting."""
GRID = tuple(place / 20 for place in range(20))
"""Thresholds among which the spiking model's is chosen."""
RATES = 3e-3, 1e-3
"""Peak learning rates of the ANN without and with halting, not tuned."""


class Block(nn.Module):
    """A block of a transformer; halted tokens are neither attended to nor changed."""

    def __init__(self, config: StasConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim) for _ in range(2))
        self.qkv, self.proj = nn.Linear(config.dim, 3 * config.dim), nn.Linear(config.dim, config.dim)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.dim)
        )

    def forward(self, z: Tensor, live: Tensor) -> Tensor:
        """Map tokens (B, N, D) with their mask (B, N) to tokens, zero where halted."""
        parts = self.qkv(self.norms[0](z)).chunk(3, -1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in parts)
        # A token attends at least to itself, so that no row of an image without live tokens is empty.
        seen = (live > 0)[:, None, None, :] | torch.eye(z.shape[1], dtype=torch.bool)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        z = z + self.proj(attended.transpose(1, 2).flatten(2))
        return (z + self.mlp(self.norms[1](z))) * live.unsqueeze(-1)


@dataclass(frozen=True)
class Output:
    """Logits (B, classes), visits (B, passes * blocks, N) of 0 and 1, and the ponder loss."""

    logits: Tensor
    visits: Tensor
    ponder: Tensor


class AVit(nn.Module):
    """An ANN with the sizes of a spiking model, whose tokens halt by their accumulated score."""

    def __init__(self, config: StasConfig, passes: int) -> None:
        super().__init__()
        self.config = config.replace(time_steps=passes, readout="mean-field")
        layers: list[nn.Module] = []
        channels = (config.in_channels, *config.stem_channels)
        for stage, (into, out) in enumerate(pairwise(channels)):
            layers += [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            if stage >= len(channels) - 1 - config.pools:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stem = nn.Sequential(*layers)
        self.position = nn.Sequential(
            nn.Conv2d(config.dim, config.dim, 3, padding=1, bias=False), nn.BatchNorm2d(config.dim), nn.ReLU()
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm, self.head = nn.LayerNorm(config.dim), nn.Linear(config.dim, config.num_classes)

    def forward(self, images: Tensor, epsilon: float | None) -> Output:
        """Classify images (B, C, H, W); epsilon None is without halting."""
        x = self.stem(images)
        z = (x + self.position(x)).flatten(2).transpose(1, 2)
        halts = epsilon is not None
        config = self.config.replace(epsilon=epsilon) if halts else self.config.replace(accumulate="off")
        # Halting reads its thresholds alone from it where none is asked for; `visit` is not called then.
        halting = Halting(config if halts else self.config, z[..., 0])
        readout = Readout(config, z)
        for step in range(config.time_steps):
            for place, block in enumerate(self.blocks):
                live = halting.open(step, place)
                z = block(z, live)
                weights = halting.visit(step, place, z) if halts else None
                readout.add(place, self.norm(z), live if halts else None, weights)
        masks = torch.stack(halting.visits, 1)
        ponder = (masks.sum(1) + halting.remainder).mean()
        return Output(self.head(readout.feature()), masks, ponder)

    def macs(self, visits: Tensor) -> float:
        """Return the multiply-accumulates of an image, of live tokens alone after the stem."""
        config, side = self.config, self.config.image_size
        total = 0.0
        for layer in self.stem:
            if isinstance(layer, nn.Conv2d):
                total += side**2 * layer.weight.numel()
            elif isinstance(layer, nn.MaxPool2d):
                side //= 2
        total += side**2 * self.position[0].weight.numel() + self.head.weight.numel()
        live = visits.double().sum(-1)
        linear = 4 * config.dim**2 + 2 * config.dim * config.hidden
        return total + float((live * linear + 2 * live**2 * config.dim).sum(1).mean())


def tensors(data: LabelledImages, config: StasConfig) -> tuple[Tensor, Tensor]:
    """Return normalised images and labels."""
    data = match_classes(data, config.class_names)
    pixels = normalise(data.images[:], config.mean, config.std)
    return torch.from_numpy(pixels).float(), torch.from_numpy(np.asarray(data.labels)).long()


def train(model: AVit, data: LabelledImages, options: TrainOptions, seed: int) -> AVit:
    """Train without halting, then with it: epochs, batches, losses and schedule of a spiking model."""
    images, labels = tensors(data, model.config)
    generator = torch.Generator().manual_seed(seed)
    for stage, epochs in enumerate((options.stage1_epochs, options.stage2_epochs)):
        optimiser = torch.optim.AdamW(model.parameters(), weight_decay=options.weight_decay)
        batches = range(0, len(images), options.batch_size)
        model.train()
        for epoch in range(epochs):
            order = torch.randperm(len(images), generator=generator)
            for number, start in enumerate(batches):
                progress = (epoch * len(batches) + number) / (epochs * len(batches))
                for group in optimiser.param_groups:
                    group["lr"] = RATES[stage] * one_cycle(progress)
                chosen = order[start : start + options.batch_size]
                output = model(images[chosen], model.config.epsilon if stage else None)
                loss = nn.functional.cross_entropy(
                    output.logits, labels[chosen], label_smoothing=options.label_smoothing
                )
                if stage:
                    ramp = min(1.0, progress / options.ponder_ramp)
                    loss = loss + ramp * options.ponder_weight * output.ponder
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
    return model.eval()


@dataclass(frozen=True)
class Measured:
    """Share of correct images, visits of a token, and MACs and additions of an image."""

    accuracy: float
    visits: float
    macs: float
    additions: float = 0.0


def measure(model: AVit, data: LabelledImages, epsilon: float | None) -> Measured:
    """Classify test images with the ANN."""
    images, labels = tensors(data, model.config)
    with torch.inference_mode():
        output = model(images, epsilon)
    right = (output.logits.argmax(1) == labels).double().mean()
    return Measured(float(right), float(output.visits.sum(1).mean()), model.macs(output.visits))


def spiking(model: StasModel, data: LabelledImages, visits: float) -> Measured:
    """Classify test images with the spiking model, at the threshold with the nearest number of visits."""
    images, labels = tensors(data, model.config)
    made: dict[float, tuple[float, float]] = {}  # visits and accuracy by threshold
    for epsilon in GRID:
        with torch.inference_mode():
            output = stas_neuro.load_model(model, epsilon=epsilon).eval()(images, skip=True)
        right = (output.logits.argmax(1) == labels).double().mean()
        made[epsilon] = float(output.visits.double().sum((1, 2)).mean()), float(right)
    nearest = min(made, key=lambda epsilon: abs(made[epsilon][0] - visits))
    graph = stas_neuro.fold(model, epsilon=nearest)
    found = neurobench_metrics(graph, stas_neuro.run(graph, data).activity)
    assert found is not None  # every layer is a node of the graph
    synaptic = found["SynapticOperations"]
    additions = synaptic["Effective_ACs"] + found["AttentionOperations"]["Effective_ACs"]
    return Measured(made[nearest][1], made[nearest][0], synaptic["Effective_MACs"], additions)


def joined(found: list[Measured], prefix: str = "") -> dict[str, str]:
    """Return the columns of networks over seeds: visits, accuracy with its range, operations."""
    accuracies = [100 * each.accuracy for each in found]
    visits, macs, added = np.mean([[each.visits, each.macs, each.additions] for each in found], axis=0)
    columns = {
        f"{prefix}visits": f"{visits:.2f}",
        f"{prefix}accuracy, %": f"{np.mean(accuracies):.1f} ({min(accuracies):.1f} to {max(accuracies):.1f})",
        f"{prefix}MACs": f"{macs / 1e3:.0f} k",
    }
    return columns | ({f"{prefix}additions": f"{added / 1e3:.0f} k"} if prefix else {})


def main() -> None:
    """Train, measure and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("checkpoints", nargs="+", help="spiking models, one for each seed: 0, 1, ...")
    parser.add_argument("--data", default="digits", help="what they were trained on (digits)")
    parser.add_argument("--preset", default="tiny", help="whose epochs, batches and losses are used (tiny)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    learnt, tested = (stas_neuro.load_data(arguments.data, part) for part in ("train", "test"))
    found: dict[tuple[int, float | None], list[tuple[Measured, Measured]]] = {}
    sizes: dict[str, int] = {}
    for seed, path in enumerate(arguments.checkpoints):
        model = stas_neuro.load_model(path)
        options = recipe(arguments.preset, seed=seed, holdout=default_holdout(learnt))
        sizes["spiking"] = sum(each.numel() for each in model.parameters())
        for passes in dict.fromkeys((1, model.config.time_steps)):
            torch.manual_seed(seed)
            ann = train(AVit(model.config, passes), split(learnt, options)[0], options, seed)
            sizes["ANN"] = sum(each.numel() for each in ann.parameters())
            for epsilon in EPSILONS:
                own = measure(ann, tested, epsilon)
                found.setdefault((passes, epsilon), []).append((own, spiking(model, tested, own.visits)))
    table = []
    for (passes, epsilon), pairs in found.items():
        ours, theirs = zip(*pairs, strict=True)
        told = "no halting" if epsilon is None else f"{epsilon:g}"
        named = {"passes": passes, "epsilon": told}
        table.append(named | joined(list(ours)) | joined(list(theirs), "spiking: "))
    print(markdown(table))
    told = ", ".join(f"{size} ({name})" for name, size in sizes.items())
    print(f"\nparameters: {told}; {len(arguments.checkpoints)} seeds, {len(tested)} test images")


if __name__ == "__main__":
    main()
