"""Whether a mapping is one of a graph."""

from __future__ import annotations

from stas_neuro.analysis import neuron_layers
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.mapping.mapping import Mapping


def check_mapping(graph: Graph, mapping: Mapping) -> None:
    """Raise InputError unless a mapping has every neuron of a graph, and no other neurons."""
    known = neuron_layers(graph)
    for layer in mapping.layers:
        if layer not in known:
            what = f"the mapping places {layer}, which keeps no neurons of this network"
            raise InputError(what, "use the mapping that was made for it")
    for layer, (positions, features) in known.items():
        mapping.check_layer(layer, positions, features)
