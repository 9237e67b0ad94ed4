"""The unit of synaptic input, and the biases that have to be whole numbers of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stas_neuro.ir import ALIGN, BIAS_LIMIT, EVENTS, LIF, Array, FixedSynaptic, Graph, Node, Phase

UNIT = 1 << ALIGN
"""What a weight of 1 brings to a membrane: synapses bring multiples of it."""


def unit_of(graph: Graph, node: Node, port: str) -> int:
    """Tell what a spike of value 1 stands for where it carries the value at an input port."""
    return 1 if graph.source_type(graph.inputs(node)[port]).kind in EVENTS else UNIT


def drives_lifs_only(graph: Graph, node: Node) -> bool:
    """Whether the synaptic input that a node computes goes to LIFs and nowhere else."""
    return all(isinstance(graph.node(edge.dst), LIF) for edge in graph.consumers(node))


def comes_by_synapses(graph: Graph, node: Node) -> bool:
    """Whether the bias of a layer has to: halting holds it back, or it is part of a sum that is sent on."""
    return "alive" in graph.inputs(node) or not drives_lifs_only(graph, node)


def split_bias(bias: Array, bias_exp: int) -> tuple[Array, Array]:
    """Split bias << bias_exp into the weight by which a spike can bring most of it, and a rest of 0..63."""
    whole = bias.astype(np.int64) << bias_exp
    return whole >> ALIGN, whole & (UNIT - 1)


@dataclass(frozen=True)
class RoundSynapticBiases:
    """The pass of `round_synaptic_biases`."""

    def __call__(self, graph: Graph) -> Graph:
        """Return the graph with rounded biases."""
        return round_synaptic_biases(graph)


def round_synaptic_biases(graph: Graph) -> Graph:
    """Round the biases that have to come by synapses to what those can bring: multiples of 64.

    The result is another quantised graph, for every backend; the exponents of these biases become 6 or 7.

    Raises
    ------
    IRError
        Where the rounded biases break a bound of the graph.
    """
    nodes, tensors = list(graph.nodes), dict(graph.tensors)
    for place, node in enumerate(nodes):
        if (
            not isinstance(node, FixedSynaptic)
            or node.phase == Phase.END
            or not comes_by_synapses(graph, node)
        ):
            continue
        whole = graph.tensor(node, "bias").astype(np.int64) << node.bias_exp
        exp = ALIGN if np.abs(whole).max() + UNIT // 2 <= BIAS_LIMIT << ALIGN else ALIGN + 1
        rounded = (whole + (1 << exp >> 1)) >> exp
        nodes[place] = replace(node, bias_exp=exp)  # type: ignore[call-arg]
        tensors[f"{node.name}/bias"] = rounded.clip(-BIAS_LIMIT, BIAS_LIMIT).astype(np.int16)
    return replace(graph, nodes=tuple(nodes), tensors=tensors)
