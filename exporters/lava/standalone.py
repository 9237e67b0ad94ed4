"""The command of an exported package: run its network on the images of an npz file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stas_neuro.arrays import read_npz
from stas_neuro.data import normalise
from stas_neuro.documents import BadDocument, reason
from stas_neuro.errors import InputError, StasError
from stas_neuro.exporters.lava.execute import RUNTIMES, check_shape, run_network
from stas_neuro.exporters.lava.saved import load_network
from stas_neuro.exporters.lava.streams import open_standard_streams
from stas_neuro.ir import Array, Graph, Stage
from stas_neuro.ir.limits import FLOAT_LIMIT

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
        images, labels = _read(options.images, options.limit, network.classes)
        result = run_network(
            network,
            _prepared(network, images),
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
    if labels is not None:
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


def _read(path: Path, limit: int | None, classes: Sequence[str]) -> tuple[Array, Array | None]:
    """Images (n, C, H, W), or (n, T, C, H, W) for event data, and labels (n,) if the file has them.

    Labels count the classes of the network: they are matched by name where the file has names.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}", "run at least 1 image")
    try:
        arrays = read_npz(path, ("images", "labels", "classes"))
    except (OSError, BadDocument) as error:
        raise InputError(f"{path}: {reason(error)}", "give an npz file that numpy.savez wrote") from error
    if "images" not in arrays:
        raise InputError(f"{path}: holds no images", "give an npz file with an array named images")
    images, labels = arrays["images"], arrays.get("labels")
    if images.ndim not in (3, 4, 5) or not images.size:
        raise InputError(f"{path}: images have shape {images.shape}", "give images as README.md tells")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        what = f"{path}: labels are {labels.dtype} of shape {labels.shape}, images have shape {images.shape}"
        raise InputError(what, "give one whole number an image, or no labels")
    images, labels = images[:limit], None if labels is None else labels[:limit]
    images = images[:, None] if images.ndim == 3 else images
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InputError(f"{path}: pixels are {images.dtype}", "give uint8 in 0..255, or floats in 0..1")
    least, most = float(images.min()), float(images.max())
    if not np.isfinite([least, most]).all():
        raise InputError(f"{path}: pixels hold NaN or infinite values", "remove them")
    low, high = (
        (0, 1) if images.ndim < 5 else (-FLOAT_LIMIT, FLOAT_LIMIT)
    )  # frames of events may hold any count
    if images.dtype != np.uint8 and (least < low or most > high):
        what = f"{path}: float pixels are in {least:g}..{most:g}"
        raise InputError(what, "scale them to 0..1, or give uint8")
    names = arrays.get("classes", np.array([], str)).ravel()
    return images, None if labels is None else _matched(labels, names, classes, path)


def _prepared(network: Graph, images: Array) -> Array:
    """Give what a network takes: uint8 as they are where it is quantised, else normalised, float64."""
    check_shape(network, images)
    if network.stage != Stage.QUANTISED:
        return normalise(images, network.preprocessing.mean, network.preprocessing.std)
    if images.dtype != np.uint8:
        what = f"pixels are {images.dtype}, the network computes in integers"
        raise InputError(what, "give uint8 in 0..255")
    return images


def _matched(labels: Array, names: Array, classes: Sequence[str], path: Path) -> Array:
    """Match labels with the network's classes by the rules of stas-neuro (its docs/cli.md)."""
    given = [
        name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.tolist()
    ]
    known = {name: index for index, name in enumerate(classes)}
    numbers = [str(index) for index in range(len(classes))]
    if len(set(given)) != len(given):
        raise InputError(f"{path}: classes occur twice: {given}", "give every class a name of its own")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(given or classes)))
    if len(wrong):
        what = f"the label of image {wrong[0]} is {labels[wrong[0]]}, outside 0..{len(given or classes) - 1}"
        raise InputError(f"{path}: {what}", "count classes from 0 as the network does, or name them")
    # A network that has only numbers for names takes any names, one for each of its classes, in their order.
    if not given or (
        list(classes) == numbers and len(given) == len(numbers) and not set(given) & set(numbers)
    ):
        return labels
    if unknown := [name for name in given if name not in known]:
        what = f"the network has no class {', '.join(unknown)}; its classes are {', '.join(classes)}"
        raise InputError(f"{path}: {what}; the file's are {', '.join(given)}", "name classes as it does")
    matched: Array = np.array([known[name] for name in given])[labels]
    return matched


def _progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} images", end="\n" if done == total else "", file=sys.stderr, flush=True)
