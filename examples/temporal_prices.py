"""Price the halting network that `temporal.py` accepted, and the same network without halting, on chips.

    python examples/temporal_prices.py order -o runs/temporal --images 64

Both networks are of one seed (by default the first) and see the same test images. On chips whose cores are
known they are placed on these, with the strongest gating of the chip. Where the image halts, its run is a
pipeline that ends with the exit, if the chip can do that. Prints the saving of energy, and refuses to where
halting was not accepted: then fewer time steps would do as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from temporal import STAGE1, TASKS, data, graphs_of, held_out, place_of
from temporal_report import STATIC

from stas_neuro.chip_runs import ChipRuns, compare_on_chips
from stas_neuro.chips import load_profile
from stas_neuro.errors import CheckFailed
from stas_neuro.ir import POLICIES
from stas_neuro.passes import PipelineExit
from stas_neuro.report import comparison_report

CHIPS = ("cmos45", "loihi1", "loihi2", "loihi2-gated-whatif")


def main() -> None:
    """Price and report."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory that temporal.py wrote")
    parser.add_argument("--images", type=int, default=64, help="test images to price (64)")
    parser.add_argument("--chips", nargs="+", default=list(CHIPS), help=f"default: {', '.join(CHIPS)}")
    parser.add_argument("--seed", type=int, help="default: the first that was trained")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    arguments = parser.parse_args()
    task, directory = arguments.task, arguments.output
    report = json.loads((directory / f"{task}.json").read_bytes())
    name, seed = report["verdict"]["network"], arguments.seed
    if seed is None:
        seed = report["seeds"][0]
    if seed not in report["seeds"]:
        parser.error(f"seed {seed} was not trained; give one of {report['seeds']}")
    if not report["verdict"]["accepted"]:
        what = f"{task}: T = 1 or fewer frames are not significantly worse than {name}"
        raise CheckFailed(what, "quote no saving, or train more seeds")
    graphs = graphs_of(task, seed, directory)
    images = data(task, "test").select(slice(0, arguments.images))
    learnt = held_out(task, seed, place_of(directory, task, seed, STAGE1)).select(slice(0, arguments.images))
    runner = ChipRuns(images, learnt)
    profiles = [load_profile(chip) for chip in arguments.chips]
    halting = graphs[name][0]
    if POLICIES[halting.halting].by_image:
        halting = PipelineExit()(halting)
    result = compare_on_chips(runner, (name, halting), {STATIC: graphs[STATIC][0]}, profiles)
    if arguments.json:
        print(json.dumps(result.to_json(), indent=1))
        return
    console = Console(width=200, markup=False, highlight=False)
    console.print(comparison_report(result))
    for note in runner.notes:
        console.print(note)


if __name__ == "__main__":
    main()
