"""The graph: nodes, edges and tensors, frozen, in topological order and verified when made."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from stas_neuro.display import Displayed, HtmlTable
from stas_neuro.ir.edges import Edge
from stas_neuro.ir.ops import HaltAccumulate, Input, LateHaltAccumulate, Node, Output, Readout
from stas_neuro.ir.types import Array, Phase, Preprocessing, Shape, Stage, ValueType
from stas_neuro.ir.verify import verify, verify_attributes
from stas_neuro.pickling import MadeAnew

N = TypeVar("N", bound=Node)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, repr=False)
class Graph(MadeAnew, Displayed):
    """A network between two stages of lowering.

    Construction orders `nodes` topologically (stable, delayed edges ignored) and `edges` by destination,
    makes `tensors` (`"<node>/<param>"`) read-only, copying what others could write to, and verifies all.

    Raises
    ------
    IRError
        With every problem of the graph, each naming its node, port, value, limit and remedy.
    """

    stage: Stage
    time_steps: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    tensors: Mapping[str, Array]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    types: Mapping[tuple[str, str], ValueType] = field(init=False, repr=False, compare=False)
    """Type of the value at each output port, by (node name, port)."""
    _nodes: Mapping[str, Node] = field(init=False, repr=False, compare=False)
    _inputs: Mapping[str, Mapping[str, Edge]] = field(init=False, repr=False, compare=False)
    _outputs: Mapping[str, tuple[Edge, ...]] = field(init=False, repr=False, compare=False)
    _derived: dict[Hashable, Any] = field(init=False, repr=False, compare=False)

    def _headline(self) -> str:
        numbers = sum(tensor.size for tensor in self.tensors.values())
        shape = f"{self.time_steps} time steps, {len(self.classes)} classes"
        return f"{self.stage}: {len(self.nodes)} nodes, {numbers} parameters, {shape}"

    def _tables(self) -> Iterable[HtmlTable]:
        kinds = Counter(type(node).__name__ for node in self.nodes)
        yield HtmlTable(
            [
                ("halting", self.halting),
                ("readout", self.readout.mode),
                ("input", self.input.shape),
                ("blocks x tokens", f"{self.blocks} x {self.tokens}"),
                ("classes", ", ".join(self.classes)),
            ]
        )
        yield HtmlTable(kinds.most_common(), ("node", "number"))

    def __post_init__(self) -> None:
        self._set("_derived", {})
        self._set("classes", tuple(self.classes))
        verify_attributes(self)
        nodes = topological_order(self.nodes, self.edges)
        position = {node.name: index for index, node in enumerate(nodes)}
        ports = {(node.name, port): index for node in nodes for index, port in enumerate(node.input_ports)}
        end = len(position), len(ports)
        edges = sorted(
            self.edges,
            key=lambda e: (position.get(e.dst, end[0]), ports.get((e.dst, e.dst_port), end[1])),
        )
        inputs: dict[str, dict[str, Edge]] = {node.name: {} for node in nodes}
        outputs: dict[str, list[Edge]] = {}
        for edge in edges:
            inputs.setdefault(edge.dst, {})[edge.dst_port] = edge
            outputs.setdefault(edge.src, []).append(edge)
        self._set("nodes", nodes)
        self._set("edges", tuple(edges))
        tensors = {key: _read_only(value) for key, value in self.tensors.items()}
        self._set("tensors", MappingProxyType(tensors))
        self._set("_nodes", {node.name: node for node in nodes})
        self._set("_outputs", {name: tuple(leaving) for name, leaving in outputs.items()})
        self._set("_inputs", {name: MappingProxyType(by_port) for name, by_port in inputs.items()})
        self._set("types", MappingProxyType(verify(self)))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        """Compare everything that a graph is made from, tensors bit by bit."""
        if not isinstance(other, Graph):
            return NotImplemented
        return (
            (self.stage, self.time_steps, self.nodes, self.edges, self.classes, self.preprocessing)
            == (other.stage, other.time_steps, other.nodes, other.edges, other.classes, other.preprocessing)
            and self.tensors.keys() == other.tensors.keys()
            and all(
                (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
                for a, b in ((self.tensors[key], other.tensors[key]) for key in self.tensors)
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def node(self, name: str) -> Node:
        """Return the node called `name`; KeyError if there is none."""
        return self._nodes[name]

    def inputs(self, node: Node | str) -> Mapping[str, Edge]:
        """Map the connected input ports of `node` to their edges."""
        return self._inputs[node if isinstance(node, str) else node.name]

    def consumers(self, node: Node | str, port: str | None = None) -> tuple[Edge, ...]:
        """Return the edges out of `node` (out of its `port` only, if given), delayed ones too."""
        name = node if isinstance(node, str) else node.name
        return tuple(edge for edge in self._outputs.get(name, ()) if port in (None, edge.src_port))

    def source_type(self, edge: Edge) -> ValueType:
        """Return the type of the value that `edge` carries."""
        return self.types[edge.src, edge.src_port]

    def tensor(self, node: Node | str, param: str) -> Array:
        """Return the read-only tensor `param` of `node`; KeyError if there is none."""
        return self.tensors[f"{node if isinstance(node, str) else node.name}/{param}"]

    def derived(self, what: Hashable, make: Callable[[], T]) -> T:
        """Return what follows from this graph, made when it is first asked for: no graph changes."""
        if what not in self._derived:
            self._derived[what] = make()
        found: T = self._derived[what]
        return found

    def of_type(self, cls: type[N]) -> tuple[N, ...]:
        """Return the nodes of one type, in topological order."""
        return self.derived(
            ("nodes", cls), lambda: tuple(node for node in self.nodes if isinstance(node, cls))
        )

    @property
    def input(self) -> Input:
        """The one Input."""
        return self.of_type(Input)[0]

    @property
    def image_shape(self) -> Shape:
        """Shape of one image: (C, H, W), or (T, C, H, W) for event data."""
        frames = () if self.input.phase == Phase.ONCE else (self.time_steps,)
        return (*frames, *self.input.shape)

    @property
    def output(self) -> Output:
        """The one Output."""
        return self.of_type(Output)[0]

    @property
    def readout(self) -> Readout:
        """The one Readout."""
        return self.of_type(Readout)[0]

    @property
    def accumulators(self) -> tuple[HaltAccumulate, ...]:
        """HaltAccumulate nodes in block order, as many as their policy has; none where halting is off."""
        return self.of_type(HaltAccumulate)

    @property
    def halting(self) -> str:
        """Halting policy, `off` where there is none."""
        return self.accumulators[0].mode if self.accumulators else "off"

    @property
    def late(self) -> int:
        """Hardware steps by which halting decisions are late."""
        return next((node.late for node in self.of_type(LateHaltAccumulate)), 0)

    @property
    def blocks(self) -> int:
        """L, the number of blocks."""
        return self.readout.blocks

    @property
    def tokens(self) -> int:
        """N, the number of tokens that halt, or without halting of those that the readout takes."""
        if self.accumulators:
            return self.types[self.accumulators[0].name, "alive"].shape[0]
        return self.source_type(self.inputs(self.readout)[f"z{self.blocks - 1}"]).shape[0]


def topological_order(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[Node, ...]:
    """Order `nodes` so that undelayed edges go forward, else as given; those behind a cycle come last."""
    index = {node.name: position for position, node in enumerate(nodes)}
    followers: list[list[int]] = [[] for _ in nodes]
    waiting = [0] * len(nodes)
    for edge in edges:
        if edge.delay == 0 and edge.src in index and edge.dst in index:
            followers[index[edge.src]].append(index[edge.dst])
            waiting[index[edge.dst]] += 1

    def ready() -> Iterator[int]:
        heap = [position for position, count in enumerate(waiting) if count == 0]
        while heap:
            position = heapq.heappop(heap)
            yield position
            for follower in followers[position]:
                waiting[follower] -= 1
                if waiting[follower] == 0:
                    heapq.heappush(heap, follower)

    order = list(ready())
    placed = set(order)
    order += [position for position in range(len(nodes)) if position not in placed]
    return tuple(nodes[position] for position in order)


def _read_only(value: Array) -> Array:
    """Return `value` itself if nobody can write to it, else a read-only copy."""
    if value.flags.writeable or not value.flags.owndata or not value.flags.c_contiguous:
        value = np.array(value, order="C")
    value.setflags(write=False)
    return value
