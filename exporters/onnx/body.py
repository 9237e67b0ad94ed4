"""The function of one node of a graph: its ports, its parameters, what it keeps from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from stas_neuro.exporters.onnx.function import Function, Value
from stas_neuro.ir import Graph, Node, Phase, Range, Shape

INT32_LIMIT = 2**31 - 1
"""Largest magnitude of an int32."""
IMAGES, FRAME, STEP, LOGITS = "images", "frame", "step", "logits"
"""Input of the model, the part of it that a step takes, the number of the step from 0, and the answer."""


@dataclass(frozen=True)
class State:
    """What is kept from step to step, for each image.

    Parameters
    ----------
    shape : tuple of int
        Without the batch.
    first : float
        What it holds before the first step.
    """

    shape: Shape
    first: float = 0.0


class Body(Function):
    """The body of a node's function; a form takes ports and parameters by name.

    Parameters
    ----------
    graph : Graph
    node : Node
    dtype : dtype
        Of the values at ports: float32 or float64, or int32 in a quantised graph.
    repeated : bool
        It is called in every step and keeps states; else it is called once, and they begin anew.
    """

    def __init__(self, graph: Graph, node: Node, dtype: DTypeLike, *, repeated: bool) -> None:
        super().__init__()
        self.graph = graph
        self.node: Any = node
        self.dtype = np.dtype(dtype)
        self.repeated = repeated
        self.arguments: list[str] = []
        self.ports: dict[str, Value] = {}
        self.params: dict[str, Value] = {}
        self.states: dict[str, State] = {}
        self.kept: dict[str, Value] = {}

    def __getitem__(self, port: str) -> Value:
        """Give the value at a connected input port, (B, ...); of the stem's steps (T, B, ...)."""
        if port not in self.ports:
            edge = self.graph.inputs(self.node)[port]
            name = value_name(edge.src, edge.src_port)
            if edge.delay:
                name = before(name)
            elif self.node.traits.stacks:
                name = stacked(name)
            self.ports[port] = self.bound(port, name, self.dtype)
        return self.ports[port]

    def get(self, port: str) -> Value | None:
        """Give the value at an input port, None where it is open."""
        return self[port] if port in self.graph.inputs(self.node) else None

    def param(self, name: str, dtype: DTypeLike | None = None) -> Value:
        """Give a tensor of the node in a dtype, that of ports unless told otherwise."""
        if name not in self.params:
            whole_name = tensor_name(self.node.name, name)
            self.params[name] = self.bound(name, whole_name, self.graph.tensors[whole_name].dtype)
        return self.params[name].cast(dtype or self.dtype)

    def image(self, dtype: DTypeLike) -> Value:
        """Give the images, or the frame of a step."""
        return self.bound("image", IMAGES if self.node.phase == Phase.ONCE else FRAME, dtype)

    def state(self, name: str, shape: Shape, batch: Value) -> Value:
        """Give what was kept in the step before, 0 before the first; `batch` is any value of the images."""
        if not self.repeated:
            return self.filled(0, self.dtype, shape, batch)
        self.states[name] = State(shape)
        return self.bound(f"{name}_before", before(tensor_name(self.node.name, name)), self.dtype)

    def keep(self, name: str, value: Value) -> None:
        """Keep a value for the next step."""
        if self.repeated:
            self.kept[name] = value

    def gathered(self, name: str) -> Value:
        """Give, after the last step, what the node has gathered in all of them."""
        return self.bound(name, last(tensor_name(self.node.name, name)), self.dtype)

    def step(self) -> Value:
        """Give the number of the step, from 0, int64 ()."""
        return self.bound("step", STEP, np.int64)

    def bound(self, name: str, outside: str, dtype: DTypeLike) -> Value:
        """Add an input, for which the call gives a value of the model."""
        self.arguments.append(outside)
        return self.takes(name, dtype)

    def shape(self, port: str) -> Shape:
        """Shape of the value at an input port, without batch."""
        return self.graph.source_type(self.graph.inputs(self.node)[port]).shape

    def range(self, port: str) -> Range:
        """Range of the integers at an input port of a quantised graph."""
        value = self.graph.source_type(self.graph.inputs(self.node)[port])
        assert value.bound is not None  # a quantised graph is not made without
        return Range(value.low, value.bound)

    def wide(self, largest: int) -> np.dtype[Any]:
        """Give the dtype that holds all integers up to a proved magnitude."""
        return np.dtype(np.int32 if largest <= INT32_LIMIT else np.int64)


def value_name(node: str, port: str) -> str:
    """Name the value at an output port."""
    return f"{node}:{port}"


def tensor_name(node: str, param: str) -> str:
    """Name a tensor, as a graph does; also what a node keeps from step to step."""
    return f"{node}/{param}"


def stacked(name: str) -> str:
    """Name the values of all steps, (T, B, ...)."""
    return f"{name}/steps"


def first(name: str) -> str:
    """Name what is kept before the first step."""
    return f"{name}/first"


def before(name: str) -> str:
    """Name what the step before has kept."""
    return f"{name}/before"


def after(name: str) -> str:
    """Name what a step keeps."""
    return f"{name}/after"


def last(name: str) -> str:
    """Name what is kept after the last step."""
    return f"{name}/last"
