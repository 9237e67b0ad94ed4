"""Spiking stages: a chip computes one in each hardware step."""

from __future__ import annotations

from stas_neuro.analysis.neurons import works_in
from stas_neuro.ir import Graph, Node, Phase


def waited_for_in(graph: Graph, node: Node) -> Phase:
    """Return the phase that a node's stage belongs to.

    A readout gathers in the model steps, but belongs to `end`, where a chip waits for it.
    """
    return node.phase if node.traits.gathers else works_in(graph, node)


def stages_of(graph: Graph) -> dict[str, int]:
    """Count the spiking nodes on the longest path to each node from the start of its phase."""
    stages: dict[str, int] = {}
    for node in graph.nodes:
        arrivals = [0]
        for edge in graph.inputs(node).values():
            source = graph.node(edge.src)
            if waited_for_in(graph, source) == waited_for_in(graph, node) and not edge.delay:
                arrivals.append(stages[source.name] + source.traits.fires)
        stages[node.name] = max(arrivals)
    return stages


def spiking_stages(graph: Graph) -> int:
    """Count S, the spiking stages of a model step; a chip computes one in each hardware step."""
    stages = stages_of(graph)
    at_work = (node for node in graph.nodes if node.traits.counts_events)
    return 1 + max(stages[node.name] for node in at_work if waited_for_in(graph, node) == Phase.STEP)
