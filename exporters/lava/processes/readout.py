"""From the visits' outputs to one feature vector."""

from __future__ import annotations

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.exporters.lava.processes.integers import divided
from stas_neuro.ir import Array


class Readout(NodeProcess):
    """z{l} (N, D), alive{l} and p{l} (N,) of each step and wired block to y (D,) after the last step.

    mean-field weighs each visit by p (by 1/T without), last-state takes a token's last visit, rate the last
    visited block of each step; all end in the mean over tokens.
    Fixed: of z' = clip(z >> z_shift, -z_limit, z_limit), the sum over tokens >> y_shift; divided are only the
    sums of normalised and rate, (sum << divide_bits) / weight towards 0.
    """


class ReadoutModel(NodeModel):
    """Accumulates step by step and sends at the last."""

    EVENTS = ("readout_macs", "cpu_operations")

    def _setup(self) -> None:
        blocks = range(self.node.blocks)
        self.blocks = [(f"z{l}", f"alive{l}", f"p{l}") for l in blocks if f"z{l}" in self.inlets]
        shape = self.inlets[self.blocks[-1][0]].shape
        self.mode = self.node.mode
        self.summed = np.zeros(shape, self.dtype)
        self.last = np.zeros(shape, self.dtype)
        self.weight = np.zeros(shape[:1], self.dtype)
        self.everyone = np.ones(shape[:1], self.dtype)

    def _reset(self) -> None:
        for state in (self.summed, self.last, self.weight):
            state[...] = 0

    def _compute(self, **inputs: Array) -> Array | None:
        for z, _, _ in self.blocks:
            inputs[z] = self._value(inputs[z])
        if self.mode == "mean-field":
            self._weigh(inputs)
        else:
            self._follow(inputs)
        return self._feature() if self.last_step else None

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
        self.count("readout_macs", weighted * self.place.neurons)

    def _follow(self, inputs: dict[str, Array]) -> None:
        entered = np.zeros_like(self.everyone)
        for z, alive, _ in self.blocks:
            visited = inputs.get(alive, self.everyone)
            np.copyto(self.last, inputs[z], where=visited[:, None] > 0)
            np.maximum(entered, visited, out=entered)
        if self.mode == "rate":
            self.summed += entered[:, None] * self.last
            self.weight += entered

    def _value(self, z: Array) -> Array:
        """What is summed of a block's value."""
        raise NotImplementedError

    def _feature(self) -> Array:
        """What the sums over steps come to."""
        raise NotImplementedError

    @property
    def tokens(self) -> Array:
        """What the mean over tokens is of, (N, D), before any division."""
        return self.last if self.mode == "last-state" else self.summed

    @property
    def divisor(self) -> Array | None:
        """Weight of each token (N, 1), where its sum is divided by it."""
        if self.mode == "rate" or self.node.normalise:
            # A weight is 0 where every score is 0, and then so is the sum.
            return np.where(self.weight == 0, 1, self.weight)[:, None]
        return None


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyReadoutModelFloat(ReadoutModel):
    """Means over visits and tokens."""

    def _value(self, z: Array) -> Array:
        return z

    def _feature(self) -> Array:
        tokens, divisor = self.tokens, self.divisor
        if divisor is not None:
            tokens = tokens / divisor
        elif self.mode == "mean-field" and not any(p in self.inlets for _, _, p in self.blocks):
            tokens = tokens / self.window.steps
        y: Array = tokens.mean(axis=0)
        return y


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyReadoutModelFixed(ReadoutModel):
    """Sums over visits and tokens; a processor beside the cores divides."""

    def _value(self, z: Array) -> Array:
        limit = self.node.z_limit
        y: Array = (z >> self.node.z_shift).clip(-limit, limit)
        return y

    def _feature(self) -> Array:
        tokens, divisor = self.tokens, self.divisor
        if divisor is not None:
            self.count("cpu_operations", len(tokens) * self.place.neurons)
            tokens = divided(tokens << self.node.divide_bits, divisor)
        y: Array = tokens.sum(axis=0, dtype=self.dtype) >> self.node.y_shift
        return y
