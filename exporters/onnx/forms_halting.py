"""Scores, accumulators that decide on halting, and the readout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stas_neuro.exporters.onnx.body import Body
from stas_neuro.exporters.onnx.forms_base import Form
from stas_neuro.exporters.onnx.function import Value, where
from stas_neuro.ir import (
    OPERATIONS,
    POLICIES,
    HaltAccumulate,
    HaltingScore,
    ImageScore,
    LateHaltAccumulate,
    Node,
    Readout,
    per_op,
    per_policy,
)


def _halting_score(body: Body) -> dict[str, Value]:
    u = _first(body) * body.node.alpha + body.node.beta
    decay = (abs(u) * -1).apply("Exp")  # cannot overflow
    return {"h": where(u >= 0, 1, decay) / (decay + 1)}


def _fixed_halting_score(body: Body) -> dict[str, Value]:
    node = body.node
    place = _first(body).shifted_right(node.shift) - node.low
    return {"h": body.param("table").take(place.clip(0, node.entries - 1), axis=0)}


def _first(body: Body) -> Value:
    """Take the first feature of each token, or its sum over the token's group, (B, N)."""
    first = body["z"].take(0, axis=2)
    if not body.node.groups:
        return first
    groups = np.array(body.node.groups)
    return first @ body.constant(groups == groups[:, None], first.dtype)


def _image_score(body: Body) -> dict[str, Value]:
    z = body["z"]
    mean = z.sum(1) / body.shape("z")[0]
    logits = mean @ body.param("weight").transpose(1, 0) + body.param("bias")
    return _clear_images(body, z, logits, body.node.margin, 1)


def _fixed_image_score(body: Body) -> dict[str, Value]:
    node = body.node
    z = body["z"].shifted_right(node.z_shift).clip(-node.z_limit, node.z_limit)
    sums = (z.sum(1) @ body.param("weight").transpose(1, 0)).shifted_right(node.shift)
    logits = sums + body.param("bias") * 2**node.bias_exp
    return _clear_images(body, z, logits, node.threshold, 1 << node.score_bits)


def _clear_images(body: Body, z: Value, logits: Value, margin: float, one: int) -> dict[str, Value]:
    """Add the logits (B, classes) of a step, and give `one` to the tokens of clear images."""
    sums = body.state("sums", (body.node.classes,), z) + logits
    body.keep("sums", sums)
    largest = sums.apply("TopK", body.whole([2]), axis=1, unused=1)
    lead = largest.take(0, axis=1) - largest.take(1, axis=1)
    due = margin if body.node.summed else (body.step() + 1).cast(sums.dtype) * margin
    clear = lead >= due
    return {"h": where(clear.unsqueeze(1), z.take(0, axis=2).like(one), 0)}


@dataclass(frozen=True)
class _Visit:
    """What an accumulator decides about: `one` stands for 1, tokens halt at `limit`; values (B, N)."""

    body: Body
    h: Value
    alive: Value
    total: Value
    limit: float
    one: int

    def sum_up(self, forced: Value | None) -> dict[str, Value]:
        """Halt where the sum of scores reaches the limit, or everywhere where `forced`."""
        halts = self.total + self.h >= self.limit
        halts = halts if forced is None else halts | forced
        return {
            "alive": where(halts, 0, self.alive),
            "total": self.total + self.alive * self.h,
            "p": self.alive * where(halts, self.one - self.total, self.h),
        }

    @cached_property
    def step(self) -> Value:
        """The number of the model step."""
        return self.body.step()

    @property
    def last_visit(self) -> Value | None:
        """Whether this is the last visit of all, or of those allowed; None where it never is."""
        last = self.step.equals(self.body.graph.time_steps - 1) if self.body.node.last_block else None
        if last is None or self.closed is None:
            return self.closed if last is None else last
        return last | self.closed

    @cached_property
    def closed(self) -> Value | None:
        """Whether no further visit is allowed; None where it always is."""
        closes = self.body.node.closes
        return None if closes is None else self.step >= closes


def _raster(visit: _Visit) -> dict[str, Value]:
    return visit.sum_up(visit.last_visit)


def _block(visit: _Visit) -> dict[str, Value]:
    return visit.sum_up(visit.body.constant(True, np.bool_) if visit.body.node.last_block else visit.closed)


def _rectangular(visit: _Visit) -> dict[str, Value]:
    body, score = visit.body, visit.alive * visit.h
    column = body.state("column", body.shape("score"), score) + score
    body.keep("column", column)
    total = visit.total + column
    stays = total < visit.limit if visit.closed is None else (total < visit.limit) & ~visit.closed
    return {"alive": where(stays, visit.alive, 0), "total": total, "p": score}


def _image(visit: _Visit) -> dict[str, Value]:
    return visit.sum_up(visit.closed) | {"p": visit.alive * visit.one}


_DECISIONS: Mapping[str, Callable[[_Visit], dict[str, Value]]] = per_policy(
    "decisions in ONNX",
    {"raster": _raster, "time": _raster, "block": _block, "rectangular": _rectangular, "image": _image},
)


def _visit(body: Body, limit: float, one: int) -> _Visit:
    h, alive, total = body["score"], body.get("alive"), body.get("total")
    return _Visit(
        body,
        h,
        h.like(1) if alive is None else alive,
        h.like(0) if total is None else total,
        limit,
        one,
    )


def _halt_accumulate(body: Body) -> dict[str, Value]:
    node = body.node
    decided = _DECISIONS[node.mode](_visit(body, 1 - node.epsilon, 1))
    if POLICIES[node.mode].fills == "step":
        decided["p"] = decided["p"] / body.graph.time_steps
    return decided


def _fixed_halt_accumulate(body: Body) -> dict[str, Value]:
    node = body.node
    return _DECISIONS[node.mode](_visit(body, node.limit, 1 << node.score_bits))


def _late_halt_accumulate(body: Body) -> dict[str, Value]:
    return _decide_late(_visit(body, 1 - body.node.epsilon, 1))


def _fixed_late_halt_accumulate(body: Body) -> dict[str, Value]:
    return _decide_late(_visit(body, body.node.limit, 1 << body.node.score_bits))


def _decide_late(visit: _Visit) -> dict[str, Value]:
    """Decide by the scores (B, T*A, N) that have arrived; weigh by all, which are known in the end."""
    body, h, scores = visit.body, visit.h, visit.total
    lags, steps = body.node.lags, body.graph.time_steps
    rows = steps * len(lags)
    summed = _in_order(scores, rows)
    scores = scores.part(1, 1, rows).apply("Concat", (visit.alive * h).unsqueeze(1), axis=1)
    age = steps - 1 - body.count(steps).reshape(steps, 1)  # of the T rounds of A scores, the newest last
    arrived = (age >= body.whole(lags)).reshape(rows, 1).cast(scores.dtype)
    halts, alive = summed + h >= visit.limit, _in_order(scores * arrived, rows) < visit.limit
    if (forced := visit.last_visit) is not None:
        halts, alive = halts | forced, alive & ~forced
    weight = where(summed < visit.limit, where(halts, visit.one - summed, h), 0)
    return {"alive": alive, "total": scores, "p": visit.alive * weight}


def _in_order(scores: Value, rows: int) -> Value:
    """Add up rows (B, rows, N) one after another, as raster halting does: rounding hangs on the order."""
    place = scores.function.constant(1, np.int64)
    return scores.apply("CumSum", place).take(rows - 1, axis=1)


def _gather(body: Body, z_of: Callable[[Value], Value] = lambda z: z) -> dict[str, Value]:
    """Take in one step of a readout: the sums and the latest values of tokens that its mode needs."""
    node = body.node
    last = body[f"z{node.blocks - 1}"]
    shape = body.shape(f"z{node.blocks - 1}")
    blocks = [block for block in range(node.blocks) if body.get(f"z{block}") is not None]
    everyone = last.take(0, axis=2).like(1)
    if node.mode == "mean-field":
        total, weight = (body.state(name, size, last) for name, size in _sums(shape))
        for block in blocks:
            p = body.get(f"p{block}")
            p = everyone if p is None else p
            total, weight = total + p.unsqueeze(2) * z_of(body[f"z{block}"]), weight + p
        body.keep("total", total)
        body.keep("weight", weight)
        return {}
    latest, entered = body.state("latest", shape, last), everyone.like(0)
    for block in blocks:
        visited = body.get(f"alive{block}")
        visited = everyone if visited is None else visited
        latest = where(visited.unsqueeze(2).equals(0), latest, z_of(body[f"z{block}"]))
        entered = entered.apply("Max", visited)
    body.keep("latest", latest)
    if node.mode == "rate":
        total, weight = (body.state(name, size, last) for name, size in _sums(shape))
        body.keep("total", total + entered.unsqueeze(2) * latest)
        body.keep("weight", weight + entered)
    return {}


def _sums(shape: tuple[int, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return ("total", shape), ("weight", shape[:1])


def _fixed_gather(body: Body) -> dict[str, Value]:
    node = body.node
    return _gather(body, lambda z: z.shifted_right(node.z_shift).clip(-node.z_limit, node.z_limit))


def _answer(body: Body) -> dict[str, Value]:
    node = body.node
    weighted = any(port.startswith("p") for port in body.graph.inputs(node))
    divides = node.mode == "rate" or node.normalise or (node.mode == "mean-field" and not weighted)
    value = body.gathered("latest" if node.mode == "last-state" else "total")
    if divides:
        value = value / _nonzero_weight(body)
    return {"y": value.sum(1) / body.shape(f"z{node.blocks - 1}")[0]}


def _fixed_answer(body: Body) -> dict[str, Value]:
    node = body.node
    value = body.gathered("latest" if node.mode == "last-state" else "total")
    if node.divides:  # rounded towards 0, whatever Div rounds to
        size = (abs(value) * 2**node.divide_bits).divided(_nonzero_weight(body))
        value = value.apply("Sign") * size
    return {"y": value.sum(1).shifted_right(node.y_shift)}


def _nonzero_weight(body: Body) -> Value:
    """Make a divisor (B, N, 1) of weights; one is 0 only where every score is, and then the sum is 0 too."""
    weight = body.gathered("weight")
    return where(weight.equals(0), 1, weight).unsqueeze(2)


FORMS: Mapping[type[Node], Form] = {
    HaltAccumulate: Form(_halt_accumulate, _fixed_halt_accumulate),
    HaltingScore: Form(_halting_score, _fixed_halting_score),
    ImageScore: Form(_image_score, _fixed_image_score),
    LateHaltAccumulate: Form(_late_halt_accumulate, _fixed_late_halt_accumulate),
    Readout: Form(_gather, _fixed_gather),
}
ANSWERS: Mapping[type[Node], Form] = per_op(
    "answers after the last step in ONNX",
    {Readout: Form(_answer, _fixed_answer)},
    of=[op for op in OPERATIONS if op.TRAITS.gathers],
)
"""What an operation that gathers in every step gives in the end."""
