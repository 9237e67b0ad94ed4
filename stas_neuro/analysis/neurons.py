"""Which nodes of a graph do events, and which of them keep the neurons that those end on."""

from __future__ import annotations

from stas_neuro.ir import (
    Graph,
    Kind,
    Node,
    Phase,
)

_PER_TOKEN = frozenset({Kind.MASK, Kind.MEMBRANE, Kind.SCORE})


def placed_with(graph: Graph, node: Node) -> str:
    """Name the neurons that alone take the synaptic input `node` computes; empty if there is no such one."""
    if node.traits.keeps_neurons:
        return ""
    target = node
    while True:
        consumers = graph.consumers(target)
        if len(consumers) != 1:
            return ""
        target = graph.node(consumers[0].dst)
        if target.traits.fires:
            return target.name
        if not target.traits.in_place or target.traits.counts_events:
            return ""


def neurons_of(graph: Graph, node: Node) -> str:
    """Name the layer whose neurons take what a node computes; the node itself where it keeps its own."""
    return placed_with(graph, node) or node.name


def works_in(graph: Graph, node: Node) -> Phase:
    """Give the phase in whose steps a node does its events.

    Synaptic input is gone after a step: what is computed once and taken by neurons in every step is brought
    to them by the same synapses in every step. A processor beside the cores writes a bias, which stays.
    """
    if node.traits.gathers:
        return Phase.STEP
    neurons = placed_with(graph, node)
    return graph.node(neurons).phase if neurons and not node.off_core else node.phase


def extent(graph: Graph, node: Node) -> tuple[int, int]:
    """Give positions and features of what a node outputs.

    A map (C, H, W) has H*W positions in row-major order and C features, tokens (N, D) have N and D, a vector
    (D,) has 1 and D, one value a token (N,) has N and 1.
    """
    value = graph.types[node.name, node.OUTPUTS[0]]
    if len(value.shape) == 3:
        return value.shape[1] * value.shape[2], value.shape[0]
    if len(value.shape) == 2:
        return value.shape
    return (value.shape[0], 1) if value.kind in _PER_TOKEN else (1, value.shape[0])


def neuron_layers(graph: Graph) -> dict[str, tuple[int, int]]:
    """Name the nodes that keep neurons on cores, with their positions and features, in topological order.

    These are what a mapping places. What computes beside the cores is not among them.
    """
    return {
        node.name: extent(graph, node)
        for node in graph.nodes
        if node.traits.counts_events and not node.off_core and not placed_with(graph, node)
    }


def beside_cores(graph: Graph) -> list[str]:
    """Name the nodes that a processor beside the cores computes, wholly or in part, in topological order."""
    return [node.name for node in graph.nodes if node.off_core]
