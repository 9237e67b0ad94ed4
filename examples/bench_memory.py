"""Measure how the peak memory of a run grows with the number of images.

    python examples/bench_memory.py [--images 1000 20000] [--backend fast] [--cores] [--per-image]

The shipped model's 8-bit program classifies the shipped images, repeated in an .npy file, each number of them
in a process of its own. Peak memory is of the whole process, imports included.
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


def repeated(path: str, images: int) -> None:
    """Write the shipped images, repeated, to an .npy file, some at a time."""
    shipped = stas_neuro.load_data(str(asset(IMAGES))).images[:]
    shape = (images, *shipped.shape[1:])
    pixels = np.lib.format.open_memmap(path, "w+", shipped.dtype, shape)
    for start in range(0, images, len(shipped)):
        pixels[start : start + len(shipped)] = shipped[: images - start]
    pixels.flush()


def peak(bundle: str, data: str, backend: str, cores: bool, per_image: bool) -> int:
    """Run in this process, and return its peak memory in bytes."""
    stas_neuro.run(
        stas_neuro.load_bundle(bundle),
        stas_neuro.load_data(data),
        arithmetic="fixed",
        backend=backend,
        mapping="bundle" if cores else None,
        per_image=per_image,
    )
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
    parser.add_argument("--per-image", action="store_true", help="keep the counts of every image")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bundle = str(Path(directory) / "model.stas")
        options = arguments.backend, arguments.cores, arguments.per_image
        _apart(compiled, bundle)
        peaks = []
        for images in arguments.images:
            data = str(Path(directory) / f"{images}.npy")
            _apart(repeated, data, images)
            peaks.append(_apart(peak, bundle, data, *options))
            most = peaks[-1]
            times = f"{most / peaks[0]:.2f} times that at the first"
            print(f"{images} images: peak {most / 1e6:.0f} MB, {times}", flush=True)
    if len(peaks) > 1:
        growth = (peaks[-1] - peaks[0]) / (arguments.images[-1] - arguments.images[0])
        print(f"{growth / 1e3:.1f} kB an image")


def _apart(work, *arguments):  # type: ignore[no-untyped-def]
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        return child.submit(work, *arguments).result()


if __name__ == "__main__":
    main()
