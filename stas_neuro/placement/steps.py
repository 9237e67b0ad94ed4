"""Core steps of a mapping on gated cores, computed from visits, to compare placements without a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Visits
from stas_neuro.activity.layers import layers_of
from stas_neuro.analysis import extent, own_block
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph, HaltAccumulate
from stas_neuro.mapping import Mapping, Piece
from stas_neuro.scopes import block_of

Live = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class CoreSteps:
    """Steps of cores and neurons per image, if a core without a live token at work is not stepped.

    Parameters
    ----------
    stepped : int64 (images, cores)
        Number of hardware steps in which a core is stepped, in raster schedule.
    neurons : int64 (images, cores)
        Number of neurons stepped in these, counting only pieces that have their turn.
    """

    stepped: NDArray[np.int64]
    neurons: NDArray[np.int64]


def core_steps(graph: Graph, mapping: Mapping, visits: Visits) -> CoreSteps:
    """Count core steps and stepped neurons.

    A piece works in the hardware step of its stage, once per model step (a stem and a head once per image).
    Its core is stepped then if any piece at work on it has a visited token. Pieces outside the blocks, and of
    layers without tokens, work in each of their turns. Pricing counts more steps: also those of cores that
    send a value that was computed once again in each model step. `energy.gating.stepping` derives the same
    from the counts of a run; the two share no code, and a test compares them.

    Parameters
    ----------
    graph : Graph
    mapping : Mapping
        A mapping of that graph.
    visits : bool (images, T, L, N)

    Raises
    ------
    InputError
        If the shape of the visits does not match the graph.
    """
    shape = (graph.time_steps, graph.blocks, graph.tokens)
    if visits.shape[1:] != shape:
        raise InputError(f"visits have shape {visits.shape}", f"give (images, *{shape})")
    facts = {layer.name: layer for layer in layers_of(graph)}
    turns: dict[tuple[int, str, int | None], list[Piece]] = {}
    for piece in mapping.pieces:
        layer = facts[piece.layer]
        turns.setdefault((piece.core, layer.phase, layer.stage), []).append(piece)
    stepped = np.zeros((len(visits), len(mapping.cores)), dtype=np.int64)
    neurons = np.zeros_like(stepped)
    for (core, phase, _), pieces in turns.items():
        live = np.zeros((len(visits), graph.time_steps if phase in ("stem", "step") else 1), dtype=np.bool_)
        for piece in pieces:
            live |= _live(graph, piece, visits, live.shape[1])
        stepped[:, core] += live.sum(axis=1)
        neurons[:, core] += live.sum(axis=1) * sum(piece.neurons for piece in pieces)
    return CoreSteps(stepped=stepped, neurons=neurons)


def _live(graph: Graph, piece: Piece, visits: Visits, turns: int) -> Live:
    """Return whether a piece has a live token in each of its turns, bool (images, turns)."""
    node = graph.node(piece.layer)
    block = block_of(node.scope)
    if isinstance(node, HaltAccumulate):
        block = own_block(graph, node)
    elif block is None or extent(graph, node)[0] != graph.tokens:
        return np.ones((len(visits), turns), dtype=np.bool_)
    return np.asarray(visits[:, :, block, list(piece.positions)].any(axis=2))
