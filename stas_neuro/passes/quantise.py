"""Lowers a folded graph to the integers of a Loihi-class core: folded -> quantised (docs/integer.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    Encoding,
    FixedLIF,
    Graph,
    Problems,
    Stage,
    Synaptic,
    membrane_bound,
)
from stas_neuro.passes.identity_synapses import with_identity_synapses
from stas_neuro.passes.integer_walk import IntegerWalk, LayerUnits
from stas_neuro.passes.scales import LayerScale, Statistics

Exponents = Literal["layer", "channel", "none"]
WIDEST_STATE = 24
"""Bits of state that a program uses at most, also on a chip with more."""


@dataclass(frozen=True)
class Quantise:
    """Replace every node by its integer form, and give spikes that are added to currents synapses.

    Parameters
    ----------
    bits : int
        Of a weight, 2 to 9. A signed weight of 1 bit is -1 or 0: every positive one would become 0.
    exponents : "layer", "channel" or "none"
        Whether the weights of a layer share one exponent, or those of an output channel; or all are 0 and
        biases multiples of 64, as netx has them.
    state_bits : int
        Of a membrane or a synaptic input, with sign; up to 24.
    encoding : "graded", "bias" or "spikes"
        How the image enters, see `FixedInput`.
    statistics : mapping of Conv2d and Linear names to Statistics
        Of the layers' inputs on a sample of images: scales are chosen for the least error of the layers'
        outputs on it, and biases make up for the mean of that error. Without it, for the least error of the
        weights.
    scales : mapping of Conv2d and Linear names to LayerScale
        Scales that were chosen before (those a model was fine-tuned with); nothing is searched then.
    rounded : names of TokenMeans
        Those that round what they add up, by these scales; others do where a group's integers do not fit.

    Raises
    ------
    InputError
        When bits or state_bits are out of range.
    IRError
        When the integers of a layer do not fit, or it has no integer form; names the layer.
    """

    bits: int = 8
    exponents: Exponents = "layer"
    state_bits: int = WIDEST_STATE
    encoding: Encoding = "graded"
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    scales: Mapping[str, LayerScale] = field(default_factory=dict)
    rounded: tuple[str, ...] = ()
    largest_output: float | None = None
    """Largest magnitude of a block's output on the sample; without it the readout takes all that can be."""

    def __post_init__(self) -> None:
        if self.bits == 1:
            what = "bits is 1: a signed weight of 1 bit is -1 or 0, and every positive one would become 0"
            raise InputError(what, "use 2 to 9")
        for name, low, high in (("bits", 2, 9), ("state_bits", 16, WIDEST_STATE)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}", f"use {low} to {high}")
        if self.largest_output is not None and self.largest_output < 0:
            raise InputError(f"largest_output is {self.largest_output}", "give a magnitude")

    def __call__(self, graph: Graph) -> Graph:
        """Return the quantised graph."""
        return self.explained(graph)[0]

    def explained(self, graph: Graph) -> tuple[Graph, dict[str, LayerUnits]]:
        """Return the quantised graph, and what the integers of each Conv2d and Linear stand for."""
        if graph.stage != Stage.FOLDED:
            raise InputError(
                f"the graph is {graph.stage}, only a folded one can be quantised", "fold it first"
            )
        graph = with_identity_synapses(graph)
        walk = IntegerWalk(graph, self)
        quantised = walk.quantised()
        self._check_state(quantised)
        layers = [node for node in graph.nodes if isinstance(node, Synaptic)]
        return quantised, {node.name: walk.layer_units(node) for node in layers}

    def _check_state(self, quantised: Graph) -> None:
        """Require of every membrane and synaptic input what the graph itself requires of 24 bits."""
        limit, problems = 2 ** (self.state_bits - 1) - 1, Problems()
        for node in quantised.of_type(FixedLIF):
            reach = membrane_bound(quantised, node)
            if reach > limit:
                what = f"its membrane can reach {reach}, beyond {limit}: {self.state_bits} bits with sign"
                problems.add(node.name, what, "use fewer inputs a neuron or smaller weights")
        problems.raise_if_any()
