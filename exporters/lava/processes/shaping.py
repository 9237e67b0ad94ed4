"""Nodes that move or merge values and compute no product of their own, token gates included."""

from __future__ import annotations

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
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
