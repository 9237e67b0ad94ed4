"""Counts the messages of a run on cores, from what every process kept of what it sent.

A process cannot count them itself: what is computed once is sent again in each model step that takes it, for
the tokens that are visited then, of which its process hears nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stas_neuro.activity import ActivityBuilder
from stas_neuro.analysis import extent
from stas_neuro.exporters.lava.execute import Result
from stas_neuro.ir import Array, Graph, HaltAccumulate, Phase
from stas_neuro.mapping import Mapping, Piece
from stas_neuro.mapping.routes import Arrival, Route, Routes

CHUNK = 64
"""Images whose values are unpacked at once."""
KINDS = ("axon_messages", "hops_x", "hops_y", "chip_crossings")


def add_messages(
    builder: ActivityBuilder, graph: Graph, mapping: Mapping, ways: Routes, result: Result
) -> None:
    """Enter the messages between cores, and those that come from beside them, into a record."""
    for route in ways.routes:
        pieces = mapping.of_layer(route.source)
        counts = _chunked(_of_route(graph, pieces, route, result, images) for images in _chunks(result))
        for piece, of_piece in zip(pieces, counts, strict=True):
            for kind, events in zip(KINDS, of_piece, strict=True):
                _add(builder, graph, kind, piece.name, route.phase, events)
    arrivals: dict[tuple[str, Phase], list[Arrival]] = {}
    for way in ways.arrivals:
        arrivals.setdefault((way.source, way.phase), []).append(way)
    for (source, phase), of_source in arrivals.items():
        wanted = [np.flatnonzero(way.wanted) for way in of_source]
        sent = (_sent(graph, source, phase, result, images) for images in _chunks(result))
        counts = _chunked(np.stack([of[:, :, each].sum(axis=2) for each in wanted]) for of in sent)
        for way, of_way in zip(of_source, counts, strict=True):
            _add(builder, graph, "input_messages", f"{way.receiver}@{way.core}", phase, of_way)


def _of_route(graph: Graph, pieces: tuple[Piece, ...], route: Route, result: Result, images: slice) -> Array:
    """Messages by piece and kind, (pieces, kinds, images, steps)."""
    positions, features = route.copies.shape
    if isinstance(graph.node(route.source), HaltAccumulate):
        sent = np.ones((1, 1, positions), np.int64)
    else:
        sent = _sent(graph, route.source, route.phase, result, images)
    if route.block is not None:
        visited = result.visits[images, :, route.block]
        is_open = visited if route.tokens is None else visited @ route.tokens
        sent = sent * np.repeat(is_open, features, axis=2)
    ways = np.stack([route.copies, route.hops_x, route.hops_y, route.chip_crossings], axis=2).reshape(-1, 4)
    counts = []
    for piece in pieces:
        held = np.add.outer(np.array(piece.positions) * features, np.arange(*piece.features)).ravel()
        counts.append(sent[:, :, held] @ ways[held])
    by_piece: Array = np.stack(counts).transpose(0, 3, 1, 2)
    return by_piece


def _sent(graph: Graph, source: str, phase: Phase, result: Result, images: slice) -> Array:
    """Whether each value was not 0 in the steps of a phase, float64 (images, steps, positions * features)."""
    shape = graph.types[source, graph.node(source).OUTPUTS[0]].shape
    positions, features = extent(graph, graph.node(source))
    bits = result.sent[source][images]
    values = np.unpackbits(bits, axis=2, count=positions * features)
    if len(shape) == 3:
        values = values.reshape(*bits.shape[:2], features, positions).swapaxes(2, 3)
    steps = len(labels(graph, phase))
    # A readout gathers in every model step and answers in the last; what is computed once is sent again.
    values = values.reshape(*bits.shape[:2], -1)[:, -steps:]
    return np.broadcast_to(values, (len(values), steps, values.shape[2])).astype(np.float64)


def _chunks(result: Result) -> Iterator[slice]:
    for start in range(0, len(result.visits), CHUNK):
        yield slice(start, start + CHUNK)


def _chunked(counts: Iterator[Array]) -> Array:
    """Join counts (..., images, steps) of chunks."""
    return np.concatenate(list(counts), axis=-2).astype(np.int64)


def _add(builder: ActivityBuilder, graph: Graph, kind: str, row: str, phase: Phase, counts: Array) -> None:
    for step, label in enumerate(labels(graph, phase)):
        builder.add(kind, row, label, counts[:, step])


def labels(graph: Graph, phase: Phase) -> tuple[str, ...]:
    """Labels of the steps of a phase, as activity records have them."""
    if phase in (Phase.STEM, Phase.STEP):
        return tuple(f"{phase}{step}" for step in range(1, graph.time_steps + 1))
    return (str(phase),)
