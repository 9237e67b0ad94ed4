"""What rearranges tokens and channels without weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import Map, Node
from stas_neuro.reference.ops.base import Inputs, NodeContext, Outputs, Rules, no_more


def _map(node: Map, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"].swapaxes(1, 2)
    return {"y": np.ascontiguousarray(x.reshape(*x.shape[:2], node.height, node.width))}


RULES: Mapping[type[Node], Rules] = {
    Map: Rules(floats=_map, integers=_map, between=no_more, count=None),
}
