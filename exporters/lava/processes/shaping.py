"""Nodes that move or merge values and compute no product of their own, token gates included."""

from __future__ import annotations

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.exporters.lava.processes.integers import sent
from stas_neuro.ir import Array


class Tokens(NodeProcess):
    """Map to tokens: x (D, H, W) to y (H*W, D), row-major."""


@implements(proc=Tokens, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PyTokensModel(NodeModel):
    """One transposed copy."""

    def _compute(self, x: Array) -> Array:
        return np.ascontiguousarray(x.reshape(x.shape[0], -1).T)


class Map(NodeProcess):
    """Tokens to map: x (H*W, D), row-major, to y (D, H, W)."""


@implements(proc=Map, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PyMapModel(NodeModel):
    """One transposed copy."""

    def _compute(self, x: Array) -> Array:
        return np.ascontiguousarray(x.T).reshape(self.outlets["y"])


class Slice(NodeProcess):
    """Channels start..stop - 1 of x (C, H, W), (N, C) or (C,)."""


@implements(proc=Slice, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PySliceModel(NodeModel):
    """Sends a copy of them."""

    def _compute(self, x: Array) -> Array:
        channels = slice(self.node.start, self.node.stop)
        return np.ascontiguousarray(x[channels] if x.ndim == 3 else x[..., channels])


class TokenMean(NodeProcess):
    """Mean over tokens: x (N, D) to y (1, D). Fixed: the sum of x as it is sent (`x_shift`)."""


@implements(proc=TokenMean, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyTokenMeanModelFloat(NodeModel):
    """Divides the sum."""

    def _compute(self, x: Array) -> Array:
        y: Array = x.mean(axis=0, keepdims=True)
        return y


@implements(proc=TokenMean, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyTokenMeanModelFixed(NodeModel):
    """Adds up, as neurons do with what arrives."""

    def _compute(self, x: Array) -> Array:
        y: Array = sent(x, self.node.x_shift).sum(axis=0, keepdims=True, dtype=self.dtype)
        return y


class Add(NodeProcess):
    """y = a + b. Fixed: y = a_weight * a + b_weight * b."""


@implements(proc=Add, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyAddModelFloat(NodeModel):
    """Adds."""

    def _compute(self, a: Array, b: Array) -> Array:
        return a + b


@implements(proc=Add, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyAddModelFixed(NodeModel):
    """Adds in a common unit."""

    def _compute(self, a: Array, b: Array) -> Array:
        y: Array = self.node.a_weight * a + self.node.b_weight * b
        return y


class Gate(NodeProcess):
    """y = x * mask, x (N, D); the mask is per token (N,), channel (D,), or token and head (N, heads)."""


@implements(proc=Gate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PyGateModel(NodeModel):
    """A gate by spikes takes each incoming spike through one synapse; a token gate is where halting acts."""

    EVENTS = ("synops", "synops_unary", "macs")

    def _compute(self, x: Array, mask: Array) -> Array:
        if self.node.axis == "token":
            return x * mask[:, None]
        self.count_synapses(self.inlets["x"].kind, self.place.count(x != 0), self.place.sum(x))
        if self.node.axis == "channel":
            return x * mask
        y: Array = x * np.repeat(mask, x.shape[1] // mask.shape[1], axis=1)
        return y
