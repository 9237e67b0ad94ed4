"""Neurons, spike pooling, and what merges the steps of a stem."""

from __future__ import annotations

from typing import Any

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.exporters.lava.processes.integers import ALIGN, SIGN
from stas_neuro.ir import Array


class LIF(NodeProcess):
    """v = v + (x - v) / tau, s = v > threshold (or >=), v = 0 or v - threshold where it fired.

    Without `decay_input`: v = v - v / tau + x.
    Fixed: v = decay(v) + x, s = v > (vth << 6), decay(v) = sign(v) * ((|v| * (4096 - dv)) >> 12).
    A dead token has no input and leaks. If the reset is to 0, `alive` only tells gated updates from inactive
    ones in the counts; else it also holds back spikes of what earlier subtractions left. On a gated core that
    has no live token it is not stepped, and leaks when the core wakes.
    """


class LIFModel(NodeModel):
    """Keeps the membranes of one image; may record the spikes and, after the reset, the membranes of all."""

    EVENTS = ("updates_active", "updates_inactive", "updates_gated", "spikes_out")

    def _setup(self) -> None:
        self.threshold, self.spent = self._threshold(), self._spent()
        self.fires = self._comparison()
        self.v = np.zeros(self.inlets["x"].shape, self.dtype)
        self.missed = np.zeros(self.place.axes, np.int64)
        if self.place.wakers is not None:
            self.record["updates_skipped"] = np.zeros_like(self.record["updates_gated"])
        recorded = (self.run_spec.images, self.window.steps, *self.v.shape)
        if self.run_spec.record_spikes:
            self.record["spikes"] = np.zeros(recorded, np.uint8)
        if self.run_spec.record_states:
            self.record["states"] = np.zeros(recorded, self.dtype)

    def _reset(self) -> None:
        self.v[...] = 0
        self.missed[...] = 0

    def _compute(self, x: Array, alive: Array | None = None) -> Array:
        held = np.zeros(x.shape, np.bool_) if alive is None else np.repeat(alive[:, None] <= 0, x.shape[1], 1)
        if self.place.wakers is None or alive is None:
            fired = self._step(self.v, x, held)
        else:
            fired = self._step_awake(x, held, self.place.awake(alive))
        self._count(fired, x, alive)
        for what, values in (("spikes", fired), ("states", self.v)):
            if what in self.record:
                self.record[what][self.now.image, self.now.step] = values
        spikes: Array = fired.astype(self.dtype)
        return spikes

    def _step(self, v: Array, x: Array, held: Array) -> Array:
        """Step membranes in place; whether they fired. Those of dead tokens are `held`."""
        self._integrate(v, x)
        fired: Array = self.fires(v, self.threshold)
        if self.node.reset == "zero":
            v[fired] = 0
        else:
            fired &= ~held
            v -= self.spent * fired
        return fired

    def _step_awake(self, x: Array, held: Array, awake: Array) -> Array:
        """Step the pieces that are `awake` (pieces,); the others neither leak nor fire."""
        self._make_up(awake)
        if awake.all():
            return self._step(self.v, x, held)
        fired = np.zeros(x.shape, np.bool_)
        stepped = awake[self.place.stepped]
        if awake.any():
            v = self.v[stepped]
            fired[stepped] = self._step(v, x[stepped], held[stepped])
            self.v[stepped] = v
        self.count("updates_skipped", self.place.count(~stepped))
        return fired

    def _make_up(self, awake: Array) -> None:
        """Leak what pieces missed that wake; without input a membrane fires neither then nor now."""
        late = np.where(awake, self.missed, 0)
        while late.any():
            leaking = (late > 0)[self.place.stepped]
            v = self.v[leaking]
            self._integrate(v, np.zeros_like(v))
            self.v[leaking] = v
            late[late > 0] -= 1
        self.missed = np.where(awake, 0, self.missed + 1)

    def _threshold(self) -> float:
        raise NotImplementedError

    def _spent(self) -> float:
        """What a spike takes off the membrane, if it is not reset to 0."""
        raise NotImplementedError

    def _comparison(self) -> np.ufunc:
        """What a membrane that fires is to the threshold."""
        raise NotImplementedError

    def _integrate(self, v: Array, x: Array) -> None:
        """Bring membranes, in place, to what the threshold is compared with."""
        raise NotImplementedError

    def _count(self, fired: Array, x: Array, alive: Array | None) -> None:
        busy = x != 0
        busy |= fired
        gated: Any = 0
        if alive is not None and not (live := alive > 0).all():
            busy &= live[:, None]
            gated = self.place.count(~live)
        active = self.place.count(busy)
        self.count("updates_active", active)
        self.count("updates_inactive", self.place.neurons - gated - active)
        self.count("updates_gated", gated)
        self.count("spikes_out", self.place.count(fired))


@implements(proc=LIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLIFModelFloat(LIFModel):
    """Moves the membranes towards their input by 1 / tau of the way, or towards 0, and adds the input."""

    def _threshold(self) -> float:
        return float(self.node.threshold)

    def _spent(self) -> float:
        return self._threshold()

    def _comparison(self) -> np.ufunc:
        return {">": np.greater, ">=": np.greater_equal}[self.node.fire]

    def _integrate(self, v: Array, x: Array) -> None:
        if self.node.decay_input:
            change = x - v
            change /= self.node.tau
            v += change
        else:
            v -= v / self.node.tau
            v += x


@implements(proc=LIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyLIFModelFixed(LIFModel):
    """As Lava's LIF with du = 4095, of which x is the current with the bias: 24-bit membranes, clipped."""

    def _threshold(self) -> int:
        return int(self.node.vth) << ALIGN

    def _spent(self) -> int:
        return (int(self.node.vth) + int(self.node.fire == ">=")) << ALIGN

    def _comparison(self) -> np.ufunc:
        return np.greater  # all that a core compares by: where the float neuron has >=, vth is one lower

    def _integrate(self, v: Array, x: Array) -> None:
        kept = (np.abs(v).astype(np.int64) * (4096 - self.node.dv)) >> 12
        v[...] = (np.where(v < 0, -kept, kept) + x).clip(1 - SIGN, SIGN - 1)


class SynapticCurrent(NodeProcess):
    """u = u - u / tau + x, y = u + bias.

    Fixed: u = decay(u) + x, y = u + (bias << bias_exp), decay(u) = sign(u) * ((|u| * (4095 - du)) >> 12).
    """


class SynapticCurrentModel(NodeModel):
    """Keeps the currents of one image; may record those of all."""

    def _setup(self) -> None:
        shape = self.inlets["x"].shape
        self.u = np.zeros(shape, self.dtype)
        self.bias: Array = np.zeros((), self.dtype)
        if self.node.bias:
            self.bias = self._bias().reshape(-1, 1, 1) if len(shape) == 3 else self._bias()
        if self.run_spec.record_states:
            self.record["states"] = np.zeros((self.run_spec.images, self.window.steps, *shape), self.dtype)

    def _reset(self) -> None:
        self.u[...] = 0

    def _compute(self, x: Array) -> Array:
        self._decay()
        self.u += x
        if "states" in self.record:
            self.record["states"][self.now.image, self.now.step] = self.u
        y: Array = self.u + self.bias
        return y

    def _bias(self) -> Array:
        """What the bias adds, in the unit of currents."""
        raise NotImplementedError

    def _decay(self) -> None:
        """Bring currents, in place, to what is left of them after a step."""
        raise NotImplementedError


@implements(proc=SynapticCurrent, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySynapticCurrentModelFloat(SynapticCurrentModel):
    """Loses 1 / tau."""

    def _bias(self) -> Array:
        return self.tensors["bias"]

    def _decay(self) -> None:
        self.u -= self.u / self.node.tau


@implements(proc=SynapticCurrent, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySynapticCurrentModelFixed(SynapticCurrentModel):
    """As the current u of Lava's LIF."""

    def _bias(self) -> Array:
        bias: Array = self.tensors["bias"] << self.node.bias_exp
        return bias

    def _decay(self) -> None:
        kept = (np.abs(self.u).astype(np.int64) * (4095 - self.node.du)) >> 12
        self.u[...] = np.where(self.u < 0, -kept, kept)


class PoolModel(NodeModel):
    """Largest of the kernel's taps, each a strided view of the padded map."""

    def _setup(self) -> None:
        kernel, (down, along), (above, left), (rows, columns) = self.node.sides
        channels, height, width = self.inlets["x"].shape
        _, out_height, out_width = self.outlets["y"]
        padded = np.full((channels, height + 2 * above, width + 2 * left), self._outside(), self.dtype)
        self.interior = padded[:, above : above + height, left : left + width]
        self.taps = [
            padded[:, i : i + down * out_height : down, j : j + along * out_width : along]
            for i, j in ((row * rows, column * columns) for row, column in np.ndindex(kernel))
        ]

    def _outside(self) -> float:
        """What the map is padded with."""
        raise NotImplementedError

    def _compute(self, x: Array) -> Array:
        self.interior[...] = x
        y: Array = self.taps[0].copy()
        for tap in self.taps[1:]:
            np.maximum(y, tap, out=y)
        return y


class SpikeMaxPool(NodeProcess):
    """OR of the spikes of a window: x (C, H, W) to y (C, H', W')."""


@implements(proc=SpikeMaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PySpikeMaxPoolModel(PoolModel):
    """Pads with silence."""

    def _outside(self) -> float:
        return 0


class MaxPool(NodeProcess):
    """Largest value of a window, padding left out: x (C, H, W) to y (C, H', W')."""


@implements(proc=MaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyMaxPoolModelFloat(PoolModel):
    """Pads with what is below all values."""

    def _outside(self) -> float:
        return -np.inf


@implements(proc=MaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyMaxPoolModelFixed(PoolModel):
    """Pads with the smallest integer."""

    def _outside(self) -> float:
        return int(np.iinfo(np.int32).min)


class Integrate(NodeProcess):
    """Merges x of the T stem steps into one y: their max, mean, sum, or learned weighted sum.

    Fixed: a mean is the sum, and the learned sum is shifted to the right by `shift`.
    """


class IntegrateModel(NodeModel):
    """Accumulates step by step and sends at the last."""

    def _setup(self) -> None:
        self.mode = self.node.mode
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
        return self.merged >> self.node.shift if self.mode == "learned" else self.merged
