"""Random small torch models that spike and halt, and a covering design over what a model can be made of."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stas_neuro.models.config import ACCUMULATIONS, ATTENTIONS, BACKBONES, FIRES, READOUTS, STEMS, StasConfig
from stas_neuro.models.lif import TokenBatchNorm
from stas_neuro.models.stas import StasModel

Choice = dict[str, Any]
FACTORS: Mapping[str, Sequence[Any]] = {
    "stem": STEMS,
    "accumulate": ACCUMULATIONS,
    "backbone": BACKBONES,
    "attention": ATTENTIONS,
    "readout": READOUTS,
    "fire": FIRES,
    "event_input": (False, True),
}
"""What is combined; the two largest first."""


def pairs_of(choice: Choice) -> set[tuple[Any, ...]]:
    """The pairs of values that a choice holds: (factor, value, factor, value) in the order of FACTORS."""
    return {(a, choice[a], b, choice[b]) for a, b in itertools.combinations(FACTORS, 2)}


def covering() -> list[Choice]:
    """Choices that hold every pair of values of any two factors.

    One for each pair of the two largest factors, which no design can do without; the others are chosen
    greedily to cover the most that is still uncovered.
    """
    largest, second, *others = FACTORS
    rest = [dict(zip(others, values, strict=True)) for values in itertools.product(*map(FACTORS.get, others))]
    covered: set[tuple[Any, ...]] = set()
    design = []
    pairs = itertools.product(FACTORS[largest], FACTORS[second])
    # Models are drawn by number: those of a policy that was added later come last.
    for number, (a, b) in enumerate(sorted(pairs, key=lambda pair: pair[1] == "image")):
        candidates = [{largest: a, second: b, **rest[(i + number) % len(rest)]} for i in range(len(rest))]
        best = max(candidates, key=lambda choice: len(pairs_of(choice) - covered))
        covered |= pairs_of(best)
        design.append(best)
    return design


def random_config(choice: Choice, seed: int) -> StasConfig:
    """A small configuration of these choices, the rest drawn at random."""
    rng = np.random.default_rng(seed)
    patch = int(rng.choice([1, 2, 4]))
    heads = int(rng.choice([1, 2, 4]))
    return StasConfig(
        time_steps=int(rng.integers(2, 5)),
        depth=int(rng.choice([1, 2, 2, 3, 3])),
        dim=int(rng.choice([8, 16, 24])),
        heads=heads,
        mlp_ratio=float(rng.choice([1.0, 1.5, 2.0])),
        image_size=patch * int(rng.integers(2, 5)),
        in_channels=int(rng.integers(1, 3)),
        patch_size=patch,
        num_classes=int(rng.integers(2, 6)),
        alpha=float(rng.uniform(0.5, 1.2)),
        beta=float(rng.uniform(-2.0, 0.0)),
        epsilon=float(rng.choice([0.0, 0.01, 0.1, 0.3])),
        margin=float(rng.choice([0.3, 0.8, 1.5])),
        **choice,
        summed=bool(rng.integers(2)),
    )


def images_for(config: StasConfig, count: int, seed: int) -> NDArray[np.float64]:
    """Normalised images of the shape that a model takes."""
    frames = (config.time_steps,) if config.event_input else ()
    shape = (count, *frames, config.in_channels, config.image_size, config.image_size)
    return np.random.default_rng(seed).normal(size=shape)


def random_model(config: StasConfig, seed: int, dtype: torch.dtype = torch.float64) -> StasModel:
    """A model with random weights, affines and statistics, in evaluation mode.

    Its statistics are those of random images, then disturbed: with arbitrary ones hardly a neuron would fire
    after some layers, and nothing would be tested.
    """
    torch.manual_seed(seed)
    model = StasModel(config).to(dtype)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | TokenBatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            # A few channels run the other way, as trained ones do.
            sign = torch.where(torch.rand_like(norm.weight) < 0.1, -1.0, 1.0)
            norm.weight.copy_(sign * (1.5 + 2 * torch.rand_like(norm.weight)))
            norm.bias.copy_(0.5 + torch.randn_like(norm.bias))
        if hasattr(model.stem, "integrate") and model.stem.integrate.mode == "learned":
            model.stem.integrate.weights.copy_(torch.rand(config.time_steps))
        _without_halting(model, torch.from_numpy(images_for(config, 16, seed)).to(dtype))
        for norm in norms:
            norm.momentum = 0.1
            norm.running_mean += 0.2 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
            norm.running_var *= 0.7 + 0.6 * torch.rand_like(norm.running_var)
    return model.eval()


def _without_halting(model: StasModel, images: torch.Tensor) -> None:
    """One forward pass in training mode, over which the normalisations take their batch statistics."""
    config = model.config
    model.config = model.stem.config = config.replace(accumulate="off")
    model.train()(images)
    model.config = model.stem.config = config


def dyadic_model(config: StasConfig, seed: int) -> StasModel:
    """A float64 model whose weights are small binary fractions and whose normalisations scale by 2 or 1.

    Its sums are exact in any order, so that membranes meet thresholds exactly.
    """
    torch.manual_seed(seed)
    model = StasModel(config).double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | TokenBatchNorm):
                module.eps = 2.0**-20
                module.running_var.fill_(1 - 2.0**-20)  # and eps more is 1
                module.weight.fill_(2.0)
                module.bias.copy_(torch.randint(-1, 2, module.bias.shape) / 2)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(torch.randint(-2, 3, module.weight.shape) / 4)
                if module.bias is not None:
                    module.bias.copy_(torch.randint(-1, 3, module.bias.shape) / 4)
    return model.eval()
