"""Adaptive halting: the score of a token's state, and its accumulation over visits."""

from __future__ import annotations

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.policies import POLICIES, Accumulator, Visit
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.ir import Array


class HaltingScore(NodeProcess):
    """h (N,) = sigmoid(alpha * z[:, 0] + beta), z (N, D); of a group of tokens z[:, 0] is summed up.

    Fixed: h = table[clip(z[:, 0] >> shift, low, low + entries - 1) - low].
    `alive` (N,), the mask of the visit, says whose scores are looked up at all; it changes no result.
    """


class HaltingScoreModel(NodeModel):
    """One table lookup a visited token and visit."""

    EVENTS = ("score_lookups",)

    def _compute(self, z: Array, alive: Array | None = None) -> Array:
        self.count("score_lookups", self.place.neurons if alive is None else self.place.count(alive > 0))
        first = z[:, 0]
        if self.node.groups:
            groups = np.array(self.node.groups)
            sums = np.zeros(groups.max() + 1, first.dtype)
            np.add.at(sums, groups, first)
            first = sums[groups]
        return self._score(first)

    def _score(self, z: Array) -> Array:
        raise NotImplementedError


@implements(proc=HaltingScore, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyHaltingScoreModelFloat(HaltingScoreModel):
    """Computes the sigmoid."""

    def _score(self, z: Array) -> Array:
        drive = self.node.alpha * z + self.node.beta
        decay = np.exp(-np.abs(drive))  # never overflows
        h: Array = np.where(drive >= 0, 1.0, decay) / (1.0 + decay)
        return h


@implements(proc=HaltingScore, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyHaltingScoreModelFixed(HaltingScoreModel):
    """Looks the sigmoid up."""

    def _score(self, z: Array) -> Array:
        entry = (z >> self.node.shift) - self.node.low
        h: Array = self.tensors["table"][entry.clip(0, self.node.entries - 1)]
        return h


class HaltAccumulate(NodeProcess):
    """Decides which tokens stay alive after a visit: score [alive] [total] to alive, total, p, all (N,).

    raster sums over all visits in time-major order, block within a step, time over the last block of each
    step, and rectangular over earlier steps and lower blocks, of which it keeps its own column. From the
    model step `closes` on all tokens halt.
    Fixed: 2^score_bits for 1, `limit` for 1 - epsilon, and p of mode block is not divided by T.
    """


class LateHaltAccumulate(NodeProcess):
    """As `HaltAccumulate` of raster and time, with late decisions.

    total (T*A, N) are the scores of the last T visits of A accumulators, the newest last; alive rests on
    those that have arrived by `lags`, p on all.
    """


class HaltAccumulateModel(NodeModel):
    """Its record "visits" bool (B, T, N) is the mask that the visit ran under, "states" are the totals."""

    def _setup(self) -> None:
        tokens = self.inlets["score"].shape
        self.accumulator = self._accumulator(np.zeros(tokens, self.dtype))
        self.visits = np.zeros((self.run_spec.images, self.window.steps, *tokens), np.bool_)
        self.record["visits"] = self.visits
        if self.run_spec.record_states:
            shape = *self.visits.shape[:2], *self.outlets["total"]
            self.record["states"] = np.zeros(shape, self.dtype)
        self.open_alive, self.open_total = np.ones(tokens, self.dtype), np.zeros(tokens, self.dtype)

    def _accumulator(self, column: Array) -> Accumulator:
        """Give the constants of its arithmetic."""
        raise NotImplementedError

    def _reset(self) -> None:
        self.accumulator.column[...] = 0

    def _compute(
        self, score: Array, alive: Array | None = None, total: Array | None = None
    ) -> dict[str, Array]:
        alive = self.open_alive if alive is None else alive
        total = self.open_total if total is None else total
        self.visits[self.now.image, self.now.step] = alive
        closed = self.node.closes is not None and self.now.step >= self.node.closes
        sent = self._decide(Visit(score, alive, total, self.last_step, closed))
        if "states" in self.record:
            self.record["states"][self.now.image, self.now.step] = sent["total"]
        return sent

    def _decide(self, visit: Visit) -> dict[str, Array]:
        return POLICIES[self.node.mode](self.accumulator, visit)


class FloatAccumulator(HaltAccumulateModel):
    """Scores are in 0..1."""

    def _accumulator(self, column: Array) -> Accumulator:
        limit = 1.0 - self.node.epsilon
        return Accumulator(1.0, limit, self.node.last_block, self.window.steps, column)


class FixedAccumulator(HaltAccumulateModel):
    """Scores are in 0..2^score_bits."""

    def _accumulator(self, column: Array) -> Accumulator:
        one = 1 << self.node.score_bits
        return Accumulator(one, self.node.limit, self.node.last_block, 1, column)


@implements(proc=HaltAccumulate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyHaltAccumulateModelFloat(FloatAccumulator):
    """Decides in raster order."""


@implements(proc=HaltAccumulate, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyHaltAccumulateModelFixed(FixedAccumulator):
    """Decides in raster order."""


class LateDecisions(HaltAccumulateModel):
    """Decides with what has arrived."""

    def _setup(self) -> None:
        super()._setup()
        model_steps_ago = np.arange(self.window.steps)[::-1]
        lags = np.array(self.node.lags, np.int64)
        self.arrived = (model_steps_ago[:, None] >= lags).reshape(-1, 1)

    def _decide(self, visit: Visit) -> dict[str, Array]:
        """Visits after the one that fills the sum weigh nothing."""
        score, alive, scores, limit = visit.score, visit.alive, visit.total, self.accumulator.limit
        ends = visit.closed or (self.accumulator.last_block and visit.last_step)
        # A cumulative sum adds row after row: in raster order, on which the rounding of floats hangs.
        filled = scores.cumsum(axis=0, dtype=self.dtype)[-1]
        scores = np.vstack([scores[1:], alive * score])
        known = (scores * self.arrived).cumsum(axis=0, dtype=self.dtype)[-1]
        rest = np.where(filled >= limit, 0, self.accumulator.one - filled)
        open_after = (filled + score < limit) & (not ends)
        return {
            "alive": ((known < limit) & (not ends)).astype(self.dtype),
            "total": scores,
            "p": alive * np.where(open_after, score, rest),
        }


@implements(proc=LateHaltAccumulate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLateHaltAccumulateModelFloat(LateDecisions, FloatAccumulator):
    """Decides late."""


@implements(proc=LateHaltAccumulate, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyLateHaltAccumulateModelFixed(LateDecisions, FixedAccumulator):
    """Decides late."""
