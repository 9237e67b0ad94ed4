"""The table of layers of a network's activity record, read off its graph."""

from __future__ import annotations

from stas_neuro.activity.record import ActivityBuilder, Layer, step_labels
from stas_neuro.ir import (
    Conv2d,
    FixedConv2d,
    Graph,
    HaltAccumulate,
    HaltingScore,
    Linear,
    Node,
    Phase,
    op_of,
)
from stas_neuro.mapping.neurons import SPIKING, does_events, placed_with


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """List the layers that do events, in topological order; the same for a traced and a folded graph."""
    stages = _stages(graph)
    return tuple(_layer(graph, node, stages[node.name]) for node in graph.nodes if does_events(node))


def builder_for(graph: Graph, images: int) -> ActivityBuilder:
    """Start an empty record of a run of `graph` over a number of images."""
    stem = any(node.phase == Phase.STEM for node in graph.nodes)
    late = graph.accumulators[0].late if graph.accumulators else 0
    return ActivityBuilder(layers_of(graph), step_labels(graph.time_steps, stem=stem), images, late=late)


def _layer(graph: Graph, node: Node, stage: int) -> Layer:
    shape = graph.types[node.name, node.OUTPUTS[0]].shape
    neurons = 1
    for size in shape:
        neurons *= size
    # Maps are (C, H, W), tokens (N, D), vectors (D,), and per-token values (N,) have one feature a token.
    per_token = isinstance(node, HaltingScore | HaltAccumulate)
    out_features = 1 if per_token else shape[0] if len(shape) == 3 else shape[-1]
    weights = 0
    if isinstance(node, Conv2d | Linear) and not (isinstance(node, FixedConv2d) and node.off_core):
        weights = int(graph.tensor(node, "weight").size)
    return Layer(
        name=node.name,
        kind=op_of(node).__name__,
        scope=node.scope,
        neurons=neurons,
        in_features=_in_features(node, out_features),
        out_features=out_features,
        weights=weights,
        placed_with=placed_with(graph, node),
        phase=str(node.phase),
        stage=stage,
        feedback=any(edge.delay for edge in graph.consumers(node)),
    )


def _in_features(node: Node, out_features: int) -> int:
    if isinstance(node, Conv2d):
        return node.in_channels
    if isinstance(node, Linear):
        return node.in_features
    return out_features


def _stages(graph: Graph) -> dict[str, int]:
    """Count the spiking nodes on the longest way to each node from where its phase begins."""
    stages: dict[str, int] = {}
    for node in graph.nodes:
        arrivals = [0]
        for edge in graph.inputs(node).values():
            source = graph.node(edge.src)
            if source.phase == node.phase and not edge.delay:
                arrivals.append(stages[source.name] + isinstance(source, SPIKING))
        stages[node.name] = max(arrivals)
    return stages
