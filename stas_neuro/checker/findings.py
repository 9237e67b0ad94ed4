"""What a check finds, and what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stas_neuro.activity import Layer
from stas_neuro.activity.layers import layers_of
from stas_neuro.chips import Finding, Profile, Severity
from stas_neuro.ir import FixedLIF, FixedTokenMean, Graph, Node, Phase, Range, Stage, membrane_range

RESOURCES: Mapping[str, str] = {
    "operation": "what a graph cannot say of the model",
    "integers": "what has no integer form that fits the chip",
    "spike products": "products of two spikes, which a core may not compute",
    "soft reset": "neurons that a spike lowers by the threshold; a plain LIF is set to 0",
    "neuron programs": "what a LIF cannot do: a program for neurons is needed, and none is public",
    "graded spikes": "integers that layers send each other, against what one spike carries",
    "processor": "operations of an inference, at most, that run on a processor beside the cores",
    "synaptic memory": "bytes of weights and their exponents, for one output feature",
    "input axons": "distinct inputs of one neuron",
    "output axons": "neurons of a core times the cores that they send to",
    "fan-in": "synapses of one neuron",
    "neurons": "neurons, against those of one chip; as an error those of one core",
    "cores": "cores that a placement takes, against those of one chip",
    "chips": "chips that a placement takes, against those of the largest system",
    "weight bits": "bits of a weight",
    "weight exponents": "powers of two in one layer",
    "state bits": "bits of a membrane or of synaptic input, proved from the weights",
    "threshold bits": "bits of a threshold",
    "decay bits": "bits of the part of a membrane that leaks",
    "bias bits": "bits of a bias mantissa",
    "bias exponent": "power of two of a bias",
    "message bits": "bits of an integer input: stock synapses take any as 1 unless num_message_bits is set",
    "stock convolution": "exponents of a convolution: stock Conv ignores weight_exp and num_weight_bits",
    "stock exponents": "powers of two in one layer: stock Dense has one weight_exp",
    "odd mantissas": "odd weights: stock synapses of mixed sign hold even ones, (w >> 1) << 1",
    "bias of halted tokens": "neurons whose bias a stock LIF adds for halted tokens too, and between steps",
    "silent neurons": "channels whose proved largest membrane is not above the threshold: they never fire",
    "constant neurons": "channels whose proved smallest input is above the threshold: they fire in each step",
    "zero weights": "output channels all of whose weights are 0",
    "lost weights": "weights that were rounded to 0: all of a channel's, or most of a layer's",
    "readout clip": "largest value that reaches the readout, against where it clips",
    "threshold": "neurons that fire at their threshold; cores fire above it, by one step of vth lower",
}
"""What findings are about."""


@dataclass(frozen=True, eq=False)
class Deployment:
    """A network on a chip, for the rules that judge it.

    `bits` are those of a weight; `folded` is the float network that a quantised graph was made of, if known.
    """

    graph: Graph
    profile: Profile
    bits: int
    folded: Graph | None = None
    layers: Mapping[str, Layer] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", {layer.name: layer for layer in layers_of(self.graph)})

    @property
    def quantised(self) -> bool:
        """Whether the integers are known."""
        return self.graph.stage == Stage.QUANTISED

    def limit(self, name: str) -> int | None:
        """Give `limits.<name>`; None where the profile declares it unavailable."""
        return None if self.profile.reason(f"limits.{name}") else self.profile.limit(name)

    def source(self, node: Node, port: str = "x") -> Node:
        """Give the node whose output reaches a port."""
        return self.graph.node(self.graph.inputs(node)[port].src)

    def reaching(self, node: FixedLIF | FixedTokenMean) -> Range:
        """Give the range of what reaches neurons, or a mean over tokens, of a quantised graph."""
        value = self.graph.source_type(self.graph.inputs(node)["x"])
        assert value.bound is not None
        return Range(value.low, value.bound)

    def membrane(self, node: FixedLIF, x: Range) -> Range:
        """Give the range of its membranes before their reset, for inputs in `x`."""
        return membrane_range(node, x, 1 if node.phase == Phase.ONCE else self.graph.time_steps)

    def error(
        self, node: Node | str, resource: str, used: int | str, limit: int | str, remedy: str
    ) -> Finding:
        """Make a finding because of which the network cannot be deployed."""
        return self._finding(node, resource, used, limit, "error", remedy)

    def warning(
        self, node: Node | str, resource: str, used: int | str, limit: int | str, remedy: str
    ) -> Finding:
        """Make a finding of what may come out different, or dear."""
        return self._finding(node, resource, used, limit, "warning", remedy)

    def info(self, node: Node | str, resource: str, used: int | str, limit: int | str) -> Finding:
        """Make a finding that asks for nothing."""
        return self._finding(node, resource, used, limit, "info", "")

    def _finding(
        self,
        node: Node | str,
        resource: str,
        used: int | str,
        limit: int | str,
        severity: Severity,
        remedy: str,
    ) -> Finding:
        assert resource in RESOURCES
        return Finding(
            profile=self.profile.name,
            layer=node if isinstance(node, str) else node.name,
            resource=resource,
            used=used,
            limit=limit,
            severity=severity,
            remedy=remedy,
        )
