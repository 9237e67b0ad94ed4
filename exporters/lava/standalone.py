"""The command of an exported package: run its network on the images of an npz file."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .execute import RUNTIMES, run_network
from .failure import LavaFailure
from .network import Array, Network
from .streams import open_standard_streams

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
        network = Network.load(directory)
        images, labels = _read(options.images, options.limit)
        result = run_network(
            network,
            network.prepare(images),
            runtime=options.runtime,
            deadline_s=options.deadline,
            progress=_progress if sys.stderr.isatty() else None,
        )
    except LavaFailure as failure:
        if options.debug and failure.detail:
            print(failure.detail, file=sys.stderr)
        print(f"error: {failure.what}; {failure.remedy}", file=sys.stderr)
        return 2
    predictions = result.logits.argmax(axis=1)
    for index, prediction in enumerate(predictions):
        print(f"{index}: {network.classes[prediction]}")
    if labels is not None:
        right = int((predictions == labels).sum())
        print(f"accuracy: {right / len(labels):.4f} ({right} of {len(labels)})")
    print(f"token ratio: {result.token_ratio:.4f}")
    if options.out is not None:
        np.savez(options.out, predictions=predictions, logits=result.logits, visits=result.visits)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run the exported network on Lava.")
    parser.add_argument("images", type=Path, help="npz file: images as README.md tells, labels if there are")
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


def _read(path: Path, limit: int | None) -> tuple[Array, Array | None]:
    """Images (n, C, H, W), or (n, T, C, H, W) for event data, and labels (n,) if the file has them."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = arrays["images"][:limit]
            labels = arrays["labels"][:limit] if "labels" in arrays.files else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise LavaFailure(f"{path}: {error}", "give an npz file with an array named images") from error
    images = images[:, None] if images.ndim == 3 else images
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise LavaFailure(f"{path}: pixels are {images.dtype}", "give uint8 in 0..255, or floats in 0..1")
    still = images.ndim < 5  # frames of events may hold any count
    if still and images.dtype != np.uint8 and images.size and (images.min() < 0 or images.max() > 1):
        raise LavaFailure(
            f"{path}: float pixels are in {images.min():g}..{images.max():g}",
            "scale them to 0..1, or give uint8",
        )
    return images, labels


def _progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} images", end="\n" if done == total else "", file=sys.stderr, flush=True)
