"""Pooling: the largest value of each window."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import MaxPool, Node, SpikeMaxPool
from stas_neuro.reference.ops.base import Inputs, NodeContext, Outputs, Rules, no_more
from stas_neuro.reference.ops.windows import taps_of


def _spike_max_pool(node: SpikeMaxPool, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": np.maximum.reduce([x for _, _, x in taps_of(inputs["x"], node)])}


def _max_pool(node: MaxPool, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": np.maximum.reduce([x for _, _, x in taps_of(inputs["x"], node, outside=-np.inf)])}


RULES: Mapping[type[Node], Rules] = {
    SpikeMaxPool: Rules(floats=_spike_max_pool, integers=_spike_max_pool, between=no_more, count=None),
    MaxPool: Rules(floats=_max_pool, integers=_max_pool, between=no_more, count=None),
}
