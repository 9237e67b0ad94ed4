"""Measure networks of published size on this machine, from compilation to a price: time and peak memory.

    python examples/at_size.py [PRESET ...] [--images 4] [--output at_size.json]
    python examples/at_size.py --scaling [WHAT ...] [--output at_size.json]

Without presets, spikformer-4-384-cifar10 and spikformer-8-512-imagenet. Weights are random, with the
statistics of random images, so that all layers fire. Every stage runs in a process of its own; seconds are
CPU seconds of that process, without its imports, and peak memory is that of the process. No figure but the
price is of a chip, and that is estimated, not measured.

`--scaling` varies one size of a small network at a time (width, tokens, layers, cores, images; or only WHAT),
and fits with which power of the size the time of each stage grows: by all sizes, and by the two largest,
where constant costs matter least. Each time is the least of some runs in one process.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Facts = dict[str, Any]
PROFILE = "loihi2"
PRICED = {PROFILE: "on_cores", "loihi1": "activity"}
"""Chips, and the run that is priced: the placed one, and the other as a what-if, packed onto cores in order.

No barrier across several chips of Loihi 2 is published: there the energy of events is all that is known.
"""
PRESETS = ("spikformer-4-384-cifar10", "spikformer-8-512-imagenet")
BASE = "spikformer-2-256-cifar10"
SMALL = {"dim": 64, "depth": 1}
"""Network that is varied."""
ENOUGH_S, LEAST_REPEATS, MOST_REPEATS = 0.3, 2, 3
"""A time is the least of some runs: until they took so long together, or so often.

Of two at least, as the first of a network may compile loops that no smaller one needed. Each reads its files
anew, so that nothing is kept from the run before.
"""


@dataclass(frozen=True)
class Case:
    """A network: a preset with changes, the images of its sample, and groups of tokens to place it in."""

    preset: str
    changes: Mapping[str, Any]
    images: int = 4
    groups: int = 4


def _small(images: int = 4, groups: int = 4, **changes: int) -> Case:
    return Case(BASE, {**SMALL, **changes}, images, groups)


SCALES: Mapping[str, Mapping[int, Case]] = {
    "width": {dim: _small(dim=dim) for dim in (96, 144, 192, 288, 384, 576)},
    "tokens": {(side // 4) ** 2: _small(image_size=side) for side in (32, 40, 48, 64, 80, 96)},
    "layers": {depth: _small(depth=depth) for depth in (1, 2, 4, 8, 16)},
    "cores": {
        groups: _small(groups=groups, dim=192, depth=2, image_size=64) for groups in (8, 16, 32, 64, 128)
    },
    "images": {count: _small(images=count) for count in (4, 8, 16, 32, 64)},
}
"""What is varied, and the network of each size; that of cores is the number which the placement needs."""


class Work:
    """Files that stages leave for later ones in a folder."""

    def __init__(self, folder: Path, images: int, groups: int) -> None:
        self.folder, self.count, self.groups = folder, images, groups

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


def random_model(preset: str, changes: Mapping[str, Any]) -> Any:
    """Return a model of random weights whose normalisations have the statistics of random images."""
    import torch
    from torch import nn

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
    return model.eval()


def make(work: Work, case: Case) -> None:
    """Fold a model of random weights."""
    import stas_neuro

    work.put("float", stas_neuro.fold(random_model(case.preset, case.changes)))


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
    """Place it by the visits, in a number of groups of tokens; what follows runs on these cores."""
    return _place(work, strategy="halting-aware", seen=work.get("activity"), groups=work.groups)


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


def run_placed(work: Work) -> Callable[[], str]:
    """Run the sample, every event counted by core."""
    import stas_neuro

    importlib.import_module("stas_neuro.fast")
    graph, mapping = work.get("integers"), work.get("mapping")
    pixels = work.pixels(graph)

    def run() -> str:
        trace = stas_neuro.run(graph, pixels, arithmetic="fixed", mapping=mapping)
        work.put("on_cores", trace.activity)
        return f"{len(trace.activity.layers)} rows, {trace.activity.total('axon_messages')} messages"

    return run


def price(work: Work) -> Callable[[], str]:
    """Price the run on its cores."""
    import stas_neuro

    runs = {chip: work.get(name) for chip, name in PRICED.items()}

    def run() -> str:
        words = []
        for chip, activity in runs.items():
            found = stas_neuro.estimate(activity, chip)
            energy, of = (
                (found.energy_j, "") if found.energy_j else (found.dynamic_energy_j, " of its events")
            )
            words.append(
                f"{chip}: {energy.low:.2g} to {energy.high:.2g} J{of}" if energy else f"{chip}: no price"
            )
        return ", ".join(words)

    return run


def _lava(work: Work, granularity: str, mapping: Any = None) -> Callable[[], str]:
    import stas_neuro

    for each in ("exporters.lava.run", "exporters.lava.chip", "fast"):
        importlib.import_module(f"stas_neuro.{each}")
    graph = work.get("integers")
    image = work.pixels(graph)[:1]
    wanted = stas_neuro.run(graph, image, arithmetic="fixed", mapping=mapping, backend="reference")

    def run() -> str:
        found = stas_neuro.run(
            graph, image, backend="lava", granularity=granularity, arithmetic="fixed", mapping=mapping
        )
        equal = np.array_equal(found.logits, wanted.logits) and found.activity == wanted.activity
        processes = "" if mapping is None else f", {mapping.chips} chips"
        return ("equal to the reference" if equal else "NOT equal to the reference") + processes

    return run


def lava_by_layer(work: Work) -> Callable[[], str]:
    """Run one image in a Lava process for each layer, and compare it with the reference."""
    return _lava(work, "layer")


def lava_by_chip(work: Work) -> Callable[[], str]:
    """Run one image in one Lava process, as if on one chip, and compare it with the reference."""
    return _lava(work, "chip")


def lava_on_chips(work: Work) -> Callable[[], str]:
    """Run one image in a Lava process for each chip, counted by core, and compare it with the reference."""
    return _lava(work, "chip", work.get("mapping"))


STAGES: Mapping[str, Callable[[Work], Callable[[], str]]] = {
    "statistics of the sample": statistics,
    "quantise": quantise,
    "integer reference": reference,
    "place, token-major": _place,
    "place, halting-aware": place_by_halting,
    "place, halting-aware in groups": place_in_groups,
    "routes and utilisation": utilise,
    "run on cores": run_placed,
    "price": price,
    "one image in Lava, by layer": lava_by_layer,
    "one image in Lava, by chip": lava_by_chip,
    "one image in Lava, on its chips": lava_on_chips,
}


def run_stage(name: str, folder: Path, case: Case) -> Facts:
    """Run a stage in this process; its imports and the reading of files are not timed."""
    work = Work(folder, case.images, case.groups)
    if name == "make":
        make(work, case)
        return {}
    seconds, told = _timed(STAGES[name](work))
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"told": told, "cpu_s": seconds, "peak_memory_bytes": peak}


def _timed(run: Callable[[], str]) -> tuple[float, str]:
    start = time.process_time()
    told = run()
    return time.process_time() - start, told


def measure(case: Case) -> dict[str, Facts]:
    """Run all stages of a network, each in a new process; one that fails ends it."""
    results: dict[str, Facts] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("make", *STAGES):
            results[name] = _in_a_process("stage", name, folder, asdict(case))
            print(case.preset, name, results[name], file=sys.stderr, flush=True)
    return {name: results[name] for name in STAGES}


def _in_a_process(*task: Any) -> Facts:
    """Have a part of the work done by this program in a new process."""
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task}: exit {done.returncode}, see above")
    facts: Facts = json.loads(done.stdout.splitlines()[-1])
    return facts


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the power of the size with which the time grows, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def scale(what: str) -> dict[str, Facts]:
    """Vary a size in this process, and fit each stage that depends on it."""
    cases = SCALES[what]
    names = list(STAGES)
    timed = names[names.index("place, halting-aware in groups") :] if what == "cores" else names
    runs = [_times(case) for case in (next(iter(cases.values())), *cases.values())][1:]  # the first warms up
    sizes = [run["cores"] for run in runs] if what == "cores" else list(cases)
    found = {}
    for stage in timed:
        seconds = [run[stage] for run in runs]
        fits = exponent(sizes, seconds), exponent(sizes[-2:], seconds[-2:])
        found[stage] = {"sizes": sizes, "cpu_s": seconds, "exponent": fits[0], "exponent_at_end": fits[1]}
    return found


def _times(case: Case) -> dict[str, float]:
    """Return the CPU seconds of each stage, and the number of cores."""
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder), case.images, case.groups)
        make(work, case)
        times = {}
        for name, stage in STAGES.items():
            taken: list[float] = []
            while len(taken) < LEAST_REPEATS or (len(taken) < MOST_REPEATS and sum(taken) < ENOUGH_S):
                taken.append(_timed(stage(work))[0])
            times[name] = min(taken)
        times["cores"] = len(work.get("mapping").cores)
    print(case, times, file=sys.stderr, flush=True)
    return times


def show(result: Facts) -> None:
    """Print the tables."""
    for preset, stages in result["presets"].items():
        print(f"\n{preset}")
        for name, facts in stages.items():
            peak = facts["peak_memory_bytes"] / 1e6
            print(f"  {name:34} {facts['cpu_s']:8.1f} CPU s {peak:7.0f} MB  {facts['told']}")
    for what, stages in result["scaling"].items():
        print(f"\nexponent of {what}, by all sizes and by the two largest; CPU seconds")
        for name, facts in stages.items():
            times = "  ".join(
                f"{size}: {s:.3g}" for size, s in zip(facts["sizes"], facts["cpu_s"], strict=True)
            )
            print(f"  {name:34} {facts['exponent']:5.2f} {facts['exponent_at_end']:5.2f}   {times}")


def _presets() -> Sequence[str]:
    from stas_neuro.models.config import PRESETS as KNOWN

    return list(KNOWN)


def main() -> None:
    """Measure and print, or run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="PRESET", help="or, with --scaling, what is varied")
    parser.add_argument("--images", type=int, default=4, help="images of the sample (default 4)")
    parser.add_argument("--scaling", action="store_true", help="fit exponents of sizes instead")
    parser.add_argument("--output", type=Path, help="also write JSON to this file")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task is not None:
        kind, name, *rest = json.loads(given.task)
        facts = run_stage(name, Path(rest[0]), Case(**rest[1])) if kind == "stage" else scale(name)
        print(json.dumps(facts))
        return
    if unknown := {*given.names} - {*SCALES} if given.scaling else {*given.names} - {*_presets()}:
        known = SCALES if given.scaling else _presets()
        parser.error(f"unknown: {', '.join(sorted(unknown))}; use {', '.join(known)}")
    # One thread, so that seconds of CPU are comparable; numpy reads this in the child processes.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # norse's use of torch.jit
    result: Facts = {"presets": {}, "scaling": {}}
    if given.scaling:
        result["scaling"] = {what: _in_a_process("scale", what) for what in given.names or SCALES}
    else:
        result["presets"] = {name: measure(Case(name, {}, given.images)) for name in given.names or PRESETS}
    show(result)
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
