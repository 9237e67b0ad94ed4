"""Small networks that both SANA-FE and the integer program can say, and mappings of them on several cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import neuron_layers
from stas_neuro.ir import (
    Edge,
    FixedConv2d,
    FixedInput,
    FixedLIF,
    FixedLinear,
    FixedOutput,
    FixedReadout,
    Graph,
    Node,
    Phase,
    Preprocessing,
    Stage,
    Tokens,
)
from stas_neuro.mapping import CoreLocation, Mapping, Piece

TIME_STEPS = 6
_CHANNELS, _SIDE = 2, 8
_PIXELS_PER_SPIKE = 4
_CLASSES = ("a", "b", "c")


def spiking_network(seed: int, *, leaky: bool, side: int = _SIDE, wide: int = 1) -> Graph:
    """Make an integer network of two convolutions and two linear layers, weights drawn from `seed`.

    It takes frames of `side` x `side`, and has `wide` times the channels.

    Leaky: membranes last for steps and weights have either sign. Else membranes are gone after a step and
    weights are above 0: then a neuron is active, in either program's words, where it gets a spike.
    """
    draft = _Draft(np.random.default_rng(seed), leaky)
    draft.add(
        FixedInput(
            name="input", phase=Phase.STEP, scope="stem", shape=(_CHANNELS, side, side), encoding="graded"
        )
    )
    draft.conv("conv0", _CHANNELS, 4 * wide, stride=1)
    draft.conv("conv1", 4 * wide, 8 * wide, stride=2)
    draft.add(Tokens(name="tokens", phase=Phase.STEP, scope="stem"))
    draft.linear("block0.fc1", 8 * wide, 24 * wide)
    draft.linear("block0.fc2", 24 * wide, 8 * wide)
    draft.head(8 * wide)
    return Graph(
        stage=Stage.QUANTISED,
        time_steps=TIME_STEPS,
        nodes=tuple(draft.nodes),
        edges=tuple(draft.edges),
        tensors=draft.tensors,
        classes=_CLASSES,
        preprocessing=Preprocessing((0.0, 0.0), (1.0, 1.0)),
    )


def input_spikes(seed: int, side: int = _SIDE) -> NDArray[np.uint8]:
    """Draw the spikes of an input, uint8 (T, C, side, side) of 0 and 1."""
    rng = np.random.default_rng(seed)
    return (rng.random((TIME_STEPS, _CHANNELS, side, side)) < 1 / _PIXELS_PER_SPIKE).astype(np.uint8)


def one_core(graph: Graph) -> Mapping:
    """All layers on one core."""
    pieces = [_piece(layer, 0, range(size[0]), (0, size[1])) for layer, size in neuron_layers(graph).items()]
    return Mapping(profile="loihi1", strategy="one core", cores=(CoreLocation(),), pieces=tuple(pieces))


def by_channels(graph: Graph, parts: int) -> Mapping:
    """Each layer on cores of its own, which share its channels: four cores a tile, three tiles a row."""
    pieces: list[Piece] = []
    for layer, (positions, features) in neuron_layers(graph).items():
        ends = np.linspace(0, features, min(parts, features) + 1).round().astype(int).tolist()
        for first, last in pairwise(ends):
            pieces.append(_piece(layer, len(pieces), range(positions), (first, last)))
    sites = tuple(CoreLocation(x=core // 4 % 3, y=core // 12) for core in range(len(pieces)))
    return Mapping(profile="loihi1", strategy="by channels", cores=sites, pieces=tuple(pieces))


def scattered(graph: Graph, cores: int, seed: int) -> Mapping:
    """Positions of each layer drawn to cores, layers sharing them, cores on tiles of a mesh drawn, too."""
    rng = np.random.default_rng(seed)
    pieces = []
    for layer, (positions, features) in neuron_layers(graph).items():
        chosen = rng.integers(0, cores, positions)
        for core in np.unique(chosen).tolist():
            held = np.flatnonzero(chosen == core).tolist()
            pieces.append(_piece(layer, core, held, (0, features)))
    sites = tuple(CoreLocation(x=int(rng.integers(4)), y=int(rng.integers(3))) for _ in range(cores))
    return Mapping(profile="loihi1", strategy="scattered", cores=sites, pieces=tuple(pieces))


def _piece(layer: str, core: int, positions: range | list[int], features: tuple[int, int]) -> Piece:
    return Piece(layer=layer, core=core, positions=tuple(positions), features=features)


@dataclass
class _Draft:
    """A chain of nodes."""

    rng: np.random.Generator
    leaky: bool
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    tensors: dict[str, NDArray[np.int16]] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Add a node that takes what the last one gives."""
        if self.nodes:
            last = self.nodes[-1]
            self.edges.append(Edge(last.name, last.OUTPUTS[0], node.name, node.input_ports[0]))
        self.nodes.append(node)

    def conv(self, name: str, inputs: int, outputs: int, stride: int) -> None:
        self.add(
            FixedConv2d(
                name=name, phase=Phase.STEP, scope="stem", in_channels=inputs, out_channels=outputs,
                kernel=3, stride=stride, padding=1, bias=True, weight_bits=9, bias_exp=0,
            )
        )  # fmt: skip
        self._weights(name, (outputs, inputs, 3, 3))
        self._lif(name, inputs * 9)

    def linear(self, name: str, inputs: int, outputs: int) -> None:
        self.add(
            FixedLinear(
                name=name, phase=Phase.STEP, scope="block0", in_features=inputs, out_features=outputs,
                bias=True, weight_bits=9, bias_exp=0,
            )
        )  # fmt: skip
        self._weights(name, (outputs, inputs))
        self._lif(name, inputs)

    def head(self, features: int) -> None:
        self.add(
            FixedReadout(
                name="readout", phase=Phase.END, scope="head", mode="mean-field", blocks=1,
                z_shift=0, z_limit=1, divide_bits=0, y_shift=0,
            )
        )  # fmt: skip
        self.add(
            FixedLinear(
                name="head", phase=Phase.END, scope="head", in_features=features,
                out_features=len(_CLASSES), bias=True, weight_bits=9, bias_exp=0,
            )
        )  # fmt: skip
        self._weights("head", (len(_CLASSES), features))
        self.add(FixedOutput(name="output", phase=Phase.END, scope="head", unit=1.0))

    def _weights(self, name: str, shape: tuple[int, ...]) -> None:
        low, high = (-12, 24) if self.leaky else (1, 6)
        self.tensors[f"{name}/weight"] = self.rng.integers(low, high, shape).astype(np.int16)
        self.tensors[f"{name}/weight_exp"] = np.zeros(shape[0], np.int16)
        self.tensors[f"{name}/bias"] = np.zeros(shape[0], np.int16)

    def _lif(self, name: str, inputs: int) -> None:
        """Add neurons that a part of their inputs makes fire: of leaky ones over some steps."""
        vth = 3 * inputs if self.leaky else min(inputs, 63)
        self.add(
            FixedLIF(
                name=f"{name}.lif", phase=Phase.STEP, scope=self.nodes[-1].scope, threshold=1.0, fire=">",
                tau=2.0 if self.leaky else 1.0, dv=2048 if self.leaky else 4095, vth=vth,
            )
        )  # fmt: skip
