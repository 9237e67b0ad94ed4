"""Resources that the layers of a network need on cores: neurons and synaptic memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import neuron_layers, placed_with, stages_of
from stas_neuro.chips import Profile
from stas_neuro.errors import InputError
from stas_neuro.ir import FixedSynaptic, Graph, Node, Stage
from stas_neuro.scopes import block_of

DEFAULT_BITS = 8
"""Bits of a weight in a graph that is not quantised."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerDemand:
    """A layer with neurons, and the resources that they need on a core.

    Parameters
    ----------
    name, scope : str
        Name of its node, and the part of the network that it belongs to.
    stage : int
        Number of spiking stages before it: the hardware step of a model step in which it works.
    positions, features : int
        The layer has positions x features neurons.
    synapse_bits : int64 (positions,)
        Bits for the synapses of one feature at each position, if positions do not share weights.
    shared_bits : int
        Bits for the synapses of one feature at any number of positions, if positions share weights.
    feature_bits : int
        Further bits per feature on a core: the exponent of its weights, its part of K^T V.
    head_bits, head : int
        Bits for each attention head that a piece has features of, and number of features per head; 0 without
        heads. Only for (QK^T)V, where a core stores the spikes of K of its heads, one bit each.
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

    @property
    def needs(self) -> Hashable:
        """All of it but which layer it is, and when it works."""
        bits = self.shared_bits, self.feature_bits, self.head_bits, self.head
        return self.positions, self.features, self.synapse_bits.tobytes(), bits

    def memory(self, positions: NDArray[np.intp] | slice, features: tuple[int, int], *, sharing: bool) -> int:
        """Return the bits of synaptic memory that some features at some positions need on one core."""
        first, end = features
        synapses = self.shared_bits if sharing else int(self.synapse_bits[positions].sum())
        heads = -(-end // self.head) - first // self.head if self.head else 0
        return (end - first) * (synapses + self.feature_bits) + heads * self.head_bits


def demands_of(graph: Graph, bits: int = DEFAULT_BITS) -> tuple[LayerDemand, ...]:
    """Return the demands of the layers with neurons, in topological order.

    `bits` is the width of a weight; a quantised graph has its own.
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


def tokens_by_block(graph: Graph) -> dict[str, int]:
    """Return the number of tokens of each block, by scope: that of halting, or of most of its layers."""
    found: dict[str, Counter[int]] = {}
    for name, (positions, _) in neuron_layers(graph).items():
        scope = graph.node(name).scope
        if block_of(scope) is not None:
            found.setdefault(scope, Counter())[positions] += 1
    if graph.accumulators:
        return dict.fromkeys(found, graph.tokens)
    return {
        scope: max(layers, key=lambda tokens: (layers[tokens], tokens)) for scope, layers in found.items()
    }


def weight_bits(graph: Graph, bits: int, profile: Profile) -> int:
    """Return the bits of the widest weight of a quantised graph, or `bits` for other graphs.

    Raises
    ------
    InputError
        When this is more than the profile's `weight_bits`.
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
    demand = dict.fromkeys(("shared_bits", "feature_bits", "head_bits", "head"), 0)
    for node in members:
        entering = {port: graph.source_type(edge).shape for port, edge in graph.inputs(node).items()}
        memory = node.memory(entering, graph.types[node.name, node.OUTPUTS[0]].shape, bits)
        of_outputs = np.asarray(memory.synapse_bits)
        # Neurons with one position for all have the synapses of each.
        synapses += of_outputs if of_outputs.size in (1, positions) else of_outputs.sum()
        for name in demand:
            demand[name] += getattr(memory, name)
    return LayerDemand(
        name=owner.name,
        scope=owner.scope,
        stage=stage,
        positions=positions,
        features=features,
        synapse_bits=synapses,
        **demand,
    )
