"""Gates of spikes that need no tokens."""

from __future__ import annotations

from collections.abc import Mapping

from stas_neuro.ir import Node, SpikeAnd
from stas_neuro.reference.ops.base import (
    Counted,
    Inputs,
    Kinds,
    NodeContext,
    Outputs,
    Rules,
    by_position,
    no_more,
)


def _spike_and(node: SpikeAnd, inputs: Inputs, context: NodeContext) -> Outputs:
    a, b = inputs["a"], inputs["b"]
    return {"y": a * (1 - b) if node.invert else a * b}


def _count_spike_and(node: SpikeAnd, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count the spikes at a, as `Gate` counts those at x."""
    spikes = by_position(inputs["a"])
    return [("synops", spikes), ("synops_unary", spikes)]


RULES: Mapping[type[Node], Rules] = {
    SpikeAnd: Rules(floats=_spike_and, integers=_spike_and, between=no_more, count=_count_spike_and),
}
