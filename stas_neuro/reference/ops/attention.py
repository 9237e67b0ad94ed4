"""Attention: products of spikes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import (
    ALIGN,
    FixedHeadSum,
    FixedMaskedColumnSum,
    FixedSpikeMatMul,
    HeadSum,
    MaskedColumnSum,
    Node,
    SpikeMatMul,
)
from stas_neuro.reference.ops.base import (
    Counted,
    Each,
    Inputs,
    Kinds,
    NodeContext,
    Outputs,
    Rules,
    Shared,
    Values,
    no_more,
)


def _split_heads(x: Values, heads: int) -> Values:
    """Reshape (B, N, D) to (B, heads, N, D/heads)."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def _spike_product(node: SpikeMatMul, inputs: Inputs) -> Values:
    """Multiply (q k^T) v, per head: (B, N, D)."""
    q, k, v = (_split_heads(inputs[port], node.heads) for port in ("q", "k", "v"))
    product = q @ (k.swapaxes(2, 3) @ v) if node.form == "Q(K^TV)" else (q @ k.swapaxes(2, 3)) @ v
    return product.swapaxes(1, 2).reshape(inputs["q"].shape)


def _spike_mat_mul(node: SpikeMatMul, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": _spike_product(node, inputs) * node.scale}


def _column_sum(inputs: Inputs) -> Values:
    """Sum k * v over tokens: (B, D)."""
    return np.asarray((inputs["k"] * inputs["v"]).sum(axis=1))


def _masked_column_sum(node: MaskedColumnSum, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": _column_sum(inputs)}


def _sum_of_heads(node: HeadSum, inputs: Inputs) -> Values:
    """Sum x over the channels of each head: (B, N, heads)."""
    x = inputs["x"]
    return np.asarray(x.reshape(*x.shape[:2], node.heads, -1).sum(axis=3))


def _head_sum(node: HeadSum, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": _sum_of_heads(node, inputs)}


def _fixed_spike_mat_mul(node: FixedSpikeMatMul, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": _spike_product(node, inputs) * 2 ** (ALIGN + node.exponent)}


def _fixed_masked_column_sum(node: FixedMaskedColumnSum, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": _column_sum(inputs) * 2 ** (ALIGN + node.exponent)}


def _fixed_head_sum(node: FixedHeadSum, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": _sum_of_heads(node, inputs) * 2 ** (ALIGN + node.exponent)}


def _count_spike_mat_mul(node: SpikeMatMul, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    q, k, v = (_split_heads(inputs[port], node.heads).astype(np.float64) for port in ("q", "k", "v"))
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


def _count_masked_column_sum(node: MaskedColumnSum, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    coincidences = np.count_nonzero(inputs["k"] * inputs["v"], axis=1)[:, None]
    return [("synops", coincidences), ("synops_unary", coincidences)]


def _count_head_sum(node: HeadSum, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    spikes = _sum_of_heads(node, inputs)
    return [("synops", spikes), ("synops_unary", spikes)]


RULES: Mapping[type[Node], Rules] = {
    SpikeMatMul: Rules(
        floats=_spike_mat_mul,
        integers=_fixed_spike_mat_mul,
        between=no_more,
        count=_count_spike_mat_mul,
    ),
    MaskedColumnSum: Rules(
        floats=_masked_column_sum,
        integers=_fixed_masked_column_sum,
        between=no_more,
        count=_count_masked_column_sum,
    ),
    HeadSum: Rules(
        floats=_head_sum,
        integers=_fixed_head_sum,
        between=no_more,
        count=_count_head_sum,
    ),
}
