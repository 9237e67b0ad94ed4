"""What a sweep itself costs: cells of a function that does nothing, here or on a Dask cluster.

    python examples/bench_sweep.py --cells 1000000 -o bench-sweep

Prints the time for each cell, the memory, and how long it takes to read the state of a sweep that was
interrupted when it had almost ended, all as measured on this machine.
"""

from __future__ import annotations

import argparse
import math
import resource
import shutil
import time
from pathlib import Path

import stas_neuro


def nothing(i: int, j: int) -> dict[str, int]:
    """Return the values of a cell."""
    return {"sum": i + j}


def main() -> None:
    """Run the sweep, remove its last part, and finish it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory of the sweep, replaced")
    parser.add_argument("--cells", type=int, default=10_000, help="number of cells (10000)")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes (2)")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, instead of processes")
    arguments = parser.parse_args()
    side = math.isqrt(arguments.cells)
    axes = {"i": list(range(math.ceil(arguments.cells / side))), "j": list(range(side))}
    config = {"measure": {"function": f"{Path(__file__).resolve()}:nothing", **axes}}
    pool = {"scheduler": arguments.scheduler} if arguments.scheduler else {"jobs": arguments.jobs}
    shutil.rmtree(arguments.output, ignore_errors=True)
    begun, cpu = time.perf_counter(), time.process_time()
    done = stas_neuro.sweep(config, arguments.output, **pool)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{done.cells} cells in {seconds:.1f} s, {1e6 * seconds / done.cells:.0f} us for each "
        f"({1e6 * cpu / done.cells:.0f} us of the processor in the main process); at most {megabytes:.0f} MB"
    )
    last = max((arguments.output / "cells").glob("part-*.parquet"))
    last.unlink()
    begun = time.perf_counter()
    done = stas_neuro.sweep(config, arguments.output, **pool)
    seconds = time.perf_counter() - begun
    print(
        f"continued with {done.cells - done.computed} cells done before and {done.computed} missing: "
        f"{seconds:.1f} s; results.parquet has {done.results.stat().st_size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
