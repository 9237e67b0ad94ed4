"""Measure Lava's own runtime, with a process for all chips against a process for each layer.

    python examples/bench_lava.py [--rounds 3] [--json]

Both run the integer program of the shipped model and count every event by layer, in turn, round after round.
A rate is that of a stream: of the images between the first batch that is finished and the last one. What
comes before, the start of the processes and the first batch, is the figure `first_batch_s`. Ratios are of
the same round, so that other programs on the machine disturb both alike. ``bench.py`` has the same rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from bench_table import Figures, of_rounds, table, wide_console
from numpy.typing import NDArray

import stas_neuro
from stas_neuro.assets import HALTING_MODEL, IMAGES, asset
from stas_neuro.exporters.lava.chip import run_chips
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.ir import Graph

BY_LAYER = "lava by layer, stream"
STREAMS = {
    BY_LAYER: (1, 24),
    "lava by chip, stream of 8": (8, 32),
    "lava by chip, stream of 64": (64, 12),
}
"""Images of a batch, and batches after the first."""
RATE, FIRST = "images_per_s_in_stream", "first_batch_s"
TITLE = "Lava's own runtime, integers, rounds in turn"
COLUMNS = {RATE: "images/s", FIRST: "first batch, s"}


def measure_streams(graph: Graph, rounds: int) -> Figures:
    """Run each stream of an integer program in turn; returns figures as JSON, with ratios in a round."""
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:].astype(np.int64)
    measured = [
        {name: _stream(graph, images, *sizes) for name, sizes in STREAMS.items()} for _ in range(rounds)
    ]
    figures: Figures = []
    for at, quantity in enumerate((RATE, FIRST)):
        of_quantity = [{what: both[at] for what, both in each.items()} for each in measured]
        figures += of_rounds(of_quantity, dict.fromkeys(STREAMS, BY_LAYER), quantity)
    return figures


def _stream(graph: Graph, images: NDArray[np.int64], batch: int, batches: int) -> tuple[float, float]:
    """Return images per second after the first batch, and the seconds until that is finished."""
    count = batch * (batches + 1)
    taken = np.resize(images, (count, *images.shape[1:]))  # again from the first, where there are too few
    seen: list[tuple[float, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((time.perf_counter(), done))

    begun = time.perf_counter()
    run = _by_layer if batch == 1 else _by_chip
    run(graph, taken, batch, progress)
    (first, some), (last, all_) = seen[0], seen[-1]
    return (all_ - some) / (last - first), first - begun


def _by_layer(graph: Graph, images: NDArray[np.int64], batch: int, progress: Callable[..., None]) -> None:
    run_lava(graph, images, runtime="multiprocess", progress=progress)


def _by_chip(graph: Graph, images: NDArray[np.int64], batch: int, progress: Callable[..., None]) -> None:
    from stas_neuro.fast import FastProgram  # late: bench.py imports this module to measure memory without it

    program = FastProgram(graph=graph)
    run_chips(graph, program, images, replicas=batch, runtime="multiprocess", progress=progress)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    graph = stas_neuro.quantise(stas_neuro.fold(str(asset(f"models/{HALTING_MODEL}"))))
    figures = measure_streams(graph, arguments.rounds)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        wide_console().print(table(TITLE, figures, COLUMNS))


if __name__ == "__main__":
    main()
