"""What rearranges tokens, takes some of their channels or their mean, without weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import FixedTokenMean, Map, Node, Slice, TokenMean
from stas_neuro.reference.ops.base import Inputs, NodeContext, Outputs, Rules, no_more, sent


def _map(node: Map, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"].swapaxes(1, 2)
    return {"y": np.ascontiguousarray(x.reshape(*x.shape[:2], node.height, node.width))}


def _slice(node: Slice, inputs: Inputs, context: NodeContext) -> Outputs:
    x, channels = inputs["x"], slice(node.start, node.stop)
    return {"y": x[:, channels] if x.ndim == 4 else x[..., channels]}


def _token_mean(node: TokenMean, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": inputs["x"].mean(axis=1, keepdims=True)}


def _fixed_token_mean(node: FixedTokenMean, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": sent(inputs["x"], node.x_shift).sum(axis=1, keepdims=True)}


RULES: Mapping[type[Node], Rules] = {
    Map: Rules(floats=_map, integers=_map, between=no_more, count=None),
    Slice: Rules(floats=_slice, integers=_slice, between=no_more, count=None),
    TokenMean: Rules(floats=_token_mean, integers=_fixed_token_mean, between=no_more, count=None),
}
