"""Search the deployments of `order-long`, with fewer choices on each axis than `stas-export optimise` has.

    python examples/long_frontier.py -o runs/long-frontier [--images N]

A window has 64 frames, so pricing a deployment takes longer than that of a still image. The search tries all
frames and three smaller numbers of them, exits of two margins of the mean and of the sum of logits, the exit
that was trained, one placement on the fewest cores and on all, and one copy or as many as fill a chip. Writes
what `optimise` writes. Energies are estimated, not measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

import stas_neuro
from stas_neuro.cli.optimise import write_frontiers
from stas_neuro.optimiser import Choice, Space, optimise_all, targets_of
from stas_neuro.report.frontier import frontier_report

MODEL = Path(__file__).parent / "models" / "order-long"
SPACE = Space(
    policies=("image",),
    leads=(0.5, 0.1),
    fewer=3,
    strategies=("token-major",),
    fill=(1.0,),
    replicas=(1, "fill"),
    contexts=(1,),
    assumed=True,
)


def main() -> None:
    """Search, write and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory of bundles and frontiers")
    parser.add_argument("--images", type=int, default=256, help="half to choose with, half to report (256)")
    arguments = parser.parse_args()
    console = Console(width=140, highlight=False, markup=False)
    results = optimise_all(
        MODEL,
        stas_neuro.load_data("order-long").select(slice(0, arguments.images)),
        targets_of(["loihi1", "loihi2"], ["single", "stream"]),
        choice=Choice(points=3),
        calibrate="order-long",
        rivals={"stage 1": MODEL / "stage1"},
        space=SPACE,
        folder=arguments.output,
        jobs=2,
        report=lambda what, done, total: print(f"{what}: {done} of {total}", flush=True),
    )
    write_frontiers(results, arguments.output, MODEL.name)
    for result in results:
        console.print(frontier_report(result))


if __name__ == "__main__":
    main()
