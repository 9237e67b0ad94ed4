"""Leaky integrate-and-fire neurons, and synaptic currents that outlast a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import (
    ALIGN,
    LIF,
    STATE_LIMIT,
    Array,
    FixedLIF,
    FixedSynapticCurrent,
    Graph,
    Node,
    SynapticCurrent,
    membrane_bound,
)
from stas_neuro.reference.ops.base import (
    Counted,
    Inputs,
    Kinds,
    NodeContext,
    Outputs,
    Rules,
    Values,
    by_position,
)


def _lif(node: LIF, inputs: Inputs, context: NodeContext) -> Outputs:
    # Halted tokens are stepped like the rest: their x is 0, and gathering rows costs more than the three
    # elementwise operations it would save.
    x = inputs["x"]
    v = context.state.get("v", np.zeros_like(x))
    v = v + (x - v) / node.tau if node.decay_input else v - v / node.tau + x
    fired = v > node.threshold if node.fire == ">" else v >= node.threshold
    return _reset(node, node.threshold, v, fired, inputs, context)


def _fixed_lif(node: FixedLIF, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]
    # sign(v) * ((|v| * keep) >> 12) rounds towards 0.
    v = np.trunc(context.state.get("v", np.zeros_like(x)) * ((4096 - node.dv) / 4096)) + x
    if node.clips:
        v = v.clip(-STATE_LIMIT, STATE_LIMIT)
    return _reset(node, node.subtracted, v, v > node.vth << ALIGN, inputs, context)


def _reset(node: LIF, amount: float, v: Array, fired: Array, inputs: Inputs, context: NodeContext) -> Outputs:
    """Reset the membranes that fired, to 0 or by an amount, and return the spikes."""
    if node.reset == "zero":
        v[fired] = 0
    else:
        if "alive" in inputs:  # what subtraction left may be above the threshold
            fired &= inputs["alive"][..., None] != 0
        v[fired] -= amount
    context.state["v"] = v
    return {"s": fired.astype(v.dtype)}


def _kept(graph: Graph, node: FixedLIF, size: Mapping[str, int]) -> int:
    return _parts(membrane_bound(graph, node), 4096 - node.dv) + size["x"]


def _parts(value: int, keep: int) -> int:
    """Bound value * keep / 4096 as a whole number of small parts: as many as in lowest terms."""
    return value * (keep // (keep & -keep)) if keep else 0


def _current(node: SynapticCurrent, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]
    u = context.state.get("u", np.zeros_like(x))
    u = u - u / node.tau + x
    context.state["u"] = u
    return {"y": u + _by_feature(context.tensors["bias"], x) if node.bias else u}


def _fixed_current(node: FixedSynapticCurrent, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]
    # sign(u) * ((|u| * keep) >> 12) rounds towards 0.
    u = np.trunc(context.state.get("u", np.zeros_like(x)) * ((4095 - node.du) / 4096)) + x
    context.state["u"] = u
    bias = _by_feature(context.tensors["bias"], x) * 2**node.bias_exp if node.bias else 0
    return {"y": u + bias}


def _by_feature(tensor: Values, x: Values) -> Values:
    """Shape a tensor (features,) to be added to maps (B, C, H, W) or tokens (B, N, D)."""
    return tensor[:, None, None] if x.ndim == 4 else tensor


def _outlasting(graph: Graph, node: FixedSynapticCurrent, size: Mapping[str, int]) -> int:
    # u is y without its bias, which both fit the width of a state.
    return _parts(2 * STATE_LIMIT, 4095 - node.du)


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
    SynapticCurrent: Rules(floats=_current, integers=_fixed_current, between=_outlasting, count=None),
}
