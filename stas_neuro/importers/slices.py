"""Splits layers that several slices of channels read, as fused q, k and v, into one layer for each slice.

A fused layer whose slices are taken on a chip would keep neurons of its own and send graded values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stas_neuro.importers.build import Builder
from stas_neuro.ir import LIF, BatchNorm, Conv2d, Linear, Node, Slice


def split_layers(builder: Builder) -> Mapping[str, Sequence[str]]:
    """Replace slices of a layer by layers with slices of its weights, normalisation and neurons.

    Slices that leave out channels, or whose layer something else reads too, stay.

    Returns
    -------
    mapping of str to sequence of str
        Neurons that were split, each with the neurons of its slices, in the order of channels.
    """
    neurons: dict[str, list[str]] = {}
    for name in list(builder.nodes):
        chain = _chain(builder, name)
        slices = sorted(_slices(builder, name), key=lambda each: each.start)
        if not chain or not slices or not _covers(slices, chain[0]):
            continue
        for each in slices:
            part = _split(builder, chain, each)
            if isinstance(chain[-1], LIF):
                neurons.setdefault(name, []).append(part)
        for node in reversed(chain):
            builder.remove(node.name)
    return neurons


def _slices(builder: Builder, name: str) -> list[Slice]:
    """Return the slices of a value, none if something else reads it too."""
    readers = [builder.nodes[reader] for reader in builder.consumers(name)]
    slices = [each for each in readers if isinstance(each, Slice)]
    return slices if len(slices) == len(readers) else []


def _chain(builder: Builder, name: str) -> list[Node]:
    """Return a layer, its normalisation and its neurons up to a node; none if others read them too."""
    chain = [builder.nodes[name]] if name in builder.nodes else []
    while chain and isinstance(chain[0], LIF | BatchNorm):
        source = builder.inputs[chain[0].name]["x"][0]
        if builder.consumers(source) != [chain[0].name]:
            return []
        chain.insert(0, builder.nodes[source])
    layers = [each for each in chain[:1] if isinstance(each, Linear | Conv2d)]
    plain = all(each.groups == 1 for each in layers if isinstance(each, Conv2d))
    return chain if layers and plain else []


def _covers(slices: Sequence[Slice], layer: Node) -> bool:
    """Return whether slices contain each channel of a layer once."""
    ends = [0, *(each.stop for each in slices)]
    channels = layer.out_channels if isinstance(layer, Conv2d) else layer.out_features  # type: ignore[attr-defined]
    return [each.start for each in slices] == ends[:-1] and ends[-1] == channels


def _split(builder: Builder, chain: Sequence[Node], part: Slice) -> str:
    """Replace a slice by a copy of all layers before it with its channels alone; return the last one."""
    count = part.stop - part.start
    sizes: Mapping[type[Node], Mapping[str, Any]] = {
        Linear: {"out_features": count},
        Conv2d: {"out_channels": count},
        BatchNorm: {"features": count},
        LIF: {},
    }
    source = builder.inputs[chain[0].name]["x"]
    for node in chain:
        name = f"{node.name}-{part.start}-{part.stop}"
        builder.insert(
            replace(node, name=name, **sizes[type(node)]),
            before=part.name,
            inputs={"x": source},
            tensors={
                key.rpartition("/")[2]: array[part.start : part.stop]
                for key, array in builder.tensors.items()
                if key.rpartition("/")[0] == node.name
            },
        )
        source = name, node.OUTPUTS[0]
    builder.replace(part.name, source)
    return source[0]
