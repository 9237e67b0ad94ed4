"""Compare the shipped models with and without halting on every chip of the catalogue.

    python examples/compare_profiles.py -o comparison --images 128

The networks are placed on chips whose cores are known, and priced without a mapping on others, with the
strongest gating that the chip supports. A model is compared with its own first stage of training, which does
not halt, and with a model trained for one time step. Writes ``comparison.csv`` and ``comparison.png``.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

from rich.console import Console

from stas_neuro.chip_runs import ChipRuns, compare_on_chips
from stas_neuro.chips import list_profiles, load_profile
from stas_neuro.compiler import fold
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs
from stas_neuro.ir import Graph
from stas_neuro.report import comparison_csv, comparison_report, csv_output
from stas_neuro.report.charts import chart_output, savings_chart, write_chart

EXAMPLES = Path(__file__).parent
IMAGES = EXAMPLES / "data" / "fashion-mnist-512.npz"
MODELS = ("fashion-spikformer", "fashion-spikingformer")
ONE_STEP = "fashion-t1"


@cache
def network(name: str) -> Graph:
    """Compile a shipped model, ``fashion-spikformer`` or its first stage, ``fashion-spikformer/stage1``."""
    return fold(EXAMPLES / "models" / name)


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
    picture = chart_output(arguments.output / "comparison.png", force=True)
    check_outputs([table, picture])
    runner = ChipRuns(*split_images(arguments.images))
    profiles = [load_profile(name) for name in arguments.profiles]
    results = {}
    for name in MODELS:
        baselines = {"stage 1": network(f"{name}/stage1"), "one time step": network(ONE_STEP)}
        results[name] = compare_on_chips(runner, (name, network(name)), baselines, profiles)
    table.write(comparison_csv(results).encode())
    write_chart(picture.path, savings_chart(results), force=True)
    console = Console(width=240, markup=False, highlight=False)
    for name, result in results.items():
        console.print(f"\n{name}")
        console.print(comparison_report(result))
    for note in runner.notes:
        console.print(note)
    console.print(f"comparison.csv and comparison.png are in {arguments.output}")


if __name__ == "__main__":
    main()
