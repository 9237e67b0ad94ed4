"""A table of networks and what becomes of each: imported, run in floats and integers, placed and priced.

    python examples/models_table.py FILE.py[:NAME,...] [--profile NAME] [--price-on NAME] [--images N]
        [--limit-s S] [--figures]

FILE.py has a dictionary `MODELS`: names, each with how the network is made and its images, as `zoo.py` has.
Its code is executed. With `--figures` each stage runs in a process of its own, and the table has its time and
its peak memory. A stage that fails gives the reason below the table; those that need it are not run. Images
are random: the table says what is exact and what fits, not how well a network classifies.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
CALIBRATION = 4
"""Random images to choose scales with."""


@dataclass(frozen=True)
class Task:
    """A network of the table, and where its stages leave files."""

    file: str
    name: str
    work: Path
    profile: str
    priced_on: str
    images: int

    def pixels(self, count: int | None = None) -> Any:
        """Return the first images, those to run or `count`: 0..1, (B, C, H, W) or (B, T, C, H, W)."""
        import numpy as np

        return np.load(self.work / "images.npy")[: self.images if count is None else count]


def _models(file: str) -> Mapping[str, Any]:
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = code
    sys.path.insert(0, str(Path(file).resolve().parent))
    spec.loader.exec_module(code)
    models: Mapping[str, Any] = code.MODELS
    return models


# Stages, each in its own process ----------------------------------------------------------------------------


def _import(task: Task) -> Facts:
    import numpy as np

    import stas_neuro
    from stas_neuro.compiler.opened import open_source
    from stas_neuro.importers import ImportOptions
    from stas_neuro.ir import Graph

    model = _models(task.file)[task.name]
    images = model.images(max(CALIBRATION, task.images))
    # Saved for the other stages, which need no torch.
    np.save(task.work / "images.npy", images.movedim(model.axes.index("B"), 0).numpy())
    options = ImportOptions(example=images.narrow(model.axes.index("B"), 0, task.images), axes=model.axes)
    opened = open_source(model.make(), options)
    assert isinstance(opened.network, Graph)
    made = stas_neuro.compile(opened.network)
    stas_neuro.save_bundle(made.graph, task.work / "float.stas", made.provenance)
    parameters = sum(tensor.size for tensor in made.graph.tensors.values())
    return {"told": f"{parameters} parameters", "notes": [*opened.notes, *opened.warnings]}


def _float_on_lava(task: Task) -> Facts:
    import numpy as np

    import stas_neuro

    graph = stas_neuro.load_bundle(task.work / "float.stas").graph
    images = task.pixels()
    ours, lava = (
        stas_neuro.run(graph, images, backend=backend, record_spikes=True)
        for backend in ("reference", "lava")
    )
    assert ours.spikes is not None and lava.spikes is not None
    unequal = sum(int((ours.spikes[name] != lava.spikes[name]).sum()) for name in ours.spikes)
    worst = float(np.abs(ours.logits - lava.logits).max())
    return _agreement(unequal, sum(each.size for each in ours.spikes.values()), worst, 1e-9)


def _agreement(unequal: int, spikes: int, worst: float, tolerance: float) -> Facts:
    if unequal or worst > tolerance:
        raise ValueError(f"{unequal} of {spikes} values of neurons are unequal, logits by {worst:g}")
    return {"told": f"{spikes} values of neurons"}


def _quantise(task: Task) -> Facts:
    import stas_neuro
    from stas_neuro.data import LabelledImages

    graph = stas_neuro.load_bundle(task.work / "float.stas").graph
    images = LabelledImages(task.pixels(CALIBRATION), None)
    made = stas_neuro.compile(graph, bits=8, calibrate=images, profile=task.profile)
    stas_neuro.save_bundle(made.graph, task.work / "integers.stas", made.provenance, quantised=made.quantised)
    return {"told": "8 bits"}


def _integers(task: Task) -> Facts:
    import stas_neuro

    trace, digests = _integer_run(task, "reference")
    stas_neuro.write_activity(trace.activity, task.work / "activity.json")
    (task.work / "digests.json").write_text(json.dumps(digests))
    spikes = sum(int(each.sum()) for each in trace.spikes.values())
    return {"told": f"{spikes / task.images:.0f} spikes an image"}


def _integers_on_lava(task: Task) -> Facts:
    _, digests = _integer_run(task, "lava", granularity="layer")
    _check(task, digests)
    return {"told": f"{len(digests) - 1} layers"}


def _integers_by_chip(task: Task) -> Facts:
    from stas_neuro.mapping import parse_mapping

    mapping = parse_mapping((task.work / "mapping.json").read_bytes(), "mapping.json")
    _, digests = _integer_run(task, "lava", granularity="chip", mapping=mapping)
    _check(task, digests)
    return {"told": _chips(mapping)}


def _check(task: Task, digests: dict[str, str]) -> None:
    """Raise ValueError where a run differs from the integer reference."""
    wanted = json.loads((task.work / "digests.json").read_text())
    if digests != wanted:
        unequal = [name for name in wanted if digests.get(name) != wanted[name]]
        raise ValueError(f"unequal to the integer reference: {', '.join(unequal)}")


def _chips(mapping: Any) -> str:
    return f"{mapping.chips} chip{'s' * (mapping.chips > 1)}"


def _integer_run(task: Task, backend: str, **options: Any) -> tuple[Any, dict[str, str]]:
    """Run the integer program; return the trace, and digests of the logits and of the spikes of layers."""
    import numpy as np

    import stas_neuro

    bundle, images = stas_neuro.load_bundle(task.work / "integers.stas"), task.pixels()
    options |= {"backend": backend, "arithmetic": "fixed"}
    trace = stas_neuro.run(bundle, images, record_spikes=True, **options)
    assert trace.spikes is not None
    arrays = {**{name: np.packbits(each) for name, each in trace.spikes.items()}, "logits": trace.logits}
    digests = {
        name: hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest()
        for name, each in arrays.items()
    }
    return trace, digests


def _place(task: Task) -> Facts:
    import stas_neuro

    graph = stas_neuro.load_bundle(task.work / "integers.stas").quantised
    assert graph is not None
    mapping = stas_neuro.place(graph, stas_neuro.load_profile(task.profile))
    (task.work / "mapping.json").write_text(mapping.to_json())
    return {"told": f"{len(mapping.cores)} cores on {_chips(mapping)}"}


def _price(task: Task) -> Facts:
    import stas_neuro
    from stas_neuro.report import cannot_take

    price = stas_neuro.estimate(stas_neuro.read_activity(task.work / "activity.json"), task.priced_on)
    energy = price.energy_j
    if energy is None:
        raise ValueError(f"{task.priced_on} has no price for it")
    notes = [cannot_take(task.priced_on, "it", price.what_if)] if price.what_if else []
    return {"told": f"{energy.low:.2g} to {energy.high:.2g} J", "notes": notes}


STAGES: Mapping[str, tuple[Callable[[Task], Facts], str | None]] = {
    "imported": (_import, None),
    "Lava = reference, float64": (_float_on_lava, "imported"),
    "integer program": (_quantise, "imported"),
    "integer reference": (_integers, "integer program"),
    "Lava = reference, integers": (_integers_on_lava, "integer reference"),
    "placed": (_place, "integer program"),
    "Lava by chip = reference": (_integers_by_chip, "placed"),
    "priced": (_price, "integer reference"),
}
"""What a stage does, and the stage whose result it needs."""


def _run_stage(stage: str, task: Task) -> Facts:
    """Run a stage in this process."""
    start = time.perf_counter()
    try:
        result = {"done": True, **STAGES[stage][0](task)}
    except Exception as error:
        result = {"done": False, "told": " ".join(str(error).split()) or type(error).__name__}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**result, "seconds": time.perf_counter() - start, "peak_mb": peak}


# The table --------------------------------------------------------------------------------------------------


def _results(task: Task, run: Callable[[str, Task], Facts]) -> dict[str, Facts]:
    """Run all stages of a network."""
    results: dict[str, Facts] = {}
    for stage, (_, needed) in STAGES.items():
        if needed is None or results.get(needed, {}).get("done"):
            results[stage] = run(stage, task)
            print(task.name, stage, results[stage], file=sys.stderr, flush=True)
    return results


def _in_a_process(limit_s: float) -> Callable[[str, Task], Facts]:
    """Return what runs a stage in a process of its own."""

    def run(stage: str, task: Task) -> Facts:
        command = [sys.executable, __file__, task.file, "--stage", stage, "--name", task.name]
        command += ["--work", str(task.work), "--profile", task.profile, "--price-on", task.priced_on]
        command += ["--images", str(task.images)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            return {"done": False, "told": f"not finished in {limit_s:g} s"}
        lines = done.stdout.splitlines()
        if done.returncode or not lines:
            last = (done.stderr.splitlines() or ["no message"])[-1]
            return {"done": False, "told": f"exit {done.returncode}: {last}"}
        facts: Facts = json.loads(lines[-1])
        return facts

    return run


def _cell(facts: Facts | None, figures: bool) -> str:
    if facts is None:
        return ""
    words = ["yes" if facts["done"] else "**no**"]
    if facts["done"] and facts.get("told"):
        words.append(facts["told"])
    if figures and "peak_mb" in facts:
        words.append(f"{facts['seconds']:.1f} s, {facts['peak_mb']:.0f} MiB")
    return ", ".join(words)


def _show(table: Mapping[str, Mapping[str, Facts]], figures: bool) -> None:
    print("| model | " + " | ".join(STAGES) + " |")
    print("|---" * (len(STAGES) + 1) + "|")
    for name, results in table.items():
        print(f"| {name} | " + " | ".join(_cell(results.get(stage), figures) for stage in STAGES) + " |")
    print()
    for name, results in table.items():
        for stage, facts in results.items():
            for text in facts.get("notes", []) if facts["done"] else [f"not {stage}: {facts['told']}"]:
                print(f"- {name}: {text}")


def main() -> None:
    """Print the table, or run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", metavar="FILE.py[:NAME,...]")
    parser.add_argument("--profile", default="loihi2")
    parser.add_argument("--price-on", metavar="PROFILE", help="price it on this chip instead of --profile")
    parser.add_argument("--images", type=int, default=1, help="images that are run and compared")
    parser.add_argument("--limit-s", type=float, default=1800, help="longest time of a stage, with --figures")
    parser.add_argument("--figures", action="store_true", help="add the time and peak memory of each stage")
    for hidden in ("--stage", "--name", "--work"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    priced_on = given.price_on or given.profile
    if given.stage is not None:
        task = Task(given.source, given.name, Path(given.work), given.profile, priced_on, given.images)
        print(json.dumps(_run_stage(given.stage, task)))
        return
    file, colon, names = given.source.partition(".py:")
    file = f"{file}.py" if colon else file
    run = _in_a_process(given.limit_s) if given.figures else _run_stage
    table = {}
    for name in names.split(",") if colon else _models(file):
        with tempfile.TemporaryDirectory() as work:
            task = Task(file, name, Path(work), given.profile, priced_on, given.images)
            table[name] = _results(task, run)
    _show(table, given.figures)


if __name__ == "__main__":
    main()
