"""From a quantised graph to a pipeline of stock processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stas_neuro.ir import (
    ALIGN,
    LIF,
    PIXEL_LIMIT,
    Add,
    Array,
    Conv2d,
    FixedAdd,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedLIF,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedSpikeMatMul,
    Gate,
    Graph,
    HaltAccumulate,
    Input,
    Linear,
    MaskedColumnSum,
    Node,
    Phase,
    Problems,
    Range,
    SpikeMatMul,
    SpikeMaxPool,
    Tokens,
    op_of,
)

from .halting import Halting
from .netlist import (
    FIRST,
    GO,
    SPIKE,
    Graded,
    Group,
    Lif,
    Netlist,
    Pipeline,
    Product,
    Signal,
    Wire,
    one_to_one,
    weighted,
)
from .units import drives_lifs_only, split_bias
from .unsupported import find_unsupported

IMAGE, CONTROL = "image", "control"
"""The two sources that the host feeds."""


@dataclass(frozen=True, eq=False)
class StockNetwork:
    """A quantised network as stock processes.

    `spikes` says where the spikes of the graph's LIFs are found, `states` the outputs of the blocks (by the
    port of Readout that takes them) and `alive` the masks of blocks (by block) that not every token visits:
    what the host reads. `off_core` names what it computes of them.
    """

    graph: Graph
    pipeline: Pipeline
    spikes: Mapping[str, Signal]
    states: Mapping[str, Signal]
    alive: Mapping[int, Signal]
    off_core: tuple[str, ...]


def lower_stock(graph: Graph) -> StockNetwork:
    """Express a quantised graph with stock Lava processes only: Sparse, LIF, LIFReset, GradedVec, ProdNeuron.

    Every spike and every visit is that of the graph, `depth` Lava steps later. Readout and head stay with the
    host.

    Raises
    ------
    IRError
        With everything in the graph that stock processes cannot express, each with its remedy.
    """
    problems = Problems()
    find_unsupported(graph, problems)
    problems.raise_if_any()
    lowering = _Lowering(graph, problems)
    for node in graph.nodes:
        if node.phase != Phase.END:
            lowering.lower(node)
    problems.raise_if_any()
    end = tuple(node.name for node in graph.nodes if node.phase == Phase.END and op_of(node) in (Linear,))
    return StockNetwork(
        graph=graph,
        pipeline=lowering.netlist.pipeline(graph.time_steps),
        spikes={node.name: lowering.values[node.name, "s"] for node in graph.of_type(LIF)},
        states=lowering.block_outputs(),
        alive=lowering.masks(),
        off_core=(graph.readout.name, *end),
    )


@dataclass(frozen=True, eq=False)
class Drive:
    """What neurons receive: synapses, and bias << bias_exp (size,) in every step."""

    wires: list[Wire]
    bias: Array
    bias_exp: int = 0


class _Lowering:
    """Walks the graph in order; each value that is spikes becomes a signal, currents join their LIF."""

    def __init__(self, graph: Graph, problems: Problems) -> None:
        self.graph = graph
        self.netlist = Netlist(problems)
        control = self.netlist.source(CONTROL, 2, SPIKE, per_step=True)
        self.first = Signal(control, np.array([FIRST]))
        self.go = Signal(control, np.array([GO]))
        self.values: dict[tuple[str, str], Signal] = {}
        self.halting = Halting(graph, self.netlist, self.first, self.go)

    def lower(self, node: Node) -> None:
        rule = _RULES.get(op_of(node))
        if rule is not None:
            rule(self, node)
        elif op_of(node) in (Conv2d, Linear) and not drives_lifs_only(self.graph, node):
            self.current(node)

    # Values -------------------------------------------------------------------------------------------------

    def value(self, node: Node, port: str) -> Signal:
        edge = self.graph.inputs(node)[port]
        return self.values[edge.src, edge.src_port]

    def in_every_step(self, signal: Signal) -> Signal:
        """Give a signal that holds in all model steps: one of phase once is latched by its neurons' copies.

        The first control spike outweighs what a neuron still sends to itself, and yields to a new spike.
        """
        group = signal.group
        if not group.once:
            return signal
        name = f"{group.name}.latch"
        latch = self.netlist.groups.get(name)
        if latch is None:
            copied = one_to_one(Signal(group, np.arange(group.size)), weight=2)
            clear = self.to_all(self.first, group.size, -1)
            latch = self.netlist.threshold(name, group.size, [*copied, *clear], group.scope, latch=1)
        return Signal(latch, signal.index)

    def to_all(self, control: Signal, size: int, weight: int) -> list[Wire]:
        """Wire a control spike to all neurons of a group."""
        return weighted(control, np.arange(size), np.zeros(size, np.int64), np.full(size, weight))

    def keep(self, node: Node, group_signal: Signal) -> None:
        self.values[node.name, node.OUTPUTS[0]] = group_signal

    def shape(self, node: Node) -> tuple[int, ...]:
        return self.graph.types[node.name, node.OUTPUTS[0]].shape

    def block_outputs(self) -> dict[str, Signal]:
        readout = self.graph.readout
        ports = [f"z{block}" for block in range(readout.blocks)]
        return {
            port: self.in_every_step(self.value(readout, port))
            for port in ports
            if port in self.graph.inputs(readout)
        }

    def masks(self) -> dict[int, Signal]:
        masks = {}
        for block, node in enumerate(self.graph.accumulators):
            if "alive" in self.graph.inputs(node):
                masks[block] = self.value(node, "alive")
        return masks

    # Nodes that are neurons ---------------------------------------------------------------------------------

    def input(self, node: Input) -> None:
        """Give the image to the host to send: in every step where the first neurons run in every step."""
        consumers = (self.graph.consumers(edge.dst) for edge in self.graph.consumers(node))
        phases = {self.graph.node(edge.dst).phase for edges in consumers for edge in edges}
        held = node.phase != Phase.ONCE or Phase.STEP in phases
        size = int(np.prod(node.shape))
        group = self.netlist.source(IMAGE, size, Range(0, PIXEL_LIMIT), per_step=held)
        self.keep(node, Signal(group, np.arange(size).reshape(node.shape)))

    def lif(self, node: FixedLIF) -> None:
        shape = self.shape(node)
        size = int(np.prod(shape))
        drive = self.drive(node)
        wires, bias, bias_exp = drive.wires, drive.bias, drive.bias_exp
        index = np.arange(size).reshape(shape)
        if node.phase != Phase.ONCE:
            lif = Lif(node.dv, node.vth, bias, bias_exp, "image")
            self.keep(node, Signal(self.netlist.add(node.name, lif, size, wires, node.scope), index))
            return
        # Without an image its bias alone must not make it fire: the first control spike has to come too.
        armed = max(0, -(-(int(bias.max()) << bias_exp) >> ALIGN) - node.vth)
        if armed:
            wires = [*wires, *self.to_all(self.first, size, armed)]
        group = self.netlist.threshold(
            node.name, size, wires, node.scope, vth=node.vth + armed, bias=bias, bias_exp=bias_exp, once=True
        )
        self.keep(node, Signal(group, index))

    def drive(self, node: FixedLIF) -> Drive:
        """Give what a LIF receives: the synapses of the layer before it, or its sum where that is sent."""
        edge = self.graph.inputs(node)["x"]
        sent = self.values.get((edge.src, edge.src_port))
        if sent is not None:
            return Drive(one_to_one(sent), np.zeros(sent.index.size, np.int64))
        layer = self.graph.node(edge.src)
        return _CURRENTS[op_of(layer)](self, layer, node.phase == Phase.ONCE)

    def current(self, node: Node) -> None:
        """Send synaptic input as graded spikes, in units of 64: it is part of a residual sum."""
        shape, drive = self.shape(node), _CURRENTS[op_of(node)](self, node, False)
        size = int(np.prod(shape))
        rows = np.arange(size)
        bias = drive.bias << drive.bias_exp >> ALIGN
        wires = drive.wires + weighted(self.go, rows, np.zeros_like(rows), bias)
        group = self.netlist.add(node.name, Graded(), size, wires, node.scope)
        self.keep(node, Signal(group, rows.reshape(shape)))

    def pool(self, node: SpikeMaxPool) -> None:
        x, shape = self.value(node, "x"), self.shape(node)
        size = int(np.prod(shape))
        rows, columns = _window(node, x.index.shape, shape[1:])
        # Output and input channel are the same.
        channels = np.arange(shape[0])[:, None]
        places, area = shape[1] * shape[2], x.index.shape[1] * x.index.shape[2]
        wires = weighted(
            x,
            (channels * places + rows).reshape(-1),
            (channels * area + columns).reshape(-1),
            np.ones(shape[0] * len(rows), np.int64),
        )
        group = self.netlist.threshold(node.name, size, wires, node.scope, once=x.group.once)
        self.keep(node, Signal(group, np.arange(size).reshape(shape)))

    def tokens(self, node: Tokens) -> None:
        x = self.value(node, "x")
        self.keep(node, Signal(x.group, x.index.reshape(len(x.index), -1).T))

    def add(self, node: FixedAdd) -> None:
        a, b = (self.in_every_step(self.value(node, port)) for port in ("a", "b"))
        wires = one_to_one(a, weight=node.a_weight) + one_to_one(b, weight=node.b_weight)
        group = self.netlist.add(node.name, Graded(), a.index.size, wires, node.scope)
        self.keep(node, Signal(group, np.arange(a.index.size).reshape(a.index.shape)))

    def gate(self, node: Gate) -> None:
        x, mask = self.in_every_step(self.value(node, "x")), self.value(node, "mask")
        shape = x.index.shape
        shown = mask.index[:, None] if node.axis == "token" else mask.index[None, :]
        spread = Signal(mask.group, np.broadcast_to(shown, shape))
        group = self.multiply(node.name, x, spread, node.scope)
        self.keep(node, Signal(group, np.arange(x.index.size).reshape(shape)))

    def multiply(self, name: str, a: Signal, b: Signal, scope: str) -> Group:
        """Multiply two signals element by element: spikes by coincidence, graded ones by product neurons."""
        size = a.index.size
        if a.group.reach == b.group.reach == SPIKE:
            return self.netlist.threshold(name, size, one_to_one(a) + one_to_one(b), scope, vth=1)
        wires = one_to_one(a, port="a_in1") + one_to_one(b, port="a_in2")
        return self.netlist.add(name, Product(), size, wires, scope)

    def halt(self, node: FixedHaltAccumulate) -> None:
        score = self.graph.node(self.graph.inputs(node)["score"].src)
        alive = (
            self.values.get((self.graph.inputs(node)["alive"].src, "alive")) if self._masked(node) else None
        )
        opened = self.halting.accumulate(node, score, self.value(score, "z"), alive)
        if opened is not None:
            self.values[node.name, "alive"] = opened

    def _masked(self, node: Node) -> bool:
        return "alive" in self.graph.inputs(node)

    # Synaptic input --------------------------------------------------

    def conv2d(self, node: FixedConv2d, once: bool) -> Drive:
        x, shape = self.taken(node, once), self.shape(node)
        weight = self.graph.tensor(node, "weight").astype(np.int64)
        rows, columns, taps = _window_taps(node, x.index.shape, shape[1:])
        places, area = shape[1] * shape[2], x.index.shape[1] * x.index.shape[2]
        out, into = (
            axis[:, :, None] for axis in np.meshgrid(*map(np.arange, weight.shape[:2]), indexing="ij")
        )
        matrix = weight.reshape(*weight.shape[:2], -1)[:, :, taps]
        exponents = self.graph.tensor(node, "weight_exp").astype(np.int64)
        wires = self._by_exponent(
            node,
            x,
            exponents,
            np.broadcast_to(out, matrix.shape),
            out * places + rows,
            into * area + columns,
            matrix,
        )
        bias = self.graph.tensor(node, "bias").astype(np.int64)
        spread = np.broadcast_to(bias.reshape(len(bias), *(node.bias_map or (1, 1))), shape)
        return Drive(wires, spread.reshape(-1), node.bias_exp)

    def linear(self, node: FixedLinear, once: bool) -> Drive:
        x, (tokens, features) = self.taken(node, once), self.shape(node)
        weight = self.graph.tensor(node, "weight").astype(np.int64)
        token, out, into = np.ogrid[:tokens, :features, : node.in_features]
        wires = self._by_exponent(
            node,
            x,
            self.graph.tensor(node, "weight_exp").astype(np.int64),
            out,
            token * features + out,
            token * node.in_features + into,
            weight[None],
        )
        bias = self.graph.tensor(node, "bias").astype(np.int64)
        if not self._masked(node):
            return Drive(wires, np.tile(bias, tokens), node.bias_exp)
        held, constant = split_bias(bias, node.bias_exp)
        alive = self.value(node, "alive")
        rows = np.arange(tokens * features)
        wires += weighted(alive, rows, rows // features, np.tile(held, tokens))
        return Drive(wires, np.tile(constant, tokens))

    def taken(self, node: Node, once: bool) -> Signal:
        """Give the input of a layer, in all model steps unless its neurons run once."""
        x = self.value(node, "x")
        return x if once else self.in_every_step(x)

    def _by_exponent(
        self,
        node: Node,
        x: Signal,
        exponents: Array,
        channel: Array,
        rows: Array,
        columns: Array,
        weights: Array,
    ) -> list[Wire]:
        """Wire weights with one Sparse for each exponent; arrays broadcast, `channel` finds the exponent."""
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
                    int(np.prod(self.shape(node))),
                    [replace(wire, exp=0)],
                    node.scope,
                    once=x.group.once,
                )
                own = np.unique(wire.rows)
                wire = Wire(Signal(sums, own), own, np.arange(own.size), np.ones_like(own), exp)
            wires.append(wire)
        return wires

    def matmul(self, node: FixedSpikeMatMul, once: bool) -> Drive:
        """Q (k^T v): coincidences of keys and values, their sums over tokens, times the queries."""
        name, net, scope = node.name, self.netlist, node.scope
        q, k, v = (self.value(node, port) for port in ("q", "k", "v"))
        tokens, features = q.index.shape
        width = features // node.heads
        by_head = (tokens, node.heads, width)
        shape = (*by_head, width)  # token, head, channel of key or query, channel of value
        keys = Signal(k.group, np.broadcast_to(k.index.reshape(by_head)[..., None], shape))
        values = Signal(v.group, np.broadcast_to(v.index.reshape(by_head)[:, :, None], shape))
        together = self.multiply(f"{name}.coincidences", keys, values, scope)
        pairs = np.arange(keys.index.size).reshape(shape)
        cells = node.heads * width * width
        sums = net.add(
            f"{name}.sums", Graded(), cells, one_to_one(Signal(together, pairs), pairs % cells), scope
        )
        queries = Signal(q.group, np.broadcast_to(q.index.reshape(by_head)[..., None], shape))
        counts = Signal(sums, np.broadcast_to(np.arange(cells).reshape(shape[1:]), shape))
        product = self.multiply(f"{name}.products", queries, counts, scope)
        rows = np.broadcast_to(np.arange(q.index.size).reshape(*by_head[:2], 1, width), shape)
        return self._counted(Signal(product, pairs), rows, node.exponent, q.index.size)

    def column_sum(self, node: FixedMaskedColumnSum, once: bool) -> Drive:
        k, v = self.value(node, "k"), self.value(node, "v")
        together = self.multiply(f"{node.name}.coincidences", k, v, node.scope)
        tokens, features = k.index.shape
        pairs = np.arange(tokens * features)
        return self._counted(Signal(together, pairs), pairs % features, node.exponent, features)

    def _counted(self, signal: Signal, rows: Array, exponent: int, size: int) -> Drive:
        """Wire a sum of counts, shifted left."""
        count = signal.index.size
        wire = Wire(signal, rows.reshape(-1), np.arange(count), np.ones(count, np.int64), exponent)
        return Drive([wire], np.zeros(size, np.int64))


def _window_taps(window: Any, size: tuple[int, ...], out: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """List the pairs of output and input place of a window, and which of its taps each is."""
    y, x, i, j = np.ogrid[: out[0], : out[1], : window.kernel, : window.kernel]
    row, column = y * window.stride - window.padding + i, x * window.stride - window.padding + j
    inside = (row >= 0) & (row < size[1]) & (column >= 0) & (column < size[2])
    places = np.broadcast_arrays(y * out[1] + x, row * size[2] + column, i * window.kernel + j)
    rows, columns, taps = (array[inside] for array in places)
    return rows, columns, taps


def _window(window: Any, size: tuple[int, ...], out: tuple[int, ...]) -> tuple[Array, Array]:
    return _window_taps(window, size, out)[:2]


_RULES: dict[type[Node], Callable[[_Lowering, Any], None]] = {
    Input: _Lowering.input,
    LIF: _Lowering.lif,
    SpikeMaxPool: _Lowering.pool,
    Tokens: _Lowering.tokens,
    Add: _Lowering.add,
    Gate: _Lowering.gate,
    HaltAccumulate: _Lowering.halt,
}
_CURRENTS: dict[type[Node], Callable[[_Lowering, Any, bool], Drive]] = {
    Conv2d: _Lowering.conv2d,
    Linear: _Lowering.linear,
    SpikeMatMul: _Lowering.matmul,
    MaskedColumnSum: _Lowering.column_sum,
}
