"""Measure the speed of each backend on this machine, and the start-up time of the program.

    python examples/bench.py [--images 64] [--threads 1] [--repeats 3] [--output bench.json]
    python examples/bench.py --quick
    python examples/bench_compare.py old.json new.json

Every backend runs in a separate process, after a warm-up, from uint8 images to logits. Rates are the medians
over the repeats of images per second of a whole call, including the set-up of a call. Peak memory is that of
the largest process. These are wall-clock times of a simulation on a CPU, unrelated to the speed of any chip.

Every figure is also given as a ratio to the same figure of a named baseline in the same run, so that commits
and machines can be compared: for backends the baseline is torch with masked tokens, for the start of
``stas-export --help``, and of the help of each command, it is Python with click.

Those of `ROUNDS` also run in turn in one process, round after round: their ratios are of rates of the same
round, so that other programs on the machine disturb both alike. Those of ``bench_lava.py`` are measured in
the same way in Lava's own runtime: a process for each chip against one for each layer; those of
``bench_rivals.py`` beside other programs, as far as they are installed (``make zoo oracle``).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bench_lava
import numpy as np
from bench_machine import commit, machine
from bench_rivals import Result, Settings, measure_rivals
from bench_rivals import show as show_rivals
from bench_table import Figure, Figures, in_turn, of_rounds, wide_console
from bench_table import table as figures_table
from numpy.typing import NDArray
from rich import box
from rich.table import Table

import stas_neuro
from stas_neuro.activity import write_activity
from stas_neuro.assets import HALTING_MODEL, IMAGES, asset
from stas_neuro.cli import COMMANDS

CHUNK = 32  # batch size, if a backend is batched
BACKENDS = {
    "torch, masking": "all tokens computed, halted ones masked",
    "torch, skipping": "active tokens only",
    "torch, counting": "skipping, and every event counted",
    "reference": "numpy, every event counted",
    "reference, integers": "the 8-bit integer program in numpy",
    "fast, integers": "the same in compiled loops",
    "fast, cores": "the same on cores of loihi2, every event counted by piece",
    "lava, chips": "the same in one Lava process for a chip, stepped in one interpreter",
    "lava, integers": "the same on Lava's process models, one a node, stepped in one interpreter",
    "lava, cores": "the same on cores of loihi2, every event counted by piece",
    "lava, gated cores": "the same, cores without an active token are not updated",
    "lava, in-process": "Lava's process models stepped in one interpreter, every event counted",
    "lava, multiprocess": "Lava's own runtime, a process for each node; includes starting them in each call",
}
BASELINE = "torch, masking"
ROUNDS = {
    "torch, masking": "torch, masking",
    "torch, skipping": "torch, masking",
    "reference, integers": "torch, masking",
    "fast, BLAS products": "torch, masking",
    "fast, 8-bit products": "torch, masking",
    "reference, cores": "torch, masking",
    "fast, cores": "reference, cores",
    "fast, compiled loops": "torch, masking",
    "fast, end to end": "fast, compiled loops",
}
"""What runs in turn in one process, and what it is compared with.

"End to end" is `stas_neuro.run`, with all that it does beside the loops and their counting.
"""
LOOPS = {"BLAS products": False, "8-bit products": True, "compiled loops": None}
"""Runs of the compiled loops alone, and whether their products are of 8-bit numbers; None chooses."""
STARTUP, BARE = "stas-export --help", "python -c 'import click'"
ESTIMATE = "stas-export estimate, 8 images on loihi2"
IN_TURN = "images_per_s_in_turn"
USUAL = {
    "images": 64, "repeats": 3, "rounds": 5, "round_images": 256, "rival_rounds": 3, "rival_images": 128,
    "lava_rounds": 3,
}  # fmt: skip
QUICK = {
    "images": 8, "repeats": 2, "rounds": 2, "round_images": 32, "rival_rounds": 2, "rival_images": 16,
    "lava_rounds": 1,
}  # fmt: skip
SLOW = ("lava, multiprocess",)  # left out of --quick
SETTINGS = ("threads", "dtype", *USUAL)
PACKAGES = ("stas-neuro", "numpy", "numba", "torch", "norse", "lava-nc")


@dataclass(frozen=True)
class Task:
    """The measurement of a child process."""

    backend: str
    model: str
    bundle: str
    images: int
    repeats: int
    threads: int
    dtype: str


def measure(task: Task) -> list[Figure]:
    """Measure one backend; call it in a new process, so that peak memory is that of this backend."""
    images = stas_neuro.load_data(str(asset(IMAGES))).images[: task.images]
    run = _call(task)
    run(images[: min(len(images), CHUNK)])  # warm-up: imports, compilation and caches
    one = [_seconds(run, images[:1]) for _ in range(task.repeats)]
    rates = [len(images) / _seconds(run, images) for _ in range(task.repeats)]
    own, others = (
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return [
        Figure.of(task.backend, "images_per_s", rates),
        Figure.of(task.backend, "one_image_s", one),
        Figure.of(task.backend, "peak_memory_bytes", [max(own, others) * unit]),
    ]


def measure_rounds(task: Task) -> Figures:
    """Measure the backends of `ROUNDS` in turn; returns figures with ratios of rates of the same round."""
    images = stas_neuro.load_data(str(asset(IMAGES))).images[: task.images]

    def counted(run: Callable[[NDArray[np.uint8]], Any]) -> Callable[[], int]:
        def call() -> int:
            run(images)
            return len(images)

        return call

    calls = {backend: counted(_call(replace(task, backend=backend))) for backend in ROUNDS}
    return of_rounds(in_turn(calls, task.repeats), ROUNDS, IN_TURN)


def _call(task: Task) -> Callable[[NDArray[np.uint8]], Any]:
    return _torch_call(task) if task.backend.startswith("torch") else _bundle_call(task)


def _seconds(run: Callable[[NDArray[np.uint8]], Any], images: NDArray[np.uint8]) -> float:
    begun = time.perf_counter()
    run(images)
    return time.perf_counter() - begun


def _torch_call(task: Task) -> Callable[[NDArray[np.uint8]], Any]:
    import torch

    from stas_neuro.data import normalise
    from stas_neuro.frontend.torch_trace import trace

    torch.set_num_threads(task.threads)
    model = stas_neuro.load_model(task.model).to(getattr(torch, task.dtype))
    mean, std = model.config.mean, model.config.std
    if task.backend.endswith("counting"):
        return lambda images: trace(
            model, normalise(images, mean, std), skip=True, record_spikes=False, chunk=CHUNK
        )

    def run(images: NDArray[np.uint8]) -> None:
        for start in range(0, len(images), CHUNK):
            x = torch.from_numpy(normalise(images[start : start + CHUNK], mean, std)).to(
                model.head.weight.dtype
            )
            with torch.inference_mode():
                model(x, skip=task.backend.endswith("skipping"))

    return run


def _bundle_call(task: Task) -> Callable[[NDArray[np.uint8]], Any]:
    bundle = stas_neuro.load_bundle(task.bundle)
    backend, _, runtime = task.backend.partition(", ")
    options: dict[str, Any] = {"backend": backend, "dtype": task.dtype, "mapping": None}
    if backend == "lava":
        options["granularity"] = "chip" if runtime == "chips" else "layer"
    if runtime in LOOPS:
        from stas_neuro.fast import run_fast

        program = bundle.of("fixed")
        return lambda images: run_fast(program, images, eight_bit=LOOPS[runtime])
    if runtime in ("chips", "integers", "end to end"):
        options["arithmetic"] = "fixed"
    elif runtime.endswith("cores"):
        gating = "core" if runtime.startswith("gated") else "silent"
        options |= {"arithmetic": "fixed", "mapping": bundle.mapping, "gating": gating}
    elif runtime:
        options["runtime"] = runtime
    return lambda images: stas_neuro.run(bundle, images, **options)


def startup(what: str, command: Sequence[str], repeats: int) -> Figure:
    """Measure the CPU seconds, user and system, of a command."""
    seconds = []
    for _ in range(repeats + 1):
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{what} ended with {process.returncode}")
        seconds.append(usage.ru_utime + usage.ru_stime)
    return Figure.of(what, "cpu_s", seconds[1:])  # the first one fills the file cache


def helps() -> list[str]:
    """Command lines of the help of the program and of each command."""
    return [STARTUP, *(f"stas-export {name} --help" for name in COMMANDS)]


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; returns plain data for JSON."""
    # numpy and torch read these when child processes import them.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # norse's use of torch.jit
    load = os.getloadavg()[0]  # before the measurements, so that it is the load of other programs
    backends = {name: what for name, what in BACKENDS.items() if not arguments.quick or name not in SLOW}
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory) / "model.stas"
        with _child() as child:
            child.submit(_compile, str(arguments.model), str(bundle)).result()
        for backend in backends:
            task = Task(
                backend=backend,
                model=str(arguments.model),
                bundle=str(bundle),
                images=arguments.images,
                repeats=arguments.repeats,
                threads=arguments.threads,
                dtype=arguments.dtype,
            )
            with _child() as child:
                figures += child.submit(measure, task).result()
        task = replace(task, images=arguments.round_images, repeats=arguments.rounds)
        with _child() as child:
            turns = child.submit(measure_rounds, task).result() if arguments.rounds else []
        rivals = Result([], {})
        if arguments.rival_rounds:
            settings = Settings(
                arguments.rival_rounds, arguments.rival_images, arguments.threads, small=arguments.quick
            )
            with _child() as child:
                rivals = child.submit(measure_rivals, settings).result()
        if arguments.lava_rounds:
            with _child() as child:
                turns += child.submit(_measure_streams, str(bundle), arguments.lava_rounds).result()
        record = Path(directory) / "activity.json"
        with _child() as child:
            child.submit(_record, str(bundle), str(record)).result()
        command = ["-m", "stas_neuro.cli", "estimate", str(record), "--profile", "loihi2"]
        figures.append(startup(ESTIMATE, command, arguments.repeats))
    for what in helps():
        command = ["-m", "stas_neuro.cli", *what.split()[1:]]
        figures.append(startup(what, command, arguments.repeats))
    figures.append(startup(BARE, ["-c", "import click"], arguments.repeats))
    baselines = {each.quantity: each for each in figures if each.what in (BASELINE, BARE)}
    return {
        "format": "stas-neuro benchmark",
        "schema_version": 1,
        "commit": commit(),
        "machine": machine(),
        "load_average": load,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "settings": {"model": arguments.model.name, **{name: getattr(arguments, name) for name in SETTINGS}},
        "backends": backends,
        "figures": [*(each.against(baselines[each.quantity]) for each in figures), *turns, *rivals.figures],
        "absent": rivals.absent,
    }


def _child() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _compile(model: str, bundle: str) -> None:
    graph = stas_neuro.fold(model)
    quantised = stas_neuro.quantise(graph)
    mapping = stas_neuro.place(quantised, stas_neuro.load_profile("loihi2"))
    stas_neuro.save_bundle(graph, bundle, stas_neuro.provenance(model), quantised=quantised, mapping=mapping)


def _record(bundle: str, path: str) -> None:
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:8]
    trace = stas_neuro.run(stas_neuro.load_bundle(bundle), images, arithmetic="fixed", mapping=None)
    write_activity(trace.activity, path)


def _measure_streams(bundle: str, rounds: int) -> list[dict[str, Any]]:
    return bench_lava.measure_streams(stas_neuro.load_bundle(bundle).of("fixed"), rounds)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    settings = result["settings"]
    figures = {(each["what"], each["quantity"]): each for each in result["figures"]}
    table = Table(
        title=f"{settings['model']}, {settings['images']} images, {settings['dtype']}", box=box.SIMPLE_HEAD
    )
    table.add_column("backend", no_wrap=True)
    for name in ("images/s", "range", "x torch", "one image, s", "peak MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for backend in result["backends"]:
        rate = figures[backend, "images_per_s"]
        table.add_row(
            backend,
            f"{rate['value']:.1f}",
            f"{rate['low']:.1f}-{rate['high']:.1f}",
            f"{rate['ratio']:.2f}",
            f"{figures[backend, 'one_image_s']['value']:.3f}",
            f"{figures[backend, 'peak_memory_bytes']['value'] / 1e6:.0f}",
        )
    console = wide_console()
    console.print(table)
    if settings["rounds"]:
        title = f"in turn in one process, {settings['rounds']} rounds of {settings['round_images']} images"
        console.print(figures_table(title, result["figures"], {IN_TURN: "images/s"}))
    if settings["rival_rounds"]:
        show_rivals(console, result["figures"], result["absent"])
    if settings["lava_rounds"]:
        console.print(figures_table(bench_lava.TITLE, result["figures"], bench_lava.COLUMNS))
    start = figures[STARTUP, "cpu_s"]
    slowest = max((figures[what, "cpu_s"] for what in helps()), key=lambda figure: figure["value"])
    for line in (
        f"Medians of {settings['repeats']} calls; x torch: ratio to {BASELINE}.",
        "One image: a call with one image. Peak memory: of the largest single process, including imports.",
        f"{result['machine']}, {settings['threads']} thread(s), Python {result['versions']['python']}, "
        f"load average {result['load_average']:.1f}: wall-clock time of this CPU, not of any chip.",
        f"{STARTUP}: {start['value']:.2f} CPU seconds, {start['ratio']:.1f} x {BARE}; the slowest help: "
        f"{slowest['what']}, {slowest['value']:.2f}. {ESTIMATE}: "
        f"{figures[ESTIMATE, 'cpu_s']['value']:.2f} CPU seconds.",
    ):
        console.print(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, help="images per call (1 to 512, default 64)")
    parser.add_argument("--threads", type=int, default=1, help="threads of numpy and torch (default 1)")
    parser.add_argument("--repeats", type=int, help="number of calls, whose median is reported (default 3)")
    parser.add_argument("--rounds", type=int, help="rounds in one process; 0 for none (default 5)")
    parser.add_argument("--round-images", type=int, help="images of a round (default 256)")
    parser.add_argument("--rival-rounds", type=int, help="rounds beside other programs (default 3)")
    parser.add_argument("--rival-images", type=int, help="images of such a round (default 128)")
    parser.add_argument("--lava-rounds", type=int, help="rounds in Lava's own runtime; 0: none (default 3)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--model", type=Path, help="a checkpoint directory instead of the shipped model")
    parser.add_argument("--quick", action="store_true", help="few images and repeats: about two minutes")
    parser.add_argument("--output", type=Path, help="also write JSON to this file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    for name, usual in USUAL.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, QUICK[name] if arguments.quick else usual)
    if not 1 <= arguments.images <= 512 or not 1 <= arguments.round_images <= 512:
        parser.error("--images and --round-images must be 1 to 512")
    if min(arguments.threads, arguments.repeats, arguments.rival_images) < 1:
        parser.error("--threads, --repeats and --rival-images must be at least 1")
    if min(arguments.rounds, arguments.rival_rounds, arguments.lava_rounds) < 0:
        parser.error("--rounds, --rival-rounds and --lava-rounds must be at least 0")
    if arguments.model is None:
        arguments.model = asset(f"models/{HALTING_MODEL}")
    result = bench(arguments)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
