"""Run networks and measure their accuracy; ``stas_neuro`` re-exports the public functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stas_neuro.activity import Origin, hash_images
from stas_neuro.backends import AUTO, BACKENDS, RUNTIMES, RunOptions, choose_backend
from stas_neuro.bundle import Bundle, hash_network
from stas_neuro.choices import DTYPES as DTYPES
from stas_neuro.choices import GRANULARITIES
from stas_neuro.data import LabelledImages, PreparedImages, check_pixels, normalise
from stas_neuro.energy import GATINGS
from stas_neuro.errors import InputError, unknown
from stas_neuro.ir import FixedInput, FixedSynaptic, Graph, Stage
from stas_neuro.labels import match_classes
from stas_neuro.mapping import Mapping, check_mapping
from stas_neuro.passes import ComputeHalted
from stas_neuro.trace import Trace

_PRECISIONS: dict[str, type[np.floating[Any]]] = dict(zip(DTYPES, (np.float64, np.float32), strict=True))
Progress = Callable[[int, int], None]
"""Called with the number of finished images and the total number of images."""
TrainReport = Callable[[dict[str, Any]], None]
"""Called with each event of training; see `stas_neuro.training.train`."""


def run(  # noqa: PLR0913
    network: Graph | Bundle,
    images: LabelledImages | NDArray[Any],
    *,
    backend: str = AUTO,
    dtype: DTypeLike = np.float64,
    runtime: str = "in-process",
    granularity: str = "auto",
    deadline_s: float = 60.0,
    limit: int | None = None,
    record_spikes: bool = False,
    record_states: bool = False,
    arithmetic: str = "float",
    mapping: Mapping | Literal["bundle"] | None = "bundle",
    gating: str = "silent",
    progress: Progress | None = None,
) -> Trace:
    """Classify images.

    Parameters
    ----------
    network : Graph or Bundle
        A result of :func:`stas_neuro.compile`, ``quantise`` or ``load_bundle``. A quantised graph runs in
        integers.
    images : LabelledImages or array
        uint8 in 0..255 or floats in 0..1, shape (B, C, H, W), or (B, T, C, H, W) for event data. They are
        normalised as in training, or passed as integers to a quantised graph.
    backend : str
        "auto", which is "fast" for an integer program where its dependencies are installed, else "reference",
        with the same results; "reference", the interpreter in numpy; "fast", the integer program in compiled
        loops; "lava", processes of Lava, see `granularity`; "lava-stock", an integer program with only the
        processes of Lava's library (docs/stock-lowering.md), with the same results, but the activity of these
        processes; or one that another package registers (`stas_neuro.backends`).
    dtype : float64 or float32
        Precision of float arithmetic; ignored for integers.
    runtime : "in-process" or "multiprocess"
        Runtime of Lava: in this interpreter, or one operating-system process for each process of Lava.
    granularity : "auto", "layer" or "chip"
        Processes of the backend lava: one for each node, or one for all chips, which runs an integer program
        in the compiled loops of the backend fast; its results are the same. "auto" is "chip" for an integer
        program where fast is installed, else "layer".
    deadline_s : float
        Longest time in seconds that Lava's multi-process runtime may take between two images, by chip
        between two batches.
    limit : int, optional
        Run only the first `limit` images.
    record_spikes : bool
        Whether the trace has the spikes of every LIF.
    record_states : bool
        Whether the trace of a quantised graph has its membranes and accumulated scores.
    arithmetic : "float" or "fixed"
        Which of the two networks of a bundle to run.
    mapping : Mapping, "bundle" or None
        The cores by which activity is counted: those of the bundle if it was placed, those of a mapping, or
        none. Stock processes are not placed on cores.
    gating : "silent", "none", "core" or "power"
        How halted tokens are treated: they send no spikes; they are computed and discarded; or, for both core
        and power, a core is not updated once all its tokens have halted. Results are the same.
    progress : callable, optional
        Called with the number of finished images and the total number of images.

    Raises
    ------
    InputError
        If the shape or values of the images do not fit the network, the network does not have their classes,
        or Lava is requested and not installed.
    LavaRunError
        If Lava's multi-process runtime fails.
    """
    for what, given, known in (
        ("runtime", runtime, RUNTIMES),
        ("granularity", granularity, GRANULARITIES),
        ("gating", gating, tuple(GATINGS)),
    ):
        if given not in known:
            raise unknown(what, given, known)
    precision = precision_of(dtype)
    graph = network.of(arithmetic) if isinstance(network, Bundle) else network
    if arithmetic == "fixed" and graph.stage != Stage.QUANTISED:
        raise InputError(f"the graph is {graph.stage}, not an integer program", "quantise it first")
    runner = BACKENDS.get(choose_backend(backend, graph))
    unplaced = runner.processes != "own" and mapping == "bundle"
    cores = _cores_of(network, graph, None if unplaced else mapping)
    if gating in ("core", "power") and cores is None:
        remedy = "compile the bundle with --placement, and use a backend that runs on its cores"
        raise InputError(f"gating {gating} requires a run on cores", remedy)
    ran = ComputeHalted()(graph) if gating == "none" else graph
    prepared = prepare(graph, images, limit)
    x: Any = prepared if getattr(runner, "reads_slices", False) else prepared[:]
    options = RunOptions(
        dtype=precision,
        mapping=cores,
        gating=gating,
        record_spikes=record_spikes,
        record_states=record_states,
        runtime=runtime,
        granularity=granularity,
        deadline_s=deadline_s,
        progress=progress,
    )
    trace = runner.run(ran, x, options)
    data = images if isinstance(images, LabelledImages) else LabelledImages(images, None)
    data = match_classes(data, graph.classes)  # number labels as the graph does, not as the file does
    origin = Origin(
        images=hash_images(data.images[: trace.images]),
        labels=None if data.labels is None else tuple(data.labels[: trace.images].tolist()),
        classes=len(graph.classes),
        network=hash_network(graph),
        arithmetic=_arithmetic(graph, precision),
        processes=runner.processes,
        gating=gating,
        chip=None if cores is None else cores.profile,
    )
    return replace(trace, counted=replace(trace.activity, origin=origin))


def precision_of(dtype: DTypeLike) -> type[np.floating[Any]]:
    """Return the precision of float arithmetic: np.float64 or np.float32; InputError for another."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if dtype is None or name not in _PRECISIONS:
        raise unknown("dtype", dtype if dtype is None else name, DTYPES)
    return _PRECISIONS[name]


def _arithmetic(graph: Graph, precision: type[np.floating[Any]]) -> str:
    """Return the name of the arithmetic that a graph runs in, for `Origin`."""
    if graph.stage != Stage.QUANTISED:
        return str(np.dtype(precision))
    bits = {node.weight_bits for node in graph.nodes if isinstance(node, FixedSynaptic)}
    return f"integers, weights of {', '.join(str(each) for each in sorted(bits))} bits"


def _cores_of(
    network: Graph | Bundle, graph: Graph, mapping: Mapping | Literal["bundle"] | None
) -> Mapping | None:
    """Return the mapping by which a run counts activity; it must be one of the graph that runs."""
    if mapping == "bundle":
        mapping = network.mapping if isinstance(network, Bundle) else None
    if mapping is not None:
        try:
            check_mapping(graph, mapping)
        except InputError as error:
            remedy = "run the program that was placed (--arithmetic fixed), or ignore cores (--no-mapping)"
            raise InputError(error.what, remedy) from error
    return mapping


def preprocess(graph: Graph, images: LabelledImages | NDArray[Any], limit: int | None = None) -> NDArray[Any]:
    """Check images against a graph and convert them to its input.

    Returns float64 of the same shape, normalised as in training; int64 in 0..255, or of spikes 0 or 1, for a
    quantised graph.
    Raises InputError if shape, values or labels do not fit the graph.
    """
    return prepare(graph, images, limit)[:]


def prepare(graph: Graph, images: LabelledImages | NDArray[Any], limit: int | None = None) -> PreparedImages:
    """Check images against a graph; slices of the result are what `preprocess` returns of them."""
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}", "run at least 1 image")
    data = images if isinstance(images, LabelledImages) else LabelledImages(images, None, source="the images")
    wanted = graph.image_shape
    if data.images.shape[1:] != wanted or not len(data):
        what = f"{data.source}: {len(data)} images of shape {data.images.shape[1:]}"
        raise InputError(f"{what}, the model requires {wanted}", "give images of the shape it was trained on")
    match_classes(data, graph.classes)
    pixels = data.images[:limit]
    check_pixels(pixels, data.source)
    if isinstance(graph.input, FixedInput):
        if pixels.dtype != np.uint8 and pixels.max() > 1:
            what = f"{data.source}: frames contain {pixels.max():g}, an integer program requires 0..1"
            raise InputError(what, "scale them to 0..1 and train on that")
        largest = float(graph.input.largest)
        return PreparedImages(pixels, lambda part: _whole(part, largest))
    constants = graph.preprocessing.mean, graph.preprocessing.std
    return PreparedImages(pixels, lambda part: normalise(part, *constants))


def _whole(pixels: NDArray[Any], largest: float) -> NDArray[np.int64]:
    return (pixels if pixels.dtype == np.uint8 else np.rint(pixels * largest)).astype(np.int64)


def accuracy(trace: Trace, data: LabelledImages, classes: Sequence[str]) -> float | None:
    """Return the share of the trace's images that are classified correctly; None if data have no labels.

    ``classes`` are those of the network that ran; labels are matched with them (`match_classes`). Raises
    InputError if the first images of the data are not those that the trace records.
    """
    known = None if trace.counted is None else trace.counted.origin.images
    if known is not None and known != hash_images(data.images[: trace.images]):
        raise InputError(
            f"the {trace.images} images of the trace are not the first of {data.source}",
            "give the data of the run, in the same order",
        )
    labels = match_classes(data, classes).labels
    return None if labels is None else float((trace.predictions == labels[: trace.images]).mean())
