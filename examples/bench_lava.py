"""Measure Lava's own runtime, with a process for each chip against a process for each layer.

    python examples/bench_lava.py [--rounds 3] [--json]

Both run the integer program of the shipped model, in turn, round after round, and count every event: by
layer as on one chip, or, where a row says so, by core of one chip or of three small ones, each a process.
A rate is that of a stream: of the images between the first batch that is finished and the last one. What
comes before, the start of the processes and the first batch, is the figure `first_batch_s`. Ratios are of
the same round, so that other programs on the machine disturb both alike. ``bench.py`` has the same rows.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from bench_table import Figures, of_rounds, table, wide_console
from numpy.typing import NDArray

import stas_neuro
from stas_neuro.assets import HALTING_MODEL, IMAGES, asset
from stas_neuro.exporters.lava.chip import run_chips
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.ir import Graph
from stas_neuro.mapping import Mapping


class Stream(NamedTuple):
    """Images of a batch, batches after the first, the row to compare with, and chips that it is placed on."""

    batch: int
    batches: int
    rival: str
    chips: int = 0


BY_LAYER, ON_CORES = "lava by layer, stream", "lava on 1 chip, stream of 64"
STREAMS = {
    BY_LAYER: Stream(1, 24, BY_LAYER),
    "lava by chip, stream of 8": Stream(8, 32, BY_LAYER),
    "lava by chip, stream of 64": Stream(64, 12, BY_LAYER),
    ON_CORES: Stream(64, 12, BY_LAYER, 1),
    "lava on 3 chips, stream of 64": Stream(64, 12, ON_CORES, 3),
}
RATE, FIRST = "images_per_s_in_stream", "first_batch_s"
TITLE = "Lava's own runtime, integers, rounds in turn"
COLUMNS = {RATE: "images/s", FIRST: "first batch, s"}


def measure_streams(graph: Graph, rounds: int) -> Figures:
    """Run each stream of an integer program in turn; returns figures as JSON, with ratios in a round."""
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:].astype(np.int64)
    measured = [
        {name: _measure(graph, images, stream) for name, stream in STREAMS.items()} for _ in range(rounds)
    ]
    figures: Figures = []
    for at, quantity in enumerate((RATE, FIRST)):
        of_quantity = [{what: both[at] for what, both in each.items()} for each in measured]
        figures += of_rounds(of_quantity, {name: each.rival for name, each in STREAMS.items()}, quantity)
    return figures


def _measure(graph: Graph, images: NDArray[np.int64], stream: Stream) -> tuple[float, float]:
    """Return images per second after the first batch, and the seconds until that is finished."""
    mapping = _place(graph, stream.chips) if stream.chips else None
    count = stream.batch * (stream.batches + 1)
    taken = np.resize(images, (count, *images.shape[1:]))  # again from the first, where there are too few
    seen: list[tuple[float, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((time.perf_counter(), done))

    begun = time.perf_counter()
    if stream.batch == 1:
        run_lava(graph, taken, runtime="multiprocess", progress=progress)
    else:
        # Late: bench.py imports this module to measure memory without it.
        from stas_neuro.fast import FastProgram, by_chip

        program = by_chip(FastProgram(graph=graph, mapping=mapping))
        run_chips(graph, program, taken, replicas=stream.batch, runtime="multiprocess", progress=progress)
    (first, some), (last, all_) = seen[0], seen[-1]
    return (all_ - some) / (last - first), first - begun


def _place(graph: Graph, chips: int) -> Mapping:
    """Place a network on so many chips, each with an equal part of the cores that it takes."""
    profile = stas_neuro.load_profile("loihi2")
    cores = -(-len(stas_neuro.place(graph, profile).cores) // chips)
    limit = replace(profile.limits["cores_per_chip"], value=cores, low=cores, high=cores)
    mapping = stas_neuro.place(graph, replace(profile, limits={**profile.limits, "cores_per_chip": limit}))
    assert mapping.chips == chips
    return mapping


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
