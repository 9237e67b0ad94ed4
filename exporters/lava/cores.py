"""What the process of each node is told of the cores that a mapping places it on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from stas_neuro.activity.layers import layers_of
from stas_neuro.analysis import extent, mask_heard, neurons_of
from stas_neuro.ir import LIF, Array, Graph, HaltAccumulate, Node
from stas_neuro.mapping import Mapping, Piece
from stas_neuro.mapping.routes import Routes


def pieces_of(graph: Graph, mapping: Mapping, node: Node) -> tuple[Piece, ...]:
    """Pieces that do the events of a node; none of what is done beside the cores."""
    if not node.traits.counts_events or node.off_core:
        return ()
    return mapping.of_layer(neurons_of(graph, node))


def cores_of(graph: Graph, mapping: Mapping, ways: Routes, *, gated: bool) -> dict[str, Array]:
    """Map "<node>/<what>" to what `processes.pieces` describes; `gated` lets cores of halted tokens stand."""
    sources = {route.source for route in ways.routes} | {way.source for way in ways.arrivals}
    wakers = _wakers(graph, mapping) if gated else {}
    arrays: dict[str, Array] = {}
    for node in graph.nodes:
        if node.name in sources and not isinstance(node, HaltAccumulate):
            arrays[f"{node.name}/sends"] = np.array(True)
        if pieces := pieces_of(graph, mapping, node):
            arrays[f"{node.name}/piece"] = _in_layout(graph, node, _numbers(graph, node, pieces))
        if pieces and pieces[0].layer in wakers:
            arrays[f"{node.name}/wakers"] = wakers[pieces[0].layer]
    return arrays


def _numbers(graph: Graph, node: Node, pieces: tuple[Piece, ...]) -> Array:
    """Number of the piece that each output reaches, (positions, features)."""
    numbers = np.zeros(extent(graph, graph.node(pieces[0].layer)), np.intp)
    for number, piece in enumerate(pieces):
        numbers[list(piece.positions), slice(*piece.features)] = number
    return np.broadcast_to(numbers, extent(graph, node))  # its neurons may have one position for all


def _in_layout(graph: Graph, node: Node, values: Array) -> Array:
    """(positions, features) in the order that the node's process has them."""
    shape = graph.types[node.name, node.OUTPUTS[0]].shape
    return (values.T if len(shape) == 3 else values).reshape(shape)


def _wakers(graph: Graph, mapping: Mapping) -> dict[str, Array]:
    """Tokens that keep each piece of a LIF stepping: bool (pieces, N + 1), the last where it always is.

    A core is stepped while a token lives of any piece on it that has its turn in the same hardware step, so
    is at the same stage; it always is where one hears of other visits, or of none.
    """
    stages = {layer.name: (layer.phase, layer.stage) for layer in layers_of(graph)}
    hears = {layer: mask_heard(graph, layer) for layer in mapping.layers}
    at_work: dict[Any, dict[Any, set[int]]] = defaultdict(lambda: defaultdict(set))
    for piece in mapping.pieces:
        at_work[piece.core, stages[piece.layer]][hears[piece.layer]].update(piece.positions)

    def of_piece(piece: Piece) -> Array:
        tokens = at_work[piece.core, stages[piece.layer]]
        wakers = np.zeros(graph.tokens + 1, np.bool_)
        wakers[list(tokens[hears[piece.layer]])] = True
        wakers[-1] = len(tokens) > 1
        return wakers

    return {
        layer: np.array([of_piece(piece) for piece in mapping.of_layer(layer)])
        for layer in mapping.layers
        if isinstance(graph.node(layer), LIF) and hears[layer] is not None
    }
