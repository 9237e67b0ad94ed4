"""Late halting decisions by stepping through hardware steps and delivering messages; knows of no lags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stas_neuro.ir import LIF, Array, Graph, HaltAccumulate


def neurons_before(graph: Graph, name: str, known: dict[str, int]) -> int:
    """Most spiking neurons that stand one behind the other before a node, within a model step."""
    if name not in known:
        ways = [0]
        for edge in graph.inputs(name).values():
            source = graph.node(edge.src)
            if source.phase == graph.node(name).phase and not edge.delay:
                spikes = isinstance(source, LIF | HaltAccumulate)
                ways.append(neurons_before(graph, edge.src, known) + spikes)
        known[name] = max(ways)
    return known[name]


def last_visit(graph: Graph) -> tuple[int, int]:
    """Find the last visit (model step, accumulator) that a token can make: that of the cap, or of the run.

    It is known before the run, so that no message has to tell it.
    """
    *order, end = ((step, k) for step in range(graph.time_steps) for k in range(len(graph.accumulators)))
    closes = [graph.time_steps if node.closes is None else node.closes for node in graph.accumulators]
    return next(((step, k) for step, k in order if step >= closes[k]), end)


def arrivals(
    graph: Graph, late: int, scores: Array, limit: float
) -> tuple[Array, dict[tuple[int, int], dict[tuple[int, int], Array]]]:
    """Step hardware step by hardware step; bool (T, A + 1, B, N) masks of the visits, and their scores.

    `scores` (T, A, B, N) are what visits would score. Mask 0 is that of the first block, mask k + 1 what
    accumulator k decides.
    """
    steps, count = scores.shape[:2]
    known: dict[str, int] = {}
    at = [neurons_before(graph, node.name, known) for node in graph.accumulators]
    length = 1 + max(neurons_before(graph, node.name, known) for node in graph.nodes if node.phase == "step")
    interval = length - late
    end = last_visit(graph)
    gate = count  # the receiver at which the first block is decided
    mailbox: list[dict[tuple[int, int], Array]] = [{} for _ in range(count + 1)]
    sent: list[tuple[tuple[int, int], Array]] = []
    masks = np.zeros((steps, count + 1, *scores.shape[2:]), np.bool_)
    made: dict[tuple[int, int], Array] = {}

    def decided(receiver: int, before: tuple[int, int]) -> Array:
        total = np.zeros(scores.shape[2:], scores.dtype)
        for visit in sorted(mailbox[receiver]):
            if visit < before:
                total = total + mailbox[receiver][visit]
        return np.asarray((total < limit) & (before <= end))

    for tick in range((steps - 1) * interval + length):
        for visit, score in sent:
            for receiver in range(count + 1):
                mailbox[receiver][visit] = score
        sent = []
        for step in range(steps):
            if tick == step * interval:
                masks[step, 0] = decided(gate, (step, 0))
        for step in range(steps):
            for k in range(count):
                if tick == step * interval + at[k]:
                    score = made[step, k] = scores[step, k] * masks[step, k]
                    mailbox[k][step, k] = score
                    sent.append(((step, k), score))
                    masks[step, k + 1] = decided(k, (step, k + 1))
    return masks, made


def weights_in_raster_order(
    made: Mapping[Any, Array], masks: Array, limit: float, one: float, end: tuple[int, int]
) -> Array:
    """Weight of each visit (T, A, B, N), visit after visit and token after token; `end` takes the rest."""
    steps, count = masks.shape[0], masks.shape[1] - 1
    weights = np.zeros((steps, count, *masks.shape[2:]))
    for token in np.ndindex(*masks.shape[2:]):
        total, halted = 0.0, False
        for step in range(steps):
            for k in range(count):
                if not masks[step, k][token] or halted:
                    continue
                h = made[step, k][token]
                halted = bool(total + h >= limit) or (step, k) == end
                weights[step, k][token] = one - total if halted else h
                total = total + h
    return weights
