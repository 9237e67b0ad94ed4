"""What rearranges tokens and channels, or takes their mean, without weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import FixedTokenMean, Map, Node, TokenMean
from stas_neuro.reference.ops.base import Inputs, NodeContext, Outputs, Rules, no_more


def _map(node: Map, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"].swapaxes(1, 2)
    return {"y": np.ascontiguousarray(x.reshape(*x.shape[:2], node.height, node.width))}


def _token_mean(node: TokenMean, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": inputs["x"].mean(axis=1, keepdims=True)}


def _fixed_token_mean(node: FixedTokenMean, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": inputs["x"].sum(axis=1, keepdims=True)}


RULES: Mapping[type[Node], Rules] = {
    Map: Rules(floats=_map, integers=_map, between=no_more, count=None),
    TokenMean: Rules(floats=_token_mean, integers=_fixed_token_mean, between=no_more, count=None),
}
