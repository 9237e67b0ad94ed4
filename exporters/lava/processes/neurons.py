"""Neurons, spike pooling, and what merges the steps of a stem."""

from __future__ import annotations

import numpy as np

from ..lava_api import CPU, LoihiProtocol, implements, requires, tag
from ..network import Array
from .base import LayerModel, LayerProcess


class LIF(LayerProcess):
    """v = v + (x - v) / tau, s = v > threshold (or >=), v = 0 where it fired.

    `alive` only tells gated updates from inactive ones in the counts: a dead token has no input and leaks.
    """


@implements(proc=LIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLIFModel(LayerModel):
    """Keeps the membranes of one image."""

    EVENTS = ("updates_active", "updates_inactive", "updates_gated", "spikes_out")

    def _setup(self) -> None:
        shape = self.inlets["x"].shape
        self.tau, self.threshold = self.params["tau"], self.params["threshold"]
        self.fires = {">": np.greater, ">=": np.greater_equal}[self.params["fire"]]
        self.v = np.zeros(shape, self.dtype)
        self.spikes = None
        if self.run_spec.record_spikes:
            self.spikes = np.zeros((self.run_spec.images, self.window.steps, *shape), np.uint8)
            self.record["spikes"] = self.spikes

    def _reset(self) -> None:
        self.v[...] = 0.0

    def _compute(self, x: Array, alive: Array | None = None) -> Array:
        change = x - self.v
        change /= self.tau
        self.v += change
        fired = self.fires(self.v, self.threshold)
        self.v[fired] = 0.0
        self._count(fired, x, alive)
        if self.spikes is not None:
            self.spikes[self.now.image, self.now.step] = fired
        spikes: Array = fired.astype(self.dtype)
        return spikes

    def _count(self, fired: Array, x: Array, alive: Array | None) -> None:
        busy = fired | (x != 0)
        stepped = busy.size
        if alive is not None:
            live = alive > 0
            stepped = int(np.count_nonzero(live)) * (busy.size // live.size)
            if stepped < busy.size:
                busy = busy[live]
        active = np.count_nonzero(busy)
        self.count("updates_active", active)
        self.count("updates_inactive", stepped - active)
        self.count("updates_gated", fired.size - stepped)
        self.count("spikes_out", np.count_nonzero(fired))


class SpikeMaxPool(LayerProcess):
    """OR of the spikes of a window: x (C, H, W) to y (C, H', W')."""


@implements(proc=SpikeMaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySpikeMaxPoolModel(LayerModel):
    """Largest of the kernel's taps, each a strided view of the padded map."""

    def _setup(self) -> None:
        kernel, stride, padding = (self.params[key] for key in ("kernel", "stride", "padding"))
        channels, height, width = self.inlets["x"].shape
        _, out_height, out_width = self.outlets["y"]
        padded = np.zeros((channels, height + 2 * padding, width + 2 * padding), self.dtype)
        self.interior = padded[:, padding : padding + height, padding : padding + width]
        self.taps = [
            padded[:, i : i + stride * out_height : stride, j : j + stride * out_width : stride]
            for i in range(kernel)
            for j in range(kernel)
        ]

    def _compute(self, x: Array) -> Array:
        self.interior[...] = x
        y: Array = self.taps[0].copy()
        for tap in self.taps[1:]:
            np.maximum(y, tap, out=y)
        return y


class Integrate(LayerProcess):
    """Merges x of the T stem steps into one y: their max, mean, sum, or learned weighted sum."""


@implements(proc=Integrate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyIntegrateModel(LayerModel):
    """Accumulates step by step and sends at the last."""

    def _setup(self) -> None:
        self.mode = self.params["mode"]
        self.merged = np.zeros(self.inlets["x"].shape, self.dtype)

    def _reset(self) -> None:
        self.merged[...] = 0.0 if self.mode != "max" else -np.inf

    def _compute(self, x: Array) -> Array | None:
        if self.mode == "max":
            np.maximum(self.merged, x, out=self.merged)
        elif self.mode == "learned":
            self.merged += self.tensors["weights"][self.now.step] * x
        else:
            self.merged += x
        if not self.last_step:
            return None
        return self.merged / self.window.steps if self.mode == "mean" else self.merged.copy()
