"""Cap the visits of a token: what that costs in accuracy, and saves in energy.

    python examples/visit_caps.py [--model DIR] [--profile NAME] [--caps N ...] [--images N]

The integer program of a model, placed token-major, runs on images of Fashion-MNIST that are shipped. With
`--max-visits N` a token halts after N visits whatever its score; in raster order a cap of k L visits is
compared with the network of k model steps, whose logits are the same. Energy is estimated, not measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import stas_neuro
from stas_neuro.assets import asset
from stas_neuro.chips import Profile
from stas_neuro.data import LabelledImages
from stas_neuro.energy import estimate
from stas_neuro.ir import Graph

MODEL = Path(__file__).parent / "models" / "fashion-spikformer"
IMAGES = "data/fashion-mnist-512.npz"


def row(graph: Graph, images: LabelledImages, chip: Profile) -> list[str]:
    """Run and price a network; return accuracy, mean visits, tokens that make most, and energy."""
    quantised = stas_neuro.quantise(graph)
    trace = stas_neuro.run(
        quantised, images, mapping=stas_neuro.place(quantised, chip, strategy="token-major")
    )
    made = trace.visits.sum((1, 2))  # (n, tokens)
    energy = estimate(trace.activity, chip, variants=False).energy_j
    return [
        f"{np.mean(trace.predictions == images.labels):.1%}",
        f"{made.mean():.2f}",
        f"{(made == made.max()).mean():.1%}",
        "refused" if energy is None else f"{1e6 * energy.value:.0f} uJ",
    ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--profile", default="loihi2", help="default: loihi2")
    parser.add_argument("--caps", type=int, nargs="+", default=[7, 6, 5, 4, 3, 2], help="default: 7 to 2")
    parser.add_argument("--images", type=int, default=512, help="default: all 512")
    arguments = parser.parse_args()
    chip = stas_neuro.load_profile(arguments.profile)
    images = stas_neuro.load_data(str(asset(IMAGES))).select(slice(0, arguments.images))
    model = stas_neuro.load_model(arguments.model)
    blocks = model.config.depth
    title = f"{arguments.model.name} on {chip.name}, {len(images)} images"
    table = Table("cap", "model steps", "accuracy", "visits", "make most", "energy", title=title)
    whole = model.config.time_steps
    table.add_row("none", str(whole), *row(stas_neuro.fold(model), images, chip))
    for cap in arguments.caps:
        capped = stas_neuro.fold(stas_neuro.load_model(arguments.model, max_visits=cap))
        table.add_row(str(cap), str(whole), *row(capped, images, chip))
        if cap % blocks == 0 and capped.halting == "raster":
            steps = cap // blocks
            cut = stas_neuro.fold(stas_neuro.load_model(arguments.model, time_steps=steps))
            table.add_row("none", str(steps), *row(cut, images, chip))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
