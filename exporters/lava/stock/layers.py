"""What a layer sends to the LIF behind it: synapses and a constant bias, and neurons for spike products."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stas_neuro.ir import (
    Array,
    Conv2d,
    FixedConv2d,
    FixedHeadSum,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedSpikeMatMul,
    Graph,
    Node,
    SpikeMaxPool,
)

from .netlist import Graded, Netlist, Signal, Wire, one_to_one, weighted
from .units import split_bias


@dataclass(frozen=True, eq=False)
class Drive:
    """What neurons receive: synapses, and bias << bias_exp (size,) in every step."""

    wires: list[Wire]
    bias: Array
    bias_exp: int = 0


@dataclass(frozen=True)
class Layers:
    """Turns layers into drives; takes the signals at a layer's ports."""

    graph: Graph
    netlist: Netlist

    def conv2d(self, node: FixedConv2d, x: Signal) -> Drive:
        """A convolution: every pair of output and input neuron has a synapse of its own."""
        shape = self.graph.types[node.name, "y"].shape
        weight = self._tensor(node, "weight")
        rows, columns, taps = window(node, x.index.shape, shape[1:])
        places, area = shape[1] * shape[2], x.index.shape[1] * x.index.shape[2]
        out, of_group = (
            axis[:, :, None] for axis in np.meshgrid(*map(np.arange, weight.shape[:2]), indexing="ij")
        )
        into = out // (node.out_channels // node.groups) * weight.shape[1] + of_group
        matrix = weight.reshape(*weight.shape[:2], -1)[:, :, taps]
        wires = self._by_exponent(
            node,
            x,
            out,
            out * places + rows,
            into * area + columns,
            matrix,
        )
        bias = self._tensor(node, "bias")
        spread = np.broadcast_to(bias.reshape(len(bias), *(node.bias_map or (1, 1))), shape)
        return Drive(wires, spread.reshape(-1), node.bias_exp)

    def linear(self, node: FixedLinear, x: Signal, alive: Signal | None = None) -> Drive:
        """A layer of each token; what halting may hold back of its bias comes by the token's alive spike."""
        tokens, features = self.graph.types[node.name, "y"].shape
        weight = self._tensor(node, "weight")
        token, out, into = np.ogrid[:tokens, :features, : node.in_features]
        wires = self._by_exponent(
            node,
            x,
            out,
            token * features + out,
            token * node.in_features + into,
            weight[None],
        )
        bias = self._tensor(node, "bias")
        if alive is None:
            return Drive(wires, np.tile(bias, tokens), node.bias_exp)
        held, constant = split_bias(bias, node.bias_exp)
        rows = np.arange(tokens * features)
        wires += weighted(alive, rows, rows // features, np.tile(held, tokens))
        return Drive(wires, np.tile(constant, tokens))

    def matmul(self, node: FixedSpikeMatMul, q: Signal, k: Signal, v: Signal) -> Drive:
        """The product q (k^T v): coincidences of keys and values, their sums, times the queries."""
        name, net, scope = node.name, self.netlist, node.scope
        tokens, features = q.index.shape
        width = features // node.heads
        by_head = (tokens, node.heads, width)
        shape = (*by_head, width)  # token, head, channel of key or query, channel of value
        keys = Signal(k.group, np.broadcast_to(k.index.reshape(by_head)[..., None], shape))
        values = Signal(v.group, np.broadcast_to(v.index.reshape(by_head)[:, :, None], shape))
        together = net.multiply(f"{name}.coincidences", keys, values, scope)
        pairs = np.arange(keys.index.size).reshape(shape)
        cells = node.heads * width * width
        sums = net.add(
            f"{name}.sums", Graded(), cells, one_to_one(Signal(together, pairs), pairs % cells), scope
        )
        queries = Signal(q.group, np.broadcast_to(q.index.reshape(by_head)[..., None], shape))
        counts = Signal(sums, np.broadcast_to(np.arange(cells).reshape(shape[1:]), shape))
        product = net.multiply(f"{name}.products", queries, counts, scope)
        rows = np.broadcast_to(np.arange(q.index.size).reshape(*by_head[:2], 1, width), shape)
        return self._counted(Signal(product, pairs), rows, node.exponent, q.index.size)

    def column_sum(self, node: FixedMaskedColumnSum, k: Signal, v: Signal) -> Drive:
        """The sum over tokens of the coincidences of keys and values."""
        together = self.netlist.multiply(f"{node.name}.coincidences", k, v, node.scope)
        tokens, features = k.index.shape
        pairs = np.arange(tokens * features)
        return self._counted(Signal(together, pairs), pairs % features, node.exponent, features)

    def head_sum(self, node: FixedHeadSum, x: Signal) -> Drive:
        """The sum of a head's spikes: a synapse of weight 1 for each of its channels."""
        tokens, heads = self.graph.types[node.name, "y"].shape
        size = tokens * heads
        rows = np.repeat(np.arange(size), x.index.size // size)
        return self._counted(x, rows, node.exponent, size)

    def _by_exponent(
        self,
        node: Node,
        x: Signal,
        channel: Array,
        rows: Array,
        columns: Array,
        weights: Array,
    ) -> list[Wire]:
        """Wire weights with one set of synapses for each exponent of their channel; arrays broadcast."""
        exponents = self._tensor(node, "weight_exp")
        channel, rows, columns, weights = (
            a.reshape(-1) for a in np.broadcast_arrays(channel, rows, columns, weights)
        )
        wires = []
        for exp in np.unique(exponents).tolist():
            chosen = exponents[channel] == exp
            wire = Wire(x, rows[chosen], columns[chosen], weights[chosen], exp)
            if exp < 0 and wire.weights.min() < 0 and (wire.weights % 2).any():
                # No stock synapses hold odd weights of both signs, and only a whole sum can be shifted right.
                sums = self.netlist.add(
                    f"{node.name}.sums{exp}",
                    Graded(),
                    int(np.prod(self.graph.types[node.name, "y"].shape)),
                    [replace(wire, exp=0)],
                    node.scope,
                    once=x.group.once,
                )
                own = np.unique(wire.rows)
                wire = Wire(Signal(sums, own), own, np.arange(own.size), np.ones_like(own), exp)
            wires.append(wire)
        return wires

    def _counted(self, signal: Signal, rows: Array, exponent: int, size: int) -> Drive:
        """Wire a sum of counts, shifted left."""
        count = signal.index.size
        wire = Wire(signal, rows.reshape(-1), np.arange(count), np.ones(count, np.int64), exponent)
        return Drive([wire], np.zeros(size, np.int64))

    def _tensor(self, node: Node, param: str) -> Array:
        return self.graph.tensor(node, param).astype(np.int64)


def window(
    node: Conv2d | SpikeMaxPool, size: tuple[int, ...], out: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """List the pairs of output and input place of a window, and which of its taps each is."""
    kernel, (down, along), (above, left), dilation = node.sides
    y, x, i, j = np.ogrid[: out[0], : out[1], : kernel[0], : kernel[1]]
    row, column = y * down - above + i * dilation[0], x * along - left + j * dilation[1]
    inside = (row >= 0) & (row < size[1]) & (column >= 0) & (column < size[2])
    places = np.broadcast_arrays(y * out[1] + x, row * size[2] + column, i * kernel[1] + j)
    rows, columns, taps = (array[inside] for array in places)
    return rows, columns, taps
