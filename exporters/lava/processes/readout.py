"""From the visits' outputs to one feature vector."""

from __future__ import annotations

import numpy as np

from ..lava_api import CPU, LoihiProtocol, implements, requires, tag
from ..network import Array
from .base import LayerModel, LayerProcess


class Readout(LayerProcess):
    """z{l} (N, D), alive{l} and p{l} (N,) of each step and wired block to y (D,) after the last step.

    mean-field weighs each visit by p (by 1/T without), last-state takes a token's last visit, rate the last
    visited block of each step; all end in the mean over tokens.
    """


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyReadoutModel(LayerModel):
    """Accumulates step by step and sends at the last."""

    EVENTS = ("readout_macs",)

    def _setup(self) -> None:
        blocks = range(self.params["blocks"])
        self.blocks = [(f"z{l}", f"alive{l}", f"p{l}") for l in blocks if f"z{l}" in self.inlets]
        shape = self.inlets[self.blocks[-1][0]].shape
        self.mode = self.params["mode"]
        self.summed = np.zeros(shape, self.dtype)
        self.last = np.zeros(shape, self.dtype)
        self.weight = np.zeros(shape[:1], self.dtype)
        self.everyone = np.ones(shape[:1], self.dtype)

    def _reset(self) -> None:
        for state in (self.summed, self.last, self.weight):
            state[...] = 0.0

    def _compute(self, **inputs: Array) -> Array | None:
        if self.mode == "mean-field":
            self._weigh(inputs)
        else:
            self._follow(inputs)
        return self._mean() if self.last_step else None

    def _weigh(self, inputs: dict[str, Array]) -> None:
        weighted = 0
        for z, _, p in self.blocks:
            weight = inputs.get(p)
            if weight is None:
                self.summed += inputs[z]
                continue
            self.summed += weight[:, None] * inputs[z]
            self.weight += weight
            weighted += np.count_nonzero(weight)
        self.count("readout_macs", weighted * self.summed.shape[1])

    def _follow(self, inputs: dict[str, Array]) -> None:
        entered = np.zeros_like(self.everyone)
        for z, alive, _ in self.blocks:
            visited = inputs.get(alive, self.everyone)
            np.copyto(self.last, inputs[z], where=visited[:, None] > 0)
            np.maximum(entered, visited, out=entered)
        if self.mode == "rate":
            self.summed += entered[:, None] * self.last
            self.weight += entered

    def _mean(self) -> Array:
        if self.mode == "last-state":
            tokens = self.last
        elif self.mode == "rate" or self.params["normalise"]:
            # A weight is 0 where every score underflowed to 0, and then so is the sum.
            tokens = self.summed / np.where(self.weight == 0, 1, self.weight)[:, None]
        else:
            weighted = any(p in self.inlets for _, _, p in self.blocks)
            tokens = self.summed if weighted else self.summed / self.window.steps
        y: Array = tokens.mean(axis=0)
        return y
