"""The command of an exported package: run its network on the images of an npz file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stas_neuro.data.images import LabelledImages, normalise
from stas_neuro.data.numpy_files import read_numpy_file
from stas_neuro.errors import InputError, StasError
from stas_neuro.exporters.lava.execute import check_shape, run_network
from stas_neuro.exporters.lava.jobs import RUNTIMES
from stas_neuro.exporters.lava.saved import load_network
from stas_neuro.exporters.lava.streams import open_standard_streams
from stas_neuro.ir import Array, Graph, Stage
from stas_neuro.labels import match_classes

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""
BROKEN_PIPE = 141
"""Exit code where the reader of our output has gone: 128 + SIGPIPE."""


def main(directory: Path, arguments: Sequence[str] | None = None) -> int:
    """Run the network saved in `directory`; 0, or 2 with one line on standard error."""
    open_standard_streams()
    try:
        code = _run(directory, arguments)
        sys.stdout.flush()  # a closed pipe shows here, not at exit
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        return BROKEN_PIPE
    return code


def _run(directory: Path, arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.out is not None:
            _check_free(options.out)
        network = load_network(directory)
        data = _read(options.images, options.limit, network.classes)
        result = run_network(
            network,
            _prepared(network, data.images[:]),
            runtime=options.runtime,
            deadline_s=options.deadline,
            progress=_progress if sys.stderr.isatty() else None,
        )
    except StasError as error:
        if options.debug and (detail := getattr(error, "detail", "")):
            print(detail, file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 2
    predictions = result.logits.argmax(axis=1)
    for index, prediction in enumerate(predictions):
        print(f"{index}: {network.classes[prediction]}")
    if (labels := data.labels) is not None:
        right = int((predictions == labels).sum())
        print(f"accuracy: {right / len(labels):.4f} ({right} of {len(labels)})")
    print(f"token ratio: {result.token_ratio:.4f}")
    if options.out is not None:
        with options.out.open("xb") as file:  # which refuses what has appeared there meanwhile
            np.savez(file, predictions=predictions, logits=result.logits, visits=result.visits)
    return 0


def _check_free(path: Path) -> None:
    """Refuse, before any work, a file that exists or cannot be made."""
    try:
        path.open("xb").close()
        path.unlink()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "choose another path for --out") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run the exported network on Lava.")
    parser.add_argument(
        "images", type=Path, help="npz or npy file: images as README.md tells, labels if there are"
    )
    parser.add_argument("--out", type=Path, help="npz file to write predictions, logits and visits to")
    parser.add_argument("--limit", type=int, help="use the first images only")
    parser.add_argument("--runtime", choices=RUNTIMES, default=RUNTIMES[0], help="default: %(default)s")
    parser.add_argument(
        "--deadline",
        type=float,
        default=60.0,
        help="seconds that the multiprocess runtime may take for an image (default: %(default)s)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failed process")
    return parser


def _read(path: Path, limit: int | None, classes: Sequence[str]) -> LabelledImages:
    """Give the first images, with labels as the network counts its classes."""
    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}", "run at least 1 image")
    return match_classes(read_numpy_file(path, "test"), classes).select(slice(0, limit))


def _prepared(network: Graph, images: Array) -> Array:
    """Give what a network takes: uint8 as they are where it is quantised, else normalised, float64."""
    check_shape(network, images)
    if network.stage != Stage.QUANTISED:
        return normalise(images, network.preprocessing.mean, network.preprocessing.std)
    if images.dtype != np.uint8:
        what = f"pixels are {images.dtype}, the network computes in integers"
        raise InputError(what, "give uint8 in 0..255")
    return images


def _progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} images", end="\n" if done == total else "", file=sys.stderr, flush=True)
