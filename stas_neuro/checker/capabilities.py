"""What the cores of a chip can compute at all: products of spikes, neurons beyond a LIF, graded spikes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from stas_neuro.checker.findings import Deployment
from stas_neuro.chips import Finding
from stas_neuro.chips.capabilities import (
    NO_DIVISION,
    ON_THE_CORES,
    Need,
    answer,
    graded_need,
    product_needs,
    program_needs,
)
from stas_neuro.ir import (
    LIF,
    Add,
    FixedConv2d,
    FixedReadout,
    FixedSynaptic,
    FixedTokenMean,
    Input,
    Integrate,
    Kind,
    MaxPool,
    Node,
    Range,
    Synaptic,
    Tokens,
)


def spike_products(deployment: Deployment) -> Iterator[Finding]:
    """Attention, and gates by spikes."""
    yield from _answers(deployment, product_needs(tuple(deployment.layers.values())))


def soft_reset(deployment: Deployment) -> Iterator[Finding]:
    """Neurons that are reset by subtraction."""
    avoid = "use another chip, or neurons that are reset to 0"
    for node in deployment.graph.of_type(LIF):
        if node.reset == "subtract":
            need = Need(layer=node.name, resource="soft reset", used="needed", avoid=avoid)
            yield from _answers(deployment, [need])


def neuron_programs(deployment: Deployment) -> Iterator[Finding]:
    """Sums over steps and maxima, which have no row among layers; scores, their sums, weighted readouts."""
    for node in deployment.graph.nodes:
        if not node.traits.needs_program or node.name in deployment.layers:
            continue
        yield from _answers(deployment, [Need(layer=node.name, resource="neuron programs", used="needed")])
    yield from _answers(deployment, program_needs(tuple(deployment.layers.values())))


def graded_spikes(deployment: Deployment) -> Iterator[Finding]:
    """Integers other than 0 and 1 that layers send each other: what reaches synapses, residual currents."""
    for node in deployment.graph.nodes:
        carries = isinstance(node, Add | MaxPool | FixedTokenMean)
        largest = _carried(deployment, node) if carries else integer_input(deployment, node)
        if largest is None or largest <= 1:
            continue
        if carries:
            need = Need(layer=node.name, resource="graded spikes", used=largest)
        else:
            need = graded_need(node.name, largest, of_image=_is_image(deployment, node))
        yield from _answers(deployment, [need])


def _answers(deployment: Deployment, needs: Iterable[Need]) -> Iterator[Finding]:
    found = (answer(need, deployment.profile) for need in needs)
    yield from (finding for finding in found if finding is not None)


def integer_input(deployment: Deployment, node: Node) -> int | None:
    """Give the largest magnitude that reaches the synapses of a node; None where there are none."""
    if not isinstance(node, Synaptic) or node.off_core:
        return None
    value = deployment.graph.source_type(deployment.graph.inputs(node)["x"])
    if value.bound is None:
        return None
    shift = node.x_shift if isinstance(node, FixedSynaptic) else 0
    return Range(value.low, value.bound).rounded(shift).magnitude


def _carried(deployment: Deployment, node: Node) -> int | None:
    """Give the largest magnitude of currents that are sent, unless synapses just end on the same neurons."""
    if isinstance(node, FixedTokenMean):
        return deployment.reaching(node).rounded(node.x_shift).magnitude if node.x_shift else None
    value = deployment.graph.types[node.name, "y"]
    together = isinstance(node, Add) and all(
        isinstance(deployment.source(node, port), Synaptic) for port in node.INPUTS
    )
    if value.kind != Kind.CURRENT or value.bound is None or together:
        return None
    return max(value.bound, -value.low)


def _is_image(deployment: Deployment, node: Node) -> bool:
    source = deployment.source(node)
    while isinstance(source, Integrate | Tokens):
        source = deployment.source(source)
    return isinstance(source, Input)


def processor(deployment: Deployment) -> Iterator[Finding]:
    """Divisions, and a first convolution whose result enters as bias currents."""
    for node in deployment.graph.nodes:
        if isinstance(node, FixedConv2d) and node.off_core:
            outputs = deployment.graph.types[node.name, "y"].shape
            operations = math.prod(outputs) * node.fan_in
            avoid = ON_THE_CORES
        elif isinstance(node, FixedReadout) and node.divides:
            last = deployment.graph.source_type(deployment.graph.inputs(node)[f"z{node.blocks - 1}"])
            operations = last.shape[0] * last.shape[1]
            avoid = NO_DIVISION
        else:
            continue
        need = Need(layer=node.name, resource="processor", used=operations, avoid=avoid)
        yield from _answers(deployment, [need])
