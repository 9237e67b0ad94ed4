"""What comes out different without a word: in stock Lava processes, or because a layer lost what it does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stas_neuro.checker.capabilities import integer_input
from stas_neuro.checker.findings import Deployment
from stas_neuro.chips import Finding
from stas_neuro.ir import (
    ALIGN,
    FixedConv2d,
    FixedIntegrate,
    FixedLIF,
    FixedLinear,
    FixedReadout,
    FixedSynaptic,
    Gate,
    Map,
    Node,
    Range,
    Tokens,
)

_OWN = "keep the network's own processes (convert --to lava)"


def stock_processes(deployment: Deployment) -> Iterator[Finding]:
    """Where Lava's stock Dense, Conv and LIF do something else than the network."""
    for node in deployment.graph.nodes:
        if isinstance(node, FixedSynaptic) and not node.off_core:
            yield from _stock_synapses(deployment, node)


def _stock_synapses(deployment: Deployment, node: FixedSynaptic) -> Iterator[Finding]:
    weight, exponents, bias = (
        deployment.graph.tensor(node, name) for name in ("weight", "weight_exp", "bias")
    )
    largest = integer_input(deployment, node)
    if largest is not None and largest > 1:
        remedy = "set num_message_bits of stock synapses"
        yield deployment.warning(node, "message bits", largest.bit_length(), 0, remedy)
    if isinstance(node, FixedConv2d) and exponents.any():
        used = f"{exponents.min()}..{exponents.max()}"
        yield deployment.warning(node, "stock convolution", used, 0, _OWN)
    if (powers := np.unique(exponents).size) > 1:
        yield deployment.warning(
            node, "stock exponents", powers, 1, "use one stock process for each power of two"
        )
    if odd := int((weight & 1).sum()):
        yield deployment.warning(node, "odd mantissas", odd, 0, "use 8 weight bits or fewer (--bits)")
    if isinstance(node, FixedLinear) and "alive" in deployment.graph.inputs(node) and bias.any():
        remedy = "let a spike of live tokens carry the bias, or keep the network's own processes"
        yield deployment.warning(node, "bias of halted tokens", int((bias != 0).sum()), 0, remedy)


def lost_layers(deployment: Deployment) -> Iterator[Finding]:
    """Weights that are all 0, neurons that never fire or always do, values that the readout clips."""
    for node in deployment.graph.nodes:
        if isinstance(node, FixedSynaptic):
            yield from _zeros(deployment, node, "weight", len(deployment.graph.tensor(node, "weight")))
        elif isinstance(node, FixedIntegrate) and node.mode == "learned":
            yield from _zeros(deployment, node, "weights", 1)
        elif isinstance(node, FixedLIF):
            yield from _neurons(deployment, node)
        elif isinstance(node, FixedReadout):
            yield from _clip(deployment, node)


def _zeros(deployment: Deployment, node: Node, param: str, channels: int) -> Iterator[Finding]:
    """Count the channels that have no weight left and, where the float weights are known, what was lost."""
    held = deployment.graph.tensor(node, param).reshape(channels, -1) != 0
    silent = ~held.any(axis=1)
    real = None if deployment.folded is None else deployment.folded.tensors.get(f"{node.name}/{param}")
    lost = np.zeros_like(held) if real is None else (real.reshape(held.shape) != 0) & ~held
    remedy = (
        "raise the scale of its normalisation, use more weight bits (--bits), or a chip with an exponent a "
        "channel"
    )
    if silent.any():
        known = real is not None and not lost[silent].any()
        untrained = "more weight bits bring none back: they are 0 in the float network too, train again"
        yield deployment.warning(
            node, "zero weights", int(silent.sum()), channels, untrained if known else remedy
        )
    count, total = int(lost.sum()), int((lost | held).sum())
    if lost[silent].any() or 2 * count > total:
        yield deployment.warning(node, "lost weights", count, total, remedy)


def _neurons(deployment: Deployment, node: FixedLIF) -> Iterator[Finding]:
    threshold, ranges = node.vth << ALIGN, channel_ranges(deployment, node)
    silent = sum(deployment.membrane(node, x).high <= threshold for x in ranges)
    constant = sum(x.low > threshold for x in ranges)
    if silent:
        remedy = "use more weight bits (--bits), or train again: these neurons do nothing"
        yield deployment.warning(node, "silent neurons", silent, len(ranges), remedy)
    if constant:
        yield deployment.warning(
            node, "constant neurons", constant, len(ranges), "train again: they tell nothing"
        )
    if node.fire == ">=":
        yield deployment.warning(
            node, "threshold", ">=", ">", "train with fire '>', or compare the accuracies"
        )


def channel_ranges(deployment: Deployment, node: FixedLIF) -> list[Range]:
    """Range of what reaches each channel of live neurons, or all where channels are not told apart."""
    source = deployment.source(node)
    while isinstance(source, Gate | Map | Tokens):
        source = deployment.source(source)
    if not isinstance(source, FixedSynaptic) or source.off_core:
        return [deployment.reaching(node)]
    value = deployment.graph.source_type(deployment.graph.inputs(source)["x"])
    assert value.bound is not None
    x = Range(value.low, value.bound).with_zero().rounded(source.x_shift)
    weight, exponents, bias = (
        deployment.graph.tensor(source, name).astype(np.int64) for name in ("weight", "weight_exp", "bias")
    )
    matrix = weight.reshape(len(weight), -1)
    positive, negative = np.maximum(matrix, 0).sum(1), np.minimum(matrix, 0).sum(1)
    left, right = np.maximum(exponents, 0), np.maximum(-exponents, 0)
    ends = []
    for near, far, extreme in ((x.low, x.high, np.min), (x.high, x.low, np.max)):
        current = ((positive * near + negative * far) << left >> right) << ALIGN
        ends.append(current + extreme((bias << source.bias_exp).reshape(len(bias), -1), axis=1))
    return [Range(int(low), int(high)) for low, high in zip(*ends, strict=True)]


def _clip(deployment: Deployment, node: FixedReadout) -> Iterator[Finding]:
    inputs = deployment.graph.inputs(node)
    values = [deployment.graph.source_type(edge) for port, edge in inputs.items() if port.startswith("z")]
    largest = max(max((value.bound or 0) >> node.z_shift, -(value.low >> node.z_shift)) for value in values)
    if largest > node.z_limit:
        remedy = "calibrate on images that are like those to come (compile --calibrate)"
        yield deployment.warning(node, "readout clip", largest, node.z_limit, remedy)
