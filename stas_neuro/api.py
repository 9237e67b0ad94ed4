"""Run networks and measure their accuracy; ``stas_neuro`` re-exports the public functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stas_neuro.activity import Origin, hash_images
from stas_neuro.backends import AUTO, BACKENDS, RUNTIMES, Backend, RunOptions, choose_backend
from stas_neuro.bundle import Bundle, hash_network
from stas_neuro.choices import DTYPES as DTYPES
from stas_neuro.choices import GRANULARITIES
from stas_neuro.data import LabelledImages, PreparedImages, as_images, check_pixels, chosen, normalise
from stas_neuro.energy import GATINGS
from stas_neuro.errors import InputError, unknown
from stas_neuro.ir import FixedInput, FixedSynaptic, Graph, Stage
from stas_neuro.labels import match_classes
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.check import check_mapping
from stas_neuro.passes import ComputeHalted
from stas_neuro.trace import Trace, TraceCollector, TracePart

_PRECISIONS: dict[str, type[np.floating[Any]]] = dict(zip(DTYPES, (np.float64, np.float32), strict=True))
Progress = Callable[[int, int], None]
"""Called with the number of finished images and the total number of images."""
_AT_ONCE = 1024
"""Images that are given at once to a backend that takes arrays."""
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
    per_image: bool = False,
    progress: Progress | None = None,
    parts: RunParts | None = None,
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
        Processes of the backend lava: one for each node, or one for each chip of the placement, which runs an
        integer program in the compiled loops of the backend fast; its results are the same. "auto" is "chip"
        for an integer program where fast is installed, else "layer".
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
    per_image : bool
        Whether the activity has the counts of every image. Without it, the activity of more than
        `stas_neuro.activity.SAMPLE` images has the sums over all of them and the counts of a random sample,
        so that memory does not grow with the number of images.
    progress : callable, optional
        Called with the number of finished images and the total number of images.
    parts : RunParts, optional
        Keeps what is done, so that an interrupted run can be continued.

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
    data = match_classes(as_images(images), graph.classes)  # labels as the graph numbers its classes
    prepared = prepare(graph, data, limit)
    collector = TraceCollector(len(prepared), per_image=per_image)
    if parts is not None:
        for part in parts.known(collector):
            collector.add_part(part)
    start = collector.done
    hashing = _Hashing(prepared.pixels, prepared.convert).after(start)

    def collect(batches: Iterable[Trace], images: int) -> Trace:
        for batch in batches:
            done = collector.add(batch, hashing.of(collector.done - start, batch.images))
            if parts is not None:
                parts.add(done)
        return collector.trace()

    options = RunOptions(
        dtype=precision,
        mapping=cores,
        gating=gating,
        record_spikes=record_spikes,
        record_states=record_states,
        runtime=runtime,
        granularity=granularity,
        deadline_s=deadline_s,
        progress=None if progress is None else _Shifted(progress, start, len(prepared)),
        collect=collect,
        kept=collector.activity.kept_from(start),
    )
    trace = _run_all(runner, ran, hashing, options)
    kept = collector.activity
    origin = Origin(
        images=tuple(kept.hashes),
        labels=None if data.labels is None else tuple(data.labels[: len(prepared)].tolist()),
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


class RunParts(Protocol):
    """Keeps the parts of a run, so that it can go on after an interruption."""

    def known(self, collector: TraceCollector) -> Iterable[TracePart]:
        """Return the parts that were kept of an earlier run, and give the collector what these need."""

    def add(self, part: TracePart) -> None:
        """Keep a part."""


def _run_all(runner: Backend, graph: Graph, images: _Hashing, options: RunOptions) -> Trace:
    """Run images in one go, or some at a time with a backend that takes arrays."""
    if not len(images):
        return options.collect((), 0)
    if getattr(runner, "reads_slices", False):
        slices: Any = images
        return runner.run(graph, slices, options)

    def batches() -> Iterator[Trace]:
        for start in range(0, len(images), _AT_ONCE):
            shifted = None if options.progress is None else _Shifted(options.progress, start, len(images))
            some = _wide(images[start : start + _AT_ONCE])
            yield runner.run(graph, some, replace(options, progress=shifted, kept=None))

    return options.collect(batches(), len(images))


@dataclass(frozen=True)
class _Shifted:
    """Reports the progress of a part of a run as progress of the whole."""

    report: Progress
    start: int
    total: int

    def __call__(self, done: int, total: int) -> None:
        self.report(self.start + done, self.total)


@dataclass(frozen=True, eq=False)
class _Hashing(PreparedImages):
    """Images that are hashed when they are read for a run, so that they are read once."""

    hashes: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> NDArray[Any]:
        pixels = self.pixels[part]
        if isinstance(part, slice):
            self.hashes[part.start or 0] = hash_images(pixels)
        return self.convert(pixels)

    def after(self, start: int) -> _Hashing:
        """Return the images from a number on."""
        return _Hashing(chosen(self.pixels, slice(start, None)), self.convert)

    def of(self, start: int, count: int) -> tuple[str, ...]:
        """Return the hashes of some images, which a backend has usually read together."""
        hashes = self.hashes.pop(start, ())
        if len(hashes) != count:
            return hash_images(self.pixels[start : start + count])
        return hashes


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


def preprocess(graph: Graph, images: Any, limit: int | None = None) -> NDArray[Any]:
    """Check images against a graph and convert them to its input.

    Returns float64 of the same shape, normalised as in training; int64 in 0..255, or of spikes 0 or 1, for a
    quantised graph.
    Raises InputError if shape, values or labels do not fit the graph.
    """
    return _wide(prepare(graph, images, limit)[:])


def _wide(pixels: NDArray[Any]) -> NDArray[Any]:
    """Give pixels the type that all backends take: int64 where they are bytes."""
    return pixels.astype(np.int64) if pixels.dtype == np.uint8 else pixels


def prepare(graph: Graph, images: Any, limit: int | None = None) -> PreparedImages:
    """Check images against a graph; slices of the result are what `preprocess` returns, or the same as uint8.

    Pixels are checked when a slice is taken.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}", "run at least 1 image")
    data = as_images(images)
    wanted = graph.image_shape
    if data.images.shape[1:] != wanted or not len(data):
        what = f"{data.source}: {len(data)} images of shape {data.images.shape[1:]}"
        raise InputError(f"{what}, the model requires {wanted}", "give images of the shape it was trained on")
    match_classes(data, graph.classes)
    return PreparedImages(data.select(slice(limit)).images, lambda part: _converted(graph, part, data.source))


def _converted(graph: Graph, pixels: NDArray[Any], source: str) -> NDArray[Any]:
    """Return images as a graph takes them; raises InputError for pixels that it cannot take."""
    check_pixels(pixels, source)
    if not isinstance(graph.input, FixedInput):
        return normalise(pixels, graph.preprocessing.mean, graph.preprocessing.std)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.size and pixels.max() > 1:
        what = f"{source}: frames contain {pixels.max():g}, an integer program requires 0..1"
        raise InputError(what, "scale them to 0..1 and train on that")
    return np.rint(pixels * float(graph.input.largest)).astype(np.int64)


def has_images(data: LabelledImages, hashes: Sequence[str], numbers: NDArray[np.int64]) -> bool:
    """Tell whether the first images of data have these hashes; only those with some numbers are read."""
    if len(data) < len(hashes):
        return False
    return hash_images(data.select(numbers).images) == tuple(hashes[number] for number in numbers.tolist())


def accuracy(trace: Trace, data: LabelledImages, classes: Sequence[str]) -> float | None:
    """Return the share of the trace's images that are classified correctly; None if data have no labels.

    ``classes`` are those of the network that ran; labels are matched with them (`match_classes`). Raises
    InputError if the first images of the data are not those that the trace records.
    """
    counted = trace.counted
    known = None if counted is None else counted.origin.images
    if counted is not None and known is not None and not has_images(data, known, counted.numbers):
        raise InputError(
            f"the {trace.images} images of the trace are not the first of {data.source}",
            "give the data of the run, in the same order",
        )
    labels = match_classes(data, classes).labels
    return None if labels is None else float((trace.predictions == labels[: trace.images]).mean())
