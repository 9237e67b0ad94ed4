"""How well the energy by which the ponder loss weighs visits predicts that of a network: rank correlations.

    python examples/ponder_surrogate.py --images 24

Networks are the shipped model `order`, before and after it was trained to halt, with each halting policy
at several thresholds, in floats and with weights of 8 and 4 bits. The coefficients are made once for each
policy, from the weights before, on training images, as `train --ponder-profile` makes them. Each network then
runs on test images; its visits give the predicted energy, and its record the priced one. Prints Spearman's
rank correlation for the surrogate, and for the number of visits, which the ponder loss adds up otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import stas_neuro
from stas_neuro.activity import Activity
from stas_neuro.api import preprocess
from stas_neuro.chips import Profile, load_profile
from stas_neuro.choices import MODES, Mode
from stas_neuro.energy import price
from stas_neuro.ir import Graph
from stas_neuro.passes import AddHalting, PipelineExit, Quantise
from stas_neuro.training.ponder import EnergySurrogate, deployment_of, surrogate

MODEL = Path(__file__).parent / "models" / "order"
PRICED = 16
"""Training images from which the coefficients are made."""
BITS = (None, 8, 4)
THRESHOLDS = {
    "raster": ((-4.0, -4.0), (-4.0, -2.0), (-4.0, 0.0), (-1.0, -4.0), (-1.0, -1.0)),
    "rectangular": ((-4.0, 0.0), (-4.0, 2.0), (-4.0, 4.0), (-1.0, -2.0), (-1.0, 1.0)),
    "block": ((-4.0, 2.0), (-4.0, 4.0), (-4.0, 6.0), (-1.0, 3.0), (1.0, 4.6)),
    "time": ((-4.0, -4.0), (-4.0, -2.0), (-4.0, 0.0), (-1.0, -3.0), (-1.0, -1.0)),
}
"""Slope and offset of the score, by policy."""
MARGINS = (0.1, 0.3, 0.6, 1.0, 1.5, 2.5)
"""Of image halting."""


@dataclass(frozen=True)
class Candidate:
    """A network that halts, and its run on test images."""

    policy: str
    activity: Activity


def halting(weights: Graph) -> Iterator[tuple[str, Graph]]:
    """Add each policy at each threshold to a network without halting."""
    for policy, scores in THRESHOLDS.items():
        for alpha, beta in scores:
            yield policy, AddHalting(mode=policy, alpha=alpha, beta=beta, epsilon=0.01)(weights)
    for margin in MARGINS:
        yield "image", PipelineExit()(AddHalting(mode="image", margin=margin)(weights))


def candidates(weights: list[Graph], images: stas_neuro.LabelledImages) -> Iterator[Candidate]:
    """Run all networks."""
    for number, graph in enumerate(weights):
        for place, (policy, network) in enumerate(halting(graph)):
            bits = BITS[(place + number) % len(BITS)]
            program = network if bits is None else Quantise(bits=bits)(network)
            yield Candidate(policy, stas_neuro.run(program, images, per_image=True).activity)


def energies(
    found: list[Candidate], made: dict[str, EnergySurrogate], profile: Profile, mode: Mode
) -> tuple[list[float], list[float]]:
    """Return the predicted and the priced energy of each network in J."""
    predicted, priced = [], []
    for each in found:
        visits = torch.from_numpy(np.asarray(each.activity.visits, np.float64))
        predicted.append(float(made[each.policy].energy(visits).mean()))
        totals = price(each.activity, profile, deployment_of(each.activity, profile, mode))
        assert totals.energy_j is not None
        priced.append(totals.energy_j.value)
    return predicted, priced


def main() -> None:
    """Run, predict, price and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--images", type=int, default=24, help="test images of each network (24)")
    parser.add_argument("--profiles", nargs="+", default=["loihi1", "loihi2"], help="default: loihi1, loihi2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weights = [stas_neuro.fold(MODEL, accumulate="off"), stas_neuro.fold(MODEL / "stage1")]
    learnt = stas_neuro.load_data("order", "train").select(slice(0, PRICED))
    found = list(candidates(weights, stas_neuro.load_data("order").select(slice(0, arguments.images))))
    first = dict(halting(weights[1]))
    table = Table("chip", "mode", "networks", "surrogate", "lowest of a policy", "visits", "mean error")
    visits = [float(np.mean(each.activity.visits)) for each in found]
    for profile in map(load_profile, arguments.profiles):
        for mode in MODES:
            made = {
                policy: surrogate(graph, preprocess(graph, learnt), profile, mode)
                for policy, graph in first.items()
            }
            predicted, priced = energies(found, made, profile, mode)
            apart = []
            for policy in first:
                own = [place for place, each in enumerate(found) if each.policy == policy]
                apart.append(
                    (spearmanr([predicted[n] for n in own], [priced[n] for n in own]).statistic, policy)
                )
            error = float(np.mean(np.abs(np.array(predicted) / priced - 1)))
            table.add_row(
                profile.name,
                mode,
                str(len(found)),
                f"{spearmanr(predicted, priced).statistic:.3f}",
                "{:.3f} ({})".format(*min(apart)),
                f"{spearmanr(visits, priced).statistic:.3f}",
                f"{error:.1%}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
