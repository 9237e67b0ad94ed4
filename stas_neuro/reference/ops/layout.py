"""What moves, sums up or masks values: tokens from maps, residual sums, sums over steps, gates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import (
    Add,
    FixedAdd,
    FixedIntegrate,
    Gate,
    Graph,
    Integrate,
    Node,
    Tokens,
)
from stas_neuro.reference.ops.base import (
    Counted,
    Inputs,
    Kinds,
    NodeContext,
    Outputs,
    Rules,
    magnitude_sum,
    no_more,
    shifted_right,
    synaptic_events,
)


def _integrate(node: Integrate, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]  # (T, B, ...)
    match node.mode:
        case "max":
            return {"y": x.max(axis=0)}
        case "mean":
            return {"y": x.mean(axis=0)}
        case "sum":
            return {"y": x.sum(axis=0)}
        case "learned":
            return {"y": np.tensordot(context.tensors["weights"], x, axes=1)}


def _tokens(node: Tokens, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]
    return {"y": np.ascontiguousarray(x.reshape(*x.shape[:2], -1).swapaxes(1, 2))}


def _add(node: Add, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": inputs["a"] + inputs["b"]}


def _gate(node: Gate, inputs: Inputs, context: NodeContext) -> Outputs:
    x, mask = inputs["x"], inputs["mask"]
    match node.axis:
        case "token":
            return {"y": x * mask[:, :, None]}
        case "channel":
            return {"y": x * mask[:, None, :]}
        case "head":
            return {"y": (x.reshape(*mask.shape, -1) * mask[..., None]).reshape(x.shape)}


def _fixed_add(node: FixedAdd, inputs: Inputs, context: NodeContext) -> Outputs:
    return {"y": node.a_weight * inputs["a"] + node.b_weight * inputs["b"]}


def _fixed_integrate(node: FixedIntegrate, inputs: Inputs, context: NodeContext) -> Outputs:
    x = inputs["x"]  # (T, B, ...)
    match node.mode:
        case "max":
            return {"y": x.max(axis=0)}
        case "mean" | "sum":
            return {"y": x.sum(axis=0)}
        case "learned":
            return {"y": shifted_right(np.tensordot(context.tensors["weights"], x, axes=1), node.shift)}


def _weighted_sum(graph: Graph, node: FixedAdd, size: Mapping[str, int]) -> int:
    return node.a_weight * size["a"] + node.b_weight * size["b"]


def _weighted_steps(graph: Graph, node: FixedIntegrate, size: Mapping[str, int]) -> int:
    if node.mode != "learned":
        return 0  # what it gives is what it has summed up
    return magnitude_sum(graph.tensor(node, "weights")[None]) * size["x"]


def _count_gate(node: Gate, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count the inputs of a gate by spikes."""
    x = inputs["x"]
    return synaptic_events(x != 0, lambda: x, kinds["x"])


RULES: Mapping[type[Node], Rules] = {
    Integrate: Rules(floats=_integrate, integers=_fixed_integrate, between=_weighted_steps, count=None),
    Tokens: Rules(floats=_tokens, integers=_tokens, between=no_more, count=None),
    Add: Rules(floats=_add, integers=_fixed_add, between=_weighted_sum, count=None),
    Gate: Rules(floats=_gate, integers=_gate, between=no_more, count=_count_gate),
}
