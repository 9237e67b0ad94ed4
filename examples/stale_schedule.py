"""Measure the effect of late decisions in a pipeline on the 10,000 Fashion-MNIST test images.

    python examples/stale_schedule.py --limit 1000

In raster order a model step starts when the previous one has ended. If it starts d hardware steps early, its
halting decisions use the scores that have arrived by then. Each row is such a schedule, with: hardware steps
from one model step to the next, and in total; visits per token added and lost relative to raster halting, and
their share of all T*L; the share of visits made; number of predictions changed; accuracy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import stas_neuro
from stas_neuro.analysis import spiking_stages
from stas_neuro.api import accuracy
from stas_neuro.data import LabelledImages
from stas_neuro.ir import Graph
from stas_neuro.passes import DelayDecisions
from stas_neuro.trace import Trace

MODEL = Path(__file__).parent / "models" / "fashion-spikformer"
CONSOLE = Console(stderr=True)
COLUMNS = {
    "late": "d",
    "interval": "interval",
    "hardware_steps": "hardware steps",
    "visits_added": "added",
    "visits_left_out": "lost",
    "share_changed": "changed",
    "token_ratio": "token ratio",
    "top1_changes": "top-1 changes",
    "accuracy": "accuracy",
}


def turning_points(graph: Graph) -> list[int]:
    """Return the largest delay for each set of arriving scores: shorter ones change the same decisions."""
    chosen: dict[tuple[tuple[int, ...], ...], int] = {}
    for late in range(1, spiking_stages(graph)):
        # A score that is T - 1 model steps late arrives after the last decision.
        lags = (node.lags for node in DelayDecisions(late)(graph).accumulators)
        chosen[tuple(tuple(min(lag, graph.time_steps - 1) for lag in each) for each in lags)] = late
    return list(chosen.values())


def compared(graph: Graph, late: int, trace: Trace, base: Trace, data: LabelledImages) -> dict[str, Any]:
    """Compare a run with late decisions with one in raster order."""
    stages, tokens = spiking_stages(graph), trace.visits[:, 0, 0].size
    return {
        "late": late,
        "interval": stages - late,
        "hardware_steps": stages + (graph.time_steps - 1) * (stages - late),
        "visits_added": float(np.count_nonzero(trace.visits & ~base.visits) / tokens),
        "visits_left_out": float(np.count_nonzero(base.visits & ~trace.visits) / tokens),
        "share_changed": float((trace.visits != base.visits).mean()),
        "token_ratio": trace.token_ratio,
        "top1_changes": int(np.count_nonzero(trace.predictions != base.predictions)),
        "accuracy": accuracy(trace, data, graph.classes),
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(*COLUMNS.values())
    for row in rows:
        table.add_row(
            *(f"{row[key]:.4f}" if isinstance(row[key], float) else str(row[key]) for key in COLUMNS)
        )
    Console().print(table)


def main() -> None:
    """Run raster halting and each delay."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint directory")
    parser.add_argument(
        "--late", type=int, nargs="+", metavar="D", help="delays in hardware steps (default: all that differ)"
    )
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--limit", type=int, help="use only the first images")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    graph = stas_neuro.fold(arguments.model)
    data = stas_neuro.load_data(arguments.data, "test").select(slice(0, arguments.limit))
    base = stas_neuro.run(graph, data, dtype=np.float32, per_image=True)
    rows = [compared(graph, 0, base, base, data)]
    for late in track(arguments.late or turning_points(graph), "schedules", console=CONSOLE):
        trace = stas_neuro.run(DelayDecisions(late)(graph), data, dtype=np.float32, per_image=True)
        rows.append(compared(graph, late, trace, base, data))
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows)


if __name__ == "__main__":
    main()
