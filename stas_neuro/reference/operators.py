"""What each node computes, one function a node type; values carry a leading batch axis.

An operator takes the values at the connected input ports and gives those at its output ports. State lives in
`NodeContext.state`, which starts empty for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import (
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    Gate,
    HaltAccumulate,
    HaltingScore,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Readout,
    SpikeMatMul,
    SpikeMaxPool,
    Tokens,
    per_op,
)

Values = NDArray[np.floating[Any]]
Inputs = Mapping[str, Values]
Outputs = dict[str, Values]


@dataclass
class NodeContext:
    """A node's place in a run: its parameters, its state, and which step it is at (from 0, of `steps`)."""

    tensors: Mapping[str, Values]
    steps: int
    skip: bool
    step: int = 0
    state: dict[str, Values] = field(default_factory=dict)

    @property
    def last_step(self) -> bool:
        """Whether this is the last of the model steps."""
        return self.step == self.steps - 1


def taps_of(x: Values, window: Conv2d | SpikeMaxPool) -> Iterator[tuple[int, int, Values]]:
    """Shift a zero-padded map to each place (row, column) of a window: views (B, C, H', W') of its inputs."""
    pad, stride, height, width = window.padding, window.stride, *x.shape[2:]
    padded = np.zeros((*x.shape[:2], height + 2 * pad, width + 2 * pad), x.dtype)
    padded[:, :, pad : pad + height, pad : pad + width] = x
    # The last input that the last window's first place can have, plus one.
    ends = [size + 2 * pad - window.kernel + 1 for size in (height, width)]
    for row in range(window.kernel):
        for column in range(window.kernel):
            yield row, column, padded[:, :, row : row + ends[0] : stride, column : column + ends[1] : stride]


def convolve(node: Conv2d, x: Values, weight: Values) -> Values:
    """Cross-correlate maps (B, Cin, H, W) to (B, Cout, H', W')."""
    # One product a tap: needs no matrix of all windows in memory.
    y: Values = sum(  # type: ignore[assignment]
        np.tensordot(weight[:, :, row, column], taps, axes=(1, 1)) for row, column, taps in taps_of(x, node)
    )
    return y.swapaxes(0, 1)


def _conv2d(node: Conv2d, inputs: Inputs, context: NodeContext) -> Outputs:
    y = convolve(node, inputs["x"], context.tensors["weight"])
    return {"y": y + context.tensors["bias"][:, None, None] if node.bias else y}


def live_rows(function: Callable[[Values], Values], inputs: Inputs, skip: bool) -> Values:
    """Map rows of x (..., D) to (..., E), those of halted tokens to 0: if `skip`, without computing them."""
    x, alive = inputs["x"], inputs.get("alive")
    if alive is None or alive.all() or not skip:
        rows = function(x.reshape(-1, x.shape[-1]))
        y = rows.reshape(*x.shape[:-1], rows.shape[1])
        return y if alive is None else y * alive[..., None]
    live = alive != 0
    rows = function(x[live])
    y = np.zeros((*x.shape[:-1], rows.shape[1]), rows.dtype)
    y[live] = rows
    return y


def _linear(node: Linear, inputs: Inputs, context: NodeContext) -> Outputs:
    def product(x: Values) -> Values:
        y: Values = x @ context.tensors["weight"].T
        return y + context.tensors["bias"] if node.bias else y

    return {"y": live_rows(product, inputs, context.skip)}


def _batch_norm(node: BatchNorm, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]
    by_map = (-1, 1, 1) if x.ndim == 4 else (-1,)
    gamma, beta, mean, var = (
        context.tensors[param].reshape(by_map) for param in ("gamma", "beta", "mean", "var")
    )
    y = (x - mean) / np.sqrt(var + node.eps) * gamma + beta
    return {"y": y if "alive" not in inputs else y * inputs["alive"][:, :, None]}


def _lif(node: LIF, inputs: Inputs, context: NodeContext) -> Outputs:
    # Halted tokens are stepped like the rest: their x is 0, and gathering rows costs more than the three
    # elementwise operations it would save.
    x = inputs["x"]
    v = context.state.get("v", np.zeros_like(x))
    v = v + (x - v) / node.tau
    fired = v > node.threshold if node.fire == ">" else v >= node.threshold
    v[fired] = 0
    context.state["v"] = v
    return {"s": fired.astype(x.dtype)}


def _spike_max_pool(node: SpikeMaxPool, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": np.maximum.reduce([x for _, _, x in taps_of(inputs["x"], node)])}


def _integrate(node: Integrate, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]  # (T, B, ...)
    match node.mode:
        case "max":
            return {"y": x.max(axis=0)}
        case "mean":
            return {"y": x.mean(axis=0)}
        case "sum":
            return {"y": x.sum(axis=0)}
        case "learned":
            return {"y": np.tensordot(context.tensors["weights"], x, axes=1)}


def _tokens(node: Tokens, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]
    return {"y": np.ascontiguousarray(x.reshape(*x.shape[:2], -1).swapaxes(1, 2))}


def _add(node: Add, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": inputs["a"] + inputs["b"]}


def split_heads(x: Values, heads: int) -> Values:
    """Reshape (B, N, D) to (B, heads, N, D/heads)."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def spike_product(node: SpikeMatMul, inputs: Inputs) -> Values:
    """Multiply (q k^T) v, per head: (B, N, D)."""
    q, k, v = (split_heads(inputs[port], node.heads) for port in ("q", "k", "v"))
    product = q @ (k.swapaxes(2, 3) @ v) if node.form == "Q(K^TV)" else (q @ k.swapaxes(2, 3)) @ v
    return product.swapaxes(1, 2).reshape(inputs["q"].shape)


def _spike_mat_mul(node: SpikeMatMul, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": spike_product(node, inputs) * node.scale}


def column_sum(inputs: Inputs) -> Values:
    """Sum k * v over tokens: (B, D)."""
    return np.asarray((inputs["k"] * inputs["v"]).sum(axis=1))


def _masked_column_sum(node: MaskedColumnSum, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": column_sum(inputs)}


def _gate(node: Gate, inputs: Inputs, context: NodeContext) -> Outputs:
    x, mask = inputs["x"], inputs["mask"]
    return {"y": x * (mask[:, :, None] if node.axis == "token" else mask[:, None, :])}


def _halting_score(node: HaltingScore, inputs: Inputs, context: NodeContext) -> Outputs:
    u = node.alpha * inputs["z"][:, :, 0] + node.beta
    decay = np.exp(-np.abs(u))  # cannot overflow
    return {"h": np.where(u >= 0, np.ones_like(u), decay) / (1 + decay)}


def accumulate(
    node: HaltAccumulate, inputs: Inputs, context: NodeContext, *, limit: float, one: float
) -> Outputs:
    """Add up scores of which `one` stands for 1, and halt tokens at `limit`; p is not divided by T."""
    h = inputs["score"]
    alive, total = inputs.get("alive", np.ones_like(h)), inputs.get("total", np.zeros_like(h))
    forced = node.last_block and (context.last_step or node.mode == "block")
    if node.late:
        return _accumulate_late(node, alive, total, h, forced=forced, limit=limit, one=one)
    if node.mode == "rectangular":
        context.state["column"] = context.state.get("column", np.zeros_like(h)) + alive * h
        total = total + context.state["column"]
        return {"alive": alive * (total < limit), "total": total, "p": alive * h}
    halts = (total + h >= limit) | forced
    return {
        "alive": alive * ~halts,
        "total": total + alive * h,
        "p": alive * np.where(halts, one - total, h),
    }


def _accumulate_late(
    node: HaltAccumulate, alive: Values, scores: Values, h: Values, *, forced: bool, limit: float, one: float
) -> Outputs:
    """Decide by the scores (B, T*A, N) that have arrived; weigh by all, which are known in the end."""
    before = _in_order(scores, range(scores.shape[1]))
    scores = np.concatenate([scores[:, 1:], (alive * h)[:, None]], axis=1)
    rows, cycle = scores.shape[1], len(node.lags)
    arrived = [row for row in range(rows) if (rows - 1 - row) // cycle >= node.lags[row % cycle]]
    halts = (before + h >= limit) | forced
    return {
        "alive": ((_in_order(scores, arrived) < limit) & (not forced)).astype(h.dtype),
        "total": scores,
        "p": alive * (before < limit) * np.where(halts, one - before, h),
    }


def _in_order(scores: Values, rows: Iterable[int]) -> Values:
    """Add up rows of (B, rows, N) one after another, as raster halting does: rounding hangs on the order."""
    total = np.zeros_like(scores[:, 0])
    for row in rows:
        total = total + scores[:, row]
    return total


def _halt_accumulate(node: HaltAccumulate, inputs: Inputs, context: NodeContext) -> Outputs:
    outputs = accumulate(node, inputs, context, limit=1 - node.epsilon, one=1)
    if node.mode == "block":
        outputs["p"] = outputs["p"] / context.steps
    return outputs


def gather(node: Readout, inputs: Inputs, context: NodeContext) -> tuple[Values, Values]:
    """Take in one step of a readout.

    Gives each token's value (B, N, D) so far: the sum of what its visits give, in last-state the latest; and
    the weight (B, N) of that sum.
    """
    last_z = inputs[f"z{node.blocks - 1}"]
    everyone = np.ones_like(last_z[:, :, 0])
    total = context.state.get("total", np.zeros_like(last_z))
    weight = context.state.get("weight", np.zeros_like(everyone))
    latest = context.state.get("latest", np.zeros_like(last_z))
    entered = np.zeros_like(everyone)
    for block in range(node.blocks):
        if f"z{block}" not in inputs:
            continue
        z = inputs[f"z{block}"]
        if node.mode == "mean-field":
            p = inputs.get(f"p{block}", everyone)
            total, weight = total + p[:, :, None] * z, weight + p
        else:
            visited = inputs.get(f"alive{block}", everyone)
            latest = np.where(visited[:, :, None] != 0, z, latest)
            entered = np.maximum(entered, visited)
    if node.mode == "rate":
        total, weight = total + entered[:, :, None] * latest, weight + entered
    context.state.update(total=total, weight=weight, latest=latest)
    return (latest if node.mode == "last-state" else total), weight


def nonzero_weight(weight: Values) -> Values:
    """Make a divisor of (B, N) weights; one is 0 only where every score is, and then the sum is 0 too."""
    return np.where(weight == 0, np.ones_like(weight), weight)[:, :, None]


def _readout(node: Readout, inputs: Inputs, context: NodeContext) -> Outputs:
    """Take in one step; give y after the last."""
    value, weight = gather(node, inputs, context)
    if not context.last_step:
        return {}
    weighted = any(port.startswith("p") for port in inputs)
    if node.mode == "rate" or node.normalise or (node.mode == "mean-field" and not weighted):
        value = value / nonzero_weight(weight)
    return {"y": value.mean(axis=1)}


Operator = Callable[[Any, Inputs, NodeContext], Outputs]
OPERATORS: Mapping[type[Node], Operator] = per_op(
    "operators of the float reference",
    {
        Conv2d: _conv2d,
        Linear: _linear,
        BatchNorm: _batch_norm,
        LIF: _lif,
        SpikeMaxPool: _spike_max_pool,
        Integrate: _integrate,
        Tokens: _tokens,
        Add: _add,
        SpikeMatMul: _spike_mat_mul,
        MaskedColumnSum: _masked_column_sum,
        Gate: _gate,
        HaltingScore: _halting_score,
        HaltAccumulate: _halt_accumulate,
        Readout: _readout,
    },
    without=(Input, Output),  # the run's own ends
)
"""The operator of each node type."""
