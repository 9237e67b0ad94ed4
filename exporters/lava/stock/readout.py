"""What the host computes of a network of stock processes: the readout and the head, from spikes it reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import (
    ALIGN,
    Array,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedLinear,
    FixedOutput,
    FixedReadout,
    Graph,
    HaltAccumulate,
)

from .halting import HALTING_FORMS


def read_out(graph: Graph, states: Mapping[str, Array], visits: Array) -> tuple[Array, Array]:
    """Give logits float64 (B, classes) and the operations that they took, int64 (B, T).

    Parameters
    ----------
    states : int (B, T, N, D) by port z{l} of Readout, in the order of blocks
        What the blocks sent.
    visits : bool (B, T, L, N)
        Which visits took place.

    An operation is a table lookup, a multiplication, a division or an addition of a token's value; the head
    and the last sums are those of the last step.
    """
    node = graph.readout
    assert isinstance(node, FixedReadout)
    clipped = {port: (z >> node.z_shift).clip(-node.z_limit, node.z_limit) for port, z in states.items()}
    last = states[f"z{node.blocks - 1}"]
    operations = np.zeros(last.shape[:2], np.int64)
    if node.mode == "mean-field":
        tokens, weight = _mean_field(graph, node, states, clipped, visits, operations)
    else:
        tokens, weight = _latest(node, clipped, visits, operations)
    if node.divides:
        quotient = (np.abs(tokens) << node.divide_bits) // np.maximum(weight, 1)[:, :, None]
        tokens = np.sign(tokens) * quotient
        operations[:, -1] += tokens[0].size
    y = tokens.sum(axis=1) >> node.y_shift
    operations[:, -1] += tokens[0].size
    return _head(graph, y, operations), operations


def _mean_field(
    graph: Graph,
    node: FixedReadout,
    states: Mapping[str, Array],
    clipped: Mapping[str, Array],
    visits: Array,
    operations: Array,
) -> tuple[Array, Array]:
    """Sums (B, N, D) of p z over visits, and of p, (B, N)."""
    weights = _weights(graph, states, visits)
    tokens = np.zeros(clipped[f"z{node.blocks - 1}"][:, 0].shape, np.int64)
    weight = np.zeros(tokens.shape[:2], np.int64)
    for port, z in clipped.items():
        p = weights.get(port, np.ones(z.shape[:3], np.int64))
        tokens += (p[..., None] * z).sum(axis=1)
        weight += p.sum(axis=1)
        # A score's lookup and a multiplication for each channel of a visit, or an addition.
        operations += np.count_nonzero(p, axis=2) * (z.shape[3] + (port in weights))
    return tokens, weight


def _weights(graph: Graph, states: Mapping[str, Array], visits: Array) -> dict[str, Array]:
    """Weights p int64 (B, T, N) of the visits, by the port that takes the block's state."""
    weights: dict[str, Array] = {}
    before = np.zeros((len(visits), visits.shape[1], visits.shape[3]), np.int64)
    for block, node in enumerate(graph.accumulators):
        assert isinstance(node, FixedHaltAccumulate)
        port = f"z{block}"
        alive = visits[:, :, block].astype(np.int64)
        h = _scores(graph, node, states[port])
        weights[port] = HALTING_FORMS[node.mode].weights(node, alive, h, before)
        before = before + alive * h
    return weights


def _scores(graph: Graph, accumulator: HaltAccumulate, z: Array) -> Array:
    score = graph.node(graph.inputs(accumulator)["score"].src)
    assert isinstance(score, FixedHaltingScore)
    place = np.clip((z[..., 0] >> score.shift) - score.low, 0, score.entries - 1)
    h: Array = graph.tensor(score, "table").astype(np.int64)[place]
    return h


def _latest(
    node: FixedReadout, clipped: Mapping[str, Array], visits: Array, operations: Array
) -> tuple[Array, Array]:
    """Of each token the state of its last visit, (B, N, D); of mode rate those of all its steps, summed."""
    steps = visits.shape[1]
    tokens: Array = np.zeros_like(clipped[f"z{node.blocks - 1}"][:, 0])
    latest, weight = np.zeros_like(tokens), np.zeros(tokens.shape[:2], np.int64)
    for step in range(steps):
        entered = np.zeros(weight.shape, np.bool_)
        for port, z in clipped.items():
            visited = visits[:, step, int(port.removeprefix("z"))]
            latest = np.where(visited[..., None], z[:, step], latest)
            entered |= visited
        if node.mode == "rate":
            tokens += entered[..., None] * latest
            weight += entered
            operations[:, step] += np.count_nonzero(entered, axis=1) * tokens.shape[2]
    return (tokens if node.mode == "rate" else latest), weight


def _head(graph: Graph, y: Array, operations: Array) -> Array:
    """Logits (B, classes) of features (B, D) through the layers behind the readout."""
    name = graph.readout.name
    while True:
        node = graph.node(graph.consumers(name)[0].dst)
        if isinstance(node, FixedOutput):
            return y * node.unit
        assert isinstance(node, FixedLinear)
        weight, exponents, bias = (
            graph.tensor(node, param).astype(np.int64) for param in ("weight", "weight_exp", "bias")
        )
        operations[:, -1] += weight.size
        y = (y + ((1 << node.x_shift) >> 1)) >> node.x_shift
        sums = (y @ weight.T << np.maximum(exponents, 0)) >> np.maximum(-exponents, 0)
        y, name = (sums << ALIGN) + (bias << node.bias_exp), node.name
