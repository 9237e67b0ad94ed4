"""Compares a graph that Lava is given to run with the graph it stands for, field by field.

A change that no spike of some images shows is found here: in the package of a network, say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stas_neuro.ir import Array, Edge, Graph

_ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """A place where two graphs disagree.

    `layer` is the node, empty where it is the network as a whole; `what` names the attribute, for a tensor
    with the first index that differs: ``weight[3, 0]``, or the port of an edge. `graph` and `network` are the
    values.
    """

    layer: str
    what: str
    graph: str
    network: str

    def __str__(self) -> str:
        where = f"{self.layer}: {self.what}" if self.layer else self.what
        return f"{where} is {self.network}, in the graph {self.graph}"


def differences(graph: Graph, network: Graph) -> list[Difference]:
    """Compare all that two graphs are made from, in the order of the first; empty where they are equal."""
    return [
        *_whole(graph, network),
        *(found for name in _names(graph, network) for found in _node(graph, network, name)),
        *_edges(graph, network),
    ]


def _names(graph: Graph, network: Graph) -> list[str]:
    return list(dict.fromkeys(node.name for each in (graph, network) for node in each.nodes))


def _whole(graph: Graph, network: Graph) -> Iterator[Difference]:
    for what in ("stage", "time_steps", "classes"):
        yield from _compared("", what, getattr(graph, what), getattr(network, what))
    for what in ("mean", "std"):
        yield from _compared("", what, *(getattr(each.preprocessing, what) for each in (graph, network)))


def _node(graph: Graph, network: Graph, name: str) -> Iterator[Difference]:
    ours, theirs = (_attributes(each, name) for each in (graph, network))
    for what in dict.fromkeys([*ours, *theirs]):
        yield from _compared(name, what, ours.get(what, _ABSENT), theirs.get(what, _ABSENT))
    arrays = [
        {key.rpartition("/")[2]: array for key, array in each.tensors.items() if key.startswith(f"{name}/")}
        for each in (graph, network)
    ]
    for param in sorted(arrays[0].keys() | arrays[1].keys()):
        yield from _tensor(name, param, *(side.get(param) for side in arrays))


def _attributes(graph: Graph, name: str) -> dict[str, Any]:
    node = next((node for node in graph.nodes if node.name == name), None)
    if node is None:
        return {}
    return {"type": type(node).__name__} | {
        field.name: getattr(node, field.name) for field in fields(node) if field.name != "name"
    }


def _tensor(name: str, param: str, ours: Array | None, theirs: Array | None) -> Iterator[Difference]:
    if ours is None or theirs is None or (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        yield Difference(name, param, _form(ours), _form(theirs))
    elif ours.tobytes() != theirs.tobytes():
        bits = np.dtype(f"u{ours.dtype.itemsize}")  # so that -0.0 is not 0.0
        place = tuple(int(i) for i in np.argwhere(ours.view(bits) != theirs.view(bits))[0])
        yield Difference(name, f"{param}[{', '.join(map(str, place))}]", str(ours[place]), str(theirs[place]))


def _edges(graph: Graph, network: Graph) -> Iterator[Difference]:
    """Compare what reaches each input port, in the order of the graph."""
    ours, theirs = ({(edge.dst, edge.dst_port): edge for edge in each.edges} for each in (graph, network))
    for name, port in dict.fromkeys([*ours, *theirs]):
        sources = [_source(side.get((name, port))) for side in (ours, theirs)]
        if sources[0] != sources[1]:
            yield Difference(name, f"input {port}", *sources)


def _source(edge: Edge | None) -> str:
    if edge is None:
        return "open"
    return f"from {edge.src}:{edge.src_port}" + (f" {edge.delay} step late" if edge.delay else "")


def _compared(layer: str, what: str, ours: Any, theirs: Any) -> Iterator[Difference]:
    # Of the same type too: 1 is no 1.0, and a changed file may hold either.
    if (type(ours), ours) != (type(theirs), theirs):
        yield Difference(layer, what, _shown(ours), _shown(theirs))


def _shown(value: Any) -> str:
    return str(value) if value is _ABSENT else repr(value)


def _form(array: Array | None) -> str:
    return _ABSENT if array is None else f"{array.dtype} {array.shape}"
