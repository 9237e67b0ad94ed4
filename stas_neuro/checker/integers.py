"""Whether the integers of a quantised network fit the registers of a core."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stas_neuro.checker.findings import Deployment
from stas_neuro.chips import Finding
from stas_neuro.ir import (
    FixedLIF,
    FixedSynaptic,
    Input,
    Kind,
    Node,
    Range,
)

_STATES = frozenset({Kind.CURRENT, Kind.MEMBRANE})


def registers(deployment: Deployment) -> Iterator[Finding]:
    """Check weights, exponents, biases, thresholds and decays of each layer."""
    for node in deployment.graph.nodes:
        if isinstance(node, FixedSynaptic):
            yield from _synapses(deployment, node)
        elif isinstance(node, FixedLIF):
            yield from _fits(deployment, node, "threshold bits", node.vth.bit_length(), "use a lower vth")
            yield from _fits(
                deployment, node, "decay bits", node.dv.bit_length(), "use a longer time constant"
            )


def _synapses(deployment: Deployment, node: FixedSynaptic) -> Iterator[Finding]:
    if node.off_core:
        return
    yield from _fits(deployment, node, "weight bits", node.weight_bits, "use fewer weight bits (--bits)")
    exponents = np.unique(deployment.graph.tensor(node, "weight_exp")).size
    if deployment.profile.capability("weight_exponents") == "layer" and exponents > 1:
        remedy = f"compile --profile {deployment.profile.name}: one exponent a layer"
        yield deployment.error(node, "weight exponents", exponents, 1, remedy)
    largest = int(np.abs(deployment.graph.tensor(node, "bias").astype(np.int64)).max())
    yield from _fits(deployment, node, "bias bits", largest.bit_length() + 1, "raise its bias_exp")
    yield from _fits(deployment, node, "bias exponent", node.bias_exp, "lower its bias_exp, or its biases")


def _fits(deployment: Deployment, node: Node, resource: str, used: int, remedy: str) -> Iterator[Finding]:
    limit = deployment.limit(resource.replace(" ", "_"))
    if limit is not None and used > limit:
        yield deployment.error(node, resource, used, limit, remedy)


def states(deployment: Deployment) -> Iterator[Finding]:
    """Check the proved bounds of membranes and synaptic input, and tell which comes closest."""
    limit = deployment.limit("state_bits")
    used = {node: bits for node in deployment.graph.nodes if (bits := _state_bits(deployment, node))}
    if limit is None or not used:
        return
    for node, bits in used.items():
        if bits > limit:
            name = deployment.profile.name
            remedy = f"compile --profile {name}, which lowers the exponents, or use fewer inputs"
            yield deployment.error(node, "state bits", bits, limit, remedy)
    if max(used.values()) <= limit:
        closest = max(used, key=lambda node: used[node])
        yield deployment.info(closest, "state bits", used[closest], limit)


def _state_bits(deployment: Deployment, node: Node) -> int:
    """Bits, sign included, of the largest integer that a node keeps on a core; 0 where it keeps none."""
    if isinstance(node, Input) or node.off_core:
        return 0
    if isinstance(node, FixedLIF):
        return _bits(deployment.membrane(node, deployment.reaching(node)))
    values = [deployment.graph.types[node.name, port] for port in node.OUTPUTS]
    held = [Range(value.low, value.bound or 0) for value in values if value.kind in _STATES]
    return max(map(_bits, held), default=0)


def _bits(values: Range) -> int:
    return values.magnitude.bit_length() + 1
