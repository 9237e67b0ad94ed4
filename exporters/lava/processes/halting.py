"""Adaptive halting: the score of a token's state, and its accumulation over visits."""

from __future__ import annotations

import numpy as np

from ..lava_api import CPU, LoihiProtocol, implements, requires, tag
from ..network import Array
from .base import LayerModel, LayerProcess


class HaltingScore(LayerProcess):
    """h (N,) = sigmoid(alpha * z[:, 0] + beta), z (N, D).

    `alive` (N,), the mask of the visit, says whose scores are looked up at all; it changes no result.
    """


@implements(proc=HaltingScore, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyHaltingScoreModel(LayerModel):
    """One table lookup a visited token and visit."""

    EVENTS = ("score_lookups",)

    def _compute(self, z: Array, alive: Array | None = None) -> Array:
        drive = self.params["alpha"] * z[:, 0] + self.params["beta"]
        decay = np.exp(-np.abs(drive))  # never overflows
        self.count("score_lookups", drive.size if alive is None else np.count_nonzero(alive))
        h: Array = np.where(drive >= 0, 1.0, decay) / (1.0 + decay)
        return h


class HaltAccumulate(LayerProcess):
    """Decides which tokens stay alive after a visit: score [alive] [total] to alive, total, p, all (N,).

    raster sums over all visits in time-major order, block within a step, time over the last block of each
    step, and rectangular over earlier steps and lower blocks, of which it keeps its own column.
    """


@implements(proc=HaltAccumulate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyHaltAccumulateModel(LayerModel):
    """Its record "visits" bool (B, T, N) is the mask that the visit ran under."""

    def _setup(self) -> None:
        tokens = self.inlets["score"].shape
        self.mode = self.params["mode"]
        self.limit = 1.0 - self.params["epsilon"]
        self.column = np.zeros(tokens, self.dtype)
        self.visits = np.zeros((self.run_spec.images, self.window.steps, *tokens), np.bool_)
        self.record["visits"] = self.visits
        self.open_alive, self.open_total = np.ones(tokens, self.dtype), np.zeros(tokens, self.dtype)

    def _reset(self) -> None:
        self.column[...] = 0.0

    def _compute(
        self, score: Array, alive: Array | None = None, total: Array | None = None
    ) -> dict[str, Array]:
        alive = self.open_alive if alive is None else alive
        total = self.open_total if total is None else total
        self.visits[self.now.image, self.now.step] = alive
        if self.mode == "rectangular":
            weight = alive * score
            self.column += weight
            summed = total + self.column
            return {"alive": alive * (summed < self.limit), "total": summed, "p": weight}
        halts = np.ones_like(score) if self._forced else (total + score >= self.limit).astype(self.dtype)
        weight = alive * np.where(halts > 0, 1.0 - total, score)
        if self.mode == "block":
            weight /= self.window.steps
        return {"alive": alive * (1.0 - halts), "total": total + alive * score, "p": weight}

    @property
    def _forced(self) -> bool:
        """The very last visit always halts; accumulation within a step ends with each step."""
        return bool(self.params["last_block"] and (self.mode == "block" or self.last_step))
