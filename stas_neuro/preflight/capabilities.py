"""What the cores of a chip can compute at all: products of spikes, neurons beyond a LIF, graded spikes."""

from __future__ import annotations

from collections.abc import Iterator

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
from stas_neuro.preflight.findings import Finding, Site, off_core


def spike_products(site: Site) -> Iterator[Finding]:
    """Attention, and gates of channels by spikes."""
    able = site.profile.capability("spike_products")
    for node in site.graph.nodes:
        if not node.traits.multiplies_spikes or able == "native":
            continue
        if able == "microcode":
            yield site.warning(
                node, "spike products", "needed", "by neuron programs", "write the program: none is public"
            )
        else:
            remedy = "use another chip, or a neuron for each pair of spikes that can coincide, which are many"
            yield site.error(node, "spike products", "needed", "none", remedy)


def neuron_programs(site: Site) -> Iterator[Finding]:
    """Scores, their sums, weighted readouts and sums over steps."""
    able = site.profile.capability("neuron_programs") == "yes"
    for node in site.graph.nodes:
        weighs = node.traits.gathers and any(
            port.startswith(("alive", "p")) for port in site.graph.inputs(node)
        )
        if not (weighs or node.traits.needs_program):
            continue
        if able:
            yield site.warning(node, "neuron programs", "needed", "can be written", "write the program")
        else:
            remedy = "use another chip" if isinstance(node, Integrate) else "compile with --accumulate off"
            yield site.error(node, "neuron programs", "needed", "none", remedy)


def graded_spikes(site: Site) -> Iterator[Finding]:
    """Integers other than 0 and 1 that layers send each other: what reaches synapses, residual currents."""
    for node in site.graph.nodes:
        largest = _residual(site, node) if isinstance(node, Add) else integer_input(site, node)
        if largest is None or largest <= 1:
            continue
        if not site.profile.graded_spikes:
            remedy = "send each as that many spikes, in as many hardware steps, or use another chip"
            if isinstance(node, Add):
                remedy = "use another chip"
            elif _is_image(site, node):
                remedy = "compile --input-encoding bias: pixels then enter as bias currents"
            yield site.error(node, "graded spikes", largest, 1, remedy)
        elif (bits := site.limit("graded_spike_bits")) is not None and largest >= 2**bits:
            yield site.error(node, "graded spikes", largest, 2**bits - 1, "use another chip")


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
    able = site.profile.capability("processor") == "yes"
    for node in site.graph.nodes:
        if isinstance(node, FixedConv2d) and node.off_core:
            outputs = site.graph.types[node.name, "y"].shape
            operations = outputs[0] * outputs[1] * outputs[2] * node.in_channels * node.kernel**2
            remedy = "compile --input-encoding graded keeps it on the cores"
        elif isinstance(node, FixedReadout) and node.divides:
            last = site.graph.source_type(site.graph.inputs(node)[f"z{node.blocks - 1}"])
            operations = last.shape[0] * last.shape[1]
            remedy = "a raster or block mean-field readout does not divide"
        else:
            continue
        if able:
            yield site.warning(node, "processor", operations, "beside the cores", remedy)
        else:
            yield site.error(node, "processor", operations, "none", remedy)
