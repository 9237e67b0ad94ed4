"""A graph while it is made of a NIR network: values with their shapes, nodes, edges, tensors, notes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stas_neuro.importers.nir_file import NirNode
from stas_neuro.ir import Array, Edge, Node, Phase, Shape

SCOPE = "block0"
"""Scope of what runs in model steps: a NIR network has no blocks, and the readout reads the only one."""


class Refused(Exception):
    """A node that a graph cannot express: what, and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy


@dataclass(frozen=True)
class Value:
    """A value of the graph.

    Parameters
    ----------
    node, port : str
        Where it comes from.
    shape : tuple of int
        (C, H, W), or (N, D) with one token but for the mean that a readout takes.
    phase : Phase
        When it is computed.
    flat : bool
        It is a map (C, H, W) that the NIR network has flattened.
    pooled : bool
        It is a map whose average over positions the readout is to take.
    layer : str
        The layer with weights whose output it is, where nothing else uses that; or empty.
    """

    node: str
    port: str
    shape: Shape
    phase: Phase
    flat: bool = False
    pooled: bool = False
    layer: str = ""


@dataclass
class Draft:
    """What has been made so far."""

    taken: set[str]
    """Names that are in use, or kept for nodes of the network."""
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, node: Node, shape: Shape, **inputs: Value) -> Value:
        """Add a node; gives its output, of a shape."""
        self.nodes[node.name] = node
        self.edges += [Edge(value.node, value.port, node.name, port) for port, value in inputs.items()]
        port = node.OUTPUTS[0] if node.OUTPUTS else ""
        return Value(node.name, port, shape, node.phase)

    def new_name(self, wanted: str) -> str:
        """Return a name that no node has, and keep it."""
        name, count = wanted, 2
        while name in self.taken:
            name, count = f"{wanted}_{count}", count + 1
        self.taken.add(name)
        return name

    def scale_rows(self, layer: str, gain: Array) -> None:
        """Multiply the outputs of a layer by a number each, gain (out,)."""
        for param in ("weight", "bias"):
            key = f"{layer}/{param}"
            if key in self.tensors:
                tensor = self.tensors[key]
                self.tensors[key] = tensor * gain.reshape(-1, *(1,) * (tensor.ndim - 1))

    def shift_rows(self, layer: str, offset: Array) -> None:
        """Add a number each to the outputs of a layer, offset (out,)."""
        key = f"{layer}/bias"
        self.tensors[key] = self.tensors.get(key, np.zeros(len(offset))) + offset
        self.nodes[layer] = replace(self.nodes[layer], bias=True)  # type: ignore[call-arg]

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Place:
    """A NIR node while it becomes nodes of the graph.

    Parameters
    ----------
    draft : Draft
    name : str
        Name for the node of the graph.
    nir : NirNode
    dt : float
    fire : str
    alone : bool
        Whether the value that comes in is used by this node only.
    to_readout : bool
        Whether what it gives goes to the readout only, in NIR through a Flatten.
    """

    draft: Draft
    name: str
    nir: NirNode
    dt: float
    fire: Any
    alone: bool
    to_readout: bool

    def array(self, field: str) -> Array:
        """Return the numbers of a field; raises Refused where it is missing, a text, or not finite."""
        array = self.nir.fields.get(field)
        if array is None or array.dtype.kind not in "iuf":
            raise Refused(f"{field} is missing, or no numbers", "write the file again with nir.write")
        if not np.isfinite(array).all():
            raise Refused(f"{field} has values that are NaN or infinite", "export a model that converged")
        return array

    def sizes(self, field: str, least: int) -> tuple[int, int]:
        """Return a number for rows and columns; raises Refused unless both are whole and at least `least`."""
        values = self.array(field)
        if values.size not in (1, 2) or (values != np.floor(values)).any() or values.min() < least:
            raise Refused(f"{field} is {values.tolist()!r:.80}", "use whole numbers for rows and columns")
        rows, columns = np.broadcast_to(values.reshape(-1), 2)
        return int(rows), int(columns)

    def where(self, x: Value) -> dict[str, Any]:
        """Return the name, phase and scope of a node whose input is `x`."""
        return {"name": self.name, "phase": x.phase, "scope": "stem" if x.phase == Phase.ONCE else SCOPE}


Rule = Callable[[Place, Value], Value]
"""Makes of a NIR node and its input the nodes of a graph; raises Refused where none do."""


def name_nodes(names: Collection[str]) -> Mapping[str, str]:
    """Give each NIR name a name that a node of a graph can have, the same wherever it can."""
    mended: dict[str, str] = {}
    taken = set(names)
    for name in sorted(names):
        plain = re.sub(r"[^A-Za-z0-9_.\-]", "_", name)
        plain = plain if re.match(r"[A-Za-z0-9_]", plain) else f"_{plain}"
        count = 2
        unique = plain
        while unique != name and unique in taken:
            unique, count = f"{plain}_{count}", count + 1
        taken.add(unique)
        mended[name] = unique
    return mended


def as_step(value: Value) -> Value:
    """Return a value as what runs in model steps takes it."""
    return replace(value, phase=Phase.STEP)
