"""Random graphs that NIR can express: convolutions, layers, neurons and sums, with one readout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stas_neuro.ir import (
    LIF,
    Add,
    Array,
    Conv2d,
    Edge,
    Graph,
    Input,
    Linear,
    Node,
    Output,
    Phase,
    Preprocessing,
    Readout,
    Stage,
    Tokens,
)

STEP: dict[str, Any] = {"phase": Phase.STEP, "scope": "block0"}


class Draft:
    """Nodes in a row, each fed by the last unless told otherwise."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.tensors: dict[str, Array] = {}

    def add(self, node: Node, *sources: Node) -> Node:
        for port, source in zip(node.input_ports, sources or self.nodes[-1:], strict=False):
            self.edges.append(Edge(source.name, source.OUTPUTS[0], node.name, port))
        for param, shape in node.params(1).items():
            scale = 0.1 if param == "bias" else 1.5 / np.sqrt(np.prod(shape[1:]))
            self.tensors[f"{node.name}/{param}"] = self.rng.normal(0.1, scale, shape)
        self.nodes.append(node)
        return node

    def graph(self, time_steps: int, classes: int, channels: int) -> Graph:
        return Graph(
            stage=Stage.FOLDED,
            time_steps=time_steps,
            nodes=tuple(self.nodes),
            edges=tuple(self.edges),
            tensors=self.tensors,
            classes=tuple(f"class {index}" for index in range(classes)),
            preprocessing=Preprocessing((0.3,) * channels, (0.7,) * channels),
        )


@st.composite
def nir_graphs(draw: st.DrawFn) -> Graph:
    """Graphs with a map of several positions or of one, with or without a head and layers on a vector."""
    small, booleans = st.integers(1, 3), st.booleans()
    channels, height, width = draw(small), draw(st.integers(2, 5)), draw(st.integers(2, 5))
    time_steps, seed = draw(st.integers(1, 4)), draw(st.integers(0, 2**16))
    entry = draw(st.sampled_from((Phase.ONCE, Phase.STEP)))
    draft = Draft(seed)

    def lif(name: str) -> Node:
        tau = draw(st.sampled_from((1.0, 4 / 3, 2.0, 3.0)) | st.floats(1, 100))
        threshold = draw(st.floats(0.05, 2))
        return draft.add(LIF(name=name, **STEP, tau=tau, threshold=threshold, fire=">"))

    def conv(name: str, into: int, out: int, where: dict[str, Any], source: Node) -> Node:
        kernel, padding = draw(st.sampled_from(((1, 0), (3, 1), ((3, 1), (1, 0)), ((1, 3), (0, 1)))))
        node = Conv2d(
            name=name, **where, in_channels=into, out_channels=out, kernel=kernel, stride=1, padding=padding,
            bias=draw(booleans), groups=draw(st.sampled_from((1, math.gcd(into, out)))),
        )  # fmt: skip
        return draft.add(node, source)

    x = draft.add(Input(name="pixels", phase=entry, scope="stem", shape=(channels, height, width)))
    first: dict[str, Any] = {"phase": draw(st.sampled_from((entry, Phase.STEP))), "scope": "stem"}
    features = draw(small)
    conv("stem.conv", channels, features, first, x)
    x = lif("stem.lif")
    if draw(booleans):
        conv("side", features, features, STEP, x)
        side = lif("side-lif")
        x = draft.add(Add(name="sum", **STEP), *((x, side) if draw(booleans) else (side, x)))
    layers = draw(booleans)
    if layers:  # one window over the map, then layers on its one position
        node = Conv2d(
            name="window",
            **STEP,
            in_channels=features,
            out_channels=4,
            kernel=5,
            stride=6,
            padding=2,
            bias=True,
        )
        x, features = draft.add(node, x), 4
        lif("window.lif")
    draft.add(Tokens(name="tokens", **STEP))
    if layers and draw(booleans):
        for index in range(draw(small)):
            out = draw(small)
            node = Linear(
                name=f"fc{index}", **STEP, in_features=features, out_features=out, bias=draw(booleans)
            )
            draft.add(node)
            features = out
            lif(f"fc{index}_lif")
    readout = Readout(name="mean", phase=Phase.END, scope="head", mode="mean-field", blocks=1)
    draft.add(readout)
    classes = features
    if draw(booleans):
        classes = draw(small)
        draft.add(
            Linear(
                name="head",
                phase=Phase.END,
                scope="head",
                in_features=features,
                out_features=classes,
                bias=draw(booleans),
            )
        )
    draft.add(Output(name="logits", phase=Phase.END, scope="head"))
    return draft.graph(time_steps, classes, channels)


def small_graph() -> Graph:
    """A convolution, neurons, tokens, a head."""
    draft = Draft(1)
    draft.add(Input(name="input", phase=Phase.ONCE, scope="stem", shape=(1, 3, 3)))
    draft.add(
        Conv2d(name="conv", **STEP, in_channels=1, out_channels=4, kernel=3, stride=1, padding=0, bias=True)
    )
    draft.add(LIF(name="lif", **STEP, threshold=0.5, fire=">"))
    draft.add(Tokens(name="tokens", **STEP))
    draft.add(Readout(name="readout", phase=Phase.END, scope="head", mode="mean-field", blocks=1))
    draft.add(Linear(name="head", phase=Phase.END, scope="head", in_features=4, out_features=2, bias=True))
    draft.add(Output(name="output", phase=Phase.END, scope="head"))
    return draft.graph(4, 2, 1)
