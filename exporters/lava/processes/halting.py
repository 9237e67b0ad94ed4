"""Adaptive halting: the score of a token's state, and its accumulation over visits."""

from __future__ import annotations

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.ir import Array


class HaltingScore(NodeProcess):
    """h (N,) = sigmoid(alpha * z[:, 0] + beta), z (N, D).

    Fixed: h = table[clip(z[:, 0] >> shift, low, low + entries - 1) - low].
    `alive` (N,), the mask of the visit, says whose scores are looked up at all; it changes no result.
    """


class HaltingScoreModel(NodeModel):
    """One table lookup a visited token and visit."""

    EVENTS = ("score_lookups",)

    def _compute(self, z: Array, alive: Array | None = None) -> Array:
        self.count("score_lookups", self.place.neurons if alive is None else self.place.count(alive > 0))
        return self._score(z[:, 0])

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
    step, and rectangular over earlier steps and lower blocks, of which it keeps its own column.
    Fixed: 2^score_bits for 1, `limit` for 1 - epsilon, and p of mode block is not divided by T.
    Where decisions are late, total (T*A, N) are the scores of the last T visits of A accumulators, the newest
    last; alive rests on those that have arrived by `lags`, p on all.
    """


class HaltAccumulateModel(NodeModel):
    """Its record "visits" bool (B, T, N) is the mask that the visit ran under, "states" are the totals."""

    one: float
    limit: float

    def _setup(self) -> None:
        tokens = self.inlets["score"].shape
        self.mode = self.node.mode
        self.column = np.zeros(tokens, self.dtype)
        self.visits = np.zeros((self.run_spec.images, self.window.steps, *tokens), np.bool_)
        self.record["visits"] = self.visits
        if self.run_spec.record_states:
            shape = *self.visits.shape[:2], *self.outlets["total"]
            self.record["states"] = np.zeros(shape, self.dtype)
        self.open_alive, self.open_total = np.ones(tokens, self.dtype), np.zeros(tokens, self.dtype)
        lags = np.array(self.node.lags, np.int64)
        model_steps_ago = np.arange(self.window.steps)[::-1]
        self.arrived = (model_steps_ago[:, None] >= lags).reshape(-1, 1)

    def _reset(self) -> None:
        self.column[...] = 0

    def _compute(
        self, score: Array, alive: Array | None = None, total: Array | None = None
    ) -> dict[str, Array]:
        alive = self.open_alive if alive is None else alive
        total = self.open_total if total is None else total
        self.visits[self.now.image, self.now.step] = alive
        sent = self._visit(score, alive, total)
        if "states" in self.record:
            self.record["states"][self.now.image, self.now.step] = sent["total"]
        return sent

    def _visit(self, score: Array, alive: Array, total: Array) -> dict[str, Array]:
        if len(self.arrived):
            return self._late_visit(score, alive, total)
        if self.mode == "rectangular":
            weight = alive * score
            self.column += weight
            summed = total + self.column
            return {"alive": alive * (summed < self.limit), "total": summed, "p": weight}
        halts = np.ones_like(score) if self._forced else (total + score >= self.limit).astype(self.dtype)
        weight = self._weight(alive * np.where(halts > 0, self.one - total, score))
        return {"alive": alive * (1 - halts), "total": total + alive * score, "p": weight}

    def _late_visit(self, score: Array, alive: Array, scores: Array) -> dict[str, Array]:
        """Decide with what has arrived; visits after the one that fills the sum weigh nothing."""
        # A cumulative sum adds row after row: in raster order, on which the rounding of floats hangs.
        filled = scores.cumsum(axis=0, dtype=self.dtype)[-1]
        scores = np.vstack([scores[1:], alive * score])
        known = (scores * self.arrived).cumsum(axis=0, dtype=self.dtype)[-1]
        rest = np.where(filled >= self.limit, 0, self.one - filled)
        open_after = (filled + score < self.limit) & (not self._forced)
        return {
            "alive": ((known < self.limit) & (not self._forced)).astype(self.dtype),
            "total": scores,
            "p": alive * np.where(open_after, score, rest),
        }

    def _weight(self, p: Array) -> Array:
        raise NotImplementedError

    @property
    def _forced(self) -> bool:
        """The very last visit always halts; accumulation within a step ends with each step."""
        return bool(self.node.last_block and (self.mode == "block" or self.last_step))


@implements(proc=HaltAccumulate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyHaltAccumulateModelFloat(HaltAccumulateModel):
    """Scores are in 0..1."""

    def _setup(self) -> None:
        super()._setup()
        self.one, self.limit = 1.0, 1.0 - self.node.epsilon

    def _weight(self, p: Array) -> Array:
        return p / self.window.steps if self.mode == "block" else p


@implements(proc=HaltAccumulate, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyHaltAccumulateModelFixed(HaltAccumulateModel):
    """Scores are in 0..2^score_bits."""

    def _setup(self) -> None:
        super()._setup()
        self.one, self.limit = 1 << self.node.score_bits, self.node.limit

    def _weight(self, p: Array) -> Array:
        return p
