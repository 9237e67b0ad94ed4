"""How many events of each kind a node does in one step; docs/activity.md defines the kinds.

A counter takes the values at a node's ports and gives counts by kind for each value that the node outputs, so
that they can be summed over the whole of a layer or over the pieces of it on cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import (
    LIF,
    OPERATIONS,
    Conv2d,
    FixedConv2d,
    FixedReadout,
    Gate,
    HaltAccumulate,
    HaltingScore,
    Kind,
    Linear,
    MaskedColumnSum,
    Node,
    Readout,
    SpikeMatMul,
    per_op,
)
from stas_neuro.reference.operators import Inputs, split_heads, taps_of

Counts = NDArray[np.int64]
Each = NDArray[Any]
"""Counts (B, positions, features) for each value that a node outputs; an axis of 1 stands for equal ones."""


@dataclass(frozen=True, eq=False)
class Shared:
    """Counts of work that a core does once for all the values it is for: (B, positions, features) or coarser.

    An axis of 1 is work for all positions, one of heads is work for the features of a head.
    """

    counts: NDArray[Any]


Counted = list[tuple[str, Each | Shared]]
Kinds = Mapping[str, Kind]


@dataclass(frozen=True, eq=False)
class RecordRow:
    """Some of the values that a node outputs: a row of the record.

    `positions` is None for all of them; `extent` has the positions and features of the whole.
    """

    row: str
    extent: tuple[int, int]
    positions: NDArray[np.intp] | None
    features: tuple[int, int]

    @property
    def values(self) -> int:
        """How many they are."""
        positions = self.extent[0] if self.positions is None else len(self.positions)
        return positions * (self.features[1] - self.features[0])

    def count(self, counted: Each | Shared) -> Counts:
        """Sum what this part has of counts, int64 (B,)."""
        shared = isinstance(counted, Shared)
        counts = counted.counts if isinstance(counted, Shared) else counted
        positions, features = self.extent
        times = 1
        if counts.shape[1] == positions:
            counts = counts if self.positions is None else counts[:, self.positions]
        elif not shared:
            times = positions if self.positions is None else len(self.positions)
        first, end = self.features
        if counts.shape[2] == 1 and not shared:
            times *= end - first
        elif end - first < features:
            of_each = features // counts.shape[2]
            counts = counts[:, :, first // of_each : -(-end // of_each)]
        return _sum(counts) * times

    def of(self, values: Each) -> Each:
        """Give what this part has of values (B, positions, features)."""
        held = values if self.positions is None else values[:, self.positions]
        return held[:, :, slice(*self.features)]


def by_position(x: Each) -> Each:
    """View maps (B, C, H, W), tokens (B, N, D) or vectors (B, D) as (B, positions, features)."""
    if x.ndim == 4:
        return x.reshape(*x.shape[:2], -1).swapaxes(1, 2)
    return x if x.ndim == 3 else x[:, None]


def _sum(x: NDArray[Any]) -> Counts:
    """Sum whole numbers of each image, int64 (B,); exact whatever the precision of the run."""
    wide = np.float64 if x.dtype.kind == "f" else np.int64
    return np.asarray(x.sum(axis=tuple(range(1, x.ndim)), dtype=wide), np.int64)


def _synaptic(events: Each, values: Callable[[], Each], kind: Kind) -> Counted:
    """Count the inputs that are not 0: products of real numbers, or spikes and, of graded ones, values."""
    if kind in (Kind.CURRENT, Kind.NUMBER):
        return [("macs", events)]
    return [("synops", events), ("synops_unary", values() if kind == Kind.GRADED else events)]


def _windows(node: Conv2d, x: Each) -> Each:
    """Sum values (B, H, W) over the window of each output position, (B, H'*W', 1)."""
    summed: Each = sum(taps for _, _, taps in taps_of(x[:, None], node))  # type: ignore[assignment]
    return summed.reshape(len(x), -1, 1)


def _conv2d(node: Conv2d, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    x = inputs["x"]
    events = _windows(node, np.count_nonzero(x, axis=1))
    if isinstance(node, FixedConv2d) and node.off_core:
        return [("cpu_operations", events)]
    return _synaptic(events, lambda: _windows(node, x.sum(axis=1, dtype=np.float64)), kinds["x"])


def _linear(node: Linear, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    x = by_position(inputs["x"])
    events = np.count_nonzero(x, axis=2)[:, :, None]
    return _synaptic(events, lambda: x.sum(axis=2, keepdims=True, dtype=np.float64), kinds["x"])


def _lif(node: LIF, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    fired = by_position(outputs["s"]) != 0
    active = (by_position(inputs["x"]) != 0) | fired
    counted: Counted = [("spikes_out", fired)]
    if "alive" not in inputs:
        return [*counted, ("updates_active", active), ("updates_inactive", ~active)]
    live = inputs["alive"][:, :, None] != 0
    return [
        *counted,
        ("updates_active", active & live),
        ("updates_inactive", ~active & live),
        ("updates_gated", ~live),
    ]


def _spike_mat_mul(node: SpikeMatMul, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    q, k, v = (split_heads(inputs[port], node.heads).astype(np.float64) for port in ("q", "k", "v"))
    if node.form == "Q(K^TV)":
        # Column j of k^T v is made of all tokens, on every core that holds outputs j of whatever tokens.
        columns = Shared(_by_token(np.einsum("bhn,bhnj->bhj", k.sum(axis=3), v)[:, :, None]))
        products = _by_token(np.broadcast_to(q.sum(axis=3, keepdims=True), q.shape))
        return [(kind, part) for kind in ("synops", "synops_unary") for part in (columns, products)]
    scores = q @ k.swapaxes(2, 3)  # (B, heads, N, N)
    # Row n of q k^T is made on every core that holds outputs of token n and of whatever features of the head.
    rows = Shared(scores.sum(axis=3).swapaxes(1, 2))
    return [
        ("synops", rows),
        ("synops", _by_token((scores != 0) @ v)),
        ("synops_unary", rows),
        ("synops_unary", _by_token(scores @ v)),
    ]


def _by_token(x: Each) -> Each:
    """Reshape (B, heads, N, D/heads) to (B, N, D)."""
    return x.swapaxes(1, 2).reshape(len(x), x.shape[2], -1)


def _masked_column_sum(node: MaskedColumnSum, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    coincidences = np.count_nonzero(inputs["k"] * inputs["v"], axis=1)[:, None]
    return [("synops", coincidences), ("synops_unary", coincidences)]


def _gate(node: Gate, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count the inputs of a channel gate."""
    x = inputs["x"]
    return _synaptic(x != 0, lambda: x, kinds["x"])


def _halting_score(node: HaltingScore, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count one lookup for each token that visits: `alive` is the mask of its accumulator, if it has one."""
    visited = inputs.get("alive", np.ones_like(outputs["h"]))
    return [("score_lookups", visited[:, :, None] != 0)]


def _halt_accumulate(node: HaltAccumulate, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count nothing: an accumulation goes with each score that is looked up."""
    return []


def _readout(node: Readout, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count D multiplications for each weighted visit of the step, and D divisions a token after the last.

    The divisions are those of integers; in float they are the host's.
    """
    z = inputs[f"z{node.blocks - 1}"]
    weights = [np.count_nonzero(value, axis=1) for port, value in inputs.items() if port.startswith("p")]
    counted: Counted = [("readout_macs", sum(weights)[:, None, None])] if weights else []
    if isinstance(node, FixedReadout) and node.divides and outputs:
        counted.append(("cpu_operations", np.full((len(z), 1, 1), z.shape[1])))
    return counted


Counter = Callable[[Any, Inputs, Inputs, Kinds], Counted]
COUNTERS: Mapping[type[Node], Counter] = per_op(
    "counts of events",
    {
        Conv2d: _conv2d,
        Linear: _linear,
        LIF: _lif,
        SpikeMatMul: _spike_mat_mul,
        MaskedColumnSum: _masked_column_sum,
        Gate: _gate,
        HaltingScore: _halting_score,
        HaltAccumulate: _halt_accumulate,
        Readout: _readout,
    },
    of=[op for op in OPERATIONS if op.TRAITS.counts_events or op is Gate],
)
"""The counter of each node type that does events."""
