"""Random integer programs that netx can express: a chain of layers, each with its neurons."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from stas_neuro.ir import (
    Array,
    Edge,
    FixedConv2d,
    FixedInput,
    FixedLIF,
    FixedLinear,
    FixedOutput,
    FixedReadout,
    FixedSynapticCurrent,
    Graph,
    Node,
    Phase,
    Preprocessing,
    Stage,
    Tokens,
)

STEP: dict[str, Any] = {"phase": Phase.STEP, "scope": "block0"}
END: dict[str, Any] = {"phase": Phase.END, "scope": "head"}


class Draft:
    """Nodes in a row."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.tensors: dict[str, Array] = {}

    def add(self, node: Node, **tensors: Array) -> None:
        self.nodes.append(node)
        for param, tensor in tensors.items():
            self.tensors[f"{node.name}/{param}"] = tensor.astype(np.int16)

    def flip(self) -> bool:
        return bool(self.rng.random() < 0.5)

    def weights(self, out: int, *rest: int) -> Array:
        """Draw weights of both signs; the exponents that `layer` gives them keep them in 8 bits."""
        weight = self.rng.integers(-20, 26, (out, *rest)) * (2 if self.flip() else 1)
        weight.flat[:2] = 24, -16
        return weight

    def layer(self, name: str, out: int, weight: Array, *, biased: bool, **where: Any) -> dict[str, Any]:
        """Give what Conv2d and Linear share, of which some have exponents that round nothing."""
        exponents = self.rng.integers(0, 3, out)
        bias_exp = int(self.rng.integers(3, 8))
        bias = self.rng.integers(-9, 20, out) * 2 ** max(6 - bias_exp, 0) if biased else np.zeros(out)
        bits = 8 if not (weight % 2).any() else 9
        self.tensors |= {
            f"{name}/{param}": tensor.astype(np.int16)
            for param, tensor in (("weight", weight), ("weight_exp", exponents), ("bias", bias))
        }
        return {"name": name, **where, "bias": True, "weight_bits": bits, "bias_exp": bias_exp}

    def neurons(self, name: str, features: int, *, outlast: bool) -> None:
        rng = self.rng
        if outlast:
            bias = rng.integers(-9, 20, features)
            current = FixedSynapticCurrent(
                name=f"{name}.u", **STEP, tau=2.0, features=features, bias=True,
                du=int(rng.integers(300, 4095)), bias_exp=6,
            )  # fmt: skip
            self.add(current, bias=bias)
        dv = int(rng.choice((0, 1024, int(rng.integers(0, 4097)), 4096)))
        lif = FixedLIF(
            name=f"{name}.lif", **STEP, tau=4096 / dv if dv else inf, threshold=1.0, fire=">",
            decay_input=False, dv=dv, vth=int(rng.integers(0, 120)),
        )  # fmt: skip
        self.add(lif)

    def graph(self, time_steps: int, classes: int, channels: int) -> Graph:
        edges = [
            Edge(a.name, a.OUTPUTS[0], b.name, b.input_ports[0])
            for a, b in zip(self.nodes, self.nodes[1:], strict=False)
        ]
        return Graph(
            stage=Stage.QUANTISED,
            time_steps=time_steps,
            nodes=tuple(self.nodes),
            edges=tuple(edges),
            tensors=self.tensors,
            classes=tuple(f"class {index}" for index in range(classes)),
            preprocessing=Preprocessing((0.0,) * channels, (1.0,) * channels),
        )


def netx_graph(seed: int) -> Graph:
    """Make a random chain; it begins with spikes or with biases of input neurons, some have a head."""
    draft = Draft(seed)
    rng = draft.rng
    steps, channels, size = int(rng.integers(4, 9)), int(rng.integers(1, 3)), rng.integers(4, 7, 2)
    shape = (channels, int(size[0]), int(size[1]))
    if draft.flip():
        draft.add(FixedInput(name="pixels", phase=Phase.ONCE, scope="stem", shape=shape, encoding="bias"))
        ones = FixedConv2d(
            name="bias", phase=Phase.ONCE, scope="stem", in_channels=channels, out_channels=channels,
            kernel=(1, 1), stride=(1, 1), padding=(0, 0), groups=channels, bias=True, weight_bits=9,
            bias_exp=6, off_core=True,
        )  # fmt: skip
        zeros = np.zeros(channels)
        draft.add(ones, weight=np.ones((channels, 1, 1, 1)), weight_exp=zeros, bias=zeros)
        draft.neurons("first", channels, outlast=False)
    else:
        draft.add(FixedInput(name="events", **STEP | {"scope": "stem"}, shape=shape, encoding="spikes"))
    for index in range(int(rng.integers(0, 3))):
        shape = _conv(draft, f"conv{index}", shape)
    width = int(rng.integers(2, 6))
    _covering(draft, shape, width)
    for index in range(int(rng.integers(0, 3))):
        out, outlast = int(rng.integers(2, 7)), draft.flip()
        weight = draft.weights(out, width)
        values = draft.layer(f"fc{index}", out, weight, biased=not outlast, **STEP)
        draft.nodes.append(FixedLinear(**values, in_features=width, out_features=out))
        draft.neurons(f"fc{index}", out, outlast=outlast)
        width = out
    readout = FixedReadout(
        name="mean", **END, mode="mean-field", blocks=1, z_shift=0, z_limit=1, divide_bits=0, y_shift=0
    )
    draft.add(readout)
    if draft.flip():
        head = FixedLinear(
            name="head", **END, in_features=width, out_features=3, bias=True, weight_bits=9, bias_exp=6
        )
        bias = steps * rng.integers(-3, 4, 3)
        draft.add(head, weight=draft.weights(3, width), weight_exp=np.zeros(3), bias=bias)
        width = 3
    draft.add(FixedOutput(name="logits", **END, unit=0.25))
    return draft.graph(steps, width, channels)


def _conv(draft: Draft, name: str, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    rng = draft.rng
    groups = shape[0] if draft.flip() else 1
    out, outlast = groups * int(rng.integers(1, 3)), draft.flip()
    kernel = tuple(min(int(rng.integers(1, 4)), side) for side in shape[1:])
    stride = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    padding = tuple(int(rng.integers(0, 2)) if side > 1 else 0 for side in kernel)
    dilation = tuple(
        int(rng.integers(1, 3)) if 2 * taps - 1 <= side else 1
        for taps, side in zip(kernel, shape[1:], strict=True)
    )
    weight = draft.weights(out, shape[0] // groups, *kernel)
    values = draft.layer(name, out, weight, biased=not outlast, **STEP)
    window: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "groups": groups}
    window["dilation"] = dilation
    draft.nodes.append(FixedConv2d(**values, **window, in_channels=shape[0], out_channels=out))
    draft.neurons(name, out, outlast=outlast)
    height, width = (
        (side + 2 * around - (taps - 1) * apart - 1) // step + 1
        for side, around, taps, apart, step in zip(shape[1:], padding, kernel, dilation, stride, strict=True)
    )
    return out, height, width


def _covering(draft: Draft, shape: tuple[int, int, int], width: int) -> None:
    """Add a layer on the whole map, which makes one token."""
    outlast = draft.flip()
    values = draft.layer("cover", width, draft.weights(width, *shape), biased=not outlast, **STEP)
    window: dict[str, Any] = {"kernel": shape[1:], "stride": (1, 1), "padding": (0, 0)}
    draft.nodes.append(FixedConv2d(**values, **window, in_channels=shape[0], out_channels=width))
    draft.add(Tokens(name="cover.tokens", **STEP))
    draft.neurons("cover", width, outlast=outlast)


def inputs_for(graph: Graph, count: int, seed: int = 0) -> Array:
    """Draw images of a graph: spikes, or the biases of input neurons."""
    rng = np.random.default_rng(seed)
    shape = (count, *graph.image_shape)
    spikes: Array = (rng.random(shape) < 0.4).astype(np.int64)
    return spikes if graph.input.phase == Phase.STEP else rng.integers(0, 90, shape)
