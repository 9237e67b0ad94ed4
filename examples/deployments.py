"""What a deployment changes: the price of the shipped model alone, in streams, and on more cores.

    python examples/deployments.py [--model DIR] [--profile NAME] [--limit N]

Prices the model with halting and its stage 1 without, on the images in examples/data. Cores are first-fit
packed in the first table; in the second, the network is placed on a number of cores, and run on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import stas_neuro
from stas_neuro import Deployment
from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.data import LabelledImages
from stas_neuro.energy import estimate, price
from stas_neuro.errors import InputError
from stas_neuro.report import si

HERE = Path(__file__).parent
WAYS: Mapping[str, Deployment] = {
    "alone": Deployment(),
    "stream": Deployment(mode="stream"),
    **{f"stream, {many} contexts": Deployment(mode="stream", contexts=many) for many in (2, 4, 6, 8)},
    "stream, replicas fill a chip": Deployment(mode="stream", replicas="fill"),
    "4 contexts, idle neurons skipped": Deployment(mode="stream", contexts=4, idle_update="skipped"),
    "idle neurons skipped": Deployment(idle_update="skipped"),
    "early end": Deployment(early_end=True),
    "stem apart": Deployment(stem="apart"),
    "stem folded": Deployment(stem="folded"),
    "neurons with a program": Deployment(microcode=True),
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "models" / "fashion-spikformer")
    parser.add_argument("--profile", default="loihi2")
    parser.add_argument("--limit", type=int, default=32, help="number of images (default: 32)")
    arguments = parser.parse_args()
    profile = stas_neuro.load_profile(arguments.profile)
    images = stas_neuro.load_data(str(HERE / "data" / "fashion-mnist-512.npz"))
    images = images.select(slice(0, arguments.limit))
    for model in (arguments.model / "stage1", arguments.model):
        print(f"\n{model.relative_to(model.parents[1])} on {profile.name}, mean of {len(images)} images")
        graph = stas_neuro.fold(model)
        run = stas_neuro.run(graph, images).activity
        for name, way in WAYS.items():
            print(f"  {name:34}{priced(run, profile, way)}")
        by_cores(model, profile, images)


def priced(run: Activity, profile: Profile, way: Deployment) -> str:
    """Return the totals as text, or why there are none."""
    try:
        cost = estimate(run, profile, way)
    except InputError as error:
        return f"refused: {str(error).split(';')[0]}"
    if cost.energy_j is None or cost.latency_s is None or cost.throughput_images_per_s is None:
        return f"{cost.cores} cores: {cost.unavailable['energy_j']}"
    return (
        f"{si(cost.energy_j.value, 'J'):>9}, latency {si(cost.latency_s.value, 's'):>8}, "
        f"{cost.throughput_images_per_s.value:>6.0f} images/s, {cost.cores} cores, {cost.replicas} copies"
    )


def by_cores(model: Path, profile: Profile, images: LabelledImages) -> None:
    """Print the price of runs on a growing number of cores, the last as chosen by energy."""
    graph = stas_neuro.fold(model)
    seen = stas_neuro.run(graph, images, limit=16).activity
    chosen = stas_neuro.place(graph, profile, seen=seen, minimise="energy")
    most = len(chosen.cores)
    for cores in sorted({most // share for share in (6, 4, 3, 2)} | {most}):
        try:
            mapping = chosen if cores == most else stas_neuro.place(graph, profile, seen=seen, cores=cores)
        except InputError as error:
            print(f"  {cores} cores: {error}")
            continue
        totals = price(stas_neuro.run(graph, images, mapping=mapping).activity, profile)
        assert totals.energy_j is not None and totals.latency_s is not None
        words = "chosen by energy" if cores == most else f"at most {cores}"
        print(
            f"  placed on {len(mapping.cores):>3} cores ({words}): {si(totals.energy_j.value, 'J')}, "
            f"latency {si(totals.latency_s.value, 's')}"
        )


if __name__ == "__main__":
    main()
