"""Compare the shipped models with and without halting on every chip of the catalogue.

    python examples/compare_profiles.py -o comparison --images 128

The networks are placed on chips whose cores are known, and priced without a mapping on others, with the
strongest gating that the chip supports. A model is compared with its own first stage of training, which does
not halt, and with a model trained for one time step. Writes ``comparison.csv`` and ``comparison.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from rich.console import Console

from stas_neuro import api
from stas_neuro.activity import Activity
from stas_neuro.chips import Profile, list_profiles, load_profile
from stas_neuro.compiler import fold
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.energy import Comparison, Deployment, Gating, compare
from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs
from stas_neuro.ir import Graph
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.placement import Strategy, place
from stas_neuro.report import (
    comparison_csv,
    comparison_report,
    csv_output,
    picture_output,
    write_savings_chart,
)

EXAMPLES = Path(__file__).parent
IMAGES = EXAMPLES / "data" / "fashion-mnist-512.npz"
MODELS = ("fashion-spikformer", "fashion-spikingformer")
ONE_STEP = "fashion-t1"


@cache
def network(name: str) -> Graph:
    """Compile a shipped model, ``fashion-spikformer`` or its first stage, ``fashion-spikformer/stage1``."""
    return fold(EXAMPLES / "models" / name)


@dataclass
class Runner:
    """Runs networks on the cores of chips, each placement once.

    `images` are priced; placements learn from the separate images of `profiling` which tokens halt together.
    """

    images: LabelledImages
    profiling: LabelledImages
    notes: dict[str, None] = field(default_factory=dict)
    _done: dict[object, tuple[Graph, Activity]] = field(default_factory=dict)
    """Activities by the ids of graph and images; the graph is stored to keep its `id` valid."""

    def run(self, networks: Mapping[str, Graph], profile: Profile) -> dict[str, Activity]:
        """Run networks, by name, on the cores of a chip; without cores if one of them cannot be placed."""
        mappings = self._place(networks, profile)
        return {name: self._run(graph, self.images, mappings.get(name)) for name, graph in networks.items()}

    def _place(self, networks: Mapping[str, Graph], profile: Profile) -> dict[str, CoreMapping]:
        if (why := profile.reason("limits")) is not None:
            self.notes[f"{profile.name}: priced without a mapping, as {why}"] = None
            return {}
        mappings = {}
        for name, graph in networks.items():
            # The assignment of tokens to cores matters only if cores can be gated.
            learnt = bool(graph.accumulators) and gating_of(profile) != "silent"
            seen = self._run(graph, self.profiling, None) if learnt else None
            strategy: Strategy = "halting-aware" if learnt else "token-major"
            try:
                mappings[name] = place(graph, profile, strategy=strategy, seen=seen)
            except InputError as error:
                note = f"{profile.name}: priced without a mapping, as {name} cannot be placed: {error}"
                self.notes[note] = None
                return {}
        return mappings

    def _run(self, graph: Graph, images: LabelledImages, mapping: CoreMapping | None) -> Activity:
        key = id(graph), id(images), mapping and (mapping.cores, mapping.pieces)
        if key not in self._done:
            self._done[key] = graph, api.run(graph, images, mapping=mapping).activity
        return self._done[key][1]


def gating_of(profile: Profile) -> Gating:
    """Return the strongest gating that a chip supports; power gating only if its cores are known."""
    if profile.reason("capabilities.core_gating") is not None:
        return "silent"
    can = profile.capability("core_gating")
    if can == "power" and profile.reason("limits") is None:
        return "power"
    return "silent" if can == "no" else "core"


def compare_on_chips(
    runner: Runner, halting: tuple[str, Graph], baselines: Mapping[str, Graph], profiles: Sequence[Profile]
) -> Comparison:
    """Compare a halting network with baselines, by label, placed on each chip."""
    label, graph = halting
    found = []
    for profile in profiles:
        runs = runner.run({label: graph, **baselines}, profile)
        ours = runs.pop(label)
        gating = gating_of(profile)
        if gating == "power" and not ours.cores:
            gating = "core"
        found.append(compare(ours, runs, [profile], Deployment(gating=gating)))
    return replace(found[0], rows=tuple(row for result in found for row in result.rows))


def split_images(count: int) -> tuple[LabelledImages, LabelledImages]:
    """Return the first `count` of the shipped test images, and the next `count` to learn placements from."""
    data = load_data(str(IMAGES))
    if not 1 <= count <= len(data) // 2:
        raise InputError(f"{count} of {len(data)} images", f"give 1 to {len(data) // 2}")
    return data.select(slice(0, count)), data.select(slice(count, 2 * count))


def main() -> None:
    """Compare, and write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for CSV and picture")
    parser.add_argument("--images", type=int, default=64, help="test images to price, 256 at most (64)")
    parser.add_argument("--profiles", nargs="*", default=list(list_profiles()), help="chips (all)")
    arguments = parser.parse_args()
    table = csv_output(arguments.output / "comparison.csv", force=True)
    picture = picture_output(arguments.output / "comparison.png", force=True)
    check_outputs([table, picture])
    runner = Runner(*split_images(arguments.images))
    profiles = [load_profile(name) for name in arguments.profiles]
    rows = []
    for name in MODELS:
        short = name.removeprefix("fashion-")
        stage1 = f"{short}, stage 1"
        baselines = {stage1: network(f"{name}/stage1"), "one time step": network(ONE_STEP)}
        result = compare_on_chips(runner, (name, network(name)), baselines, profiles)
        labels = {stage1: stage1, "one time step": f"{short}, one time step"}
        rows += [replace(row, baseline=labels[row.baseline]) for row in result.rows]
    result = replace(result, rows=tuple(rows))
    table.write(comparison_csv(result).encode())
    write_savings_chart(picture.path, result, force=True)
    console = Console(width=240, markup=False, highlight=False)
    console.print(comparison_report(result))
    for note in runner.notes:
        console.print(note)
    console.print(f"comparison.csv and comparison.png are in {arguments.output}")


if __name__ == "__main__":
    main()
