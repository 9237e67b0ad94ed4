"""How fast each backend runs the shipped model here, as ratios against torch in the same run.

    python examples/bench.py [--images N] [--threads N] [--json]

Rounds go through all backends in turn, so that a drift of the machine's speed meets all of them; the
table gives medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 3
MODEL = "models/fashion-spikformer"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64, help="images a round (64)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and BLAS (1)")
    parser.add_argument("--multiprocess", action="store_true", help="Lava's own runtime too; slow to start")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)  # read when the libraries are loaded
    rows = _backends(arguments.images, arguments.threads, arguments.multiprocess)
    result = {
        "model": MODEL,
        "images": arguments.images,
        "rounds": ROUNDS,
        "threads": arguments.threads,
        "backends": rows,
        "help_cpu_s": _help_cpu_s(),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)


def _backends(images: int, threads: int, multiprocess: bool) -> list[dict[str, Any]]:
    import numpy as np
    import torch

    import stas_neuro
    from stas_neuro.data import normalise
    from stas_neuro.shipped import IMAGES, shipped

    torch.set_num_threads(threads)
    checkpoint = shipped(MODEL)
    data = stas_neuro.load_data(str(shipped(IMAGES))).select(slice(0, images))
    graph = stas_neuro.compile(checkpoint)
    x = normalise(data.images, graph.preprocessing.mean, graph.preprocessing.std)

    def torch_run(dtype: torch.dtype, skip: bool) -> Callable[[], Any]:
        typed = stas_neuro.load_model(checkpoint).to(dtype)
        batch = torch.from_numpy(x).to(dtype)

        def run() -> Any:
            with torch.inference_mode():
                return typed(batch, skip=skip).logits

        return run

    def graph_run(backend: str, dtype: type, runtime: str = "in-process") -> Callable[[], Any]:
        return lambda: stas_neuro.run(graph, x, backend=backend, dtype=dtype, runtime=runtime).logits

    runs: dict[str, Callable[[], Any]] = {
        "torch, masking, float32": torch_run(torch.float32, False),
        "torch, skipping, float32": torch_run(torch.float32, True),
        "torch, masking, float64": torch_run(torch.float64, False),
        "reference, float32": graph_run("reference", np.float32),
        "reference, float64": graph_run("reference", np.float64),
        "Lava in-process, float32": graph_run("lava", np.float32),
        "Lava in-process, float64": graph_run("lava", np.float64),
    }
    if multiprocess:
        runs["Lava multiprocess, float64"] = graph_run("lava", np.float64, "multiprocess")
    took: dict[str, list[float]] = {name: [] for name in runs}
    logits: dict[str, Any] = {}
    for warm in (True, *(False,) * ROUNDS):
        for name, run in runs.items():
            begun = time.perf_counter()
            logits[name] = np.asarray(run())
            if not warm:
                took[name].append(time.perf_counter() - begun)
    exact = logits["reference, float64"]
    rival = took["torch, masking, float32"]
    return [
        {
            "backend": name,
            "images_per_s": images / statistics.median(times),
            "ratio_to_torch": statistics.median(a / b for a, b in zip(rival, times, strict=True)),
            "logit_delta": float(np.abs(logits[name] - exact).max()),
            "top1_changes": int((logits[name].argmax(1) != exact.argmax(1)).sum()),
        }
        for name, times in took.items()
    ]


def _help_cpu_s() -> float:
    """CPU seconds of ``stas-export --help``, median of several processes."""
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "stas_neuro.cli", "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(spent)


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("backend", "images/s", "against torch", "logits off by", "top-1 changed")
    for row in result["backends"]:
        table.add_row(
            row["backend"],
            f"{row['images_per_s']:.1f}",
            f"{row['ratio_to_torch']:.3f} x",
            f"{row['logit_delta']:.1e}",
            str(row["top1_changes"]),
        )
    console = Console()
    console.print(table)
    console.print(
        f"{result['model']}, {result['images']} images at once, {result['threads']} threads, median of "
        f"{result['rounds']} rounds; ratios are against torch, masking, float32, round by round.\n"
        f"stas-export --help: {result['help_cpu_s']:.2f} s of CPU. "
        f"Peak memory of this process: {result['peak_memory_bytes'] / 2**20:.0f} MiB."
    )


if __name__ == "__main__":
    main()
