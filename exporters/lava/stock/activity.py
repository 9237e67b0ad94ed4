"""What stock processes did, as a record that can be priced, and what they are, as a cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stas_neuro.activity import Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.ir import Array

from .lower import StockNetwork
from .lowering import IMAGE
from .netlist import Graded, Lif, NeuronGroup, Pipeline, Product, Source, Synapses

_KINDS = {Graded: "GradedVec", Product: "ProdNeuron"}


@dataclass(frozen=True, kw_only=True)
class StockCost:
    """What a pipeline of stock processes takes, whatever image it runs.

    `neurons` and `synapses` are counted, of which `relays` only delay; `processes` counts Lava processes by
    their name, the host's sources and sinks left out. An image takes `latency` Lava steps, the next one is
    done `period` steps later.
    """

    neurons: int
    relays: int
    synapses: int
    processes: Mapping[str, int]
    depth: int
    period: int

    @property
    def latency(self) -> int:
        """Lava steps from the arrival of an image to the last that works on it."""
        return self.depth + self.period - 1


def cost_of(network: StockNetwork) -> StockCost:
    """Count what a network of stock processes takes."""
    pipeline = network.pipeline
    groups = [group for group in pipeline.groups if not isinstance(group.neuron, Source)]
    processes = Counter(_kind(group) for group in groups)
    processes["Sparse"] = sum(len(synapses.parts()) for synapses in pipeline.synapses)
    return StockCost(
        neurons=sum(group.size for group in groups),
        relays=sum(group.size for group in groups if group.origin != group.name),
        synapses=sum(synapses.weights.size for synapses in pipeline.synapses),
        processes=dict(processes),
        depth=pipeline.depth,
        period=pipeline.period,
    )


def record_activity(
    network: StockNetwork, sent: Mapping[str, Array], visits: Array, operations: Array
) -> Activity:
    """Count events, each group's with the model step that it works on.

    Parameters
    ----------
    sent : int (B, period, size) by group
        What each neuron sent.
    operations : int (B, T)
        Of the host.

    A layer is a group with all synapses into it, and its place in the pipeline its stage: an image takes
    depth + period - 1 hardware steps. A neuron is active where a spike reached it, it has a bias or it fires.
    """
    pipeline, graph = network.pipeline, network.graph
    images = len(visits)
    layers = [_layer(pipeline, group) for group in pipeline.groups if not isinstance(group.neuron, Source)]
    host = Layer(
        name=graph.readout.name,
        kind="Readout",
        scope="head",
        neurons=0,
        phase="step",
        stage=pipeline.depth - 1,
    )
    builder = ActivityBuilder([*layers, host], step_labels(graph.time_steps), images)
    for group in pipeline.groups:
        if isinstance(group.neuron, Source):
            continue
        fired = sent[group.name] != 0
        touched = fired | (isinstance(group.neuron, Lif) and group.neuron.bias != 0)
        for synapses in pipeline.into(group):
            events = sent[synapses.src] != 0
            fan_out = np.bincount(synapses.columns, minlength=events.shape[2])
            if pipeline.group(synapses.src).origin == IMAGE:  # relays of pixels send pixels
                _add(builder, "macs", group, events @ fan_out)
            else:
                _add(builder, "synops", group, events @ fan_out)
                _add(builder, "synops_unary", group, np.abs(sent[synapses.src].astype(np.int64)) @ fan_out)
            if synapses.feedback:
                # What a group sends itself arrives a step later; in the first step a control spike reaches
                # all of it.
                events = np.concatenate([np.zeros_like(events[:, :1]), events[:, :-1]], axis=1)
            touched = touched | _reached(synapses, events, group.size)
        active = touched.sum(axis=2)
        _add(builder, "updates_active", group, active)
        _add(builder, "updates_inactive", group, group.size - active)
        _add(builder, "spikes_out", group, fired.sum(axis=2))
    for step in range(graph.time_steps):
        builder.add("cpu_operations", host.name, f"step{step + 1}", operations[:, step])
    return builder.build(visits)


def _kind(group: NeuronGroup) -> str:
    """Name of a group's stock process."""
    if isinstance(group.neuron, Lif):
        return "LIF" if group.neuron.reset == "never" else "LIFReset"
    return _KINDS[type(group.neuron)]


def _layer(pipeline: Pipeline, group: NeuronGroup) -> Layer:
    into = pipeline.into(group)
    return Layer(
        name=group.name,
        kind=_kind(group),
        scope=group.scope,
        neurons=group.size,
        in_features=sum(pipeline.group(synapses.src).size for synapses in into),
        out_features=group.size,
        weights=sum(synapses.weights.size for synapses in into),
        phase="step",
        # The host's input takes no stage of its own.
        stage=group.depth - 1,
    )


def _reached(synapses: Synapses, events: Array, size: int) -> Array:
    """Tell which neurons an event reaches, bool (B, period, size)."""
    from scipy.sparse import csr_matrix  # comes with Lava; a cost needs neither

    ones = np.ones(synapses.rows.size, np.int32)
    matrix = csr_matrix((ones, (synapses.rows, synapses.columns)), shape=(size, events.shape[2]))
    counts = matrix @ events.reshape(-1, events.shape[2]).T.astype(np.int32)
    reached: Array = counts.T.reshape(*events.shape[:2], size) > 0
    return reached


def _add(builder: ActivityBuilder, kind: str, group: NeuronGroup, by_step: Array) -> None:
    for step in range(by_step.shape[1]):
        builder.add(kind, group.name, f"step{step + 1}", by_step[:, step])
