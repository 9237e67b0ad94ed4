"""Run one of the experiments of docs/experiments.md: a sweep, its data as Parquet, and a picture.

    python examples/experiments.py epsilon -o runs/epsilon

An experiment that was interrupted continues. The figures of energy are estimated, not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import experiment_charts as charts
import pyarrow.parquet as pq
from experiment_panels import Row, markdown
from rich.console import Console
from rich.progress import Progress

import stas_neuro
from stas_neuro.report.charts import write_chart
from stas_neuro.report.charts.files import SUFFIXES
from stas_neuro.report.charts.style import finished

ROOT = Path(__file__).parents[1]
ESTIMATED = "Energy is estimated from published and assumed figures, not measured."
Draw = Callable[[list[Row]], tuple[Any, list[Row]]]
SHIPPED = "shipped Spikformer, Fashion-MNIST, {run} images"
TINY = "preset tiny, digits, 8-bit weights, {run} test images, {seeds} seeds"
EXPERIMENTS: Mapping[str, tuple[Draw, str, str]] = {
    "epsilon": (
        charts.epsilon,
        "Energy, accuracy and zombies over the threshold of halting",
        f"{SHIPPED} (scores: {{measure}}), 8-bit weights; the threshold is 1 - epsilon",
    ),
    "accumulation": (
        charts.accumulation,
        "Rules of accumulation",
        f"{SHIPPED}, 8-bit weights; trained with raster, not with the other rules",
    ),
    "quantisation": (
        charts.quantisation,
        "Halting decisions that survive quantisation",
        "shipped Spikformer, Fashion-MNIST, {measure} images, without fine-tuning",
    ),
    "width": (
        charts.width,
        "What halting saves, over the width of the network",
        f"{SHIPPED}; above D 64 not trained but scaled from it, at the same rates of spikes",
    ),
    "rivals": (
        charts.rivals,
        "Ways to make as many visits, with the same weights",
        "shipped Spikformer, Fashion-MNIST, {measure} images; trained for halting alone, one seed",
    ),
    "steps": (charts.steps, "Models trained for 1, 2, 4 and 8 time steps", TINY),
    "stems": (charts.stems, "Stems computed once or in each step, and halting", TINY),
}
"""What draws each experiment, its title, and a line on what was run, with the numbers of `counts`."""


def counts(found: list[Row]) -> dict[str, int]:
    """Return how many images were run and measured, and how many seeds were trained."""
    return {
        "run": max((row.get("run_images") or 0 for row in found), default=0),
        "measure": max((row.get("measure_images") or 0 for row in found), default=0),
        "seeds": len({row.get("train.seed") for row in found}),
    }


def drawn(name: str, found: list[Row]) -> tuple[Any, list[Row]]:
    """Return the finished picture of an experiment, and the rows of its table."""
    draw, title, subject = EXPERIMENTS[name]
    chart, table = draw(found)
    priced = any("estimate_energy_j" in row for row in found)
    told = subject.format(**counts(found))
    return finished(chart, title, told, ESTIMATED if priced else ""), table


def main() -> None:
    """Run the sweep, print its table and draw its picture."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("name", choices=EXPERIMENTS, help="the experiment")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="directory of the sweep and the picture"
    )
    parser.add_argument("--jobs", type=int, help="processes (one for each processor)")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, instead of processes")
    parser.add_argument("--retry", action="store_true", help="compute cells that failed again")
    arguments = parser.parse_args()
    config = ROOT / "examples" / "sweeps" / f"{arguments.name}.toml"
    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task(arguments.name)
        done = stas_neuro.sweep(
            config,
            arguments.output,
            jobs=arguments.jobs,
            scheduler=arguments.scheduler,
            retry=arguments.retry,
            report=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    found = pq.read_table(done.results).to_pylist()
    if done.failed == done.cells:
        raise SystemExit(f"all {done.cells} cells failed, one with: {done.error}")
    chart, table = drawn(arguments.name, found)
    for suffix in SUFFIXES:
        write_chart(arguments.output / f"{arguments.name}{suffix}", chart, force=True)
    print(markdown(table))
    failed = f"; {done.failed} of them failed, one with: {done.error}" if done.failed else ""
    print(f"\n{done.cells} cells{failed}; data: {done.results}; pictures beside it: {', '.join(SUFFIXES)}")


if __name__ == "__main__":
    main()
