"""Runs on disk: a directory with ``run.json``, ``outputs.npz`` and an activity file; see docs/cli.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro import __version__
from stas_neuro.choices import ACTIVITY_FORMS
from stas_neuro.cli.unfinished import PARTS, is_unfinished
from stas_neuro.documents import shown
from stas_neuro.errors import InputError
from stas_neuro.files import Output, json_object, read_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stas_neuro.activity import Activity
    from stas_neuro.bundle import Bundle
    from stas_neuro.data import LabelledImages
    from stas_neuro.page import Run
    from stas_neuro.trace import Trace

RUN_FILE, OUTPUTS_FILE = "run.json", "outputs.npz"
ACTIVITY_FILES = tuple(f"activity.{form}" for form in ACTIVITY_FORMS)
FORMAT, SCHEMA_VERSION = "stas-neuro run", 1


def run_document(
    path: Path,
    bundle: Bundle,
    data: LabelledImages,
    trace: Trace,
    wall_time_s: float,
    *,
    arithmetic: str,
    dtype: str,
) -> dict[str, Any]:
    """Return inputs and results of a run as plain data. The trace covers the first images of `data`."""
    import numpy as np

    from stas_neuro import api
    from stas_neuro.activity.neurobench import neurobench_metrics
    from stas_neuro.labels import bias_of_first

    bias = bias_of_first(data, trace.images)
    graph = bundle.of(arithmetic)
    neurobench = neurobench_metrics(graph, trace.activity, value_bytes=np.dtype(dtype).itemsize)
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "tool_version": __version__,
        "bundle": str(path),
        "bundle_sha256": dict(bundle.sha256),
        "data": data.source,
        "images": trace.images,
        "accuracy": api.accuracy(trace, data, bundle.graph.classes),
        "token_ratio": trace.token_ratio,
        "wall_time_s": wall_time_s,
        "images_per_s": trace.images / wall_time_s,
        "neurobench": neurobench,
        "notes": [] if bias is None else [bias],
    }


def run_output(directory: Path | None, *, force: bool, resume: bool = False) -> Output | None:
    """Return the output of a run, for `check_outputs`; `resume` continues an unfinished one.

    It is None without a directory, which nothing can be resumed without.
    """
    if directory is None:
        if resume:
            raise InputError("--resume needs the directory of a run", "name it with -o")
        return None
    instead = "use --resume to continue it, or --force to replace it"
    return Output(
        path=directory,
        is_earlier=lambda found: (found / RUN_FILE).is_file() or is_unfinished(found),
        otherwise=f"has no {RUN_FILE}",
        force=force or resume,
        is_directory=True,
        instead=instead if is_unfinished(directory) else "use --force to replace it",
    )


def write_run(
    directory: Path,
    document: dict[str, Any],
    bundle: Bundle,
    data: LabelledImages,
    trace: Trace,
    *,
    form: str = "json",
    force: bool,
) -> None:
    """Write a run completely or not at all; InputError if something else is there or writing fails."""
    import numpy as np

    from stas_neuro.activity import write_activity
    from stas_neuro.labels import match_classes

    arrays: dict[str, Any] = {"logits": trace.logits, "visits": trace.visits}
    labels = match_classes(data, bundle.graph.classes).labels
    if labels is not None:
        arrays["labels"] = labels[: trace.images]
    # A directory with only the parts of this run is replaced.
    own = directory.is_dir() and {each.name for each in directory.iterdir()} == {PARTS}
    output = run_output(directory, force=force or own)
    assert output is not None
    with output.filled() as fresh:
        np.savez_compressed(fresh / OUTPUTS_FILE, **arrays)
        write_activity(trace.activity, fresh / f"activity.{form}")
        (fresh / RUN_FILE).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def join_runs(
    parts: Sequence[Path], output: Path, *, per_image: bool = False, form: str = "json"
) -> dict[str, Any]:
    """Join runs of one bundle on successive images of a data set, and write the run of all these images.

    Counts, visits and logits are those of one run; only its duration is the sum of theirs. One part is in
    memory at a time.

    Parameters
    ----------
    parts : sequence of Path
        Run directories, in the order of their images, with the counts of every image.
    output : Path
        The run directory to write.
    per_image : bool
        Whether it has the counts of every image, as `run --per-image`.
    form : str
        Form of its activity, as `run --activity`.

    Returns
    -------
    dict
        Its document.

    Raises
    ------
    InputError
        When the runs cannot be joined, or the data have changed since.
    """
    from stas_neuro.bundle import load_bundle
    from stas_neuro.data import load_data

    documents = [json_object(read_bytes(part / RUN_FILE), str(part), "run it again") for part in parts]
    first = documents[0]
    bundle, data = load_bundle(Path(first["bundle"])), load_data(first["data"])
    document = run_document(
        Path(first["bundle"]),
        bundle,
        data,
        trace := _joined(parts, sum(each["images"] for each in documents), per_image),
        sum(each["wall_time_s"] for each in documents),
        arithmetic=first["arithmetic"],
        dtype=first.get("dtype", "float64"),
    )
    document = {**first, **document}
    write_run(output, document, bundle, data, trace, form=form, force=False)
    return document


def _joined(parts: Sequence[Path], images: int, per_image: bool) -> Trace:
    """Join the traces of runs on successive images, as those of the batches of one run."""
    import numpy as np

    from stas_neuro.activity import Origin
    from stas_neuro.trace import Trace, TraceCollector

    collector = TraceCollector(images, per_image=per_image)
    origins = []
    for part in parts:
        activity = read_run(part)
        origins.append(activity.origin)
        unnamed = replace(activity, origin=Origin())  # the origin of all is known at the end
        with np.load(part / OUTPUTS_FILE) as arrays:
            trace = Trace(logits=arrays["logits"], visits=arrays["visits"], counted=unnamed)
        collector.add(trace, activity.origin.images)
    joined = collector.trace()
    return replace(joined, counted=replace(joined.activity, origin=Origin.join(origins)))


def require_run(path: Path) -> None:
    """Refuse what is no run; of a bundle or a model, say how to make a run of it."""
    from stas_neuro.bundle import is_bundle
    from stas_neuro.cli.models import is_shipped

    if is_bundle(path):
        what = f"{path} is a bundle, not a run"
        raise InputError(what, f"run it first: stas-export run {path} --data DATA -o RUN")
    if path.is_file():
        return
    from stas_neuro.compiler import is_checkpoint

    if is_checkpoint(path) or is_shipped(path):
        what = f"{path} is {'a checkpoint' if path.exists() else 'a shipped model'}, not a run"
        steps = f"stas-export compile {path} -o BUNDLE; stas-export run BUNDLE --data DATA -o RUN"
        raise InputError(what, f"compile it, and run the bundle: {steps}")
    if not path.exists():
        raise InputError(f"{path} does not exist", "give a directory written by run, or an activity file")


def read_run(path: Path) -> Activity:
    """Read the activity of a run directory, or an activity file by itself."""
    from stas_neuro.activity import read_activity

    for name in ACTIVITY_FILES:
        if (path / name).is_file():  # to find out what else it could be loads the compiler
            return read_activity(path / name)
    require_run(path)
    if not path.is_dir():
        return read_activity(path)
    if is_unfinished(path):
        raise InputError(f"{path}: the run was interrupted", "continue it with run --resume")
    raise InputError(
        f"{path} has no {' or '.join(ACTIVITY_FILES)}", "give a directory written by run, or an activity file"
    )


def labelled_run(label: str, path: Path) -> Run:
    """Read a run directory, or an activity file, as a run of a page."""
    from stas_neuro.page import Run

    activity = read_run(path)
    return Run(label=label, activity=activity, predictions=read_predictions(path, activity.all_images))


def read_predictions(path: Path, images: int) -> NDArray[np.int64] | None:
    """Read the predicted classes of a run directory, int64 (images,); None for an activity file.

    Raises InputError where its logits are damaged, or are not those of `images` images.
    """
    import numpy as np

    from stas_neuro.arrays import read_npz
    from stas_neuro.documents import BadDocument

    if not path.is_dir():
        return None
    file = path / OUTPUTS_FILE
    remedy = "give a directory written by run"
    try:
        logits = read_npz(file, ("logits",)).get("logits")
    except BadDocument as error:
        raise InputError(f"{file}: {error}", remedy) from error
    if logits is None or logits.ndim != 2 or len(logits) != images or not logits.shape[1]:
        found = "none" if logits is None else f"of shape {logits.shape}"
        raise InputError(f"{file}: logits are {found}, the activity has {images} images", remedy)
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def data_of(path: Path) -> tuple[str | None, int]:
    """Return the data that a run directory says it used, and how many first images it left out.

    They are None and 0 for an activity file.
    """
    if not path.is_dir():
        return None, 0
    file = path / RUN_FILE
    document = json_object(read_bytes(file), str(file), "give a directory written by run")
    named = document.get("data")
    return named if isinstance(named, str) else None, skipped(document, str(file))


def skipped(document: Mapping[str, Any], where: str) -> int:
    """Return how many first images of its data a run left out; InputError where its document is wrong."""
    skip = document.get("skip", 0)
    if type(skip) is not int or skip < 0:
        raise InputError(f"{where}: skip is {shown(repr(skip))}", "give a directory written by run")
    return skip
