"""How many events of each kind a node does in one step; docs/activity.md defines the kinds.

A counter takes the values at a node's ports and gives int64 counts (B,) by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import (
    LIF,
    Conv2d,
    FixedConv2d,
    FixedReadout,
    Gate,
    HaltingScore,
    Kind,
    Linear,
    MaskedColumnSum,
    Node,
    Readout,
    SpikeMatMul,
)
from stas_neuro.reference.operators import Inputs, Values, split_heads

Counts = NDArray[np.int64]
Counted = dict[str, Counts]
Kinds = Mapping[str, Kind]


def _nonzero(x: NDArray[Any]) -> Counts:
    """Count nonzero entries of each image, int64 (B,)."""
    return np.asarray(np.count_nonzero(x.reshape(len(x), -1), axis=1), np.int64)


def _sum(x: NDArray[Any]) -> Counts:
    """Sum whole numbers of each image, int64 (B,); exact whatever the precision of the run."""
    return np.asarray(x.sum(axis=tuple(range(1, x.ndim)), dtype=np.float64), np.int64)


@cache
def _reach(size: int, kernel: int, stride: int, padding: int) -> Counts:
    """Count, for each position along one axis, the outputs whose window holds it; int64 (size,)."""
    reach = np.zeros(size, np.int64)
    for out in range((size + 2 * padding - kernel) // stride + 1):
        start = out * stride - padding
        reach[max(start, 0) : max(start + kernel, 0)] += 1
    return reach


def _synaptic(x: Values, kind: Kind, fan_out: Counts | int) -> Counted:
    """Count what inputs do through `fan_out` synapses each, (H, W) where x is a map (B, C, H, W)."""
    events = _sum(np.count_nonzero(x, axis=1) * fan_out)
    if kind == Kind.CURRENT:
        return {"macs": events}
    unary = _sum(x.sum(axis=1, dtype=np.float64) * fan_out) if kind == Kind.GRADED else events
    return {"synops": events, "synops_unary": unary}


def _conv2d(node: Conv2d, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    x = inputs["x"]
    rows, columns = (_reach(size, node.kernel, node.stride, node.padding) for size in x.shape[2:])
    fan_out = np.outer(rows, columns) * node.out_channels
    if isinstance(node, FixedConv2d) and node.off_core:
        return {"cpu_operations": _sum(np.count_nonzero(x, axis=1) * fan_out)}
    return _synaptic(x, kinds["x"], fan_out)


def _linear(node: Linear, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    return _synaptic(inputs["x"], kinds["x"], node.out_features)


def _lif(node: LIF, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    x, s = inputs["x"], outputs["s"]
    alive = inputs.get("alive")
    live = np.ones(x.shape, np.bool_) if alive is None else np.broadcast_to(alive[:, :, None] != 0, x.shape)
    active = _nonzero(((x != 0) | (s != 0)) & live)
    return {
        "updates_active": active,
        "updates_inactive": _nonzero(live) - active,
        "updates_gated": _nonzero(~live),
        "spikes_out": _nonzero(s),
    }


def _spike_mat_mul(node: SpikeMatMul, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    q, k, v = (split_heads(inputs[port], node.heads).astype(np.float64) for port in ("q", "k", "v"))
    if node.form == "Q(K^TV)":
        pairs = _sum(k.sum(axis=3) * v.sum(axis=3))
        synops = pairs + _sum(q) * q.shape[3]
        return {"synops": synops, "synops_unary": synops}
    scores = q @ k.swapaxes(2, 3)  # (B, heads, N, N)
    values = v.sum(axis=3)[:, :, None, :]
    coincidences = _sum(scores)
    return {
        "synops": coincidences + _sum((scores != 0) * values),
        "synops_unary": coincidences + _sum(scores * values),
    }


def _masked_column_sum(node: MaskedColumnSum, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    coincidences = _nonzero(inputs["k"] * inputs["v"])
    return {"synops": coincidences, "synops_unary": coincidences}


def _gate(node: Gate, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    if node.axis == "token":
        return {}
    return _synaptic(inputs["x"], kinds["x"], 1)


def _readout(node: Readout, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count D multiplications for each weighted visit of the step, and D divisions a token after the last.

    The divisions are those of integers; in float they are the host's.
    """
    z = inputs[f"z{node.blocks - 1}"]
    weights = [value for port, value in inputs.items() if port.startswith("p")]
    counted = {"readout_macs": sum(map(_nonzero, weights)) * z.shape[2]} if weights else {}
    if isinstance(node, FixedReadout) and node.divides and outputs:
        counted["cpu_operations"] = np.full(len(z), z.shape[1] * z.shape[2])
    return counted


Counter = Callable[[Any, Inputs, Inputs, Kinds], Counted]
COUNTERS: Mapping[type[Node], Counter] = {
    Conv2d: _conv2d,
    Linear: _linear,
    LIF: _lif,
    SpikeMatMul: _spike_mat_mul,
    MaskedColumnSum: _masked_column_sum,
    Gate: _gate,
    Readout: _readout,
}
"""The counter of each node type that does events; a halting score is counted by its visit mask."""


def count_scores(node: HaltingScore, alive: Values | None, scores: Values) -> Counted:
    """Count one lookup for each token that visits."""
    return {"score_lookups": _nonzero(np.ones_like(scores) if alive is None else alive)}
