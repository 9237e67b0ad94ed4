"""Run a graph on Lava and return what every backend returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stas_neuro.activity import builder_for, does_events
from stas_neuro.errors import InputError, StasError
from stas_neuro.exporters.lava.build import build_network
from stas_neuro.exporters.lava.execute import Result, run_network
from stas_neuro.exporters.lava.failure import LavaFailure
from stas_neuro.exporters.lava.network import Network
from stas_neuro.ir import Array, Graph, Node, Phase, Readout, Stage
from stas_neuro.trace import Trace


class LavaRunError(StasError):
    """A run on Lava that ended without a result; `detail` is a traceback, the end of a log, or empty."""

    def __init__(self, what: str, remedy: str, detail: str = "") -> None:
        super().__init__(what, remedy)
        self.detail = detail


def run_lava(
    graph: Graph,
    images: Array,
    *,
    network: Network | None = None,
    dtype: type[np.floating[Any]] = np.float64,
    runtime: str = "in-process",
    record_spikes: bool = False,
    record_states: bool = False,
    deadline_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Run a folded or a quantised graph as a network of Lava processes, one a node.

    Parameters
    ----------
    images : Array
        Preprocessed, (B, C, H, W), or (B, T, C, H, W) for event data; of a quantised graph integers 0..255.
    network : Network
        What to run instead of `build_network(graph)`: the same layers, changed or read from a file. The graph
        then only says how the trace is laid out.
    dtype : type
        np.float64 or np.float32: precision of weights, messages and states. A quantised graph runs in int32.
    runtime : str
        "in-process": Lava's compiled process models stepped in this interpreter. "multiprocess": Lava's own
        runtime, an operating-system process a node, in a supervised child. Both give the same numbers.
    record_spikes : bool
        Whether the trace holds the spikes of every LIF.
    record_states : bool
        Whether the trace of a quantised graph holds the membranes of every LIF and the accumulated scores.
    deadline_s : float
        Longest time in seconds that the multi-process runtime may take between two images.
    progress : Callable
        Called with the number of finished images and of all.

    Raises
    ------
    InputError
        The graph still has BatchNorm nodes, or states of a folded one are asked for.
    LavaRunError
        Images do not fit, or the multi-process runtime raised, stalled or died.
    """
    if record_states and graph.stage != Stage.QUANTISED:
        raise InputError(f"the graph is {graph.stage}, it has no integer states", "run a quantised graph")
    try:
        result = run_network(
            build_network(graph) if network is None else network,
            images,
            dtype=dtype,
            runtime=runtime,
            record_spikes=record_spikes,
            record_states=record_states,
            deadline_s=deadline_s,
            progress=progress,
        )
    except LavaFailure as failure:
        raise LavaRunError(failure.what, failure.remedy, failure.detail) from failure
    return _trace(graph, result)


def _trace(graph: Graph, result: Result) -> Trace:
    builder = builder_for(graph, len(result.logits))
    for node in filter(does_events, graph.nodes):
        labels = _labels(graph, node)
        for kind, counts in result.counts[node.name].items():
            for step, label in enumerate(labels):
                builder.add(kind, node.name, label, counts[:, step])
    return Trace(
        logits=result.logits,
        visits=result.visits,
        activity=builder.build(result.visits),
        spikes=result.spikes,
        states=result.states,
    )


def _labels(graph: Graph, node: Node) -> tuple[str, ...]:
    """Labels of the steps of a node's window, as activity records have them."""
    if node.phase == Phase.STEM:
        return tuple(f"stem{step}" for step in range(1, graph.time_steps + 1))
    if node.phase == Phase.STEP or isinstance(node, Readout):
        return tuple(f"step{step}" for step in range(1, graph.time_steps + 1))
    return (str(node.phase),)
