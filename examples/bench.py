"""How fast each backend classifies images on this machine, in one run, and what starting the program costs.

    python examples/bench.py [--images 64] [--threads 1] [--repeats 3]

Every backend runs in a process of its own, after a warm-up, from uint8 images to logits. Rates are medians
over the repeats of images a second of a whole call: whatever a backend sets up for a call counts. Peak memory
is that of the process and, of a backend that starts others, of the largest of these, each counted alone.
These are wall-clock times of a CPU that simulates: they say nothing about the speed of any chip.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import stas_neuro
from stas_neuro.shipped import HALTING_MODEL, IMAGES, shipped

CHUNK = 32  # images at once, where a backend is batched
BACKENDS = {
    "torch, masking": "all tokens computed, halted ones masked",
    "torch, skipping": "live tokens only",
    "torch, counting": "skipping, and every event counted",
    "reference": "numpy, every event counted",
    "reference, integers": "the program of 8-bit integers in numpy",
    "lava, integers": "the same on Lava's process models, stepped in one interpreter",
    "lava, cores": "the same on cores of loihi2, every event counted by piece",
    "lava, gated cores": "the same, cores without a live token not stepped",
    "lava, in-process": "Lava's process models stepped in one interpreter, every event counted",
    "lava, multiprocess": "Lava's own runtime, a process a node; starting them is part of a call",
}
BASELINE = "torch, masking"


@dataclass(frozen=True)
class Task:
    """What a child process measures."""

    backend: str
    model: str
    bundle: str
    images: int
    repeats: int
    threads: int
    dtype: str


@dataclass(frozen=True)
class Row:
    """One backend's figures."""

    backend: str
    what: str
    images_per_s: float
    images_per_s_low: float
    images_per_s_high: float
    one_image_s: float
    """Of a call with one image."""
    peak_memory_bytes: int


def measure(task: Task) -> Row:
    """Time one backend; to be called in a fresh process, whose peak memory is then this backend's."""
    images = stas_neuro.load_data(str(shipped(IMAGES))).images[: task.images]
    run = _torch_call(task) if task.backend.startswith("torch") else _bundle_call(task)
    run(images[: min(len(images), CHUNK)])  # warm-up: what is imported, compiled or cached at first use
    one = statistics.median(_seconds(run, images[:1]) for _ in range(task.repeats))
    rates = sorted(len(images) / _seconds(run, images) for _ in range(task.repeats))
    own, others = (
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return Row(
        backend=task.backend,
        what=BACKENDS[task.backend],
        images_per_s=statistics.median(rates),
        images_per_s_low=rates[0],
        images_per_s_high=rates[-1],
        one_image_s=one,
        peak_memory_bytes=max(own, others) * unit,
    )


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
    if runtime == "integers":
        options["arithmetic"] = "fixed"
    elif runtime.endswith("cores"):
        gating = "core" if runtime.startswith("gated") else "silent"
        options |= {"arithmetic": "fixed", "mapping": bundle.mapping, "gating": gating}
    elif runtime:
        options["runtime"] = runtime
    return lambda images: stas_neuro.run(bundle, images, **options)


def help_cpu_s(repeats: int) -> float:
    """Median CPU seconds, user and system, of ``stas-export --help``."""
    seconds = []
    for _ in range(repeats + 1):
        process = subprocess.Popen(
            [sys.executable, "-m", "stas_neuro.cli", "--help"], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"stas-export --help ended with {process.returncode}")
        seconds.append(usage.ru_utime + usage.ru_stime)
    return statistics.median(seconds[1:])  # the first one fills the file cache


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; plain data for JSON."""
    # Read by numpy and torch when they are imported, which children do.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # norse's use of torch.jit
    load = os.getloadavg()[0]  # of others: later it is our own
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory) / "model.stas"
        with _child() as child:
            child.submit(_compile, str(arguments.model), str(bundle)).result()
        for backend in BACKENDS:
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
                rows.append(child.submit(measure, task).result())
    baseline = next(row for row in rows if row.backend == BASELINE)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "python": platform.python_version(),
        "load_average": load,
        "threads": arguments.threads,
        "model": arguments.model.name,
        "images": arguments.images,
        "dtype": arguments.dtype,
        "repeats": arguments.repeats,
        "baseline": BASELINE,
        "backends": [
            asdict(row) | {"ratio_to_baseline": row.images_per_s / baseline.images_per_s} for row in rows
        ],
        "help_cpu_s": help_cpu_s(arguments.repeats),
    }


def _child() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _compile(model: str, bundle: str) -> None:
    graph = stas_neuro.fold(model)
    quantised = stas_neuro.quantise(graph)
    mapping = stas_neuro.place(quantised, stas_neuro.load_profile("loihi2"))
    stas_neuro.save_bundle(graph, bundle, stas_neuro.provenance(model), quantised=quantised, mapping=mapping)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{result['model']}, {result['images']} images, {result['dtype']}"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("backend", no_wrap=True)
    for name in ("images/s", "range", "x torch", "alone, s", "peak MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["backends"]:
        table.add_row(
            row["backend"],
            f"{row['images_per_s']:.1f}",
            f"{row['images_per_s_low']:.1f}-{row['images_per_s_high']:.1f}",
            f"{row['ratio_to_baseline']:.2f}",
            f"{row['one_image_s']:.3f}",
            f"{row['peak_memory_bytes'] / 1e6:.0f}",
        )
    console = Console(highlight=False)
    console.print(table)
    for line in (
        f"Medians of {result['repeats']} calls; x torch: against {result['baseline']}.",
        "Alone: a call with one image. Peak memory: of the largest single process, imports included.",
        f"{result['machine']}, {result['threads']} thread(s), Python {result['python']}, "
        f"load average {result['load_average']:.1f}: wall-clock time of this CPU, not of any chip.",
        f"stas-export --help: {result['help_cpu_s']:.2f} CPU seconds.",
    ):
        console.print(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64, help="images a call (1 to 512, default 64)")
    parser.add_argument("--threads", type=int, default=1, help="threads of numpy and torch (default 1)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="calls, of which the median counts (default 3)"
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--model", type=Path, help="a checkpoint directory instead of the shipped model")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if not 1 <= arguments.images <= 512 or min(arguments.threads, arguments.repeats) < 1:
        parser.error("--images must be 1 to 512, --threads and --repeats at least 1")
    if arguments.model is None:
        arguments.model = shipped(f"models/{HALTING_MODEL}")
    result = bench(arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
