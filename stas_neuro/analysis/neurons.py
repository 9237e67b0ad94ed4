"""Nodes of a graph that have neurons on cores, and the phases in which nodes work."""

from __future__ import annotations

from stas_neuro.ir import Graph, Kind, Node, Phase

PER_TOKEN = frozenset({Kind.MASK, Kind.MEMBRANE, Kind.SCORE})
"""Kinds of values whose last axis is the tokens."""


def placed_with(graph: Graph, node: Node) -> str:
    """Return the name of the only node whose neurons receive the synaptic input of `node`.

    Empty if there is no such node.
    """
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
    """Return the name of the node whose neurons receive the output of `node`; its own if it has neurons."""
    return placed_with(graph, node) or node.name


def works_in(graph: Graph, node: Node) -> Phase:
    """Return the phase in whose steps a node's events occur.

    Synaptic input does not persist after a step. A value that is computed once, but that neurons need in
    every step, is therefore delivered by the same synapses in every step. A bias written by a processor
    outside the cores persists.
    """
    if node.traits.gathers:
        return Phase.STEP
    neurons = placed_with(graph, node)
    return graph.node(neurons).phase if neurons and not node.off_core else node.phase


def extent(graph: Graph, node: Node) -> tuple[int, int]:
    """Return the numbers of positions and features of a node's output.

    A map (C, H, W) has H*W positions in row-major order and C features, tokens (N, D) have N and D, a vector
    (D,) has 1 and D, and one value per token (N,) has N and 1.
    """
    value = graph.types[node.name, node.OUTPUTS[0]]
    if len(value.shape) == 3:
        return value.shape[1] * value.shape[2], value.shape[0]
    if len(value.shape) == 2:
        return value.shape
    return (value.shape[0], 1) if value.kind in PER_TOKEN else (1, value.shape[0])


def neuron_layers(graph: Graph) -> dict[str, tuple[int, int]]:
    """Return the positions and features of each node with neurons on cores, in topological order.

    These are the nodes that a mapping places. Nodes computed outside the cores are not included.
    """
    return {
        node.name: extent(graph, node)
        for node in graph.nodes
        if node.traits.counts_events and not node.off_core and not placed_with(graph, node)
    }


def beside_cores(graph: Graph) -> list[str]:
    """List the nodes that a processor beside the cores computes, wholly or in part, in topological order."""
    return [node.name for node in graph.nodes if node.off_core]
