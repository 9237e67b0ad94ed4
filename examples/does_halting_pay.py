"""Does halting save energy on a chip, including its own cost? Results for the shipped models.

    python examples/does_halting_pay.py -o pay --images 256

Each halting model is compared with its own first stage of training, which does not halt, on every chip with
known static power and cores. The model with raster halting is also compiled with late decisions, for a
pipeline. All gating modes of a chip are priced. Writes ``pay.csv`` and ``pay.png``, and prints a summary.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

from compare_profiles import MODELS, network, split_images
from rich.console import Console

from stas_neuro.analysis import spiking_stages
from stas_neuro.chip_runs import ChipRuns, has_total, joined
from stas_neuro.chips import Profile, list_profiles, load_profile
from stas_neuro.energy import Comparison, Deployment, Gating, Saving, compare, compare_schedules
from stas_neuro.energy.pricing import OP_COUNT
from stas_neuro.files import check_outputs
from stas_neuro.ir import POLICIES, Graph
from stas_neuro.passes import DelayDecisions
from stas_neuro.report import comparison_csv, comparison_report, csv_output, schedules_report
from stas_neuro.report.charts import chart_output, savings_chart, write_chart

MODES: dict[str, tuple[Gating, ...]] = {
    "no": ("silent",),
    "core": ("silent", "core"),
    "power": ("silent", "core", "power"),
}
"""Gating modes to price, by the capability of the chip."""
WHATIF = ("loihi2-gated-whatif",)
"""Hypothetical chips."""


@cache
def halting_networks() -> dict[str, tuple[Graph, str]]:
    """Return the halting networks by label, each with the name of its shipped model."""
    found: dict[str, tuple[Graph, str]] = {}
    for model in MODELS:
        graph, short = network(model), model.removeprefix("fashion-")
        mode = graph.halting
        found[f"{short} ({mode})"] = graph, model
        if POLICIES[mode].may_be_late:
            late = spiking_stages(graph) - 1
            found[f"{short} ({mode}, late {late})"] = DelayDecisions(late)(graph), model
    return found


def whole_prices() -> list[Profile]:
    """Return the chips with a total energy: with cores, times and static power."""
    profiles = [load_profile(name) for name in list_profiles()]
    return [profile for profile in profiles if has_total(profile)]


def price(runner: ChipRuns, profiles: list[Profile]) -> dict[str, Comparison]:
    """Compare each halting network, by label, with its first stage on each chip in all its gating modes."""
    found: dict[str, list[Comparison]] = {}
    for label, (graph, model) in halting_networks().items():
        stage1 = network(f"{model}/stage1")
        for profile in profiles:
            runs = runner.run({label: graph, "stage 1": stage1}, profile)
            can = "no" if profile.name == OP_COUNT else profile.capability("core_gating")
            for gating in MODES[can]:
                without = {"stage 1": runs["stage 1"]}
                found.setdefault(label, []).append(
                    compare(runs[label], without, [profile], Deployment(gating=gating))
                )
    return {label: joined(results) for label, results in found.items()}


def sentence(results: dict[str, Comparison], images: int) -> str:
    """Summarise savings in the operation count, on existing chips, and on the what-if."""
    savings = []
    for label, result in results.items():
        # Without a mapping, because on cores repeated products of keys and values are counted repeatedly.
        counted = next(row.op_count_saving for row in result.rows if row.profile == OP_COUNT)
        chips = [row for row in result.rows if row.profile != OP_COUNT]
        existing = _range([row for row in chips if row.profile not in WHATIF])
        gated = [row for row in chips if row.halting is not None and row.halting.gating == "power"]
        savings.append(f"{counted or 0:+.0%}, {existing} and {_range(gated)} ({label})")
    return (
        f"Energy saved by halting on {images} Fashion-MNIST images, relative to the same network without it: "
        "in the 45 nm operation count, on Loihi 1 and 2 with idle neurons, static power and the cost of "
        f"halting, and on a Loihi 2 that could gate its cores (what-if): {'; '.join(savings)}. "
        "Negative values cost energy."
    )


def _range(rows: list[Saving]) -> str:
    """Format the lowest and the highest end of the savings of some rows."""
    savings = [row.energy_saving for row in rows if row.energy_saving is not None]
    low, high = min(saving.low for saving in savings), max(saving.high for saving in savings)
    return f"{low:+.0%} to {high:+.0%}"


def main() -> None:
    """Price, write the files, and print the summary."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for CSV and picture")
    parser.add_argument("--images", type=int, default=64, help="test images to price, 256 at most (64)")
    arguments = parser.parse_args()
    table = csv_output(arguments.output / "pay.csv", force=True)
    picture = chart_output(arguments.output / "pay.png", force=True)
    check_outputs([table, picture])
    runner = ChipRuns(*split_images(arguments.images))
    profiles = whole_prices()
    results = price(runner, [load_profile(OP_COUNT), *profiles])
    table.write(comparison_csv(results).encode())
    write_chart(picture.path, savings_chart(results), force=True)
    console = Console(width=240, markup=False, highlight=False)
    for label, result in results.items():
        console.print(f"\n{label}")
        console.print(comparison_report(result))
    for model in MODELS:
        networks = {label: graph for label, (graph, name) in halting_networks().items() if name == model}
        networks["stage 1"] = network(f"{model}/stage1")
        rows = [row for chip in profiles for row in compare_schedules(runner.run(networks, chip), [chip])]
        console.print(schedules_report(rows))
    for note in runner.notes:
        console.print(note)
    console.print(f"\npay.csv and pay.png are in {arguments.output}\n")
    console.print(sentence(results, arguments.images))


if __name__ == "__main__":
    main()
