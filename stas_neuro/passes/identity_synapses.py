"""Synapses for spikes that are added to currents: on a core, only synapses bring a spike to a membrane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from stas_neuro.ir import LIF, Add, Conv2d, Edge, Graph, Map, Node, Tokens


def with_identity_synapses(graph: Graph) -> Graph:
    """Give values that neurons, or sums of currents, take directly a synapse of weight 1 each.

    These are spikes, sums and means of them, pixels: what no layer with weights makes. The synapses are a
    depthwise convolution of one position; tokens (N, D) are a map (D, N, 1) for it. The float graph computes
    the same. A graph without such values is returned as it is.
    """
    direct = {(edge.dst, edge.dst_port): edge for edge in _direct(graph)}
    if not direct:
        return graph
    nodes: list[Node] = []
    edges = {(edge.dst, edge.dst_port): edge for edge in graph.edges}
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        for edge in (direct[node.name, port] for port in graph.inputs(node) if (node.name, port) in direct):
            way = _way(graph, node, edge)
            source, port = edge.src, edge.src_port
            for each in way:
                edges[each.name, "x"] = Edge(source, port, each.name, "x")
                source, port = each.name, each.OUTPUTS[0]
                if isinstance(each, Conv2d):
                    tensors[f"{each.name}/weight"] = np.ones(each.weight_shape)
            edges[edge.dst, edge.dst_port] = replace(edge, src=source, src_port=port)
            nodes += way
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), edges=tuple(edges.values()), tensors=tensors)


def _direct(graph: Graph) -> Iterator[Edge]:
    """Find the edges that bring neurons, or sums of synaptic currents, what is none."""
    synaptic: set[str] = set()
    for node in graph.nodes:
        inputs = {port: edge for port, edge in graph.inputs(node).items() if port in ("x", "a", "b")}
        others = [edge for edge in inputs.values() if edge.src not in synaptic]
        if isinstance(node, LIF) or (isinstance(node, Add) and len(others) < len(inputs)):
            yield from (edge for edge in others if len(graph.source_type(edge).shape) > 1)
        passes = node.traits.passes_current and len(others) < len(inputs)
        if node.traits.makes_current or passes:
            synaptic.add(node.name)


def _way(graph: Graph, node: Node, edge: Edge) -> tuple[Node, ...]:
    """Make the nodes between a value and what takes it."""
    value, name, scope = graph.source_type(edge), f"{node.name}.{edge.dst_port}", node.scope
    tokens = len(value.shape) == 2
    features = value.shape[1 if tokens else 0]
    synapses = Conv2d(
        name=f"{name}.identity",
        phase=value.phase,
        scope=scope,
        in_channels=features,
        out_channels=features,
        kernel=1,
        stride=1,
        padding=0,
        bias=False,
        groups=features,
    )
    if not tokens:
        return (synapses,)
    to_map = Map(name=f"{name}.map", phase=value.phase, scope=scope, height=value.shape[0], width=1)
    return to_map, synapses, Tokens(name=f"{name}.tokens", phase=value.phase, scope=scope)
