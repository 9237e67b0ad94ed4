"""Compares a Lava network with the graph that it was built from, field by field.

A change that no spike of some images shows is found here. Neither side is made from the other: what a node
says is read by a table of this module's own, and masks of scores without `analysis.score_mask`, so that a
fault of the code that builds networks is found too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stas_neuro.exporters.lava.network import Array, Layer, Network
from stas_neuro.ir import Edge, FixedLIF, Graph, HaltAccumulate, Node, Stage

_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Conv2d": ("in_channels", "out_channels", "kernel", "stride", "padding", "bias"),
    "Linear": ("in_features", "out_features", "bias"),
    "LIF": ("tau", "threshold", "fire"),
    "SpikeMaxPool": ("kernel", "stride", "padding"),
    "Integrate": ("mode",),
    "Tokens": (),
    "Add": (),
    "SpikeMatMul": ("heads", "scale", "form"),
    "MaskedColumnSum": (),
    "Gate": ("axis",),
    "HaltingScore": ("alpha", "beta"),
    "HaltAccumulate": ("mode", "epsilon", "last_block", "late", "lags"),
    "Readout": ("mode", "blocks", "normalise"),
    "Output": (),
}
"""Parameters of each op in floating point."""
_FIXED_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "Input": ("shape", "encoding"),
    "Conv2d": (*_ATTRIBUTES["Conv2d"], "weight_bits", "bias_exp", "bias_map", "off_core"),
    "Linear": (*_ATTRIBUTES["Linear"], "weight_bits", "bias_exp"),
    "LIF": ("fire", "dv", "vth"),
    "Integrate": ("mode", "shift"),
    "Add": ("a_weight", "b_weight"),
    "SpikeMatMul": ("heads", "form", "exponent"),
    "MaskedColumnSum": ("exponent",),
    "HaltingScore": ("shift", "low", "entries"),
    "HaltAccumulate": ("mode", "last_block", "late", "lags", "score_bits", "limit"),
    "Readout": (*_ATTRIBUTES["Readout"], "z_shift", "z_limit", "divide_bits", "y_shift"),
    "Output": ("unit",),
}
"""Of those whose integers differ."""
_ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """A place where graph and network disagree.

    `layer` is empty where it is the network as a whole; `what` names the parameter, for an array with the
    first index that differs: ``weight[3, 0]``, or the port of a wire. `graph` and `network` are the values.
    """

    layer: str
    what: str
    graph: str
    network: str

    def __str__(self) -> str:
        where = f"{self.layer}: {self.what}" if self.layer else self.what
        return f"{where} is {self.network}, in the graph {self.graph}"


def differences(graph: Graph, network: Network) -> list[Difference]:
    """Compare everything that decides what a network computes and counts, in the order of the graph.

    Empty where the network is the graph's own: the layers in an order that can be stepped, each with the op,
    phase, parameters, ports and tensors of its node, wired alike, and scores under the mask of their visit.
    """
    return [
        *_whole(graph, network),
        *(found for node in graph.nodes for found in _node(graph, node, network)),
        *_strangers(graph, network),
        *_wires(graph, network),
    ]


def _whole(graph: Graph, network: Network) -> Iterator[Difference]:
    pairs = {
        "arithmetic": ("fixed" if graph.stage == Stage.QUANTISED else "float", network.arithmetic),
        "time_steps": (graph.time_steps, network.time_steps),
        "classes": (graph.classes, network.classes),
        "mean": (graph.preprocessing.mean, network.mean),
        "std": (graph.preprocessing.std, network.std),
    }
    for what, (ours, theirs) in pairs.items():
        yield from _compared("", what, ours, theirs)
    place = {layer.name: index for index, layer in enumerate(network.layers)}
    for wire in network.wires:
        if not wire.delay and place.get(wire.src, 0) > place.get(wire.dst, len(place)):
            yield Difference(wire.dst, "order", f"after {wire.src}", f"before {wire.src}")


def _node(graph: Graph, node: Node, network: Network) -> Iterator[Difference]:
    found = [layer for layer in network.layers if layer.name == node.name]
    if len(found) != 1:
        yield Difference(node.name, "number of layers of this name", "1", str(len(found)))
        return
    layer = found[0]
    op = type(node).__name__.removeprefix("Fixed")
    yield from _compared(node.name, "op", op, layer.op)
    yield from _compared(node.name, "phase", node.phase.value, layer.phase)
    yield from _params(graph, node, op, layer)
    yield from _ports(graph, node, layer)
    tensors = {param: graph.tensor(node, param) for param in node.params(graph.time_steps)}
    yield from _tensors(node.name, tensors, network.params_of(node.name))


def _params(graph: Graph, node: Node, op: str, layer: Layer) -> Iterator[Difference]:
    own = _FIXED_ATTRIBUTES.get(op) if graph.stage == Stage.QUANTISED else None
    wanted = {key: getattr(node, key) for key in own or _ATTRIBUTES[op]}
    if isinstance(node, FixedLIF):
        wanted["fire"] = ">"  # a core has no other
    for key in sorted(wanted.keys() | layer.params.keys()):
        yield from _compared(node.name, key, wanted.get(key, _ABSENT), layer.params.get(key, _ABSENT))


def _ports(graph: Graph, node: Node, layer: Layer) -> Iterator[Difference]:
    types = {port: graph.types[node.name, port] for port in node.OUTPUTS}
    wanted = {port: (value.kind.value, value.shape) for port, value in types.items()}
    given = {port: (value.kind, value.shape) for port, value in layer.outputs.items()}
    for port in sorted(wanted.keys() | given.keys()):
        what = f"output {port}"
        yield from _compared(node.name, what, wanted.get(port, _ABSENT), given.get(port, _ABSENT))


def _tensors(name: str, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> Iterator[Difference]:
    for param in sorted(ours.keys() | theirs.keys()):
        if param not in ours or param not in theirs:
            words = [_form(side[param]) if param in side else _ABSENT for side in (ours, theirs)]
            yield Difference(name, param, *words)
            continue
        a, b = ours[param], theirs[param]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            yield Difference(name, param, _form(a), _form(b))
        elif a.tobytes() != b.tobytes():
            bits = np.dtype(f"u{a.dtype.itemsize}")  # so that -0.0 is not 0.0
            index = np.argwhere(np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits))[0]
            place = tuple(int(i) for i in index)
            yield Difference(name, f"{param}[{', '.join(map(str, place))}]", str(a[place]), str(b[place]))


def _strangers(graph: Graph, network: Network) -> Iterator[Difference]:
    """Layers, and tensors of layers, that no node of the graph has."""
    nodes = {node.name for node in graph.nodes}
    for layer in network.layers:
        if layer.name not in nodes:
            yield Difference(layer.name, "layer", _ABSENT, layer.op)
    for key, array in network.tensors.items():
        name, _, param = key.rpartition("/")
        if name not in nodes:
            yield Difference(name, param, _ABSENT, _form(array))


def _wires(graph: Graph, network: Network) -> Iterator[Difference]:
    """Compare what reaches each input port, in the order of the graph."""
    wanted: dict[tuple[str, str], list[str]] = {}
    for edge in graph.edges:
        _enter(wanted, edge.dst, edge.dst_port, edge)
    for node in graph.of_type(HaltAccumulate):
        score, mask = graph.inputs(node)["score"], graph.inputs(node).get("alive")
        if mask is not None:
            _enter(wanted, score.src, "alive", mask)
    given: dict[tuple[str, str], list[str]] = {}
    for wire in network.wires:
        source = Edge(wire.src, wire.src_port, wire.dst, wire.dst_port, wire.delay)
        _enter(given, wire.dst, wire.dst_port, source)
    for name, port in dict.fromkeys([*wanted, *given]):
        ours, theirs = (sorted(side.get((name, port), ["open"])) for side in (wanted, given))
        if ours != theirs:
            yield Difference(name, f"input {port}", " and ".join(ours), " and ".join(theirs))


def _enter(wires: dict[tuple[str, str], list[str]], name: str, port: str, source: Edge) -> None:
    late = f" {source.delay} step late" if source.delay else ""
    wires.setdefault((name, port), []).append(f"from {source.src}:{source.src_port}{late}")


def _compared(layer: str, what: str, ours: Any, theirs: Any) -> Iterator[Difference]:
    # Of the same type too: True is no 1, and a changed file may hold either.
    if (type(ours), ours) != (type(theirs), theirs):
        yield Difference(layer, what, repr(ours), repr(theirs))


def _form(array: Array) -> str:
    return f"{array.dtype} {array.shape}"
