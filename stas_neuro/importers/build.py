"""Collects the nodes of a graph. The same operation on the same values is one node, in every call.

This rolls up a loop over time: a call in a later step reads the same nodes as in the first step.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from stas_neuro.importers.values import Source
from stas_neuro.ir import Array, Edge, Graph, Input, Node, Output, Phase, Preprocessing, Stage

_FOREIGN = re.compile(r"[^A-Za-z0-9_.\-]+")


@dataclass
class Builder:
    """Nodes by name, the sources of their inputs, and their tensors."""

    nodes: dict[str, Node] = field(default_factory=dict)
    inputs: dict[str, dict[str, Source]] = field(default_factory=dict)
    tensors: dict[str, Array] = field(default_factory=dict)
    _made: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def emit(
        self,
        cls: type[Node],
        name: str,
        inputs: Mapping[str, Source],
        *,
        phase: Phase,
        tensors: Mapping[str, Tensor] | None = None,
        once: bool = False,
        **attributes: Any,
    ) -> Source:
        """Return the output of a node: a new one if no node computes the same, or if `once` is set."""
        arrays = {param: _array(tensor) for param, tensor in (tensors or {}).items()}
        digests = tuple((param, hashlib.sha256(array.tobytes()).digest()) for param, array in arrays.items())
        key = (cls, phase, tuple(inputs.items()), tuple(attributes.items()), digests)
        if once or key not in self._made:
            unique = self._unique(name)
            self.nodes[unique] = cls(name=unique, phase=phase, scope="stem", **attributes)
            self.inputs[unique] = dict(inputs)
            self.tensors |= {f"{unique}/{param}": array for param, array in arrays.items()}
            self._made[key] = unique
        made = self.nodes[self._made[key]]
        return made.name, made.OUTPUTS[0] if made.OUTPUTS else ""

    def _unique(self, name: str) -> str:
        base = _FOREIGN.sub("_", name).strip(".-") or "node"
        unique, count = base, 1
        while unique in self.nodes:
            count += 1
            unique = f"{base}-{count}"
        return unique

    def prune(self) -> None:
        """Remove nodes that nothing reads."""
        while unread := [
            name
            for name, node in self.nodes.items()
            if not isinstance(node, Input | Output) and not self.consumers(name)
        ]:
            for name in unread:
                self.remove(name)

    def remove(self, name: str) -> None:
        """Remove a node that nothing reads."""
        del self.inputs[name], self.nodes[name]
        self.tensors = {key: it for key, it in self.tensors.items() if key.rpartition("/")[0] != name}
        self._made = {key: made for key, made in self._made.items() if made != name}

    def insert(
        self, node: Node, *, before: str, inputs: Mapping[str, Source], tensors: Mapping[str, Array]
    ) -> None:
        """Add a node before another in the order."""
        order: dict[str, Node] = {}
        for name, each in self.nodes.items():
            order |= {node.name: node, name: each} if name == before else {name: each}
        self.nodes = order
        self.inputs[node.name] = dict(inputs)
        self.tensors |= {f"{node.name}/{param}": array for param, array in tensors.items()}

    def consumers(self, name: str) -> list[str]:
        """Return the nodes that read an output of a node."""
        return [dst for dst, ports in self.inputs.items() if name in (src for src, _ in ports.values())]

    def replace(self, name: str, source: Source) -> None:
        """Remove a node; its consumers read `source` instead."""
        output = (name, self.nodes[name].OUTPUTS[0])
        self.remove(name)
        for ports in self.inputs.values():
            ports.update({port: source for port, taken in ports.items() if taken == output})

    def graph(self, time_steps: int, classes: Sequence[str], preprocessing: Preprocessing) -> Graph:
        """Return the traced graph."""
        return Graph(
            stage=Stage.TRACED,
            time_steps=time_steps,
            nodes=tuple(self.nodes.values()),
            edges=tuple(
                Edge(*source, name, port)
                for name, ports in self.inputs.items()
                for port, source in ports.items()
            ),
            tensors=self.tensors,
            classes=tuple(classes),
            preprocessing=preprocessing,
        )


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return np.array(array)
