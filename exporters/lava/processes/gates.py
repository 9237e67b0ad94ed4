"""Gates of spikes that need no tokens."""

from __future__ import annotations

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.ir import Array


class SpikeAnd(NodeProcess):
    """y = a AND b; with `invert` a AND NOT b."""


@implements(proc=SpikeAnd, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PySpikeAndModel(NodeModel):
    """Each spike that arrives at a is one synaptic operation."""

    EVENTS = ("synops", "synops_unary")

    def _compute(self, a: Array, b: Array) -> Array:
        spikes = self.place.sum(a)
        self.count("synops", spikes)
        self.count("synops_unary", spikes)
        return a - a * b if self.node.invert else a * b
