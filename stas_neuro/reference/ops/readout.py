"""Readout: gathers in every model step, answers after the last."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import STATE_LIMIT, WORD_LIMIT, FixedReadout, Graph, Node, Readout
from stas_neuro.reference.ops.base import (
    Counted,
    Inputs,
    Kinds,
    NodeContext,
    Outputs,
    Rules,
    Values,
    shifted_right,
)


def _gather(node: Readout, inputs: Inputs, context: NodeContext) -> tuple[Values, Values]:
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


def _nonzero_weight(weight: Values) -> Values:
    """Make a divisor of (B, N) weights; one is 0 only where every score is, and then the sum is 0 too."""
    return np.where(weight == 0, np.ones_like(weight), weight)[:, :, None]


def _readout(node: Readout, inputs: Inputs, context: NodeContext) -> Outputs:
    """Take in one step; give y after the last."""
    value, weight = _gather(node, inputs, context)
    if not context.last_step:
        return {}
    weighted = any(port.startswith("p") for port in inputs)
    if node.mode == "rate" or node.normalise or (node.mode == "mean-field" and not weighted):
        value = value / _nonzero_weight(weight)
    return {"y": value.mean(axis=1)}


def _fixed_readout(node: FixedReadout, inputs: Inputs, context: NodeContext) -> Outputs:
    """Take in one step; give y after the last."""
    clipped = {
        port: shifted_right(value, node.z_shift).clip(-node.z_limit, node.z_limit)
        for port, value in inputs.items()
        if port.startswith("z")
    }
    value, weight = _gather(node, {**inputs, **clipped}, context)
    if not context.last_step:
        return {}
    if node.divides:
        # Dividend and divisor have 31 bits: a quotient below a whole number is further from it than the 53
        # bits of float64 round by.
        value = np.trunc(value * 2**node.divide_bits / _nonzero_weight(weight))
    return {"y": shifted_right(value.sum(axis=1), node.y_shift)}


def _sums(graph: Graph, node: FixedReadout, size: Mapping[str, int]) -> int:
    # What the graph was refused for if its sums could pass it.
    return WORD_LIMIT if node.divides else STATE_LIMIT


def _count_readout(node: Readout, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count D multiplications for each weighted visit of the step, and D divisions a token after the last.

    The divisions are those of integers; in float they are the host's.
    """
    z = inputs[f"z{node.blocks - 1}"]
    weights = [np.count_nonzero(value, axis=1) for port, value in inputs.items() if port.startswith("p")]
    counted: Counted = [("readout_macs", sum(weights)[:, None, None])] if weights else []
    if isinstance(node, FixedReadout) and node.divides and outputs:
        counted.append(("cpu_operations", np.full((len(z), 1, 1), z.shape[1])))
    return counted


RULES: Mapping[type[Node], Rules] = {
    Readout: Rules(floats=_readout, integers=_fixed_readout, between=_sums, count=_count_readout),
}
