"""Compile a trained model and run it: most commands are a layer over this, `verification` and `energy`.

``stas_neuro`` re-exports the public functions.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from collections.abc import Mapping as AnyMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stas_neuro.activity import Origin, hash_images
from stas_neuro.backends import BACKENDS, RUNTIMES, RunOptions
from stas_neuro.bundle import Bundle, Provenance, hash_network
from stas_neuro.choices import DTYPES as DTYPES
from stas_neuro.data import LabelledImages, check_pixels, normalise
from stas_neuro.energy import GATINGS
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.files import read_bytes
from stas_neuro.ir import PIXEL_LIMIT, FixedConv2d, FixedLinear, Graph, Phase, Stage
from stas_neuro.labels import match_classes
from stas_neuro.mapping import Mapping, check_mapping
from stas_neuro.passes import ComputeHalted, FoldBatchNorm, run_passes
from stas_neuro.trace import Trace

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

_PRECISIONS: dict[str, type[np.floating[Any]]] = dict(zip(DTYPES, (np.float64, np.float32), strict=True))
CHECKPOINT_FILES = ("config.json", "model.safetensors")
PassRecord = AnyMapping[str, str | int | float | bool]
"""A pass by its name and arguments, as a bundle records it."""
Progress = Callable[[int, int], None]
"""Called with the number of finished images and of all."""
TrainReport = Callable[[dict[str, Any]], None]
"""Called with each event of training, see `stas_neuro.training.train`."""


def load_model(
    model: StasModel | str | Path,
    *,
    accumulate: str | None = None,
    epsilon: float | None = None,
    readout: str | None = None,
) -> StasModel:
    """Load a checkpoint directory (or take a model), with another halting than it was trained with if asked.

    The weights are shared with the model that is given, which itself stays as it is.

    Raises
    ------
    InputError
        If torch is missing, the checkpoint is damaged, or the options fit no model.
    """
    if isinstance(model, str | Path):
        with needs("torch"):
            from stas_neuro.models.checkpoint import load_checkpoint
        model = load_checkpoint(Path(model))
    options = {"accumulate": accumulate, "epsilon": epsilon, "readout": readout}
    changes = {name: value for name, value in options.items() if value is not None}
    if changes:
        model = copy.copy(model)
        model.config = model.config.replace(**changes)
    return model


def fold(
    model: StasModel | str | Path,
    *,
    accumulate: str | None = None,
    epsilon: float | None = None,
    readout: str | None = None,
) -> Graph:
    """Lower a trained model to a graph and fold its normalisations: what every backend but torch runs.

    Parameters
    ----------
    model : StasModel, str or Path
        A model, or the directory of a checkpoint.
    accumulate, epsilon, readout : optional
        Replace those of the model's configuration; ``accumulate="off"`` ignores halting.

    Raises
    ------
    InputError
        If the checkpoint is missing or damaged, or a graph cannot say what the model holds (every reason at
        once).
    """
    return run_passes(
        lower(model, accumulate=accumulate, epsilon=epsilon, readout=readout), [FoldBatchNorm()]
    )


def lower(
    model: StasModel | str | Path,
    *,
    accumulate: str | None = None,
    epsilon: float | None = None,
    readout: str | None = None,
) -> Graph:
    """Give the traced graph, BatchNorms not yet folded; parameters as :func:`fold`."""
    loaded = load_model(model, accumulate=accumulate, epsilon=epsilon, readout=readout)
    with needs("torch"):
        from stas_neuro.frontend import torch_model
    return torch_model.lower(loaded)


def provenance(
    checkpoint: str | Path, *, passes: Sequence[PassRecord] = (), **options: str | float | None
) -> Provenance:
    """Tell where a bundle comes from: a checkpoint, the SHA-256 of its files, and the options given.

    The path is absolute: `verify` looks for the checkpoint there, from whatever directory it is called.
    """
    directory = Path(checkpoint).resolve()
    return Provenance(
        source=str(directory),
        source_sha256={
            name: hashlib.sha256(read_bytes(directory / name)).hexdigest() for name in CHECKPOINT_FILES
        },
        options={name: value for name, value in options.items() if value is not None},
        passes=tuple(passes),
    )


def run(  # noqa: PLR0913
    network: Graph | Bundle,
    images: LabelledImages | NDArray[Any],
    *,
    backend: str = "reference",
    dtype: DTypeLike = np.float64,
    runtime: str = "in-process",
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
        What :func:`stas_neuro.compile`, ``quantise`` or ``load_bundle`` gave. A quantised graph runs in
        integers.
    images : LabelledImages or array
        uint8 in 0..255 or floats in 0..1, as data have them, (B, C, H, W), or (B, T, C, H, W) for event data;
        they are normalised here as in training, or given as integers to a quantised graph.
    backend : str
        "reference", the interpreter in numpy; "lava", a Lava process a node; "lava-stock", an integer program
        as processes that come with Lava (docs/stock-lowering.md): results are the same, the activity is that
        of the processes; or one that another package registers (`stas_neuro.backends`).
    dtype : float64 or float32
        Precision of all arithmetic; integers have none.
    runtime : "in-process" or "multiprocess"
        Of Lava: stepped in this interpreter, or one operating-system process a node.
    deadline_s : float
        Longest time in seconds that Lava's multi-process runtime may take between two images.
    limit : int, optional
        Run only the first images.
    record_spikes : bool
        Whether the trace holds the spikes of every LIF.
    record_states : bool
        Whether the trace of a quantised graph holds its membranes and accumulated scores.
    arithmetic : "float" or "fixed"
        Which of the two networks of a bundle to run.
    mapping : Mapping, "bundle" or None
        The cores on which the activity is counted: those of the bundle if it has any, others, or none. Stock
        processes are on none.
    gating : "silent", "none", "core" or "power"
        What becomes of halted tokens: they fall silent; they are computed and thrown away; or cores on which
        all have halted are not stepped either (core and power alike). Results are the same.
    progress : callable, optional
        Called with the number of finished images and of all.

    Raises
    ------
    InputError
        If images do not fit the network, hold other values or have labels of classes that it does not know,
        or Lava is asked for and missing.
    LavaRunError
        If Lava's multi-process runtime fails.
    """
    for what, given, known in (("runtime", runtime, RUNTIMES), ("gating", gating, tuple(GATINGS))):
        if given not in known:
            raise InputError(f"no {what} is called {given!r}", f"use one of {', '.join(known)}")
    runner = BACKENDS.get(backend)
    precision = _PRECISIONS.get(np.dtype(dtype).name)
    if precision is None:
        raise InputError(f"no run is of dtype {np.dtype(dtype)}", f"use one of {', '.join(DTYPES)}")
    graph = network.of(arithmetic) if isinstance(network, Bundle) else network
    if arithmetic == "fixed" and graph.stage != Stage.QUANTISED:
        raise InputError(f"the graph is {graph.stage}, it has no integers", "quantise it first")
    unplaced = runner.processes != "own" and mapping == "bundle"
    cores = _cores_of(network, graph, None if unplaced else mapping)
    if gating in ("core", "power") and cores is None:
        remedy = "compile the bundle with --placement, and run its own processes on the cores"
        raise InputError(f"gating is {gating}, and the run is on no cores", remedy)
    ran = ComputeHalted()(graph) if gating == "none" else graph
    x = preprocess(graph, images, limit)
    options = RunOptions(
        dtype=precision,
        mapping=cores,
        gating=gating,
        record_spikes=record_spikes,
        record_states=record_states,
        runtime=runtime,
        deadline_s=deadline_s,
        progress=progress,
    )
    trace = runner.run(ran, x, options)
    data = images if isinstance(images, LabelledImages) else LabelledImages(images, None)
    data = match_classes(data, graph.classes)  # labels are then the same, however a file counts them
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


def _arithmetic(graph: Graph, precision: type[np.floating[Any]]) -> str:
    """Name the arithmetic that a graph runs in, as `Origin` has it."""
    if graph.stage != Stage.QUANTISED:
        return str(np.dtype(precision))
    bits = {node.weight_bits for node in graph.nodes if isinstance(node, FixedConv2d | FixedLinear)}
    return f"integers, weights of {', '.join(str(each) for each in sorted(bits))} bits"


def _cores_of(
    network: Graph | Bundle, graph: Graph, mapping: Mapping | Literal["bundle"] | None
) -> Mapping | None:
    """Find the mapping that a run counts by: one of the graph that it runs."""
    if mapping == "bundle":
        mapping = network.mapping if isinstance(network, Bundle) else None
    if mapping is not None:
        try:
            check_mapping(graph, mapping)
        except InputError as error:
            remedy = "run the program that was placed (--arithmetic fixed), or on no cores (--no-mapping)"
            raise InputError(error.what, remedy) from error
    return mapping


def preprocess(graph: Graph, images: LabelledImages | NDArray[Any], limit: int | None = None) -> NDArray[Any]:
    """Give images as a graph takes them, after checking that they fit it.

    Float64 of the same shape, normalised as in training; of a quantised graph int64, 0..255. Labels are only
    checked, as `match_classes` does: data whose labels are not those of the graph are not meant for it.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}", "run at least 1 image")
    data = images if isinstance(images, LabelledImages) else LabelledImages(images, None, source="the images")
    wanted = graph.input.shape if graph.input.phase == Phase.ONCE else (graph.time_steps, *graph.input.shape)
    if data.images.shape[1:] != wanted or not len(data):
        raise InputError(
            f"{data.source}: {len(data)} images of shape {data.images.shape[1:]}, the model takes {wanted}",
            "give data of the kind it was trained on",
        )
    match_classes(data, graph.classes)
    pixels = data.images[:limit]
    check_pixels(pixels, data.source)
    if graph.stage == Stage.QUANTISED:
        if pixels.dtype != np.uint8 and pixels.max() > 1:
            what = f"{data.source}: frames hold {pixels.max():g}, an integer program takes 0..1"
            raise InputError(what, "scale them to 0..1 and train on that")
        whole = pixels if pixels.dtype == np.uint8 else np.rint(pixels * float(PIXEL_LIMIT))
        return whole.astype(np.int64)
    return normalise(pixels, graph.preprocessing.mean, graph.preprocessing.std)


def accuracy(trace: Trace, data: LabelledImages, classes: Sequence[str]) -> float | None:
    """Share of the trace's images that are classified as labelled; None where the data have no labels.

    ``classes`` are those of the network that ran, which labels are matched with (`match_classes`). Raises
    InputError where the data do not begin with the images that the trace is known to be of.
    """
    known = None if trace.counted is None else trace.counted.origin.images
    if known is not None and known != hash_images(data.images[: trace.images]):
        raise InputError(
            f"the trace is of {trace.images} images, which are not the first of {data.source}",
            "give the data that were run, in the same order",
        )
    labels = match_classes(data, classes).labels
    return None if labels is None else float((trace.predictions == labels[: trace.images]).mean())
