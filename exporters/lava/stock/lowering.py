"""Walks a graph in order; each value that is spikes becomes a signal, currents join their LIF."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stas_neuro.analysis import visit_mask
from stas_neuro.ir import (
    ALIGN,
    FixedAdd,
    FixedHaltAccumulate,
    FixedInput,
    FixedLIF,
    FixedTokenMean,
    Gate,
    Graph,
    Map,
    Node,
    Phase,
    Problems,
    Range,
    Slice,
    SpikeAnd,
    SpikeMaxPool,
    Tokens,
)

from .halting import Halting
from .layers import Drive, Layers, window
from .netlist import (
    FIRST,
    GO,
    SPIKE,
    Graded,
    Lif,
    Netlist,
    Signal,
    one_to_one,
    to_all,
    weighted,
)
from .units import drives_lifs_only

IMAGE, CONTROL = "image", "control"
"""The two sources that the host feeds."""
DriveOf = Callable[..., Drive]


class Lowering:
    """What was lowered so far; `drives` gives the function of `Layers` that makes the drive of a node."""

    def __init__(self, graph: Graph, problems: Problems, drives: Callable[[Node], DriveOf]) -> None:
        self.graph = graph
        self.drives = drives
        self.netlist = Netlist(problems)
        control = self.netlist.source(CONTROL, 2, SPIKE, per_step=True)
        self.first = Signal(control, np.array([FIRST]))
        self.go = Signal(control, np.array([GO]))
        self.values: dict[tuple[str, str], Signal] = {}
        self.layers = Layers(graph, self.netlist)
        self.halting = Halting(graph, self.netlist, self.first, self.go)

    # Values -------------------------------------------------------------------------------------------------

    def value(self, node: Node, port: str) -> Signal:
        """Give the signal at a port."""
        edge = self.graph.inputs(node)[port]
        return self.values[edge.src, edge.src_port]

    def inputs(self, node: Node, once: bool = False) -> dict[str, Signal]:
        """Give the signals at all ports, as they are in every model step unless their taker runs once."""
        signals = {port: self.value(node, port) for port in self.graph.inputs(node)}
        return signals if once else {port: self.in_every_step(x) for port, x in signals.items()}

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
            clear = to_all(self.first, np.full(group.size, -1))
            latch = self.netlist.threshold(name, group.size, [*copied, *clear], group.scope, latch=1)
        return Signal(latch, signal.index)

    def keep(self, node: Node, signal: Signal) -> None:
        """Keep a node's signal for those that take it."""
        self.values[node.name, node.OUTPUTS[0]] = signal

    def shape(self, node: Node) -> tuple[int, ...]:
        """Give the shape of what a node sends."""
        return self.graph.types[node.name, node.OUTPUTS[0]].shape

    def block_outputs(self) -> dict[str, Signal]:
        """Give the outputs of blocks, by the port of Readout that takes them."""
        readout = self.graph.readout
        ports = [f"z{block}" for block in range(readout.blocks)]
        return {
            port: self.in_every_step(self.value(readout, port))
            for port in ports
            if port in self.graph.inputs(readout)
        }

    def masks(self) -> dict[int, Signal]:
        """Give the masks of the blocks that not every token visits."""
        masks = ((block, visit_mask(self.graph, block)) for block in range(self.graph.blocks))
        return {
            block: self.value(self.graph.node(mask.dst), "alive") for block, mask in masks if mask is not None
        }

    # Nodes --------------------------------------------------------------------------------------------------

    def input(self, node: FixedInput) -> None:
        """Give the image to the host to send: in every step where the first neurons run in every step."""
        consumers = (self.graph.consumers(edge.dst) for edge in self.graph.consumers(node))
        phases = {self.graph.node(edge.dst).phase for edges in consumers for edge in edges}
        held = node.phase != Phase.ONCE or Phase.STEP in phases
        size = int(np.prod(node.shape))
        group = self.netlist.source(IMAGE, size, Range(0, node.largest), per_step=held)
        self.keep(node, Signal(group, np.arange(size).reshape(node.shape)))

    def lif(self, node: FixedLIF) -> None:
        """Make stock LIFs."""
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
            wires = [*wires, *to_all(self.first, np.full(size, armed))]
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
        return self.driven_by(layer, once=node.phase == Phase.ONCE)

    def driven_by(self, layer: Node, *, once: bool) -> Drive:
        """Give what neurons receive of a layer."""
        return self.drives(layer)(self.layers, layer, **self.inputs(layer, once))

    def driver(self, node: Node) -> None:
        """Leave what drives LIFs to these: they ask for its synapses."""

    def layer(self, node: Node) -> None:
        """Send synaptic input that is part of a residual sum as graded spikes, in units of 64."""
        if drives_lifs_only(self.graph, node):
            self.driver(node)
            return
        shape, drive = self.shape(node), self.driven_by(node, once=False)
        size = int(np.prod(shape))
        wires = drive.wires + to_all(self.go, drive.bias << drive.bias_exp >> ALIGN)
        group = self.netlist.add(node.name, Graded(), size, wires, node.scope)
        self.keep(node, Signal(group, np.arange(size).reshape(shape)))

    def pool(self, node: SpikeMaxPool) -> None:
        """Make neurons that fire for any spike of their window."""
        x, shape = self.value(node, "x"), self.shape(node)
        size = int(np.prod(shape))
        rows, columns, _ = window(node, x.index.shape, shape[1:])
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
        """Name the same neurons in another order."""
        x = self.value(node, "x")
        self.keep(node, Signal(x.group, x.index.reshape(len(x.index), -1).T))

    def map(self, node: Map) -> None:
        """Name the same neurons in another order."""
        x = self.value(node, "x")
        self.keep(node, Signal(x.group, x.index.T.reshape(self.shape(node))))

    def slice(self, node: Slice) -> None:
        """Name some of the neurons."""
        x, channels = self.value(node, "x"), slice(node.start, node.stop)
        self.keep(node, Signal(x.group, x.index[channels] if x.index.ndim == 3 else x.index[..., channels]))

    def token_mean(self, node: FixedTokenMean) -> None:
        """Make neurons that send the sum over tokens."""
        x = self.in_every_step(self.value(node, "x"))
        tokens, features = x.index.shape
        wires = one_to_one(x, np.tile(np.arange(features), tokens))
        group = self.netlist.add(node.name, Graded(), features, wires, node.scope)
        self.keep(node, Signal(group, np.arange(features).reshape(1, features)))

    def add(self, node: FixedAdd) -> None:
        """Make neurons that send the sum."""
        a, b = (self.in_every_step(self.value(node, port)) for port in ("a", "b"))
        wires = one_to_one(a, weight=node.a_weight) + one_to_one(b, weight=node.b_weight)
        group = self.netlist.add(node.name, Graded(), a.index.size, wires, node.scope)
        self.keep(node, Signal(group, np.arange(a.index.size).reshape(a.index.shape)))

    def gate(self, node: Gate) -> None:
        """Make neurons that send the product of value and mask."""
        x, mask = self.in_every_step(self.value(node, "x")), self.value(node, "mask")
        shape = x.index.shape
        match node.axis:
            case "token":
                shown = np.broadcast_to(mask.index[:, None], shape)
            case "channel":
                shown = np.broadcast_to(mask.index, shape)
            case "head":
                shown = np.repeat(mask.index, shape[1] // mask.index.shape[1], axis=1)
        spread = Signal(mask.group, shown)
        group = self.netlist.multiply(node.name, x, spread, node.scope)
        self.keep(node, Signal(group, np.arange(x.index.size).reshape(shape)))

    def spike_and(self, node: SpikeAnd) -> None:
        """Make neurons that fire for both spikes, or for the first without the second."""
        a, b = (self.value(node, port) for port in ("a", "b"))
        once = a.group.once and b.group.once
        if not once:
            a, b = self.in_every_step(a), self.in_every_step(b)
        each = np.arange(a.index.size)
        sign, vth = (-1, 0) if node.invert else (1, 1)
        wires = one_to_one(a) + weighted(b, each, each, np.full(each.size, sign))
        group = self.netlist.threshold(node.name, each.size, wires, node.scope, vth=vth, once=once)
        self.keep(node, Signal(group, each.reshape(a.index.shape)))

    def halt(self, node: FixedHaltAccumulate) -> None:
        """Make what decides on the next visit."""
        score = self.graph.node(self.graph.inputs(node)["score"].src)
        alive = self.value(node, "alive") if "alive" in self.graph.inputs(node) else None
        opened = self.halting.accumulate(node, score, self.value(score, "z"), alive)
        if opened is not None:
            self.values[node.name, "alive"] = opened

    def score(self, node: Node) -> None:
        """Leave a score to its accumulator."""
