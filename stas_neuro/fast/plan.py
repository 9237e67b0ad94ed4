"""Which nodes of an integer program kernels compute, and how; the reference computes the others."""

from __future__ import annotations

import math
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis.halting import Mask, place_of, score_mask
from stas_neuro.fast.divided import ChosenSums, ConvPart, FireParts, LayerTable, LinearPart, SynapseParts
from stas_neuro.fast.narrow import RowSums, is_narrow, of_rows
from stas_neuro.fast.operators import (
    AddRows,
    Columns,
    Fire,
    Halt,
    Operation,
    PackTokens,
    PoolRows,
    Reshape,
    Score,
    Synapses,
    Weigh,
)
from stas_neuro.fast.parts import Part, of_bias, rectangles
from stas_neuro.fast.products import Product, product_of
from stas_neuro.fast.sums import (
    AttentionSums,
    ConvSums,
    Current,
    LinearSums,
    Sums,
    ValueSums,
    of_part,
)
from stas_neuro.ir import (
    ALIGN,
    Edge,
    FixedAdd,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedLIF,
    FixedLinear,
    FixedReadout,
    FixedSpikeMatMul,
    Gate,
    Graph,
    Kind,
    Map,
    Node,
    Phase,
    Slice,
    SpikeMaxPool,
    Tokens,
)
from stas_neuro.ir.types import VALUES
from stas_neuro.mapping.chips import ChipShare
from stas_neuro.reference.exact import Dtype, exact_dtype

Array = NDArray[Any]
Port = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Plan:
    """Operations by node, and the type in which rows of each output port are kept."""

    operations: Dict[str, Operation]
    stored: Dict[Port, type[np.generic]]
    dtypes: Dict[str, Dtype]
    kept: frozenset[str]
    """Nodes whose results outlast a step."""
    size: int
    """Bytes of the weights of all products."""


def plan(graph: Graph, *, eight_bit: bool, share: ChipShare | None = None) -> Plan:
    """Plan the run of a quantised graph, or of a chip's share of it.

    With `eight_bit` products of 8-bit numbers are used where these are exact.
    """
    return _Planner(graph, eight_bit, share).plan()


class _Planner:
    def __init__(self, graph: Graph, eight_bit: bool, share: ChipShare | None) -> None:
        self._graph, self._share = graph, share
        self._eight_bit = eight_bit
        self._dtypes = {node.name: exact_dtype(graph, node) for node in graph.nodes}
        self._stored = {
            (node.name, port): stored_as(graph, node, port) for node in graph.nodes for port in node.OUTPUTS
        }
        self._masks: dict[Port, Mask | None] = {}
        """Of ports whose values are 0 for the tokens that a mask holds back: that mask."""
        self._sums: dict[str, Sequence[Sums]] = {}
        """Of nodes whose current is only for their neurons: one, or one for each part that is computed."""
        self._cut: dict[tuple[tuple[int, ...], bytes], Sequence[Part]] = {}
        """Parts, by the values that they are of."""
        self._operations: dict[str, Operation] = {}
        self._size = 0

    def plan(self) -> Plan:
        for node in self._graph.nodes:
            self._mask(node)
        for node in self._graph.nodes:
            if self._share is not None and node.name not in self._share.computes:
                continue
            operation = self._operation(node)
            if operation is not None:
                self._operations[node.name] = operation
        kept = {edge.src for edge in self._graph.edges if edge.delay}
        kept |= {node.name for node in self._graph.nodes if node.phase == Phase.STEM}
        return Plan(self._operations, self._stored, self._dtypes, frozenset(kept), self._size)

    def _mask(self, node: Node) -> None:
        """Find the mask that the outputs of a node are 0 without."""
        edges = self._graph.inputs(node)
        mask: Mask | None = None
        match node:
            case Gate(axis="token"):
                mask = place_of(edges["mask"])
            case FixedLinear() | FixedLIF() if "alive" in edges:
                mask = place_of(edges["alive"])
            case FixedSpikeMatMul() | FixedAdd() | Slice():
                of_inputs = {self._mask_of(edge) for edge in edges.values()}
                mask = of_inputs.pop() if len(of_inputs) == 1 else None
        self._masks.update({(node.name, port): mask for port in node.OUTPUTS})

    def _mask_of(self, edge: Edge) -> Mask | None:
        return None if edge.delay else self._masks.get((edge.src, edge.src_port))

    def _sizes(self, x: Edge) -> dict[str, Any]:
        """Tell how large inputs are, and whether a product of 8-bit numbers may take them."""
        value = self._graph.source_type(x)
        return {
            "largest": max(abs(value.low), value.bound or 0),
            "unsigned": self._stored[x.src, x.src_port] is np.uint8,
            "eight_bit": self._eight_bit,
        }

    def _parts(self, node: Node) -> Sequence[Part] | None:
        """Return the parts of a node that are computed; None where all of it is."""
        wanted = None if self._share is None else self._share.computes[node.name]
        if wanted is None or wanted.all():
            return None
        key = wanted.shape, wanted.tobytes()
        if key not in self._cut:  # the same objects for equal layers, as rows of each part are kept
            self._cut[key] = rectangles(wanted)
        return self._cut[key]

    def _multiplied(
        self, node: FixedLinear | FixedConv2d, matrix: Array, part: Part | None = None
    ) -> tuple[Product, Current]:
        """Return the product with the matrix of a layer, or of a part of it, and its current."""
        rows = matrix if part is None else matrix[part.features]
        product = product_of(rows, **self._sizes(self._graph.inputs(node)["x"]))
        return product, self._current(node, product, part)

    def _current(
        self, node: FixedLinear | FixedConv2d, product: Product, part: Part | None = None
    ) -> Current:
        """Convert results of a layer's product to currents, in a type that holds both exactly."""
        graph = self._graph
        dtype = self._wide(node.name, *self._targets(node))
        if product.exact is np.float64:
            dtype = np.float64
        exponents = graph.tensor(node, "weight_exp").astype(np.int64)
        bias = graph.tensor(node, "bias").astype(dtype) * dtype(2**node.bias_exp)
        bias = bias.reshape(len(bias), -1).T if isinstance(node, FixedConv2d) else bias[None]
        if part is not None:
            exponents, bias = exponents[part.features], of_bias(bias, part)
        return Current(
            np.ldexp(product.scale[: len(exponents)], exponents).astype(dtype),
            dtype(1 << ALIGN),
            np.ascontiguousarray(bias),
        )

    def _wide(self, *names: str) -> Dtype:
        """Give the type that holds the integers of all nodes."""
        return np.float64 if any(self._dtypes[name] is np.float64 for name in names) else np.float32

    def _targets(self, node: Node) -> list[str]:
        lif = self._neurons(node)
        return [lif.name] if lif else []

    def _neurons(self, node: Node) -> FixedLIF | None:
        """Return the neurons that the current of a node is for, if for no others, and that take its rows."""
        edges = self._graph.consumers(node)
        if len(edges) != 1 or edges[0].delay:
            return None
        lif = self._graph.node(edges[0].dst)
        if not isinstance(lif, FixedLIF) or lif.phase != node.phase or not self._fires(lif):
            return None
        if self._mask_of(edges[0]) != self._masks[lif.name, "s"]:
            return None
        return lif

    def _fires(self, lif: FixedLIF) -> bool:
        """Tell whether the input of neurons is 0 for all tokens that their mask holds back."""
        edges = self._graph.inputs(lif)
        of_x = self._mask_of(edges["x"])
        return "alive" not in edges or of_x == place_of(edges["alive"])

    def _operation(self, node: Node) -> Operation | None:
        """Return what computes a node, None for the reference."""
        edges = self._graph.inputs(node).values()
        if any(edge.delay and self._graph.source_type(edge).kind in VALUES for edge in edges):
            return None
        match node:
            case FixedConv2d(groups=1, off_core=False, x_shift=0) if node.sides.dilation[1] == 1:
                return self._conv(node)
            case FixedLinear(x_shift=0) if node.phase != Phase.END:
                return self._linear(node)
            case FixedSpikeMatMul(form="Q(K^TV)") if self._neurons(node):
                return self._attention(node)
            case FixedLIF() if self._fires(node):
                return self._fire(node)
        return self._plain(node)

    def _plain(self, node: Node) -> Operation | None:
        """Return what computes a node without weights and neurons, None for the reference."""
        edges = self._graph.inputs(node)
        shape: Any = self._graph.types[node.name, node.OUTPUTS[0]].shape if node.OUTPUTS else ()
        match node:
            case Gate(axis="token"):
                return PackTokens(node, edges["x"], place_of(edges["mask"]), shape)
            case FixedAdd():
                mask, stored = self._masks[node.name, "y"], self._stored[node.name, "y"]
                return AddRows(node, dict(edges), mask, _positions(self._graph, node), shape, stored)
            case SpikeMaxPool():
                of_x: Any = self._graph.source_type(edges["x"]).shape
                return PoolRows(node, edges["x"], (of_x, shape))
            case Tokens() | Map():
                return Reshape(node, edges["x"], shape)
            case Slice():
                return Columns(node, edges["x"], shape)
            case FixedHaltingScore():
                visits = score_mask(self._graph, node)
                mask = None if visits is None else place_of(visits)
                return Score(node, edges["z"], mask, shape[0])
            case FixedHaltAccumulate() if type(node) is FixedHaltAccumulate and node.mode in Halt.MODES:
                return Halt(node)
            case FixedReadout(mode="mean-field", divides=False):
                return Weigh(node, dict(edges), shape[0])
        return None

    def _conv(self, node: FixedConv2d) -> Operation:
        graph = self._graph
        x = graph.inputs(node)["x"]
        weight = graph.tensor(node, "weight")
        shapes: Any = graph.source_type(x).shape, graph.types[node.name, "y"].shape
        width, columns = shapes[0][2], shapes[1][2]
        windows = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
        parts = self._parts(node)
        if parts is not None:
            return self._layer(
                node,
                [ConvPart(node, x, shapes, *self._multiplied(node, windows, part), part) for part in parts],
            )
        if is_narrow(node, width, columns):
            of_row = of_rows(weight, node, width, columns)
            return self._layer(node, [RowSums(node, x, shapes, *self._multiplied(node, of_row))])
        return self._layer(node, [ConvSums(node, x, shapes, *self._multiplied(node, windows))])

    def _linear(self, node: FixedLinear) -> Operation:
        graph = self._graph
        weight = graph.tensor(node, "weight")
        rows = node, graph.inputs(node)["x"], self._masks[node.name, "y"], _positions(graph, node)
        parts = self._parts(node)
        if parts is None:
            return self._layer(node, [LinearSums(*rows, *self._multiplied(node, weight))])
        return self._layer(
            node, [LinearPart(*rows, *self._multiplied(node, weight, part), part) for part in parts]
        )

    def _layer(
        self, node: FixedConv2d | FixedLinear, sums: Sequence[ConvSums] | Sequence[LinearSums]
    ) -> Operation:
        """Return what computes a layer: its neurons do if the current is only for them."""
        self._size += sum(each.product.size for each in sums)
        if self._neurons(node) is not None:
            self._sums[node.name] = sums
            return sums[0]
        if self._parts(node) is None:
            return Synapses(node, sums[0], self._graph.types[node.name, "y"].shape)
        parts = [each for each in sums if isinstance(each, LinearPart | ConvPart)]
        return SynapseParts(self._table(node, "y"), parts)

    def _attention(self, node: FixedSpikeMatMul) -> Operation:
        graph = self._graph
        shape = self._tokens(node)
        dtype = self._wide(node.name, *self._targets(node))
        current = Current(
            np.ones(shape[1], dtype), dtype(2.0 ** (ALIGN + node.exponent)), np.zeros((1, shape[1]), dtype)
        )
        sums = AttentionSums(node, dict(graph.inputs(node)), self._masks[node.name, "y"], shape, current)
        self._sums[node.name] = [sums]
        return sums

    def _fire(self, node: FixedLIF) -> Operation:
        graph = self._graph
        x = graph.inputs(node)["x"]
        shape = graph.source_type(x).shape
        sums = self._sums.get(x.src)
        if sums is None:
            features = shape[0] if len(shape) == 3 else shape[-1]
            dtype = self._wide(node.name, x.src)
            current = Current(np.ones(features, dtype), dtype(1), np.zeros((1, features), dtype))
            sums = [ValueSums(x, self._masks[node.name, "s"], _positions(graph, node), current)]
        parts = self._parts(node)
        if parts is None:
            return Fire(node, sums[0], shape, sums[0].current.bias.dtype.type, node.name)
        if not isinstance(sums[0], LinearPart | ConvPart):  # computed as a whole
            sums = [ChosenSums(sums[0], part, of_part(sums[0].current, part)) for part in parts]
        return FireParts(
            node,
            self._table(node, "s"),
            [
                (part, Fire(node, each, part.shape, each.current.bias.dtype.type, f"{node.name} {number}"))
                for number, (part, each) in enumerate(zip(parts, sums, strict=True))
            ],
        )

    def _table(self, node: Node, port: str) -> LayerTable:
        mask, positions = self._masks[node.name, port], _positions(self._graph, node)
        shape = self._graph.types[node.name, port].shape
        features = math.prod(shape) // positions
        return LayerTable(node, mask, positions, features, shape, self._stored[node.name, port])

    def _tokens(self, node: Node) -> tuple[int, int]:
        tokens, features = self._graph.types[node.name, node.OUTPUTS[0]].shape
        return tokens, features


def _positions(graph: Graph, node: Node) -> int:
    shape = graph.types[node.name, node.OUTPUTS[0]].shape
    if len(shape) == 3:
        return shape[1] * shape[2]
    return shape[0] if len(shape) == 2 else 1


def stored_as(graph: Graph, node: Node, port: str) -> type[np.generic]:
    """Choose the type of rows: bytes for what fits, else the floats that hold the integers of the node."""
    value, dtype = graph.types[node.name, port], exact_dtype(graph, node)
    small = value.kind != Kind.CURRENT and value.low >= 0 and value.bound is not None and value.bound <= 255
    return np.uint8 if small else dtype
