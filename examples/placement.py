"""Compare placements by core steps, if cores can be gated: the shipped model on its test images.

    python examples/placement.py [--model DIR] [--profile NAME] [--groups G ...] [--limit N]

The model runs once on training images, from which halting-aware placement learns, and once on test images,
whose visits give core steps exactly: a core is updated in a hardware step if a piece of the current stage on
it has a visited token. Hops are those of one message of every neuron to every receiving core, with the
assigned positions of cores, and in row-major order. Last, the algorithms that group tokens are compared.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import stas_neuro
from stas_neuro.activity import Activity, Visits
from stas_neuro.chips import Profile
from stas_neuro.ir import Graph
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.routes import routes
from stas_neuro.placement import OBJECTIVES, STRATEGIES, core_steps
from stas_neuro.placement.groups import (
    CoHalting,
    candidates,
    contiguous_groups,
    greedy_groups,
    scan_groups,
)
from stas_neuro.placement.limits import limits_of
from stas_neuro.placement.tiles import row_major_sites

MODEL = Path(__file__).parent / "models" / "fashion-spikformer"
TRAINING_IMAGES = 2000
CAPACITY = 32
"""Largest group in the comparison of algorithms: 8192 neurons of 256 features."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--profile", default="loihi2")
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 7, 10])
    parser.add_argument("--limit", type=int, help="number of test images (default: all)")
    arguments = parser.parse_args()
    graph = stas_neuro.fold(arguments.model)
    profile = stas_neuro.load_profile(arguments.profile)
    training = stas_neuro.load_data("fashion-mnist", split="train")
    learned = stas_neuro.run(graph, training, dtype=np.float32, limit=TRAINING_IMAGES, per_image=True)
    tested = stas_neuro.run(
        graph, stas_neuro.load_data("fashion-mnist"), dtype=np.float32, limit=arguments.limit, per_image=True
    )
    print(
        f"{arguments.model.name} on {profile.name}; learned from {TRAINING_IMAGES} training images, "
        f"counted on {tested.images} test images; token ratio {tested.token_ratio:.3f}"
    )
    print(
        "per image, with the reduction relative to token-major: core steps in blocks, core steps in total, "
        "neurons updated in blocks"
    )
    for groups in arguments.groups:
        compare(graph, profile, groups, learned.activity, tested.visits)
    print(f"\nvisits per image in which a group of up to {CAPACITY} tokens is active, by grouping algorithm")
    for groups in arguments.groups:
        compare_algorithms(groups, learned.visits, tested.visits)


def compare_algorithms(groups: int, learned: Visits, tested: Visits) -> None:
    """Print the result of each algorithm if a group of any size needs one core."""
    images, tokens = len(tested), tested.shape[-1]
    equal = [1] * CAPACITY
    seen, unseen = (CoHalting(v.reshape(-1, tokens), equal, equal) for v in (learned, tested))
    found = {
        "scan order": scan_groups(tokens, groups),
        "greedy": greedy_groups(seen, groups),
        "dynamic programming": contiguous_groups(seen, groups, groups),
        "local search": candidates(seen, groups)[0],
    }
    first = unseen.total(found["scan order"])
    visits = {name: unseen.total(cut) for name, cut in found.items()}
    results = (f"{name} {count / images:.2f} ({first / count:.3f}x)" for name, count in visits.items())
    print(f"{groups} groups: {', '.join(results)}")


def compare(graph: Graph, profile: Profile, groups: int, seen: Activity, visits: Visits) -> None:
    """Print a line for each placement, with the same number of groups."""
    rows = [(name, OBJECTIVES[0]) for name in STRATEGIES] + [("halting-aware", OBJECTIVES[1])]
    placed = {
        row: stas_neuro.place(graph, profile, strategy=row[0], minimise=row[1], groups=groups, seen=seen)
        for row in rows
    }
    figures = {row: stepped(graph, mapping, visits) for row, mapping in placed.items()}
    base = figures["token-major", OBJECTIVES[0]]
    print(f"\n{groups} groups: {'placement':32}{'cores':>6}{'in blocks':>10}{'core steps':>16}{'total':>16}"
          f"{'neurons':>17}{'hops':>10}{'row-major':>11}")  # fmt: skip
    for row, mapping in placed.items():
        name = row[0] if row[0] != "halting-aware" else f"{row[0]} ({row[1]})"
        cores, *numbers = figures[row]
        cells = "".join(
            f"{number:>9.{digits}f} {reference / number:>5.3f}x"
            for number, reference, digits in zip(numbers, base[1:], (2, 2, 0), strict=True)
        )
        before = replace(mapping, cores=row_major_sites([s.chip for s in mapping.cores], limits_of(profile)))
        print(f"{'':10}{name:32}{len(mapping.cores):>6}{cores:>10}{cells}"
              f"{hops(graph, mapping):>11}{hops(graph, before):>11}")  # fmt: skip


def stepped(graph: Graph, mapping: Mapping, visits: Visits) -> tuple[int, float, float, float]:
    """Return cores of blocks, and per image core steps in blocks and total, and neurons updated in blocks."""
    blocks = sorted({p.core for p in mapping.pieces if graph.node(p.layer).scope.startswith("block")})
    count = core_steps(graph, mapping, visits)
    return (
        len(blocks),
        float(count.stepped[:, blocks].sum(axis=1).mean()),
        float(count.stepped.sum(axis=1).mean()),
        float(count.neurons[:, blocks].sum(axis=1).mean()),
    )


def hops(graph: Graph, mapping: Mapping) -> int:
    """Count the hops of one message of every neuron to every receiving core."""
    return sum(int((route.hops_x + route.hops_y).sum()) for route in routes(graph, mapping).routes)


if __name__ == "__main__":
    main()
