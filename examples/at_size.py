"""Measure compilation and placement of published sizes on this machine: time, peak memory, and how both grow.

    python examples/at_size.py [PRESET ...] [--images 4] [--scaling] [--output at_size.json]

Without presets, spikformer-4-384-cifar10 and spikformer-8-512-imagenet. Weights are random, with the
statistics of random images, so that all layers fire. Every stage runs in a process of its own; seconds are
CPU seconds of that process, without its imports, and peak memory is that of the process. `--scaling` varies
width and number of tokens of a small network, and fits the exponent of each stage. No figure is of a chip.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

Facts = dict[str, Any]
PROFILE = "loihi2"
PRESETS = ("spikformer-4-384-cifar10", "spikformer-8-512-imagenet")
WIDTHS = {f"width {dim}": {"dim": dim} for dim in (192, 384, 768)}
TOKENS = {f"tokens {(side // 4) ** 2}": {"image_size": side} for side in (32, 48, 64)}
BASE = "spikformer-2-256-cifar10"
"""Network that is varied, with one block."""


class Work:
    """Files that stages leave for later ones in a folder."""

    def __init__(self, folder: Path, images: int) -> None:
        self.folder, self.count = folder, images

    def put(self, name: str, what: Any) -> None:
        """Keep a result."""
        with (self.folder / name).open("wb") as stream:
            pickle.dump(what, stream)

    def get(self, name: str) -> Any:
        """Return a result of an earlier stage; the files are this program's own."""
        with (self.folder / name).open("rb") as stream:
            return pickle.load(stream)

    def pixels(self, graph: Any) -> Any:
        """Return random images that a graph takes, uint8."""
        shape = (self.count, *graph.image_shape)
        return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def make(work: Work, preset: str, changes: Mapping[str, Any]) -> None:
    """Fold a model of random weights whose normalisations have the statistics of random images."""
    import torch
    from torch import nn

    import stas_neuro
    from stas_neuro.models.config import preset as configuration
    from stas_neuro.models.lif import TokenBatchNorm
    from stas_neuro.models.stas import StasModel

    torch.manual_seed(0)
    config = replace(configuration(preset), **changes)
    model = StasModel(config)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d | TokenBatchNorm):
                norm.momentum = 1.0
                norm.weight.uniform_(1.5, 3.5)
                norm.bias.normal_(0.5, 0.3)
        model.config = model.stem.config = replace(config, accumulate="off")
        side = config.image_size
        model.train()(torch.randn(4, config.in_channels, side, side))
        model.config = model.stem.config = config
    work.put("float", stas_neuro.fold(model.eval()))


def statistics(work: Work) -> Callable[[], str]:
    """Gather what layers see on the sample."""
    from stas_neuro.compiler.integers import look_at

    graph = work.get("float")
    pixels = work.pixels(graph)

    def run() -> str:
        work.put("seen", look_at(graph, pixels))
        return f"{work.count} images"

    return run


def quantise(work: Work) -> Callable[[], str]:
    """Choose the integers."""
    from stas_neuro.compiler.integers import quantiser
    from stas_neuro.passes import run_passes

    graph, seen = work.get("float"), work.get("seen")

    def run() -> str:
        work.put("integers", run_passes(graph, [quantiser(seen, bits=8)]))
        return "8 bits"

    return run


def reference(work: Work) -> Callable[[], str]:
    """Run the integer program, for the visits of its tokens."""
    import stas_neuro

    graph = work.get("integers")
    pixels = work.pixels(graph)

    def run() -> str:
        trace = stas_neuro.run(graph, pixels, backend="reference", arithmetic="fixed", mapping=None)
        work.put("activity", trace.activity)
        return f"token ratio {trace.activity.token_ratio:.2f}"

    return run


def _place(work: Work, **options: Any) -> Callable[[], str]:
    import stas_neuro

    graph, chip = work.get("integers"), stas_neuro.load_profile(PROFILE)

    def run() -> str:
        mapping = stas_neuro.place(graph, chip, **options)
        work.put("mapping", mapping)
        return f"{len(mapping.cores)} cores, {mapping.chips} chips, groups {mapping.groups}"

    return run


def place_by_halting(work: Work) -> Callable[[], str]:
    """Place it by the visits, in the default number of groups."""
    return _place(work, strategy="halting-aware", seen=work.get("activity"))


def place_in_groups(work: Work) -> Callable[[], str]:
    """Place it by the visits, in 4 groups of tokens."""
    return _place(work, strategy="halting-aware", seen=work.get("activity"), groups=4)


def utilise(work: Work) -> Callable[[], str]:
    """Find the routes of messages and the use of each core."""
    import stas_neuro
    from stas_neuro.placement import utilisation

    graph, mapping, chip = work.get("integers"), work.get("mapping"), stas_neuro.load_profile(PROFILE)

    def run() -> str:
        use = utilisation(graph, mapping, chip)
        axons = int(use.used["input axons"].max())
        return (
            f"up to {axons} input axons a core, limit {use.limits.get('input axons', 'not checked')}; "
            f"at least {use.cores_unshared} cores if weights were not shared"
        )

    return run


def lava(work: Work) -> Callable[[], str]:
    """Run one image in Lava, and compare it with the reference."""
    import stas_neuro

    importlib.import_module("stas_neuro.exporters.lava.run")
    graph = work.get("integers")
    image = work.pixels(graph)[:1]
    wanted = stas_neuro.run(graph, image, arithmetic="fixed", mapping=None)

    def run() -> str:
        found = stas_neuro.run(
            graph, image, backend="lava", granularity="layer", arithmetic="fixed", mapping=None
        )
        equal = np.array_equal(found.logits, wanted.logits) and found.activity == wanted.activity
        return "equal to the reference" if equal else "NOT equal to the reference"

    return run


STAGES: Mapping[str, Callable[[Work], Callable[[], str]]] = {
    "statistics of the sample": statistics,
    "quantise": quantise,
    "integer reference": reference,
    "place, halting-aware in 4 groups": place_in_groups,
    "place, halting-aware": place_by_halting,
    "place, token-major": _place,
    "routes and utilisation": utilise,
    "one image in Lava": lava,
}


def run_stage(name: str, work: Work, preset: str, changes: Mapping[str, Any]) -> Facts:
    """Run a stage in this process; its imports and the reading of files are not timed."""
    if name == "make":
        make(work, preset, changes)
        return {}
    run = STAGES[name](work)
    start = time.process_time()
    told = run()
    seconds = time.process_time() - start
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"told": told, "cpu_s": seconds, "peak_memory_bytes": peak}


def measure(preset: str, changes: Mapping[str, Any], images: int) -> dict[str, Facts]:
    """Run all stages of a network, each in a new process; one that fails ends it."""
    results: dict[str, Facts] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("make", *STAGES):
            task = json.dumps([name, folder, images, preset, dict(changes)])
            done = subprocess.run(
                [sys.executable, __file__, "--stage", task], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(
                    f"{preset} {dict(changes)}, {name}: {done.stderr.strip().splitlines()[-1]}"
                )
            if name != "make":
                results[name] = json.loads(done.stdout.splitlines()[-1])
                print(preset, dict(changes) or "", name, results[name], file=sys.stderr, flush=True)
    return results


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return the power of the size with which the time grows, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def scaling(images: int) -> dict[str, dict[str, Any]]:
    """Vary one size at a time, and fit each stage."""
    found = {}
    for what, varied in (("width", WIDTHS), ("tokens", TOKENS)):
        sizes = [int(name.split()[1]) for name in varied]
        runs = [measure(BASE, {"depth": 1, **changes}, images) for changes in varied.values()]
        found[what] = {
            stage: {
                "sizes": sizes,
                "cpu_s": [run[stage]["cpu_s"] for run in runs],
                "exponent": exponent(sizes, [run[stage]["cpu_s"] for run in runs]),
            }
            for stage in STAGES
        }
    return found


def show(result: Facts) -> None:
    """Print the tables."""
    for preset, stages in result["presets"].items():
        print(f"\n{preset}")
        for name, facts in stages.items():
            peak = facts["peak_memory_bytes"] / 1e6
            print(f"  {name:34} {facts['cpu_s']:8.1f} CPU s {peak:7.0f} MB  {facts['told']}")
    for what, stages in result["scaling"].items():
        print(f"\nCPU seconds, and the exponent of {what} (one block)")
        for name, facts in stages.items():
            times = "  ".join(
                f"{size}: {s:.2f}" for size, s in zip(facts["sizes"], facts["cpu_s"], strict=True)
            )
            print(f"  {name:34} {facts['exponent']:5.2f}   {times}")


def main() -> None:
    """Measure and print, or run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("presets", nargs="*", metavar="PRESET")
    parser.add_argument("--images", type=int, default=4, help="images of the sample (default 4)")
    parser.add_argument("--scaling", action="store_true", help="fit exponents of width and tokens instead")
    parser.add_argument("--output", type=Path, help="also write JSON to this file")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage is not None:
        name, folder, images, preset, changes = json.loads(given.stage)
        print(json.dumps(run_stage(name, Work(Path(folder), images), preset, changes)))
        return
    # One thread, so that seconds of CPU are comparable; numpy reads this in the child processes.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # norse's use of torch.jit
    presets = given.presets or ([] if given.scaling else PRESETS)
    result = {
        "presets": {preset: measure(preset, {}, given.images) for preset in presets},
        "scaling": scaling(given.images) if given.scaling else {},
    }
    show(result)
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
