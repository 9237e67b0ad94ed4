"""Leaky integrate-and-fire neurons."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import ALIGN, LIF, FixedLIF, Graph, Node, membrane_bound
from stas_neuro.reference.ops.base import Counted, Inputs, Kinds, NodeContext, Outputs, Rules, by_position


def _lif(node: LIF, inputs: Inputs, context: NodeContext) -> Outputs:
    # Halted tokens are stepped like the rest: their x is 0, and gathering rows costs more than the three
    # elementwise operations it would save.
    x = inputs["x"]
    v = context.state.get("v", np.zeros_like(x))
    v = v + (x - v) / node.tau if node.decay_input else v - v / node.tau + x
    fired = v > node.threshold if node.fire == ">" else v >= node.threshold
    v[fired] = 0
    context.state["v"] = v
    return {"s": fired.astype(x.dtype)}


def _fixed_lif(node: FixedLIF, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]
    # sign(v) * ((|v| * keep) >> 12) rounds towards 0.
    v = np.trunc(context.state.get("v", np.zeros_like(x)) * ((4096 - node.dv) / 4096)) + x
    fired = v > node.vth << ALIGN
    v[fired] = 0
    context.state["v"] = v
    return {"s": fired.astype(x.dtype)}


def _kept(graph: Graph, node: FixedLIF, size: Mapping[str, int]) -> int:
    # |v| * (4096 - dv) / 4096 is a whole number of small parts: as many as in lowest terms.
    keep = 4096 - node.dv
    return membrane_bound(graph, node) * (keep // (keep & -keep))


def _count_lif(node: LIF, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
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


RULES: Mapping[type[Node], Rules] = {
    LIF: Rules(floats=_lif, integers=_fixed_lif, between=_kept, count=_count_lif),
}
