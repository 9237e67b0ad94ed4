"""Compare tokens that halt alone with groups that halt together, on a chip whose cores can be gated.

    python examples/token_groups.py [--model DIR] [--profile NAME] [--groups G ...] [--images N]

The integer program of a model runs on images of Fashion-MNIST that are shipped: halting-aware placement
learns from the first half, the second half is counted. With `--groups G` each block is cut into G groups of
cores, and tokens halt alone, or together with those on their cores. The model was trained with tokens that
halt alone; a group halts by the mean of its tokens. Energy is a what-if: no published chip gates cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import stas_neuro
from stas_neuro.assets import asset
from stas_neuro.energy import Deployment, estimate
from stas_neuro.placement import Strategy

MODEL = Path(__file__).parent / "models" / "fashion-spikformer"
IMAGES = "data/fashion-mnist-512.npz"
PLACED: tuple[tuple[Strategy, bool], ...] = (
    ("token-major", False),
    ("halting-aware", False),
    ("token-major", True),
)
"""Placements, and whether the tokens on a core halt together."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--profile", default="loihi2-gated-whatif", help="default: loihi2-gated-whatif")
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 7, 13], help="default: 4 7 13")
    parser.add_argument("--images", type=int, default=512, help="default: all 512")
    arguments = parser.parse_args()
    chip = stas_neuro.load_profile(arguments.profile)
    images = stas_neuro.load_data(str(asset(IMAGES)))
    half = arguments.images // 2
    learnt, counted = images.select(slice(0, half)), images.select(slice(half, arguments.images))
    title = f"{arguments.model.name} on {chip.name}, {half} images"
    table = Table(
        "groups", "placement", "tokens halt", "accuracy", "visits", "gated core steps", "energy", "not gated",
        title=title,
    )  # fmt: skip
    for groups in arguments.groups:
        for strategy, together in PLACED:
            graph = stas_neuro.quantise(
                stas_neuro.fold(arguments.model, token_groups=groups if together else 0)
            )
            seen = stas_neuro.run(graph, learnt).activity
            mapping = stas_neuro.place(graph, chip, strategy=strategy, groups=groups, seen=seen)
            trace = stas_neuro.run(graph, counted, mapping=mapping, gating="core")
            gated, silent = (
                estimate(trace.activity, chip, Deployment(gating=gating), variants=False)
                for gating in ("core", "silent")
            )
            assert gated.energy_j is not None and silent.energy_j is not None
            assert gated.core_steps is not None and gated.core_steps_gated is not None
            table.add_row(
                str(groups),
                strategy,
                "together" if together else "alone",
                f"{np.mean(trace.predictions == counted.labels):.1%}",
                f"{trace.token_ratio:.1%}",
                f"{gated.core_steps_gated / (gated.core_steps_gated + gated.core_steps):.1%}",
                f"{1e6 * gated.energy_j.value:.0f} uJ",
                f"{1e6 * silent.energy_j.value:.0f} uJ",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
