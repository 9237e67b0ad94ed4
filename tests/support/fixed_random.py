"""Random quantised graphs: the nodes of a folded graph with integers drawn at random, within all bounds.

Unlike the Quantise pass this stands for no float network, so that it reaches what that pass never makes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from stas_neuro.ir import (
    EVENTS,
    LIF,
    Add,
    Array,
    Conv2d,
    FixedAdd,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedHeadSum,
    FixedImageScore,
    FixedInput,
    FixedIntegrate,
    FixedLIF,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedOutput,
    FixedReadout,
    FixedSpikeMatMul,
    FixedSynapticCurrent,
    FixedTokenMean,
    Graph,
    HaltAccumulate,
    HaltingScore,
    HeadSum,
    ImageScore,
    Input,
    Integrate,
    IRError,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Phase,
    Readout,
    SpikeMatMul,
    Stage,
    SynapticCurrent,
    TokenMean,
)
from stas_neuro.passes.walk_order import sends_current
from support.ir_random import build, recipes

_ROOM = 2**17
"""What a layer's synaptic input is kept below: residual sums and slow membranes add up several."""
_COUNTS: dict[type[Node], type[Any]] = {
    SpikeMatMul: FixedSpikeMatMul,
    MaskedColumnSum: FixedMaskedColumnSum,
    HeadSum: FixedHeadSum,
}
"""What counts spikes, and its integers."""


@st.composite
def fixed_graphs(draw: st.DrawFn, **fixed: Any) -> Graph:
    """Quantised graphs of all node types; keywords fix a part of the recipe (`ir_random.Recipe`)."""
    choices = {"norm": False, "height": 4, "width": 3} | fixed
    folded, seed = build(draw(recipes(**choices))), draw(st.integers(0, 2**16))
    try:
        return quantised_at_random(folded, seed)
    except IRError:  # Deep residual sums into slow membranes: the bounds have the last word.
        reject()


def pixels_for(graph: Graph, count: int, seed: int = 0) -> Array:
    """Random images (or event frames) of a quantised graph, int64 0..255, a third of the pixels 0."""
    rng = np.random.default_rng(seed)
    frames = () if graph.input.phase == Phase.ONCE else (graph.time_steps,)
    shape = (count, *frames, *graph.input.shape)
    return rng.integers(0, 256, shape) * (rng.random(shape) > 0.33)


def quantised_at_random(folded: Graph, seed: int) -> Graph:
    """Give a folded graph's nodes random integers."""
    rng = np.random.default_rng(seed)
    draft = _Draft(folded, rng)
    timid = draft.graph()
    return _scaled(timid, rng)


class _Draft:
    """The graph with scales so small that every bound is kept."""

    def __init__(self, folded: Graph, rng: np.random.Generator) -> None:
        self.folded = folded
        self.rng = rng
        self.tensors: dict[str, Array] = {}
        self.off_core = bool(rng.random() < 0.3)
        self.score_bits = int(rng.integers(1, 13))
        self.limit = int(rng.integers(max(1, 0.6 * 2**self.score_bits), 2**self.score_bits + 1))

    def graph(self) -> Graph:
        folded = self.folded
        nodes = tuple(self.node(node) for node in folded.nodes)
        return dataclasses.replace(folded, stage=Stage.QUANTISED, nodes=nodes, tensors=self.tensors)

    def node(self, node: Node) -> Node:
        rng, values = self.rng, dataclasses.asdict(node)
        makers: dict[type[Node], Callable[[Any, dict[str, Any]], Node]] = {
            Conv2d: self.synapses,
            HaltingScore: self.score,
            ImageScore: self.image_score,
            Linear: self.synapses,
            SynapticCurrent: self.current,
        }
        if type(node) in makers:
            return makers[type(node)](node, values)
        match node:
            case Input():
                return FixedInput(**values, encoding="bias" if self.off_core else "graded")
            case LIF():
                dv = 2048 if rng.random() < 0.5 else int(rng.integers(0, 4096))
                dv = 0 if node.tau == math.inf else dv
                return FixedLIF(**values, dv=dv, vth=0, clips=bool(rng.random() < 0.3))
            case Add():
                a_weight = int(rng.integers(1, 4)) if node.scope in ("stem", "block0") else 1
                return FixedAdd(**values, a_weight=a_weight, b_weight=int(rng.integers(1, 3)))
            case SpikeMatMul() | MaskedColumnSum() | HeadSum():
                return _COUNTS[type(node)](**values, exponent=int(rng.integers(0, 3)))
            case Integrate():
                learned = node.mode == "learned"
                if learned:
                    self.tensors[f"{node.name}/weights"] = self.int16(-255, 256, (self.folded.time_steps,))
                return FixedIntegrate(**values, shift=int(rng.integers(4, 10)) if learned else 0)
            case HaltAccumulate():
                return FixedHaltAccumulate(**values, score_bits=self.score_bits, limit=self.limit)
            case Readout():
                return FixedReadout(**values, z_shift=0, z_limit=1, divide_bits=0, y_shift=31)
            case Output():
                return FixedOutput(**values, unit=2.0**-5 / 3)
            case TokenMean():
                return FixedTokenMean(**values, x_shift=self.shift(node))
        return type(node)(**values)

    def int16(self, low: int, high: int, shape: tuple[int, ...]) -> Array:
        return self.rng.integers(low, high, shape).astype(np.int16)

    def shift(self, node: Node) -> int:
        """Draw by how many bits a node rounds the currents that it reads; it takes spikes as they are."""
        if self.folded.source_type(self.folded.inputs(node)["x"]).kind in EVENTS:
            return 0
        return int(self.rng.choice((0, self.rng.integers(1, 13))))

    def synapses(self, node: Conv2d | Linear, values: dict[str, Any]) -> Node:
        rng = self.rng
        bits = int(rng.integers(1, 10))
        values |= {"weight_bits": bits, "bias_exp": int(rng.integers(0, 8))}
        if sends_current(self.folded, node):
            values["x_shift"] = self.shift(node)
        made: Node
        if isinstance(node, Conv2d):
            _, *size = self.folded.types[node.name, "y"].shape
            off_core = self.off_core and node.name == "stem.conv0"
            values["bias_exp"] = 7 if off_core else values["bias_exp"]
            bias_map = tuple(size) if rng.random() < 0.4 else ()
            made = FixedConv2d(**values | {"off_core": off_core, "bias_map": bias_map})
        else:
            made = FixedLinear(**values)
        shapes = made.params(self.folded.time_steps)
        weight = self.int16(-(2 ** (bits - 1)), 2 ** (bits - 1), shapes["weight"]) << (9 - bits)
        most = _ROOM >> values["bias_exp"] >> 2
        self.tensors[f"{node.name}/weight"] = weight
        self.tensors[f"{node.name}/weight_exp"] = np.full(shapes["weight_exp"], -8, np.int16)
        self.tensors[f"{node.name}/bias"] = self.int16(-min(4095, most), min(4095, most) + 1, shapes["bias"])
        return made

    def current(self, node: SynapticCurrent, values: dict[str, Any]) -> Node:
        if node.bias:
            self.tensors[f"{node.name}/bias"] = self.int16(-4095, 4096, (node.features,))
        values |= {"du": int(self.rng.integers(512, 4096)), "bias_exp": int(self.rng.integers(0, 4))}
        return FixedSynapticCurrent(**values)

    def score(self, node: HaltingScore, values: dict[str, Any]) -> Node:
        rng, one = self.rng, 2**self.score_bits
        entries = int(rng.integers(1, 20))
        table = self.int16(0, int(one * rng.uniform(0.2, 1)) + 1, (entries,))
        self.tensors[f"{node.name}/table"] = table
        return FixedHaltingScore(**values, shift=0, low=int(rng.integers(-8, 3)), entries=entries)

    def image_score(self, node: ImageScore, values: dict[str, Any]) -> Node:
        rng = self.rng
        bits = int(rng.integers(2, 10))
        most = 2 ** (bits - 1)
        self.tensors[f"{node.name}/weight"] = self.int16(-most, most, (node.classes, node.features))
        self.tensors[f"{node.name}/bias"] = self.int16(-4095, 4096, (node.classes,))
        return FixedImageScore(
            **values,
            weight_bits=bits,
            z_shift=int(rng.integers(0, 2)),
            z_limit=int(rng.integers(1, 20)),
            shift=int(rng.integers(0, 5)),
            bias_exp=int(rng.integers(0, 3)),
            threshold=int(rng.choice((0, rng.integers(0, 400), 2**20))),
            score_bits=self.score_bits,
        )


def _scaled(timid: Graph, rng: np.random.Generator) -> Graph:
    """Raise exponents, thresholds and the readout's scales to what the bounds leave room for."""
    tensors = dict(timid.tensors)
    for node in (*timid.of_type(FixedConv2d), *timid.of_type(FixedLinear)):
        if node.name != "head":
            tensors[f"{node.name}/weight_exp"] = _exponents(timid, node, rng)
    graph = _with(timid, tensors, {})
    readout, head = graph.readout, graph.node("head")
    assert isinstance(readout, FixedReadout) and isinstance(head, FixedLinear)
    graph = _with(graph, tensors, {readout.name: _readout(graph, readout, rng)})
    tensors["head/weight_exp"] = _exponents(graph, head, rng)
    changed: dict[str, Node] = {}
    for lif in graph.of_type(FixedLIF):
        high = graph.source_type(graph.inputs(lif)["x"]).bound or 0
        vth = int(max(high, 0) * rng.uniform(0.0, 0.5)) >> 6
        changed[lif.name] = dataclasses.replace(lif, vth=min(vth, 2**17 - 1))
    for score in graph.of_type(FixedHaltingScore):
        size = max(_size(graph, score, "z"), 1)
        shift = max(0, math.ceil(math.log2(size / score.entries)))
        changed[score.name] = dataclasses.replace(score, shift=shift)
    return _with(graph, tensors, changed)


def _with(graph: Graph, tensors: dict[str, Array], changed: dict[str, Node]) -> Graph:
    nodes = tuple(changed.get(node.name, node) for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes, tensors=tensors)


def _size(graph: Graph, node: Node, port: str) -> int:
    value = graph.source_type(graph.inputs(node)[port])
    return max(-value.low, value.bound or 0)


def _exponents(graph: Graph, node: FixedConv2d | FixedLinear, rng: np.random.Generator) -> Array:
    """Draw an exponent a layer or an output channel, so that synaptic input stays below `_ROOM`."""
    weight = graph.tensor(node, "weight").astype(np.int64)
    sums = np.abs(weight).reshape(len(weight), -1).sum(axis=1) * _size(graph, node, "x")
    room = np.floor(np.log2(_ROOM / 64 / np.maximum(sums, 1)))
    if rng.random() < 0.5:
        room = np.full(room.shape, room.min())
        drawn = room - rng.integers(0, 3)
    else:
        drawn = room - rng.integers(0, 3, room.shape)
    exponents: Array = drawn.clip(-8, 7).astype(np.int16)
    return exponents


def _readout(graph: Graph, node: FixedReadout, rng: np.random.Generator) -> FixedReadout:
    size = max(_size(graph, node, port) for port in graph.inputs(node) if port.startswith("z"))
    one = 1 << graph.of_type(FixedHaltAccumulate)[0].score_bits if graph.accumulators else 1
    weight = one * graph.time_steps * graph.blocks * graph.tokens
    z_limit = int(rng.integers(1, max(2, min(2 * size, (2**22) // weight) + 1)))
    divide_bits = int(rng.integers(0, 9)) if node.divides else 0
    z_shift = int(rng.integers(0, max(1, size.bit_length() // 2)))
    most = min(size >> z_shift, z_limit) * (graph.tokens << divide_bits if node.divides else weight)
    # Small enough for the head: 2^13 and 2^8 times its features.
    least = max(0, most.bit_length() - 12)
    y_shift = least + int(rng.integers(0, 3))
    return dataclasses.replace(
        node, z_limit=z_limit, z_shift=z_shift, divide_bits=divide_bits, y_shift=min(y_shift, 31)
    )
