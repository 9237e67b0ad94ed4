"""What the experiments measure beside the results of the commands; sweeps call these functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import stas_neuro
from stas_neuro.api import accuracy
from stas_neuro.data import LabelledImages
from stas_neuro.labels import match_classes
from stas_neuro.models.config import StasConfig
from stas_neuro.models.halting import Halting
from stas_neuro.models.stas import StasModel

BINS = 10
"""Bins of the histogram of scores, between 0 and 1."""
NEAR = 0.2
"""A zombie lacks at most so much of the threshold after all visits."""


def _first(data: str, images: int) -> LabelledImages:
    return stas_neuro.load_data(data).select(slice(0, images))


def scores(bundle: Path, data: str, images: int) -> dict[str, float]:
    """Return the distribution of the scores that tokens have accumulated when they end, and of zombies.

    A zombie has made all visits without reaching the threshold, and lacks at most `NEAR`. The integer program
    runs; its scores are in units of the threshold's integer.
    """
    loaded = stas_neuro.load_bundle(bundle)
    graph = loaded.of("fixed")
    trace = stas_neuro.run(
        loaded, _first(data, images), arithmetic="fixed", backend="reference", record_states=True
    )
    (accumulator,) = graph.accumulators
    last = trace.states[accumulator.name][:, -1].astype(float)
    reached = last / float(accumulator.limit)
    never = trace.visits.all(axis=(1, 2))
    shares, _ = np.histogram(np.clip(reached, 0, 1 - 1e-9), bins=BINS, range=(0, 1))
    found = {f"bin{place}": float(count / reached.size) for place, count in enumerate(shares)}
    zombies = never & (reached < 1) & (reached >= 1 - NEAR)
    return found | {"zombies": float(zombies.mean()), "never": float((never & (reached < 1)).mean())}


def decisions(bundle: Path, data: str, images: int) -> dict[str, float]:
    """Compare the halting decisions of the integer program with those of the float network."""
    loaded, chosen = stas_neuro.load_bundle(bundle), _first(data, images)
    exact = stas_neuro.run(loaded, chosen, dtype="float32")
    fixed = stas_neuro.run(loaded, chosen, arithmetic="fixed")
    counts = [trace.visits.sum(axis=(1, 2)) for trace in (exact, fixed)]
    classes = loaded.graph.classes
    return {
        "same_visits": float((exact.visits == fixed.visits).mean()),
        "same_halt": float((counts[0] == counts[1]).mean()),
        "near_halt": float((np.abs(counts[0] - counts[1]) <= 1).mean()),
        "same_class": float((exact.predictions == fixed.predictions).mean()),
        "float_accuracy": accuracy(exact, chosen, classes) or 0.0,
        "fixed_accuracy": accuracy(fixed, chosen, classes) or 0.0,
        "float_visits": float(exact.visits.mean()),
        "fixed_visits": float(fixed.visits.mean()),
    }


class _Kept(Halting):
    """Keeps a fixed share of the tokens of each image after their first visit, and drops the others for good.

    A dropped token weighs by its only visit, the others by the last block of each step, as without halting.
    """

    policy_name, share = "random", 1.0

    def visit(self, step: int, block: int, z: Tensor) -> Tensor | None:
        """Choose the tokens at the first visit; return the weights of this one."""
        first = step == 0 and block == 0
        if first:
            tokens = z.shape[1]
            kept = self._values(z).topk(max(1, round(self.share * tokens)), dim=1).indices
            self.live = torch.zeros_like(self.live).scatter(1, kept, 1.0)
            weight: Tensor = 1 - self.live
            return weight
        return (
            self.live / self.config.time_steps
            if block == self.config.depth - 1
            else torch.zeros_like(self.live)
        )

    def _values(self, z: Tensor) -> Tensor:
        """Return what the tokens with the largest values are kept by."""
        if self.policy_name == "rate":
            return z.sum(-1)
        if self.policy_name == "score":
            return -self._token_score(z)
        return torch.rand(z.shape[:2], generator=torch.Generator().manual_seed(0))


def rival(model: str, policy: str, cost: float, data: str, images: int) -> dict[str, float]:
    """Classify with a policy that reduces the visits, with weights that were trained for halting.

    `cost` is epsilon of `halting`, the margin of `image`, and the share of the tokens that are kept by
    `random`, `rate` (those with the most spikes) and `score` (the lowest halting scores after one visit).
    """
    words = {
        "halting": {"epsilon": cost},
        "image": {"accumulate": "image", "margin": cost, "readout": "rate"},
    }
    loaded = stas_neuro.load_model(model)
    network = _again(loaded, loaded.config.replace(**words.get(policy, {})))
    if policy not in words:
        network.make_halting = type("Kept", (_Kept,), {"policy_name": policy, "share": cost})
    chosen = match_classes(_first(data, images), network.config.classes)
    with torch.no_grad():
        output = network(torch.from_numpy(_pixels(chosen, network.config)))
    correct = output.logits.argmax(1).numpy() == chosen.labels
    return {"accuracy": float(correct.mean()), "visits": output.token_ratio}


def _again(model: StasModel, config: StasConfig) -> StasModel:
    built = StasModel(config)
    built.load_state_dict(model.state_dict())
    return built.eval()


def _pixels(images: LabelledImages, config: StasConfig) -> np.ndarray:
    from stas_neuro.data import normalise

    return normalise(images.images[:], config.mean, config.std).astype(np.float32)


def similarity(checkpoint: Path, data: str, images: int) -> dict[str, float]:
    """Return how similar tokens are to themselves one step earlier: mean cosine, behind the stem and blocks.

    Halting is off. Pairs of which one has no spike count as 0, or as 1 if both have none.
    """
    loaded = stas_neuro.load_model(checkpoint, accumulate="off").eval()
    chosen = _first(data, images)
    with torch.no_grad():
        tokens = loaded.stem(torch.from_numpy(_pixels(chosen, loaded.config)))
        steps = tokens.expand(loaded.config.time_steps, *tokens.shape[1:])
        places = {"stem": steps, **{f"block{l}": z for l, z in enumerate(loaded._outputs(tokens))}}
    return {name: _cosine(z) for name, z in places.items()}


def _cosine(z: Tensor) -> float:
    before, after = z[:-1], z[1:]
    silent = (before.norm(dim=-1) == 0) & (after.norm(dim=-1) == 0)
    return float(torch.where(silent, 1.0, torch.cosine_similarity(before, after, dim=-1)).mean())
