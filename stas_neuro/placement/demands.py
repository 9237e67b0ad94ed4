"""What the layers of a network ask of cores: neurons, memory, and the sources that reach them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import neuron_layers, placed_with, stages_of
from stas_neuro.chips import Profile
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    LIF,
    OPERATIONS,
    Conv2d,
    FixedSynaptic,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    Linear,
    MaskedColumnSum,
    Node,
    Readout,
    SpikeMatMul,
    Stage,
    Synaptic,
    op_of,
    per_op,
)

EXPONENT_BITS = 4
"""Of the power of two that the weights of a feature are multiplied by, -8..7."""
DEFAULT_BITS = 8
"""Of a weight where a graph has no integers yet."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerDemand:
    """A layer that keeps neurons, and what they ask of a core.

    Parameters
    ----------
    name, scope : str
        Its node and the part of the network that it belongs to.
    stage : int
        Spiking stages before it: in which hardware step of a model step it is at work.
    positions, features : int
        Its neurons are positions x features.
    synapse_bits : int64 (positions,)
        Memory for the synapses of one feature at each position, where positions do not share weights.
    shared_bits : int
        The same where they do, whatever the number of positions.
    feature_bits : int
        Memory of a feature on a core, in any case: the exponent of its weights, its part of K^T V.
    head_bits, head : int
        Memory for each attention head that a piece has features of, and features of a head; 0 where there is
        none. Of the form (QK^T)V: a core holds the spikes of K of its heads, one bit each.
    """

    name: str
    scope: str
    stage: int
    positions: int
    features: int
    synapse_bits: NDArray[np.int64]
    shared_bits: int
    feature_bits: int = 0
    head_bits: int = 0
    head: int = 0

    def memory(self, positions: NDArray[np.intp], features: tuple[int, int], *, sharing: bool) -> int:
        """Bits of synaptic memory that some features of some positions take on one core."""
        first, end = features
        synapses = self.shared_bits if sharing else int(self.synapse_bits[positions].sum())
        heads = -(-end // self.head) - first // self.head if self.head else 0
        return (end - first) * (synapses + self.feature_bits) + heads * self.head_bits


def demands_of(graph: Graph, bits: int = DEFAULT_BITS) -> tuple[LayerDemand, ...]:
    """List the layers that keep neurons, in topological order.

    `bits` of a weight are those of the integers where the graph has them.
    """
    stages = stages_of(graph)
    members: dict[str, list[Node]] = {name: [graph.node(name)] for name in neuron_layers(graph)}
    for node in graph.nodes:
        if node.traits.counts_events and (owner := placed_with(graph, node)):
            members[owner].append(node)
    return tuple(
        _owner(graph, graph.node(name), stages[name], extent, members[name], bits)
        for name, extent in neuron_layers(graph).items()
    )


def weight_bits(graph: Graph, bits: int, profile: Profile) -> int:
    """Give the bits of the widest weight: of the integers of a graph, or `bits` where it has none.

    Raises
    ------
    InputError
        When a weight of the profile's cores has fewer.
    """
    if graph.stage == Stage.QUANTISED:
        nodes = [node for node in graph.nodes if isinstance(node, FixedSynaptic)]
        bits = max((node.weight_bits for node in nodes), default=bits)
    if profile.reason("limits.weight_bits") is None and bits > profile.limit("weight_bits"):
        what = f"weights have {bits} bits, {profile.name} holds at most {profile.limit('weight_bits')}"
        raise InputError(what, "use fewer bits (--bits)")
    return bits


def _owner(
    graph: Graph, owner: Node, stage: int, extent: tuple[int, int], members: list[Node], bits: int
) -> LayerDemand:
    positions, features = extent
    synapses = np.zeros(positions, dtype=np.int64)
    demand: dict[str, int] = {"shared_bits": 0, "feature_bits": 0, "head_bits": 0, "head": 0}
    for node in members:
        if isinstance(node, Synaptic) and not node.off_core:
            shapes = graph.source_type(graph.inputs(node)["x"]).shape, graph.types[node.name, "y"].shape
            synapses += node.taps(*shapes) * bits
            demand["shared_bits"] += node.fan_in * bits
            demand["feature_bits"] += EXPONENT_BITS
        for name, value in _MEMORY[op_of(node)](graph, node).items():
            demand[name] += value
    return LayerDemand(
        name=owner.name,
        scope=owner.scope,
        stage=stage,
        positions=positions,
        features=features,
        synapse_bits=synapses,
        **demand,
    )


def _no_memory(graph: Graph, node: Node) -> Mapping[str, int]:
    """Take no memory beside weights."""
    return {}


def _spike_mat_mul(graph: Graph, node: SpikeMatMul) -> Mapping[str, int]:
    """Keep K^T V, or the spikes of K and V.

    Q(K^T V) keeps an integer 0..N for each of the head's channels and each feature. (QK^T)V keeps the spikes
    of K of its heads, and those of V of each feature.
    """
    tokens, features = graph.types[node.name, "y"].shape
    head = features // node.heads
    if node.form == "Q(K^TV)":
        return {"feature_bits": head * ceil(log2(tokens + 1))}
    return {"feature_bits": tokens, "head_bits": tokens * head, "head": head}


def _masked_column_sum(graph: Graph, node: MaskedColumnSum) -> Mapping[str, int]:
    """Keep K and V until both are there."""
    return {"feature_bits": 2 * graph.source_type(graph.inputs(node)["k"]).shape[0]}


_MEMORY: Mapping[type[Node], Callable[[Graph, Any], Mapping[str, int]]] = per_op(
    "memory that an operation takes beside weights",
    {
        **dict.fromkeys((Conv2d, Linear, LIF, Gate, HaltingScore, HaltAccumulate, Readout), _no_memory),
        SpikeMatMul: _spike_mat_mul,
        MaskedColumnSum: _masked_column_sum,
    },
    of=[op for op in OPERATIONS if op.TRAITS.counts_events or op is Gate],
)
