"""Executions of a network by torch, the references and Lava, each as a function of images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stas_neuro import api
from stas_neuro.backends import RUNTIMES
from stas_neuro.bundle import Bundle, is_bundle
from stas_neuro.compiler import fold, load_model, lower
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.extras import needs
from stas_neuro.importers import is_imported
from stas_neuro.ir import Graph
from stas_neuro.reference import run_reference
from stas_neuro.reference.interpreter import Observe
from stas_neuro.trace import Trace
from stas_neuro.verifier.agreement import INTEGER

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

Run = Callable[[LabelledImages], Trace]
Runs = dict[tuple[str, str], Run]
"""Runs by name and dtype."""


def torch_side(
    network: Bundle | Graph | StasModel,
    graph: Graph,
    model: StasModel | str | Path | None,
    left_out: dict[str, str],
) -> StasModel | None:
    """Return the torch model that a graph was compiled from, after checking that it is; None if unavailable.

    The reason why it is unavailable is added to `left_out`. Raises InputError for a given `model` that cannot
    be used.
    """
    if not isinstance(network, Bundle | Graph):
        return network
    if what := _not_in_torch(graph):
        if model is not None:
            raise InputError(f"torch cannot run the network: {what}", "verify it without a model")
        left_out["torch"] = what
        return None
    if not isinstance(network, Bundle) and model is None:
        left_out["torch"] = "a graph does not name the model it was compiled from"
        return None
    if model is None and isinstance(network, Bundle):
        origin = network.provenance.source
        trained = network.provenance.training is not None
        if not origin or trained or is_imported(origin) or is_bundle(origin):
            made = "fine-tuned" if trained else "compiled"
            left_out["torch"] = f"the bundle was {made} from {origin or 'a model in memory'}"
            return None
    given = Path(network.provenance.source) if model is None and isinstance(network, Bundle) else model
    assert given is not None
    try:
        source = _as_compiled(network, given) if isinstance(network, Bundle) else load_model(given)
        if fold(source) != graph:
            what = f"{given if isinstance(given, str | Path) else 'the model'} is not what was compiled"
            raise InputError(what, "pass the checkpoint that the bundle was compiled from, or compile again")
    except InputError as error:
        if model is not None:
            raise
        left_out["torch"] = error.what
        return None
    return source


def _not_in_torch(graph: Graph) -> str:
    """Return what a schedule has changed that torch does not compute; empty if nothing."""
    if graph.late:
        return "it has no late halting decisions, which the schedule pipelined-stale requires"
    if graph.halting == "image" and not any(node.traits.gates_tokens for node in graph.nodes):
        return "it masks the blocks of an image that has exited, which the schedule pipelined computes on"
    return ""


def _as_compiled(bundle: Bundle, model: StasModel | str | Path) -> StasModel:
    """Return a model that halts, and ends, as a bundle was compiled to; also where halting was added."""
    used = bundle.provenance.options
    known = ["accumulate", "epsilon", "readout", "max_visits", "token_groups"]
    steps: Any = used.get("steps")
    if "halting" not in used:
        given: dict[str, Any] = {name: used.get(name) for name in known}
        return load_model(model, time_steps=steps, **given)
    added: dict[str, Any] = {name: used[name] for name in ("alpha", "beta", "epsilon", "margin")}
    added["summed"] = used.get("summed", False)
    added |= {name: used.get(name, 0) for name in ("max_visits", "token_groups")}
    added |= {"accumulate": used["halting"], "readout": bundle.graph.readout.mode}
    return load_model(load_model(model, time_steps=steps), **added)  # halting was added to what was left


def lava_runtimes(multiprocess: bool, left_out: dict[str, str]) -> tuple[str, ...]:
    """Return the runtimes of Lava to compare; none, with a reason in `left_out`, where it is missing."""
    try:
        with needs("lava"):
            import stas_neuro.exporters.lava.lava_api  # noqa: F401 - only whether it can be imported
    except InputError as error:
        left_out["lava"] = str(error)
        return ()
    return RUNTIMES if multiprocess else ("in-process",)


def float_runs(graph: Graph, network: Graph, model: StasModel | None, runtimes: tuple[str, ...]) -> Runs:
    """Return the runs to compare with the float reference."""
    runs: Runs = {}
    if model is not None:
        unfolded = lower(model)
        runs["reference, not folded", "float64"] = lambda x: api.run(
            unfolded, x, backend="reference", record_spikes=True, per_image=True
        )
        runs["torch, masking", "float64"] = _torch_run(graph, model, "float64", skip=False)
        runs["torch, skipping", "float64"] = _torch_run(graph, model, "float64", skip=True)
    for runtime in runtimes:
        runs[f"Lava, {runtime}", "float64"] = _lava_run(graph, network, runtime)
    runs["reference", "float32"] = lambda x: api.run(
        graph, x, backend="reference", dtype=np.float32, record_spikes=True, per_image=True
    )
    if model is not None:
        runs["torch, masking", "float32"] = _torch_run(graph, model, "float32", skip=False)
    for runtime in runtimes[:1]:
        runs[f"Lava, {runtime}", "float32"] = _lava_run(graph, network, runtime, dtype=np.float32)
    return runs


def fixed_runs(graph: Graph, network: Graph, runtimes: tuple[str, ...]) -> Runs:
    """Return the runs to compare with the integer reference."""
    return {
        (f"Lava, {runtime}", INTEGER): _lava_run(graph, network, runtime, record_states=True)
        for runtime in runtimes
    }


def float_baseline(graph: Graph) -> Run:
    """Return the float reference."""
    return lambda x: api.run(graph, x, backend="reference", record_spikes=True, per_image=True)


def fixed_baseline(graph: Graph, observe: Observe) -> Run:
    """Return the integer reference, which calls `observe` with the inputs of each node."""

    def execute(images: LabelledImages) -> Trace:
        x = api.preprocess(graph, images)
        return run_reference(graph, x, record_spikes=True, record_states=True, observe=observe)

    return execute


def _lava_run(graph: Graph, network: Graph, runtime: str, **options: Any) -> Run:
    def execute(images: LabelledImages) -> Trace:
        x = api.preprocess(graph, images)
        return run_lava(graph, x, network=network, runtime=runtime, record_spikes=True, **options)

    return execute


def _torch_run(graph: Graph, model: StasModel, dtype: str, *, skip: bool) -> Run:
    with needs("torch"):
        from stas_neuro.frontend.torch_trace import trace
    precise = copy.deepcopy(model).eval()
    precise = precise.double() if dtype == "float64" else precise.float()
    return lambda x: trace(precise, api.preprocess(graph, x), skip=skip)
