"""Groups of stock neurons and the synapses between them, every group in its place in one pipeline.

A stock synapse delivers what was sent in the Lava step before. So a group is one step behind those that feed
it: its `depth` is the longest way from the host's input, and a shorter way is filled with relays. Images
follow each other without a gap, `period` Lava steps apart: a group of depth d works on model step t of image
i in Lava step 1 + i * period + d + t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from stas_neuro.ir import ALIGN, STATE_LIMIT, Array, Problems, Range

THRESHOLD_LIMIT = 2**17 - 1
"""Largest threshold of a stock LIF."""
FULL_DECAY = 4095
"""Stock decay constant: of a current all is gone in the next step, of a membrane 4095/4096."""
SPIKE = Range(0, 1)
"""What a LIF sends."""
FIRST, GO = 0, 1
"""Neurons of the control source: the first model step of an image, and every one."""

Reset = Literal["never", "image", "step"]
Port = Literal["a_in", "a_in1", "a_in2"]
Sign = Literal["EXCITATORY", "INHIBITORY", "MIXED"]


@dataclass(frozen=True)
class Source:
    """What the host sends: the image (in the first model step of it, or in all) and the control spikes."""

    per_step: bool = True


@dataclass(frozen=True, eq=False)
class Lif:
    """LIF, or LIFReset where it is reset: for each image in its first step, or in every step."""

    dv: int
    vth: int
    bias: Array
    """Mantissas, (size,); the bias is bias << bias_exp in every step."""
    bias_exp: int
    reset: Reset


@dataclass(frozen=True)
class Graded:
    """GradedVec: sends the sum of what it receives."""


@dataclass(frozen=True)
class Product:
    """ProdNeuron: sends the product of what it receives at its two ports."""


Neuron = Source | Lif | Graded | Product


@dataclass(frozen=True, eq=False)
class NeuronGroup:
    """Neurons of one process.

    `reach` is the range of what one can send, `scope` the part of the network it belongs to. A group that
    works `once` has something to say in the first model step of an image only.
    """

    name: str
    neuron: Neuron
    size: int
    depth: int
    reach: Range
    once: bool
    scope: str

    @property
    def origin(self) -> str:
        """Name of the group whose values it sends: of a relay the one that it delays, else its own."""
        return self.name.partition("+")[0]


@dataclass(frozen=True, eq=False)
class Synapses:
    """Synapses weight << exp (>> -exp of the sum) from neuron `columns[i]` of `src` to `rows[i]` of `dst`."""

    src: str
    dst: str
    port: Port
    rows: Array
    columns: Array
    weights: Array
    exp: int
    feedback: bool = False
    """From a group to itself: what it sent arrives in its next step."""

    def parts(self) -> list[tuple[Sign, Array]]:
        """Give what fits one stock process each: the signs that it holds, and which synapses, bool.

        A process of both signs holds even weights only, -256..254, one of a single sign all up to 255.
        """
        weights = self.weights
        if weights.min(initial=0) >= 0:
            parts: list[tuple[Sign, Array]] = [("EXCITATORY", weights > 0)]
        elif weights.max() <= 0 and weights.min() >= -255:
            parts = [("INHIBITORY", weights < 0)]
        else:
            odd = weights % 2 == 1
            parts = [
                ("MIXED", ~odd),
                ("EXCITATORY", odd & (weights > 0)),
                ("INHIBITORY", odd & (weights < 0)),
            ]
        return [(sign, chosen) for sign, chosen in parts if chosen.any()]


@dataclass(frozen=True, eq=False)
class Signal:
    """A value of the network as neurons of a group: `index` has the value's shape."""

    group: NeuronGroup
    index: Array


@dataclass(frozen=True, eq=False)
class Wire:
    """Synapses to be made from a signal: `columns` count through its index, flattened."""

    signal: Signal
    rows: Array
    columns: Array
    weights: Array
    exp: int = 0
    port: Port = "a_in"


def one_to_one(signal: Signal, rows: Array | None = None, weight: int = 1, port: Port = "a_in") -> list[Wire]:
    """Wire neuron i of a signal to neuron `rows[i]` (i, if not given), all with one weight of at least 1."""
    count = signal.index.size
    where = np.arange(count) if rows is None else rows.reshape(-1)
    return weighted(signal, where, np.arange(count), np.full(count, weight), port)


def weighted(signal: Signal, rows: Array, columns: Array, weights: Array, port: Port = "a_in") -> list[Wire]:
    """Wire whole-number weights of any size exactly: a sum of mantissas of 8 bits, each shifted left."""
    wires: list[Wire] = []
    rest = weights.astype(np.int64)
    while rest.any() or not wires:
        exp = min(7, max(0, int(np.abs(rest).max(initial=0)).bit_length() - 8))
        mantissas = np.sign(rest) * np.minimum(np.abs(rest) >> exp, 255)
        rest = rest - (mantissas << exp)
        wires.append(Wire(signal, rows, columns, mantissas, exp, port))
    return wires


def to_all(control: Signal, weights: Array) -> list[Wire]:
    """Wire a control spike to every neuron of a group, to each with its weight."""
    rows = np.arange(weights.size)
    return weighted(control, rows, np.zeros_like(rows), weights)


@dataclass
class Netlist:
    """Builds a pipeline group by group: `threshold`, `add`; `problems` are what no stock neuron can hold."""

    problems: Problems
    groups: dict[str, NeuronGroup] = field(default_factory=dict)
    synapses: list[Synapses] = field(default_factory=list)

    def source(self, name: str, size: int, reach: Range, *, per_step: bool) -> NeuronGroup:
        """Add what the host sends."""
        group = NeuronGroup(name, Source(per_step), size, 0, reach, not per_step, "input")
        self.groups[name] = group
        return group

    def threshold(  # noqa: PLR0913
        self,
        name: str,
        size: int,
        wires: Sequence[Wire],
        scope: str,
        *,
        vth: int = 0,
        bias: Array | None = None,
        bias_exp: int = 0,
        once: bool = False,
        latch: int = 0,
    ) -> NeuronGroup:
        """Add neurons that forget: each fires where its input and bias of this step exceed vth << 6.

        `latch` is the weight of a synapse of each neuron with itself, if any.
        """
        mantissas = np.zeros(size, np.int64) if bias is None else bias
        low, high = self._input_range(wires, size, "a_in")
        most = (max(int(high.max()) + latch, -int(low.min())) << ALIGN) + (
            int(np.abs(mantissas).max()) << bias_exp
        )
        # A membrane below 4096 decays to 0 by itself.
        neuron = Lif(FULL_DECAY, vth, mantissas, bias_exp, "never" if most < 4096 else "step")
        group = self.add(name, neuron, size, wires, scope, once=once)
        if latch:
            each = np.arange(size)
            self.synapses.append(
                Synapses(name, name, "a_in", each, each, np.full(size, latch), 0, feedback=True)
            )
        return group

    def add(
        self,
        name: str,
        neuron: Neuron,
        size: int,
        wires: Sequence[Wire],
        scope: str,
        *,
        once: bool = False,
        reach: Range | None = None,
    ) -> NeuronGroup:
        """Add a group fed by `wires`, which arrive together: the earlier ones are relayed."""
        depth = 1 + max(wire.signal.group.depth for wire in wires)
        if reach is None:
            reach = self._reach(neuron, size, wires)
        self._check(name, neuron, size, wires, reach)
        for wire in wires:
            sender = self._relayed(wire.signal.group, depth - 1)
            used = np.flatnonzero(wire.weights)
            columns = wire.signal.index.reshape(-1)[wire.columns[used]]
            self.synapses.append(
                Synapses(sender.name, name, wire.port, wire.rows[used], columns, wire.weights[used], wire.exp)
            )
        group = NeuronGroup(name, neuron, size, depth, reach, once, scope)
        self.groups[name] = group
        return group

    def multiply(self, name: str, a: Signal, b: Signal, scope: str) -> NeuronGroup:
        """Multiply two signals element by element: spikes by coincidence, graded ones by product neurons."""
        size = a.index.size
        if a.group.reach == b.group.reach == SPIKE:
            return self.threshold(name, size, one_to_one(a) + one_to_one(b), scope, vth=1)
        wires = one_to_one(a, port="a_in1") + one_to_one(b, port="a_in2")
        return self.add(name, Product(), size, wires, scope)

    def pipeline(self, period: int) -> Pipeline:
        """Finish: give the groups in order of depth, without a source that feeds none."""
        sending = {synapses.src for synapses in self.synapses}
        used = [g for g in self.groups.values() if g.name in sending or not isinstance(g.neuron, Source)]
        groups = sorted(used, key=lambda group: group.depth)
        return Pipeline(tuple(groups), tuple(self.synapses), period)

    def _relayed(self, group: NeuronGroup, depth: int) -> NeuronGroup:
        """Give what `group` sends as sent at a later depth."""
        while group.depth < depth:
            hops = group.name.removeprefix(group.origin).removeprefix("+")
            name = f"{group.origin}+{int(hops or 0) + 1}"
            if name not in self.groups:
                signal = Signal(group, np.arange(group.size))
                wires, scope = one_to_one(signal), group.scope
                if group.reach == SPIKE:
                    self.threshold(name, group.size, wires, scope, once=group.once)
                else:
                    self.add(name, Graded(), group.size, wires, scope, once=group.once, reach=group.reach)
            group = self.groups[name]
        return group

    def _input_range(self, wires: Sequence[Wire], size: int, port: Port) -> tuple[Array, Array]:
        """Smallest and largest input of each neuron at a port, int64 (size,)."""
        low, high = np.zeros(size), np.zeros(size)
        for wire in wires:
            if wire.port == port:
                weights, reach = wire.weights * 2.0**wire.exp, wire.signal.group.reach.with_zero()
                ends = weights * reach.low, weights * reach.high
                # A shift to the right rounds down: by less than 1.
                high += np.ceil(np.bincount(wire.rows, np.maximum(*ends), size))
                low += np.floor(np.bincount(wire.rows, np.minimum(*ends), size))
        return low.astype(np.int64), high.astype(np.int64)

    def _reach(self, neuron: Neuron, size: int, wires: Sequence[Wire]) -> Range:
        if isinstance(neuron, Lif):
            return SPIKE
        if isinstance(neuron, Product):
            ports: tuple[Port, Port] = ("a_in1", "a_in2")
            a, b = (self._input_range(wires, size, port) for port in ports)
            products = [x * y for x in a for y in b]
        else:
            products = list(self._input_range(wires, size, "a_in"))
        return Range(min(int(x.min()) for x in products), max(int(x.max()) for x in products))

    def _check(self, name: str, neuron: Neuron, size: int, wires: Sequence[Wire], reach: Range) -> None:
        remedy = "lower the exponents of its layer, or use fewer score bits"
        if not isinstance(neuron, Lif):
            if reach.magnitude > STATE_LIMIT:
                what = f"what it sends can reach {reach.magnitude}, a graded spike holds {STATE_LIMIT}"
                self.problems.add(name, what, remedy)
            return
        low, high = self._input_range(wires, size, "a_in")
        current = Range(int(low.min()), int(high.max())).magnitude << ALIGN
        if current > STATE_LIMIT:
            what = f"its synaptic input can reach {current}, a stock LIF wraps it beyond {STATE_LIMIT}"
            self.problems.add(name, what, remedy)
        if neuron.vth > THRESHOLD_LIMIT:
            what = f"its threshold is {neuron.vth}, a stock LIF holds {THRESHOLD_LIMIT}"
            self.problems.add(name, what, remedy)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A finished netlist: groups in order of depth, so that each comes after those that feed it."""

    groups: tuple[NeuronGroup, ...]
    synapses: tuple[Synapses, ...]
    period: int
    _groups: Mapping[str, NeuronGroup] = field(init=False, repr=False)
    _into: Mapping[str, tuple[Synapses, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        into: dict[str, list[Synapses]] = {group.name: [] for group in self.groups}
        for synapses in self.synapses:
            into[synapses.dst].append(synapses)
        object.__setattr__(self, "_groups", {group.name: group for group in self.groups})
        object.__setattr__(self, "_into", {name: tuple(found) for name, found in into.items()})

    def group(self, name: str) -> NeuronGroup:
        """Return the group called `name`."""
        return self._groups[name]

    def into(self, group: NeuronGroup) -> tuple[Synapses, ...]:
        """Return the synapses that end on a group."""
        return self._into[group.name]

    @property
    def depth(self) -> int:
        """Lava steps from the host's input to the last group."""
        return max(group.depth for group in self.groups)
