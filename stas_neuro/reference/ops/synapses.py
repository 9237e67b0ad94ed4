"""Layers with weights: convolutions, linear layers, and the normalisation that is folded into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from stas_neuro.ir import (
    ALIGN,
    BatchNorm,
    Conv2d,
    FixedConv2d,
    FixedLinear,
    Graph,
    Linear,
    Node,
)
from stas_neuro.reference.ops.base import (
    Counted,
    Each,
    Inputs,
    Kinds,
    NodeContext,
    Outputs,
    Rules,
    Values,
    by_position,
    magnitude_sum,
    no_more,
    sent,
    shifted_right,
    synaptic_events,
)
from stas_neuro.reference.ops.windows import taps_of


def convolve(node: Conv2d, x: Values, weight: Values) -> Values:
    """Cross-correlate maps (B, Cin, H, W) to (B, Cout, H', W')."""
    groups = zip(np.split(x, node.groups, axis=1), np.split(weight, node.groups), strict=True)
    return np.concatenate([_convolve_group(node, *group) for group in groups]).swapaxes(0, 1)


def _convolve_group(node: Conv2d, x: Values, weight: Values) -> Values:
    # One product a tap: needs no matrix of all windows in memory.
    y: Values = sum(  # type: ignore[assignment]
        np.tensordot(weight[:, :, row, column], taps, axes=(1, 1)) for row, column, taps in taps_of(x, node)
    )
    return y


def _conv2d(node: Conv2d, inputs: Inputs, context: NodeContext) -> Outputs:
    y = convolve(node, inputs["x"], context.tensors["weight"])
    return {"y": y + _on_map(node, context.tensors["bias"]) if node.bias else y}


def _on_map(node: Conv2d, bias: Values) -> Values:
    """Return biases as (Cout, H', W'), or (Cout, 1, 1)."""
    return bias.reshape(len(bias), *(node.bias_map or (1, 1)))


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


def _synaptic_input(sums: Values, context: NodeContext) -> Values:
    """Compute shift(sums, weight_exp) << 6 of sums (..., Cout)."""
    exponents = context.tensors["weight_exp"].astype(np.int64)
    scale = np.ldexp(np.ones_like(context.tensors["weight_exp"]), exponents)
    shifted: Values = sums * (scale * 2**ALIGN) if exponents.min() >= 0 else np.floor(sums * scale) * 2**ALIGN
    return shifted


def _fixed_conv2d(node: FixedConv2d, inputs: Inputs, context: NodeContext) -> Outputs:
    sums = convolve(node, sent(inputs["x"], node.x_shift), context.tensors["weight"])
    y = _synaptic_input(sums.swapaxes(1, 3), context).swapaxes(1, 3)
    bias = context.tensors["bias"] * 2**node.bias_exp
    y = y + _on_map(node, bias)
    return {"y": shifted_right(y, node.bias_exp) * 2**node.bias_exp if node.off_core else y}


def _fixed_linear(node: FixedLinear, inputs: Inputs, context: NodeContext) -> Outputs:
    def product(x: Values) -> Values:
        y: Values = _synaptic_input(sent(x, node.x_shift) @ context.tensors["weight"].T, context)
        y += context.tensors["bias"] * 2**node.bias_exp
        return y

    return {"y": live_rows(product, inputs, context.skip)}


def _weighted(graph: Graph, node: Node, size: Mapping[str, int]) -> int:
    return magnitude_sum(graph.tensor(node, "weight")) * size["x"]


def _windows(node: Conv2d, x: Each) -> Each:
    """Sum values (B, groups, H, W) over windows: (B, H'*W', Cout), of a single group (B, H'*W', 1)."""
    summed = by_position(sum(taps for _, _, taps in taps_of(x, node)))  # type: ignore[arg-type]
    return summed if node.groups == 1 else summed.repeat(node.out_channels // node.groups, axis=2)


def _count_conv2d(node: Conv2d, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    maps = inputs["x"]
    x = maps.reshape(len(maps), node.groups, -1, *maps.shape[2:])
    events = _windows(node, np.count_nonzero(x, axis=2))
    if isinstance(node, FixedConv2d) and node.off_core:
        return [("cpu_operations", events)]
    return synaptic_events(events, lambda: _windows(node, x.sum(axis=2, dtype=np.float64)), kinds["x"])


def _count_linear(node: Linear, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    x = by_position(inputs["x"])
    events = np.count_nonzero(x, axis=2)[:, :, None]
    return synaptic_events(events, lambda: x.sum(axis=2, keepdims=True, dtype=np.float64), kinds["x"])


RULES: Mapping[type[Node], Rules] = {
    Conv2d: Rules(floats=_conv2d, integers=_fixed_conv2d, between=_weighted, count=_count_conv2d),
    Linear: Rules(floats=_linear, integers=_fixed_linear, between=_weighted, count=_count_linear),
    BatchNorm: Rules(floats=_batch_norm, integers=None, between=no_more, count=None),
}
