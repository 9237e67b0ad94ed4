"""Measure how the peak memory of a run grows with the number of images.

    python examples/bench_memory.py [--images 1000 20000] [--backend fast] [--cores]

The shipped model's 8-bit program classifies the shipped images, repeated, each number of them in a process of
its own. Peak memory is of the whole process, imports and pixels included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import stas_neuro
from stas_neuro.assets import HALTING_MODEL, IMAGES, asset


def compiled(path: str) -> None:
    """Compile the shipped model and place it on cores."""
    model = str(asset(f"models/{HALTING_MODEL}"))
    graph = stas_neuro.fold(model)
    quantised = stas_neuro.quantise(graph)
    mapping = stas_neuro.place(quantised, stas_neuro.load_profile("loihi2"))
    stas_neuro.save_bundle(graph, path, stas_neuro.provenance(model), quantised=quantised, mapping=mapping)


def peak(path: str, images: int, backend: str, cores: bool) -> int:
    """Run in this process, and return its peak memory in bytes."""
    shipped = stas_neuro.load_data(str(asset(IMAGES))).images
    pixels = np.resize(shipped, (images, *shipped.shape[1:]))
    mapping = "bundle" if cores else None
    stas_neuro.run(stas_neuro.load_bundle(path), pixels, arithmetic="fixed", backend=backend, mapping=mapping)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 20000], help="numbers of images")
    parser.add_argument("--backend", default="auto", help="backend (default auto)")
    parser.add_argument("--cores", action="store_true", help="count events by core")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "model.stas")
        peaks = []
        for call in [
            (compiled, path),
            *((peak, path, images, arguments.backend, arguments.cores) for images in arguments.images),
        ]:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
                peaks.append(child.submit(*call).result())
    for images, most in zip(arguments.images, peaks[1:], strict=True):
        print(f"{images} images: peak {most / 1e6:.0f} MB, {most / peaks[1]:.2f} times that at the first")
    if len(peaks) > 2:
        growth = (peaks[-1] - peaks[1]) / (arguments.images[-1] - arguments.images[0])
        print(f"{growth / 1e3:.1f} kB an image")


if __name__ == "__main__":
    main()
