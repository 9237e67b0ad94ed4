"""Neurons, spike pooling, and what merges the steps of a stem."""

from __future__ import annotations

import numpy as np

from ..lava_api import CPU, LoihiProtocol, implements, requires, tag
from ..network import Array
from .base import LayerModel, LayerProcess
from .integers import ALIGN, SIGN


class LIF(LayerProcess):
    """v = v + (x - v) / tau, s = v > threshold (or >=), v = 0 where it fired.

    Fixed: v = decay(v) + x, s = v > (vth << 6), decay(v) = sign(v) * ((|v| * (4096 - dv)) >> 12).
    `alive` only tells gated updates from inactive ones in the counts: a dead token has no input and leaks.
    """


class LIFModel(LayerModel):
    """Keeps the membranes of one image; may record the spikes and, after the reset, the membranes of all."""

    EVENTS = ("updates_active", "updates_inactive", "updates_gated", "spikes_out")

    def _setup(self) -> None:
        self.threshold = self._threshold()
        self.fires = {">": np.greater, ">=": np.greater_equal}[self.params["fire"]]
        self.v = np.zeros(self.inlets["x"].shape, self.dtype)
        recorded = (self.run_spec.images, self.window.steps, *self.v.shape)
        if self.run_spec.record_spikes:
            self.record["spikes"] = np.zeros(recorded, np.uint8)
        if self.run_spec.record_states:
            self.record["states"] = np.zeros(recorded, self.dtype)

    def _reset(self) -> None:
        self.v[...] = 0

    def _compute(self, x: Array, alive: Array | None = None) -> Array:
        self._integrate(x)
        fired = self.fires(self.v, self.threshold)
        self.v[fired] = 0
        self._count(fired, x, alive)
        for what, values in (("spikes", fired), ("states", self.v)):
            if what in self.record:
                self.record[what][self.now.image, self.now.step] = values
        spikes: Array = fired.astype(self.dtype)
        return spikes

    def _threshold(self) -> float:
        raise NotImplementedError

    def _integrate(self, x: Array) -> None:
        """Bring the membranes to what the threshold is compared with."""
        raise NotImplementedError

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


@implements(proc=LIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLIFModelFloat(LIFModel):
    """Moves the membranes towards their input, by 1 / tau of the way."""

    def _threshold(self) -> float:
        return float(self.params["threshold"])

    def _integrate(self, x: Array) -> None:
        change = x - self.v
        change /= self.params["tau"]
        self.v += change


@implements(proc=LIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyLIFModelFixed(LIFModel):
    """As Lava's LIF with du = 4095, of which x is the current with the bias: 24-bit membranes, clipped."""

    def _threshold(self) -> int:
        return int(self.params["vth"]) << ALIGN

    def _integrate(self, x: Array) -> None:
        kept = (np.abs(self.v).astype(np.int64) * (4096 - self.params["dv"])) >> 12
        v = np.where(self.v < 0, -kept, kept) + x
        self.v[...] = v.clip(1 - SIGN, SIGN - 1)


class SpikeMaxPool(LayerProcess):
    """OR of the spikes of a window: x (C, H, W) to y (C, H', W')."""


@implements(proc=SpikeMaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
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
    """Merges x of the T stem steps into one y: their max, mean, sum, or learned weighted sum.

    Fixed: a mean is the sum, and the learned sum is shifted to the right by `shift`.
    """


class IntegrateModel(LayerModel):
    """Accumulates step by step and sends at the last."""

    def _setup(self) -> None:
        self.mode = self.params["mode"]
        self.merged = np.zeros(self.inlets["x"].shape, self.dtype)

    def _compute(self, x: Array) -> Array | None:
        if self.mode == "max":
            self.merged = x if self.now.step == 0 else np.maximum(self.merged, x)
        else:
            weighted = self.tensors["weights"][self.now.step] * x if self.mode == "learned" else x
            self.merged = weighted if self.now.step == 0 else self.merged + weighted
        return self._merged() if self.last_step else None

    def _merged(self) -> Array:
        raise NotImplementedError


@implements(proc=Integrate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyIntegrateModelFloat(IntegrateModel):
    """A mean is divided at the end."""

    def _merged(self) -> Array:
        return self.merged / self.window.steps if self.mode == "mean" else self.merged


@implements(proc=Integrate, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyIntegrateModelFixed(IntegrateModel):
    """A learned sum is shifted at the end."""

    def _merged(self) -> Array:
        return self.merged >> self.params["shift"] if self.mode == "learned" else self.merged
