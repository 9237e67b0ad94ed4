"""What the cores of a chip can compute at all: products of spikes, neurons beyond a LIF, graded spikes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    Add,
    FixedConv2d,
    FixedReadout,
    Input,
    Integrate,
    Kind,
    Node,
    Synaptic,
    Tokens,
)
from stas_neuro.preflight.findings import Site, off_core


def spike_products(site: Site) -> Iterator[Finding]:
    """Attention, and gates of channels by spikes."""
    yield from _answers(site, product_needs(tuple(site.layers.values())))


def neuron_programs(site: Site) -> Iterator[Finding]:
    """Sums over steps, which have no row in a table of layers; scores, their sums, weighted readouts."""
    for node in site.graph.of_type(Integrate):
        yield from _answers(site, [Need(layer=node.name, resource="neuron programs", used="needed")])
    yield from _answers(site, program_needs(tuple(site.layers.values())))


def graded_spikes(site: Site) -> Iterator[Finding]:
    """Integers other than 0 and 1 that layers send each other: what reaches synapses, residual currents."""
    for node in site.graph.nodes:
        largest = _residual(site, node) if isinstance(node, Add) else integer_input(site, node)
        if largest is None or largest <= 1:
            continue
        if isinstance(node, Add):
            need = Need(layer=node.name, resource="graded spikes", used=largest)
        else:
            need = graded_need(node.name, largest, of_image=_is_image(site, node))
        yield from _answers(site, [need])


def _answers(site: Site, needs: Iterable[Need]) -> Iterator[Finding]:
    found = (answer(need, site.profile) for need in needs)
    yield from (finding for finding in found if finding is not None)


def integer_input(site: Site, node: Node) -> int | None:
    """Give the largest magnitude that reaches the synapses of a node; None where there are none."""
    if not isinstance(node, Synaptic) or off_core(node):
        return None
    value = site.graph.source_type(site.graph.inputs(node)["x"])
    return None if value.bound is None else max(value.bound, -value.low)


def _residual(site: Site, node: Add) -> int | None:
    """Give the largest magnitude of a sum of currents, unless synapses just end on the same neurons."""
    value = site.graph.types[node.name, "y"]
    together = all(isinstance(site.source(node, port), Synaptic) for port in node.INPUTS)
    if value.kind != Kind.CURRENT or value.bound is None or together:
        return None
    return max(value.bound, -value.low)


def _is_image(site: Site, node: Node) -> bool:
    source = site.source(node)
    while isinstance(source, Integrate | Tokens):
        source = site.source(source)
    return isinstance(source, Input)


def processor(site: Site) -> Iterator[Finding]:
    """Divisions, and a first convolution whose result enters as bias currents."""
    for node in site.graph.nodes:
        if isinstance(node, FixedConv2d) and node.off_core:
            outputs = site.graph.types[node.name, "y"].shape
            operations = outputs[0] * outputs[1] * outputs[2] * node.in_channels * node.kernel**2
            avoid = ON_THE_CORES
        elif isinstance(node, FixedReadout) and node.divides:
            last = site.graph.source_type(site.graph.inputs(node)[f"z{node.blocks - 1}"])
            operations = last.shape[0] * last.shape[1]
            avoid = NO_DIVISION
        else:
            continue
        need = Need(layer=node.name, resource="processor", used=operations, avoid=avoid)
        yield from _answers(site, [need])
