"""The table of layers in a network's activity record, derived from its graph."""

from __future__ import annotations

import collections.abc
from dataclasses import replace

from stas_neuro.activity.record import ActivityBuilder, Layer, step_labels
from stas_neuro.activity.rows import owner_of
from stas_neuro.analysis import extent, placed_with, stages_of, waited_for_in
from stas_neuro.ir import Graph, Node, Phase, Synaptic
from stas_neuro.mapping import Mapping, Piece
from stas_neuro.mapping.check import check_mapping
from stas_neuro.mapping.chips import ChipShare


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """List the layers with events, in topological order; the same for a traced and a folded graph."""
    stages = stages_of(graph)
    return tuple(_layer(graph, node, stages) for node in graph.nodes if node.traits.counts_events)


def mapped_layers(graph: Graph, mapping: Mapping, share: ChipShare | None = None) -> tuple[Layer, ...]:
    """List the pieces of layers on cores, and the layers outside the cores as one row each, in order.

    The order is topological. With a share of the mapping only its rows are listed.

    Raises
    ------
    InputError
        If the mapping is not a mapping of this graph.
    """
    check_mapping(graph, mapping)
    here = mapping if share is None else share.mapping
    rows: list[Layer] = []
    for layer in layers_of(graph):
        if not graph.node(layer.name).off_core:
            rows += [_piece_row(layer, piece) for piece in here.of_layer(owner_of(layer))]
        elif share is None or layer.name in share.beside:
            rows.append(replace(layer, placed_with=""))
    return tuple(rows)


def builder_for(
    graph: Graph, images: int, mapping: Mapping | None = None, share: ChipShare | None = None
) -> ActivityBuilder:
    """Return an empty record of a run of `graph` over `images` images, on the cores of a mapping if given.

    With a share of the mapping it has only the rows of this, which are not a whole record: `build` refuses
    them.
    """
    stem = any(node.phase == Phase.STEM for node in graph.nodes)
    return ActivityBuilder(
        layers_of(graph) if mapping is None else mapped_layers(graph, mapping, share),
        step_labels(graph.time_steps, stem=stem),
        images,
        cores=() if mapping is None else mapping.cores,
        late=graph.late,
    )


def _piece_row(layer: Layer, piece: Piece) -> Layer:
    """Return the row of a layer for one piece of its target neurons."""
    # Without weights each feature has inputs of its own.
    entering = layer.in_features * piece.width // layer.out_features
    return replace(
        layer,
        name=f"{layer.name}@{piece.core}",
        neurons=piece.neurons,
        in_features=layer.in_features if layer.weights else entering,
        out_features=piece.width,
        weights=layer.weights * piece.width // layer.out_features,
        placed_with=layer.placed_with and piece.name,
        core=piece.core,
        of=layer.name,
    )


def _feeds_back(graph: Graph, node: Node, stages: collections.abc.Mapping[str, int]) -> bool:
    """Whether the next model step needs what a node sends at the end of this one.

    Overlapping model steps compute a stage one hardware step apart: what goes to the same stage or a later
    one, or to the readout, arrives in time.
    """
    readers = [graph.node(edge.dst) for edge in graph.consumers(node) if edge.delay]
    return any(not to.traits.gathers and stages[to.name] < stages[node.name] for to in readers)


def _layer(graph: Graph, node: Node, stages: collections.abc.Mapping[str, int]) -> Layer:
    positions, out_features = extent(graph, node)
    in_features, weights = out_features, 0
    if node.traits.makes_current:
        in_features = extent(graph, graph.node(graph.inputs(node)[node.INPUTS[0]].src))[1]
    if isinstance(node, Synaptic) and not node.off_core:
        weights = int(graph.tensor(node, "weight").size)
    return Layer(
        name=node.name,
        kind=node.record_kind(),
        scope=node.scope,
        neurons=positions * out_features,
        in_features=in_features,
        out_features=out_features,
        weights=weights,
        placed_with=placed_with(graph, node),
        phase=str(waited_for_in(graph, node)),
        stage=stages[node.name],
        feedback=_feeds_back(graph, node, stages),
    )
