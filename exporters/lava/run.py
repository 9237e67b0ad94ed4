"""Run a graph on Lava and return what every backend returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stas_neuro.activity import ActivityBuilder
from stas_neuro.activity.layers import builder_for
from stas_neuro.analysis import works_in
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.cores import cores_of, pieces_of
from stas_neuro.exporters.lava.execute import Result, run_network
from stas_neuro.exporters.lava.messages import add_messages, labels
from stas_neuro.ir import Array, Graph, Stage
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.routes import routes
from stas_neuro.trace import Trace


def run_lava(  # noqa: PLR0913
    graph: Graph,
    images: Array,
    *,
    network: Graph | None = None,
    mapping: Mapping | None = None,
    gating: str = "silent",
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
    network : Graph
        What to run instead of `graph`: the same nodes, changed or read from a file. `graph` then only says
        how the trace is laid out.
    mapping : Mapping
        Where the graph's neurons are; then activity is counted for each piece of a layer.
    gating : str
        "core" or "power": on cores without a live token neurons are not stepped, which changes no result.
        "silent": they are. "none" is another graph, see `passes.ComputeHalted`, and then the same here.
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
        The graph still has BatchNorm nodes, states of a folded one are asked for, the mapping is of another
        graph, or cores are to be gated without one.
    LavaRunError
        Images do not fit, or the multi-process runtime raised, stalled or died.
    """
    if record_states and graph.stage != Stage.QUANTISED:
        raise InputError(f"the graph is {graph.stage}, it has no integer states", "run a quantised graph")
    gated = gating in ("core", "power")
    if gated and mapping is None:
        raise InputError(f"gating is {gating}, the run is on no cores", "give a mapping")
    ways = None if mapping is None else routes(graph, mapping)
    cores = {}
    if mapping is not None and ways is not None:
        cores = cores_of(graph, mapping, ways, gated=gated)
    result = run_network(
        graph if network is None else network,
        images,
        cores=cores,
        dtype=dtype,
        runtime=runtime,
        record_spikes=record_spikes,
        record_states=record_states,
        deadline_s=deadline_s,
        progress=progress,
    )
    builder = builder_for(graph, len(result.logits), mapping)
    _add_counts(builder, graph, mapping, result)
    if mapping is not None and ways is not None:
        add_messages(builder, graph, mapping, ways, result)
    return Trace(
        logits=result.logits,
        visits=result.visits,
        counted=builder.build(result.visits),
        spikes=result.spikes,
        states=result.states,
    )


def _add_counts(builder: ActivityBuilder, graph: Graph, mapping: Mapping | None, result: Result) -> None:
    """Enter what the processes counted, each piece's at its row."""
    for node in (node for node in graph.nodes if node.traits.counts_events):
        pieces = () if mapping is None else pieces_of(graph, mapping, node)
        rows = [f"{node.name}@{piece.core}" for piece in pieces] or [node.name]
        steps = labels(graph, works_in(graph, node))
        for kind, counts in result.counts[node.name].items():
            by_row = counts.reshape(*counts.shape[:2], len(rows))
            # What a process computes once, for neurons of every step, is brought to them in each.
            by_row = np.broadcast_to(by_row, (len(by_row), len(steps), len(rows)))
            for step, label in enumerate(steps):
                for number, row in enumerate(rows):
                    builder.add(kind, row, label, by_row[:, step, number])
