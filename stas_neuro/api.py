"""Compile a trained model and run it: most commands are a layer over this, `verification` and `energy`.

``stas_neuro`` re-exports the public functions.
"""

from __future__ import annotations

import copy
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stas_neuro.bundle import Bundle, Provenance
from stas_neuro.data import LabelledImages, check_pixels, normalise
from stas_neuro.energy import GATINGS
from stas_neuro.errors import InputError
from stas_neuro.files import read_bytes
from stas_neuro.ir import PIXEL_LIMIT, Graph, Phase, Stage
from stas_neuro.mapping import Mapping, check_mapping
from stas_neuro.passes import ComputeHalted, FoldBatchNorm, run_passes
from stas_neuro.trace import Trace

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

BACKENDS = ("reference", "lava")
_PRECISIONS: dict[str, type[np.floating[Any]]] = {"float64": np.float64, "float32": np.float32}
DTYPES = tuple(_PRECISIONS)
RUNTIMES = ("in-process", "multiprocess")
LOWERINGS = ("own", "stock")
CHECKPOINT_FILES = ("config.json", "model.safetensors")
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


def compile(
    model: StasModel | str | Path,
    *,
    accumulate: str | None = None,
    epsilon: float | None = None,
    readout: str | None = None,
) -> Graph:
    """Compile a trained model to the folded graph that every backend but torch runs.

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
    """Give the traced graph, BatchNorms not yet folded; parameters as :func:`compile`."""
    loaded = load_model(model, accumulate=accumulate, epsilon=epsilon, readout=readout)
    with needs("torch"):
        from stas_neuro.frontend import torch_model
    return torch_model.lower(loaded)


def provenance(checkpoint: str | Path, **options: str | float | None) -> Provenance:
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
    lowering: str = "own",
    mapping: Mapping | Literal["bundle"] | None = "bundle",
    gating: str = "silent",
    progress: Progress | None = None,
) -> Trace:
    """Classify images.

    Parameters
    ----------
    network : Graph or Bundle
        What :func:`compile`, ``quantise`` or ``load_bundle`` gave. A quantised graph runs in integers.
    images : LabelledImages or array
        uint8 in 0..255 or floats in 0..1, as data have them, (B, C, H, W), or (B, T, C, H, W) for event data;
        they are normalised here as in training, or given as integers to a quantised graph.
    backend : "reference" or "lava"
        The interpreter in numpy, or Lava processes.
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
    lowering : "own" or "stock"
        Of Lava and integers: one process a node of our own, or Lava's stock processes only, whatever it costs
        in neurons (docs/stock-lowering.md). Results are the same, the activity is that of the processes.
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
        If images do not fit the network or hold other values, or Lava is asked for and missing.
    LavaRunError
        If Lava's multi-process runtime fails.
    """
    choices = (
        ("backend", backend, BACKENDS),
        ("runtime", runtime, RUNTIMES),
        ("lowering", lowering, LOWERINGS),
        ("gating", gating, tuple(GATINGS)),
    )
    for what, given, known in choices:
        if given not in known:
            raise InputError(f"no {what} is called {given!r}", f"use one of {', '.join(known)}")
    if backend != "lava" and runtime != "in-process":
        raise InputError(f"runtime {runtime} is Lava's, the backend is {backend}", "use the backend lava")
    if lowering == "stock" and (backend != "lava" or runtime != "in-process" or record_states):
        what = "stock processes run on the backend lava in process and keep no states"
        raise InputError(what, "use these, or the lowering own")
    if lowering == "stock" and isinstance(mapping, Mapping):
        raise InputError(
            "a mapping places the layers of a network, not stock processes", "use the lowering own"
        )
    precision = _PRECISIONS.get(np.dtype(dtype).name)
    if precision is None:
        raise InputError(f"no run is of dtype {np.dtype(dtype)}", f"use one of {', '.join(DTYPES)}")
    graph = network.of(arithmetic) if isinstance(network, Bundle) else network
    if arithmetic == "fixed" and graph.stage != Stage.QUANTISED:
        raise InputError(f"the graph is {graph.stage}, it has no integers", "quantise it first")
    cores = _cores_of(network, graph, None if lowering == "stock" and mapping == "bundle" else mapping)
    if gating in ("core", "power") and cores is None:
        remedy = "compile the bundle with --placement, and run its own processes on the cores"
        raise InputError(f"gating is {gating}, and the run is on no cores", remedy)
    if gating == "none":
        graph = ComputeHalted()(graph)
    x = preprocess(graph, images, limit)
    if backend == "lava":
        with needs("lava"):
            import stas_neuro.exporters.lava.lava_api  # noqa: F401 - the rest imports it late, or in a child
        from stas_neuro.exporters.lava.run import run_lava

        if lowering == "stock":
            from stas_neuro.exporters.lava.stock import lower_stock, run_stock

            return run_stock(lower_stock(graph), x, record_spikes=record_spikes, progress=progress)
        return run_lava(
            graph,
            x,
            mapping=cores,
            gating=gating,
            dtype=precision,
            runtime=runtime,
            record_spikes=record_spikes,
            record_states=record_states,
            deadline_s=deadline_s,
            progress=progress,
        )
    from stas_neuro.reference import run_reference

    return run_reference(
        graph,
        x,
        mapping=cores,
        gating=gating,
        dtype=precision,
        record_spikes=record_spikes,
        record_states=record_states,
        progress=progress,
    )


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

    Float64 of the same shape, normalised as in training; of a quantised graph int64, 0..255.
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
    pixels = data.images[:limit]
    check_pixels(pixels, data.source)
    if graph.stage == Stage.QUANTISED:
        if pixels.dtype != np.uint8 and pixels.max() > 1:
            what = f"{data.source}: frames hold {pixels.max():g}, an integer program takes 0..1"
            raise InputError(what, "scale them to 0..1 and train on that")
        whole = pixels if pixels.dtype == np.uint8 else np.rint(pixels * float(PIXEL_LIMIT))
        return whole.astype(np.int64)
    return normalise(pixels, graph.preprocessing.mean, graph.preprocessing.std)


def accuracy(trace: Trace, data: LabelledImages) -> float | None:
    """Share of the trace's images that are classified as labelled; None where the data have no labels."""
    if data.labels is None:
        return None
    return float((trace.predictions == data.labels[: trace.images]).mean())


@contextmanager
def needs(part: str) -> Iterator[None]:
    """Say how to install an optional part (``torch``, ``lava``) where an import finds it missing."""
    try:
        with warnings.catch_warnings():
            # Norse 1.1 compiles with torch.jit.script on import, which is nothing that a caller can change.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
            yield
    except ImportError as error:
        raise InputError(f"{part} cannot be used here: {error}", _installation(part)) from error


def _installation(part: str) -> str:
    """How to install an optional part in this version of Python: Lava declares none above 3.10."""
    if part == "lava" and sys.version_info >= (3, 11):
        command = (
            "pip install asteval networkx scipy && "
            "pip install --no-deps --ignore-requires-python lava-nc==0.10.0"
        )
    else:
        command = f"pip install 'stas-neuro[{part}]'"
    return f"{command} (in a checkout: uv sync --all-extras)"
