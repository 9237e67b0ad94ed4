"""Messages of a network on cores by following every single neuron forwards: slow, apart from the routes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from stas_neuro.analysis import neuron_layers
from stas_neuro.ir import (
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    Edge,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    HeadSum,
    ImageScore,
    Input,
    Integrate,
    Linear,
    Map,
    MaskedColumnSum,
    MaxPool,
    Node,
    Output,
    Phase,
    Readout,
    Slice,
    SpikeAnd,
    SpikeMatMul,
    SpikeMaxPool,
    SynapticCurrent,
    TokenMean,
    Tokens,
)
from stas_neuro.mapping import CoreLocation, Mapping, Piece
from stas_neuro.reference import run_reference

from .fixed_oracle import inside

Key = tuple[str, str, str, int]
Way = tuple[str, Phase, int | None]
"""Node that takes a value, phase it does so in, and block of the first gate before it."""


def naive_messages(graph: Graph, images: Any, mapping: Mapping) -> Counter[Key]:
    """Count messages by kind, row, label of the step and image."""
    values = _values(graph, images)
    visits = run_reference(graph, images).visits
    home = {(piece.layer, n, f): piece for piece in mapping.pieces for n, f in neurons_of(piece)}
    found: Counter[Key] = Counter()
    for source in [
        name for name in values if name in neuron_layers(graph) or isinstance(graph.node(name), Input)
    ]:
        node = graph.node(source)
        shape = values[source][0][0].shape
        for index in np.ndindex(shape):
            ways = follow(graph, source, index, shape, home)
            for phase in {phase for _, phase, _ in ways}:
                taken = {way: cores for way, cores in ways.items() if way[1] == phase}
                for step, label in enumerate(_labels(graph, phase)):
                    value = values[source][step if len(values[source]) > 1 else 0]
                    for image in range(len(images)):
                        cores = _sent_to(graph, node, index, value[image], taken, visits[image], step)
                        _enter(found, graph, source, index, cores, mapping, home, label, image)
    return found


def _sent_to(
    graph: Graph, node: Node, index: Any, value: Any, taken: dict[Way, Any], visits: Any, step: int
) -> dict[int, str]:
    """Cores that get a neuron's value at a step, each with the first node there that takes it."""
    cores: dict[int, str] = {}
    order = [node.name for node in graph.nodes]
    for (receiver, phase, block), (reached, tokens) in taken.items():
        if isinstance(node, HaltAccumulate):
            own = [halt.name for halt in graph.accumulators].index(node.name)
            sends = visits[step, own, index[0]]
        else:
            sends = value[index] != 0
            if phase != node.phase and block is not None:
                sends = sends and visits[step, block, sorted(tokens)].any()
        if sends:
            for core in reached:
                if core not in cores or order.index(receiver) < order.index(cores[core]):
                    cores[core] = receiver
    return cores


def _enter(  # noqa: PLR0913
    found: Counter[Key], graph: Graph, source: str, index: Any, cores: dict[int, str], mapping: Mapping,
    home: dict[Any, Piece], label: str, image: int,
) -> None:  # fmt: skip
    if isinstance(graph.node(source), Input):
        for core, receiver in cores.items():
            found["input_messages", f"{receiver}@{core}", label, image] += 1
        return
    piece = home[(source, *_place(graph, source, index))]
    for core in cores:
        x, y, chips = _passed(mapping.cores[piece.core], mapping.cores[core])
        for kind, amount in (("axon_messages", 1), ("hops_x", x), ("hops_y", y), ("chip_crossings", chips)):
            if amount:
                found[kind, piece.name, label, image] += amount


def _passed(a: CoreLocation, b: CoreLocation) -> tuple[int, int, int]:
    if a.chip == b.chip:
        return abs(a.x - b.x), abs(a.y - b.y), 0
    return a.x + b.x, a.y + b.y, abs(a.chip - b.chip)


def _labels(graph: Graph, phase: Phase) -> list[str]:
    if phase in (Phase.ONCE, Phase.END):
        return [str(phase)]
    return [f"{phase}{step + 1}" for step in range(graph.time_steps)]


def neurons_of(piece: Piece) -> list[tuple[int, int]]:
    return [(n, f) for n in piece.positions for f in range(*piece.features)]


def _place(graph: Graph, name: str, index: tuple[int, ...]) -> tuple[int, int]:
    """Position and feature of an element."""
    if len(index) == 3:
        shape = graph.types[name, graph.node(name).OUTPUTS[0]].shape
        return index[1] * shape[2] + index[2], index[0]
    if len(index) == 2:
        return index
    return (index[0], 0) if isinstance(graph.node(name), HaltAccumulate) else (0, index[0])


def _values(graph: Graph, images: Any) -> dict[str, list[Any]]:
    """What each source sends in its steps, read at the port of one of its consumers."""
    seen: dict[str, list[Any]] = {}
    port: dict[str, tuple[str, str]] = {}

    def observe(node: Node, inputs: Any) -> None:
        for name, edge in graph.inputs(node).items():
            if edge.delay or port.setdefault(edge.src, (node.name, name)) != (node.name, name):
                continue
            source = graph.node(edge.src)
            if source.phase == Phase.ONCE:
                seen[edge.src] = [inputs[name].copy()]
            elif isinstance(node, Integrate):
                seen[edge.src] = list(inputs[name].copy())
            else:
                seen.setdefault(edge.src, []).append(inputs[name].copy())

    run_reference(graph, images, observe=observe)
    for halt in graph.accumulators:
        seen.setdefault(halt.name, [np.ones((len(images), graph.tokens))] * graph.time_steps)
    return seen


def follow(graph: Graph, source: str, index: Any, shape: Any, home: Any) -> dict[Way, Any]:
    """Send a mark from one element through the graph to cores, noting the tokens of the gates it passes."""
    here: dict[tuple[str, str], dict[Any, Any]] = {}
    one = np.zeros(shape)
    one[index] = 1
    halts = isinstance(graph.node(source), HaltAccumulate)
    outputs = ("p", "total") if halts else graph.node(source).OUTPUTS
    for out in outputs:
        here[source, out] = {(None, None, frozenset()): one}
    reached: dict[Way, Any] = {}
    delayed = [edge for edge in graph.edges if edge.delay and (edge.src, edge.src_port) in here]
    for edge in delayed:
        _arrive(graph, edge, one, (None, None, frozenset()), reached, home, here)
    for node in graph.nodes:
        for edge in graph.inputs(node).values():
            if not edge.delay and (edge.src, edge.src_port) in here:
                for way, mark in here[edge.src, edge.src_port].items():
                    _arrive(graph, edge, mark, way, reached, home, here)
    return reached


def _arrive(graph: Graph, edge: Edge, mark: Any, way: Any, reached: Any, home: Any, here: Any) -> None:
    node = graph.node(edge.dst)
    taker, block, tokens = way
    port = edge.dst_port
    if port.startswith("alive") or edge.src == edge.dst:
        return
    if isinstance(node, Gate) and node.axis == "token":
        if port == "mask":
            return
        if taker is None and block is None:
            block = _block(graph, graph.inputs(node)["mask"])
        if taker is None:
            tokens = tokens | {int(n) for n in np.argwhere(mark)[:, 0]}
    synapses = Conv2d | Linear | SpikeMatMul | MaskedColumnSum | HeadSum
    others = SpikeAnd | LIF | HaltingScore | ImageScore | HaltAccumulate | Readout
    events = isinstance(node, synapses | others) or (isinstance(node, Gate) and node.axis != "token")
    if events and taker is None:
        taker = node.name
    out = (_spread(graph, node, port, mark) != 0).astype(float)
    if node.name in neuron_layers(graph):
        phase = _phase(graph, node, here)
        cores = {home[(node.name, *_place(graph, node.name, tuple(i)))].core for i in np.argwhere(out)}
        known, gates = reached.get((taker, phase, block), (set(), frozenset()))
        reached[taker, phase, block] = known | cores, gates | tokens
        return
    ways = here.setdefault((node.name, node.OUTPUTS[0]), {}) if node.OUTPUTS else {}
    ways[taker, block, tokens] = np.maximum(ways.get((taker, block, tokens), 0), out)


def _block(graph: Graph, mask: Edge) -> int | None:
    for number, halt in enumerate(graph.accumulators):
        alive = graph.inputs(halt).get("alive")
        if alive is not None and (alive.src, alive.delay) == (mask.src, mask.delay):
            return number
    return None


def _phase(graph: Graph, neurons: Node, here: Any) -> Phase:
    """Phase in which a value is sent: one computed once in each step of the neurons that take it."""
    source = graph.node(next(iter(here))[0])
    if source.phase != Phase.ONCE or source.off_core:
        return source.phase
    return Phase.STEP if isinstance(neurons, Readout) else neurons.phase


def _spread(graph: Graph, node: Node, port: str, mark: Any) -> Any:
    """Which outputs hang on the marked inputs, by computing with weights and other inputs of 1."""
    match node:
        case Conv2d() | MaxPool() | SpikeMaxPool():
            shape = graph.types[node.name, "y"].shape
            groups = node.groups if isinstance(node, Conv2d) else shape[0]
            out = np.zeros(shape)
            for row, column in np.ndindex(shape[1:]):
                taps = inside(node, row, column, mark.shape[1:])
                window = np.array([channel[taps].sum() for channel in mark])
                out[:, row, column] = np.repeat(window.reshape(groups, -1).sum(axis=1), shape[0] // groups)
            return out
        case Linear():
            return mark @ np.ones((node.in_features, node.out_features))
        case Map() | Slice() | TokenMean() | Tokens():
            return _rearranged(node, mark)
        case SpikeMatMul() | MaskedColumnSum() | HeadSum():
            return _attended(node, port, mark)
        case Gate() if port == "mask":
            tokens, features = graph.types[node.name, "y"].shape
            if node.axis == "head":
                return np.kron(mark, np.ones(features // mark.shape[1]))
            return np.repeat(mark[None], tokens, axis=0)
        case HaltingScore():
            groups = np.array(node.groups or range(len(mark)))
            return np.array([mark[groups == group, 0].sum() for group in groups])
        case ImageScore():
            return np.full(len(mark), mark.sum())
        case Readout():
            features = graph.types[node.name, "y"].shape[0]
            return mark.sum(axis=0) if port.startswith("z") else np.full(features, mark.sum())
        case (
            Add() | SpikeAnd() | BatchNorm() | Gate() | HaltAccumulate() | Integrate() | LIF()
            | SynapticCurrent() | Output()
        ):  # fmt: skip
            return mark
        case _:
            raise TypeError(f"{type(node).__name__} needs a case here")


def _rearranged(node: Map | Slice | TokenMean | Tokens, mark: Any) -> Any:
    match node:
        case Tokens():
            return mark.reshape(len(mark), -1).T
        case Map():
            return mark.T.reshape(-1, node.height, node.width)
        case Slice():
            channels = slice(node.start, node.stop)
            return mark[channels] if mark.ndim == 3 else mark[..., channels]
        case TokenMean():
            return mark.sum(axis=0, keepdims=True)


def _attended(node: SpikeMatMul | MaskedColumnSum | HeadSum, port: str, mark: Any) -> Any:
    if isinstance(node, MaskedColumnSum):
        return mark.sum(axis=0)
    if isinstance(node, HeadSum):
        return mark.reshape(len(mark), node.heads, -1).sum(axis=2)
    given = {name: mark if name == port else np.ones_like(mark) for name in "qkv"}
    q, k, v = (given[name].reshape(len(mark), node.heads, -1).swapaxes(0, 1) for name in "qkv")
    return ((q @ k.swapaxes(1, 2)) @ v).swapaxes(0, 1).reshape(mark.shape)
