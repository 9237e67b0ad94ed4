"""What the cores of a chip hold: memory, axons, neurons, and how many cores that takes."""

from __future__ import annotations

from collections.abc import Iterator

from stas_neuro.chips import Finding
from stas_neuro.energy.placement import Cut, core_of, cut_group, pack
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    Conv2d,
    FixedSynaptic,
    Gate,
    Linear,
    MaskedColumnSum,
    Node,
    SpikeMatMul,
    op_of,
)
from stas_neuro.preflight.findings import Site, off_core

EXPONENT_BITS = 4
"""Of a power of two of weights, -8..7."""
PACKING = (
    "layers are packed onto cores first fit, and tokens or positions on one core share their weights; "
    "a placement may take fewer cores, or more"
)
"""What every figure of cores, memory and axons assumes."""


def capacity(site: Site) -> Iterator[Finding]:
    """Check each group of neurons with its weights against a core, then all against a chip."""
    cuts: dict[str, Cut] = {}
    room = core_of(site.profile)
    for owner, layer in site.layers.items():
        if layer.placed_with or not layer.neurons:
            continue
        yield from _input_axons(site, owner, None)
        bits = sum(_memory(site, member) for member in _members(site, owner))
        try:
            cuts[owner] = cut_group(layer, bits, room)
        except InputError:
            features = min(layer.out_features, layer.neurons) or layer.neurons
            used, limit = -(-bits // 8 // features), room.memory // 8
            remedy = "use fewer weight bits (--bits), or fewer inputs to the layer"
            yield site.error(owner, "synaptic memory", used, limit, remedy)
    for owner, cut in cuts.items():
        yield from _input_axons(site, owner, cut)
        yield from _output_axons(site, owner, cut, cuts)
    complete = all(
        layer.placed_with or not layer.neurons or name in cuts for name, layer in site.layers.items()
    )
    if complete and site.bits <= site.profile.limit("weight_bits"):
        yield from _chips(site)


def _chips(site: Site) -> Iterator[Finding]:
    placement = pack(tuple(site.layers.values()), site.profile, site.bits)
    neurons = sum(layer.neurons for layer in site.layers.values() if not layer.placed_with)
    of_chip = site.profile.limit("cores_per_chip")
    yield site.info("", "neurons", neurons, of_chip * site.profile.limit("neurons_per_core"))
    if placement.chips > 1:
        remedy = f"it takes {placement.chips} chips: use a smaller model or fewer weight bits for one"
        yield site.warning("", "cores", placement.cores, of_chip, remedy)
    else:
        yield site.info("", "cores", placement.cores, of_chip)


def _members(site: Site, owner: str) -> list[Node]:
    """List the nodes whose synapses end on the neurons of a layer, itself among them."""
    return [
        site.graph.node(name)
        for name, layer in site.layers.items()
        if name == owner or layer.placed_with == owner
    ]


def _memory(site: Site, node: Node) -> int:
    """Bits of a layer's weights and their exponents."""
    exponents = 1
    if isinstance(node, FixedSynaptic):
        exponents = len(set(site.graph.tensor(node, "weight_exp").tolist()))
        exponents = len(site.graph.tensor(node, "weight_exp")) if exponents > 1 else 1
    weights = site.layers[node.name].weights
    return weights * site.bits + (exponents * EXPONENT_BITS if weights else 0)


def _input_axons(site: Site, owner: str, cut: Cut | None) -> Iterator[Finding]:
    """Check the inputs of one neuron or, where that passes, of a piece."""
    limit = site.limit("input_axons_per_core")
    if limit is None:
        return
    members = _members(site, owner)
    one = sum(_inputs(site, node, 1, 1) for node in members)
    if cut is None:
        if one > limit:
            yield site.error(
                owner, "input axons", one, limit, "use fewer inputs a neuron, or smaller kernels"
            )
        return
    core = sum(_inputs(site, node, cut.features, cut.positions) for node in members)
    if one <= limit < core:
        remedy = "put fewer tokens or positions on a core, which takes more cores than told here"
        yield site.warning(owner, "input axons", core, limit, remedy)


def _inputs(site: Site, node: Node, features: int, positions: int) -> int:
    """Count distinct inputs of some features of some positions of a layer, at least."""
    graph = site.graph
    if off_core(node):
        return 0
    if isinstance(node, Linear):
        return node.in_features * positions
    if isinstance(node, Conv2d):
        channels, height, width = graph.source_type(graph.inputs(node)["x"]).shape
        new = min(node.kernel, node.stride) ** 2
        window = min(node.kernel**2 + new * (positions - 1), height * width)
        return channels * window
    if isinstance(node, SpikeMatMul):
        tokens, all_features = graph.types[node.name, "y"].shape
        return (positions + tokens) * (all_features // node.heads) + tokens * features
    if isinstance(node, MaskedColumnSum):
        return 2 * graph.source_type(graph.inputs(node)["k"]).shape[0] * features
    return 0


def _output_axons(site: Site, owner: str, cut: Cut, cuts: dict[str, Cut]) -> Iterator[Finding]:
    limit = site.limit("output_axons_per_core")
    if limit is None:
        return
    cores = sum(cuts[target].parts for target in _targets(site, owner) if target in cuts)
    if cut.neurons * cores > limit:
        remedy = "put fewer neurons on a core, which takes more cores than told here"
        yield site.warning(owner, "output axons", cut.neurons * cores, limit, remedy)


def _targets(site: Site, owner: str) -> set[str]:
    """Name the layers whose neurons a layer's spikes reach through synapses."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [owner]
    while waiting:
        for edge in site.graph.consumers(waiting.pop()):
            if edge.dst in seen:
                continue
            seen.add(edge.dst)
            layer = site.layers.get(edge.dst)
            if layer is None or op_of(site.graph.node(edge.dst)) is Gate:
                waiting.append(edge.dst)
            else:
                found.add(layer.placed_with or layer.name)
    return found
