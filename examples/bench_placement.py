"""How much faster halting-aware placement is than its definition: every change of groups evaluated by itself.

    python examples/bench_placement.py [PRESET] [--images 2] [--groups 4]

Makes a network of published size with random weights (spikformer-8-512-imagenet if none is named), its
integer program and a run of a sample, as `at_size.py` does, and places it by the visits of that run twice:
with the search of the package, and with one that evaluates each swap and move of tokens from the beginning
(`tests/support/plain_groups.py`). Both must return the same mapping. Times are CPU seconds in one process, of
whole placements, from the packing to the tiles, and of what the two have apart: the choice of the groups.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import at_size

from stas_neuro import load_profile, place
from stas_neuro.mapping import Mapping
from stas_neuro.placement.groups import CoHalting, Groups, candidates

STAGES = ("make", "statistics of the sample", "quantise", "integer reference")
"""What is needed before a network is placed."""


def placed(work: at_size.Work, groups: int) -> tuple[float, float, Mapping]:
    """Place a network, and return the CPU seconds that it took, those of its groups, and the mapping."""
    graph, seen, profile = work.get("integers"), work.get("activity"), load_profile(at_size.PROFILE)
    searched = 0.0

    def timed(of: CoHalting, count: int) -> tuple[Groups, ...]:
        nonlocal searched
        begun = time.process_time()
        found = candidates(of, count)
        searched += time.process_time() - begun
        return found

    begun = time.process_time()
    with mock.patch("stas_neuro.placement.strategies.candidates", timed):
        mapping = place(graph, profile, strategy="halting-aware", seen=seen, groups=groups)
    return time.process_time() - begun, searched, mapping


def compare(preset: str, images: int, groups: int) -> str:
    """Return what the two searches took, and whether they found the same."""
    from support.plain_groups import plain_least_changes

    case = at_size.Case(preset, {}, images, groups)
    with tempfile.TemporaryDirectory() as folder:
        for name in STAGES:
            at_size.run_stage(name, Path(folder), case)
        work = at_size.Work(Path(folder), images, groups)
        ours, own_search, mapping = placed(work, groups)
        print(f"the package's search: {ours:.1f} CPU s", file=sys.stderr, flush=True)
        with mock.patch("stas_neuro.placement.groups.least_changes", plain_least_changes):
            plain, plain_search, other = placed(work, groups)
    same = "the same mapping" if mapping == other else "ANOTHER mapping"
    return (
        f"{preset}, {images} images, {groups} groups, {len(mapping.cores)} cores: {ours:.1f} CPU s, "
        f"each change by itself {plain:.1f} CPU s: {plain / ours:.1f} times as fast, {same}; "
        f"the groups alone {own_search:.2f} and {plain_search:.1f} CPU s: "
        f"{plain_search / own_search:.1f} times"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", nargs="?", default=at_size.PRESETS[-1], metavar="PRESET")
    parser.add_argument("--images", type=int, default=2, help="images of the sample (default 2)")
    parser.add_argument("--groups", type=int, default=4, help="groups of each block's tokens (default 4)")
    given = parser.parse_args()
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    print(compare(given.preset, given.images, given.groups))


if __name__ == "__main__":
    main()
