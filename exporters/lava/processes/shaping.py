"""Layers that move or merge values and compute no product of their own, token gates included."""

from __future__ import annotations

import numpy as np

from ..lava_api import CPU, LoihiProtocol, implements, requires, tag
from ..network import Array
from .base import LayerModel, LayerProcess


class Tokens(LayerProcess):
    """Map to tokens: x (D, H, W) to y (H*W, D), row-major."""


@implements(proc=Tokens, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PyTokensModel(LayerModel):
    """One transposed copy."""

    def _compute(self, x: Array) -> Array:
        return np.ascontiguousarray(x.reshape(x.shape[0], -1).T)


class Add(LayerProcess):
    """y = a + b. Fixed: y = a_weight * a + b_weight * b."""


@implements(proc=Add, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyAddModelFloat(LayerModel):
    """Adds."""

    def _compute(self, a: Array, b: Array) -> Array:
        return a + b


@implements(proc=Add, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyAddModelFixed(LayerModel):
    """Adds in a common unit."""

    def _compute(self, a: Array, b: Array) -> Array:
        y: Array = self.params["a_weight"] * a + self.params["b_weight"] * b
        return y


class Gate(LayerProcess):
    """y = x * mask, x (N, D); the mask is per token (N,) or per channel (D,)."""


@implements(proc=Gate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PyGateModel(LayerModel):
    """A channel gate takes each incoming spike through one synapse; a token gate is where halting acts."""

    EVENTS = ("synops", "synops_unary", "macs")

    def _setup(self) -> None:
        self.by_channel = self.params["axis"] == "channel"

    def _compute(self, x: Array, mask: Array) -> Array:
        if not self.by_channel:
            return x * mask[:, None]
        self.count_synapses(self.inlets["x"].kind, self.place.count(x != 0), self.place.sum(x))
        return x * mask
