"""Halting: scores of tokens, and accumulators that decide which tokens still visit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from stas_neuro.ir import (
    POLICIES,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedLateHaltAccumulate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    LateHaltAccumulate,
    Node,
    per_policy,
)
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


def _halting_score(node: HaltingScore, inputs: Inputs, context: NodeContext) -> Outputs:
    u = node.alpha * _first(node, inputs) + node.beta
    decay = np.exp(-np.abs(u))  # cannot overflow
    return {"h": np.where(u >= 0, np.ones_like(u), decay) / (1 + decay)}


def _fixed_halting_score(node: FixedHaltingScore, inputs: Inputs, context: NodeContext) -> Outputs:
    place = shifted_right(_first(node, inputs), node.shift).astype(np.int64) - node.low
    return {"h": context.tensors["table"][place.clip(0, node.entries - 1)]}


def _first(node: HaltingScore, inputs: Inputs) -> Values:
    """Return the first feature of each token, or its sum over the token's group, (B, N)."""
    first = inputs["z"][:, :, 0]
    if not node.groups:
        return first
    groups = np.array(node.groups)
    return np.asarray(first @ (groups == groups[:, None]).astype(first.dtype))


def _beyond_group(graph: Graph, node: FixedHaltingScore, size: Mapping[str, int]) -> int:
    return size["z"] * node.largest_group


def _count_halting_score(node: HaltingScore, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count one lookup for each token that visits: `alive` is the mask of its accumulator, if it has one."""
    visited = inputs.get("alive", np.ones_like(outputs["h"]))
    return [("score_lookups", visited[:, :, None] != 0)]


@dataclass(frozen=True, eq=False)
class _Visit:
    """What an accumulator decides about: `one` stands for 1, tokens halt at `limit`; values (B, N)."""

    h: Values
    alive: Values
    total: Values
    limit: float
    one: float


def _sum_up(visit: _Visit, forced: bool) -> Outputs:
    """Halt where the sum of scores reaches the limit, or everywhere."""
    halts = (visit.total + visit.h >= visit.limit) | forced
    return {
        "alive": visit.alive * ~halts,
        "total": visit.total + visit.alive * visit.h,
        "p": visit.alive * np.where(halts, visit.one - visit.total, visit.h),
    }


def _raster(node: HaltAccumulate, visit: _Visit, context: NodeContext) -> Outputs:
    return _sum_up(visit, node.is_closed(context.step) or (node.last_block and context.last_step))


def _block(node: HaltAccumulate, visit: _Visit, context: NodeContext) -> Outputs:
    return _sum_up(visit, node.is_closed(context.step) or node.last_block)


def _rectangular(node: HaltAccumulate, visit: _Visit, context: NodeContext) -> Outputs:
    h, alive = visit.h, visit.alive
    context.state["column"] = context.state.get("column", np.zeros_like(h)) + alive * h
    total = visit.total + context.state["column"]
    goes_on = (total < visit.limit) & (not node.is_closed(context.step))
    return {"alive": alive * goes_on, "total": total, "p": alive * h}


def _image(node: HaltAccumulate, visit: _Visit, context: NodeContext) -> Outputs:
    """Halt with the image, whose score is 0 or 1; visits weigh alike."""
    decided = _sum_up(visit, node.is_closed(context.step))
    return decided | {"p": visit.alive * visit.one}


_POLICIES: Mapping[str, Callable[[HaltAccumulate, _Visit, NodeContext], Outputs]] = per_policy(
    "decisions of the reference",
    {
        "raster": _raster,
        "time": _raster,
        "block": _block,
        "rectangular": _rectangular,
        "image": _image,
    },
)


def _visit(inputs: Inputs, limit: float, one: float) -> _Visit:
    h = inputs["score"]
    alive, total = inputs.get("alive", np.ones_like(h)), inputs.get("total", np.zeros_like(h))
    return _Visit(h, alive, total, limit, one)


def _halt_accumulate(node: HaltAccumulate, inputs: Inputs, context: NodeContext) -> Outputs:
    outputs = _POLICIES[node.mode](node, _visit(inputs, 1 - node.epsilon, 1), context)
    if POLICIES[node.mode].fills == "step":
        outputs["p"] = outputs["p"] / context.steps
    return outputs


def _fixed_halt_accumulate(node: FixedHaltAccumulate, inputs: Inputs, context: NodeContext) -> Outputs:
    return _POLICIES[node.mode](node, _visit(inputs, node.limit, 1 << node.score_bits), context)


def _decide_late(node: LateHaltAccumulate, visit: _Visit, context: NodeContext) -> Outputs:
    """Decide by the scores (B, T*A, N) that have arrived; weigh by all, which are known in the end."""
    h, alive, scores = visit.h, visit.alive, visit.total
    forced = node.is_closed(context.step) or (node.last_block and context.last_step)
    before = _in_order(scores, range(scores.shape[1]))
    scores = np.concatenate([scores[:, 1:], (alive * h)[:, None]], axis=1)
    rows, cycle = scores.shape[1], len(node.lags)
    arrived = [row for row in range(rows) if (rows - 1 - row) // cycle >= node.lags[row % cycle]]
    halts = (before + h >= visit.limit) | forced
    return {
        "alive": ((_in_order(scores, arrived) < visit.limit) & (not forced)).astype(h.dtype),
        "total": scores,
        "p": alive * (before < visit.limit) * np.where(halts, visit.one - before, h),
    }


def _in_order(scores: Values, rows: Iterable[int]) -> Values:
    """Add up rows of (B, rows, N) one after another, as raster halting does: rounding hangs on the order."""
    total = np.zeros_like(scores[:, 0])
    for row in rows:
        total = total + scores[:, row]
    return total


def _late_halt_accumulate(node: LateHaltAccumulate, inputs: Inputs, context: NodeContext) -> Outputs:
    return _decide_late(node, _visit(inputs, 1 - node.epsilon, 1), context)


def _fixed_late_halt_accumulate(
    node: FixedLateHaltAccumulate, inputs: Inputs, context: NodeContext
) -> Outputs:
    return _decide_late(node, _visit(inputs, node.limit, 1 << node.score_bits), context)


def _beyond_total(graph: Graph, node: FixedHaltAccumulate, size: Mapping[str, int]) -> int:
    return size["total"] + max(size["score"], 1 << node.score_bits)


def _beyond_scores(graph: Graph, node: FixedLateHaltAccumulate, size: Mapping[str, int]) -> int:
    scores = graph.time_steps * len(node.lags)
    return size["total"] * scores + max(size["score"], 1 << node.score_bits)


def _count_halt_accumulate(node: HaltAccumulate, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count nothing: an accumulation goes with each score that is looked up."""
    return []


RULES: Mapping[type[Node], Rules] = {
    HaltingScore: Rules(
        floats=_halting_score,
        integers=_fixed_halting_score,
        between=_beyond_group,
        count=_count_halting_score,
    ),
    HaltAccumulate: Rules(
        floats=_halt_accumulate,
        integers=_fixed_halt_accumulate,
        between=_beyond_total,
        count=_count_halt_accumulate,
    ),
    LateHaltAccumulate: Rules(
        floats=_late_halt_accumulate,
        integers=_fixed_late_halt_accumulate,
        between=_beyond_scores,
        count=_count_halt_accumulate,
    ),
}
