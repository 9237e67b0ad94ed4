"""What the experiments measure beside the results of the commands; sweeps call these functions."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import stas_neuro
from stas_neuro.api import accuracy
from stas_neuro.data import LabelledImages, normalise
from stas_neuro.labels import match_classes
from stas_neuro.models.config import StasConfig
from stas_neuro.models.halting import Halting
from stas_neuro.models.stas import StasModel
from stas_neuro.optimiser import mcnemar

BINS, MOST = 15, 1.5
"""Bins of the histogram of scores, and its upper end; the threshold is 1, the last bin holds all above."""
NEAR = 0.2
"""A zombie lacks at most so much of the threshold after all visits."""
LARGEST_MARGIN, HALVINGS = 16.0, 10
"""Where the search for the margin of an image exit begins, and its steps."""
BATCH = 500


def _first(data: str, images: int) -> LabelledImages:
    return stas_neuro.load_data(data).select(slice(0, images))


def scores(bundle: Path, data: str, images: int) -> dict[str, float]:
    """Return the distribution of the scores that tokens have accumulated when they end, and of zombies.

    A zombie has made all visits without reaching the threshold, and lacks at most `NEAR`. The integer program
    runs; its scores are in units of the threshold's integer. `bin0` and so on are shares of tokens.
    """
    loaded = stas_neuro.load_bundle(bundle)
    graph = loaded.of("fixed")
    trace = stas_neuro.run(
        loaded, _first(data, images), arithmetic="fixed", backend="reference", record_states=True
    )
    accumulator = graph.accumulators[-1]  # the sum passes through those of all blocks
    last = trace.states[accumulator.name][:, -1].astype(float)
    reached = last / float(accumulator.limit)
    never = trace.visits.all(axis=(1, 2))
    shares, _ = np.histogram(np.minimum(reached, MOST), bins=BINS, range=(0, MOST))
    found = {f"bin{place}": float(count / reached.size) for place, count in enumerate(shares)}
    zombies = never & (reached < 1) & (reached >= 1 - NEAR)
    found["images"] = len(trace.visits)
    return found | {"zombies": float(zombies.mean()), "never": float((never & (reached < 1)).mean())}


def decisions(bundle: Path, data: str, images: int) -> dict[str, float]:
    """Compare the halting decisions of the integer program with those of the float network."""
    loaded, chosen = stas_neuro.load_bundle(bundle), _first(data, images)
    exact = stas_neuro.run(loaded, chosen, dtype="float32")
    fixed = stas_neuro.run(loaded, chosen, arithmetic="fixed")
    counts = [trace.visits.sum(axis=(1, 2)) for trace in (exact, fixed)]
    classes = loaded.graph.classes
    return {
        "images": len(chosen),
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
    """Keeps as many tokens of each image after their first visit, and drops the others for good.

    A dropped token weighs by its only visit, the others by the last block of each step, as without halting.
    """

    by, kept = "random", 1

    def visit(self, step: int, block: int, z: Tensor) -> Tensor | None:
        """Choose the tokens at the first visit; return the weights of this one."""
        if step == 0 and block == 0:
            kept = self._values(z).topk(self.kept, dim=1).indices
            self.live = torch.zeros_like(self.live).scatter(1, kept, 1.0)
            dropped: Tensor = 1 - self.live
            return dropped
        last = block == self.config.depth - 1
        return self.live / self.config.time_steps if last else torch.zeros_like(self.live)

    def _values(self, z: Tensor) -> Tensor:
        """Return what the tokens with the largest values are kept by."""
        if self.by == "rate":
            return z.sum(-1)
        if self.by == "score":
            return -self._token_score(z)
        return torch.rand(z.shape[:2], generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class _Run:
    right: NDArray[np.bool_]
    """Which images are classified correctly."""
    visits: float
    """Visits made, as a share of all."""


def rival(model: str, policy: str, epsilon: float, data: str, images: int) -> dict[str, float]:
    """Classify with a policy that makes as many visits as halting at `epsilon`, with weights trained for it.

    `image` ends whole images at a margin; `random`, `rate` (those with the most spikes) and `score` (those
    with the lowest halting scores after one visit) keep the same number of tokens in each image. Margin and
    number are set to the visits alone, and do not see labels. `only_halting` and `only_rival` count the
    images that one of the two classifies correctly, and `p` is that of McNemar's exact test.
    """
    loaded = stas_neuro.load_model(model).eval()
    chosen = match_classes(_first(data, images), loaded.config.classes)
    halting = _classify(stas_neuro.load_model(loaded, epsilon=epsilon), chosen)
    found = halting if policy == "halting" else _as_many(loaded, policy, halting.visits, chosen)
    return {
        "accuracy": float(found.right.mean()),
        "visits": found.visits,
        "images": len(chosen),
        "only_halting": int((halting.right & ~found.right).sum()),
        "only_rival": int((found.right & ~halting.right).sum()),
        "p": mcnemar(halting.right, found.right),
    }


def _as_many(model: StasModel, policy: str, visits: float, chosen: LabelledImages) -> _Run:
    """Run a policy that makes `visits`, a share of all, as nearly as it can."""
    config = model.config
    if policy == "image":
        margins, found = [0.0, LARGEST_MARGIN], []
        for _ in range(HALVINGS):
            middle = sum(margins) / 2
            exits = stas_neuro.load_model(model, accumulate="image", margin=middle, readout="rate")
            found.append(_classify(exits, chosen))
            margins[found[-1].visits > visits] = middle
        return min(found, key=lambda each: abs(each.visits - visits))
    all_visits = config.time_steps * config.depth
    kept = round(config.tokens * (visits * all_visits - 1) / (all_visits - 1))
    network = copy.copy(model)
    network.make_halting = type("Kept", (_Kept,), {"by": policy, "kept": min(max(kept, 0), config.tokens)})
    return _classify(network, chosen)


def _classify(network: StasModel, chosen: LabelledImages) -> _Run:
    right, visits = [], 0.0
    with torch.inference_mode():
        for start in range(0, len(chosen), BATCH):
            part = chosen.select(slice(start, start + BATCH))
            output = network(torch.from_numpy(_pixels(part, network.config)), skip=True)
            right.append(output.logits.argmax(1).numpy() == part.labels)
            visits += output.token_ratio * len(part)
    return _Run(np.concatenate(right), visits / len(chosen))


def _pixels(images: LabelledImages, config: StasConfig) -> NDArray[np.float32]:
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
        places = {"stem": steps, **{f"block {l}": z for l, z in enumerate(loaded._outputs(tokens))}}
    return {"images": len(chosen)} | {f"cosine_{name}": _cosine(z) for name, z in places.items()}


def _cosine(z: Tensor) -> float:
    before, after = z[:-1], z[1:]
    silent = (before.norm(dim=-1) == 0) & (after.norm(dim=-1) == 0)
    return float(torch.where(silent, 1.0, torch.cosine_similarity(before, after, dim=-1)).mean())
