"""From the layers of a netx network, in their order, to the nodes of its two graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from stas_neuro.importers.netx_file import Unreadable
from stas_neuro.importers.netx_layers import Neurons, Part, Weights, Window
from stas_neuro.ir import (
    ALIGN,
    BIAS_LIMIT,
    LIF,
    STATE_LIMIT,
    Array,
    Conv2d,
    Edge,
    FixedConv2d,
    FixedInput,
    FixedLIF,
    FixedLinear,
    FixedOutput,
    FixedReadout,
    FixedSynapticCurrent,
    Input,
    Linear,
    Node,
    Output,
    Phase,
    Problems,
    Readout,
    Shape,
    SynapticCurrent,
    Tokens,
)
from stas_neuro.limits import VALUES_LIMIT

_SCOPE = "block0"
_BIAS_EXP = 6
"""Of all biases in netx (hdf5.py, get_neuron_params)."""
_END: dict[str, Any] = {"phase": Phase.END, "scope": "head"}


@dataclass
class Chain:
    """Nodes in a row, each fed by the one before it."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)

    def add(self, node: Node, **tensors: Array) -> None:
        """Add a node with its tensors."""
        if self.nodes:
            before = self.nodes[-1]
            self.edges.append(Edge(before.name, before.OUTPUTS[0], node.name, node.input_ports[0]))
        self.nodes.append(node)
        self.tensors.update({f"{node.name}/{param}": tensor for param, tensor in tensors.items()})


class Walk:
    """A walk along the layers.

    Parameters
    ----------
    parts : sequence of Part
    steps : int
        T.
    input_shape : tuple of int, optional
        (C, H, W), where it is known.
    """

    def __init__(self, parts: Sequence[Part], steps: int, input_shape: Shape | None) -> None:
        self.parts = parts
        self.steps = steps
        self.given = input_shape
        self.integers, self.real = Chain(), Chain()
        self.notes: list[str] = []
        self.shape: Shape = ()
        """Of the value at work: a map (C, H, W), or features (N,) of one token."""
        self.channels = 0
        """Of the input."""
        self.flat = False
        """Whether a map at work was flattened."""

    def run(self) -> int:
        """Make all nodes; gives the number of outputs.

        Raises
        ------
        IRError
            With the layer whose input does not fit: nothing behind it can be told.
        """
        problems = Problems()
        for part in self.parts:
            try:
                _RULES[part.kind](self, part)
            except Unreadable as error:
                problems.add(part.name, error.what, error.remedy)
                problems.raise_if_any()
        if not any(isinstance(node, LIF) for node in self.real.nodes):
            problems.add("layer", "has no neurons", "export a network with conv or dense layers")
        problems.raise_if_any()
        return self._end()

    # Layers -------------------------------------------------------------------------------------------------

    def _input(self, part: Part) -> None:
        """Begin with neurons whose biases are the image, or with the shape that a file gives."""
        if part.neurons is None:
            self.given = part.shape
            return
        self._begin(part.shape, Phase.ONCE)
        channels = part.shape[0]
        ones = Weights(np.ones((channels, 1, 1, 1), np.int64), np.zeros(channels, np.int64))
        self._conv_node(part.name, ones, Window(groups=channels), off_core=True)
        self._neurons(part.name, part.neurons, ones)
        weight, bias = part.transform
        self.notes.append(
            "the image is the biases of the input neurons, whole numbers 0..255: "
            f"give {weight} x + {bias} of the x that the network was trained on"
        )

    def _conv(self, part: Part) -> None:
        assert part.weights is not None and part.window is not None and part.neurons is not None
        if not self.shape:
            self._begin(self.given or _before(part), Phase.STEP)
        if self.flat or len(self.shape) != 3:
            raise Unreadable("takes a map, and its input is flat", "put convolutions before dense layers")
        channels = part.weights.weight.shape[1] * part.window.groups
        if self.shape[0] != channels:
            raise Unreadable(f"takes {channels} channels, its input has {self.shape[0]}", "make them equal")
        self._conv_node(part.name, _for_synapses(part), part.window)
        if part.shape and part.shape != self.shape:
            what = f"shape is {part.shape}, and its windows make {self.shape}"
            raise Unreadable(what, "give another shape of the input, or mend the file")
        self._neurons(part.name, part.neurons, part.weights)

    def _dense(self, part: Part) -> None:
        assert part.weights is not None and part.neurons is not None
        out, width = part.weights.weight.shape
        if not self.shape:
            self._begin(self.given or (width, 1, 1), Phase.STEP)
        of_image = len(self.integers.nodes) == 1
        if prod(self.shape[1:]) > 1 and not (self.flat or of_image):
            raise Unreadable(f"takes a map {self.shape}", "put a flatten layer before it")
        if prod(self.shape) != width:
            what = f"takes {width} features, its input has {prod(self.shape)}"
            raise Unreadable(what, "make them equal")
        if part is self.parts[-1] and not of_image and self._only_adds_up(part.weights, part.neurons):
            self._head(part)
            return
        weights = _for_synapses(part)
        if len(self.shape) == 1:
            self._linear_node(part.name, weights, Phase.STEP, _BIAS_EXP)
        else:
            covering = replace(weights, weight=weights.weight.reshape(out, *self.shape))
            self._conv_node(part.name, covering, Window())
            self._tokens(f"{part.name}.tokens")
        self.shape = (out,)
        self._neurons(part.name, part.neurons, part.weights)

    def _flatten(self, part: Part) -> None:
        if not self.shape and self.given is None:
            raise Unreadable("is the first layer", "begin with conv or dense, or give the input's shape")
        self.flat = True

    # Nodes --------------------------------------------------------------------------------------------------

    def _begin(self, shape: Shape, phase: Phase) -> None:
        """Make the input: biases of neurons, once, or spikes in each step."""
        if len(shape) != 3 or min(shape) < 1 or prod(shape) > VALUES_LIMIT:
            remedy = f"use (C, H, W) of at most {VALUES_LIMIT} values"
            raise Unreadable(f"has an input of shape {shape}", remedy)
        self.shape, self.channels = shape, shape[0]
        where: dict[str, Any] = {"name": "input", "phase": phase, "scope": "stem", "shape": shape}
        self.integers.add(FixedInput(**where, encoding="bias" if phase == Phase.ONCE else "spikes"))
        self.real.add(Input(**where))

    def _conv_node(self, name: str, held: Weights, window: Window, *, off_core: bool = False) -> None:
        out, _, *kernel = held.weight.shape
        sides = [
            (size + 2 * around - (taps - 1) * apart - 1) // step + 1
            for size, taps, apart, step, around in zip(
                self.shape[1:], kernel, window.dilation, window.stride, window.padding, strict=True
            )
        ]
        if min(sides) < 1 or out * prod(sides) > VALUES_LIMIT:
            raise Unreadable(f"makes a map {(out, *sides)} of {self.shape}", "use windows that touch the map")
        values = _where(name, Phase.ONCE if off_core else Phase.STEP) | {
            "in_channels": self.shape[0], "out_channels": out, "kernel": tuple(kernel),
            "stride": window.stride, "padding": window.padding, "dilation": window.dilation,
            "groups": window.groups, "bias": True,
        }  # fmt: skip
        made = FixedConv2d(**values, weight_bits=held.bits, bias_exp=_BIAS_EXP, off_core=off_core)
        self._add_layer(made, Conv2d(**values), held)
        if off_core:  # the unit of an image is a 255th
            self.real.tensors[f"{name}/weight"] = held.weight * 255.0
        self.shape = (out, *sides)

    def _linear_node(self, name: str, held: Weights, phase: Phase, bias_exp: int) -> None:
        out, width = held.weight.shape
        values = _where(name, phase) | {"in_features": width, "out_features": out, "bias": True}
        made = FixedLinear(**values, weight_bits=held.bits, bias_exp=bias_exp)
        self._add_layer(made, Linear(**values), held)

    def _add_layer(self, made: FixedConv2d | FixedLinear, real: Node, held: Weights) -> None:
        exponents = np.zeros(len(held.weight), np.int16)
        weight, bias = held.weight.astype(np.int16), held.bias.astype(np.int16)
        self.integers.add(made, weight=weight, weight_exp=exponents, bias=bias)
        scale = 2.0 ** (made.bias_exp - ALIGN)
        self.real.add(real, weight=held.weight.astype(np.float64), bias=held.bias * scale)

    def _tokens(self, name: str) -> None:
        node = Tokens(**_where(name, Phase.STEP))
        self.integers.add(node)
        self.real.add(node)

    def _neurons(self, name: str, neurons: Neurons, held: Weights) -> None:
        """Make neurons, behind a current of their own if it outlasts a step, which then has the bias."""
        if neurons.outlasting:
            self._current(f"{name}.current", neurons, held.bias)
        values = _where(f"{name}.neuron", Phase.STEP) | {
            "tau": neurons.tau, "threshold": max(neurons.threshold, 0.5), "fire": ">", "decay_input": False
        }  # fmt: skip
        self.integers.add(FixedLIF(**values, dv=neurons.v_decay, vth=neurons.threshold, clips=True))
        self.real.add(LIF(**values))

    def _current(self, name: str, neurons: Neurons, bias: Array) -> None:
        values = _where(name, Phase.STEP) | {
            "tau": 4096 / neurons.i_decay, "features": len(bias), "bias": bool(bias.any())
        }  # fmt: skip
        made = FixedSynapticCurrent(**values, du=neurons.i_decay - 1, bias_exp=_BIAS_EXP)
        held = {"bias": bias} if bias.any() else {}
        self.integers.add(made, **{param: tensor.astype(np.int16) for param, tensor in held.items()})
        self.real.add(SynapticCurrent(**values), **{param: tensor * 1.0 for param, tensor in held.items()})

    # The end ------------------------------------------------------------------------------------------------

    def _only_adds_up(self, held: Weights, neurons: Neurons) -> bool:
        """Tell whether neurons keep all that they get and never fire: then their membranes are the result."""
        most = self.steps * int((held.weight.clip(min=0).sum(1) + held.bias.clip(min=0)).max())
        least = self.steps * int((held.weight.clip(max=0).sum(1) + held.bias.clip(max=0)).min())
        keeps = not neurons.outlasting and neurons.v_decay == 0
        return keeps and most <= neurons.threshold and -least << ALIGN <= STATE_LIMIT

    def _head(self, part: Part) -> None:
        """Make a layer behind the readout: membranes after T steps, to which netx adds T biases."""
        assert part.weights is not None
        bias = part.weights.bias
        total, bias_exp = bias * self.steps, _BIAS_EXP
        if np.abs(total).max() > BIAS_LIMIT:
            total, bias_exp = total // 2, _BIAS_EXP + 1
            if (bias * self.steps % 2).any() or np.abs(total).max() > BIAS_LIMIT:
                what = f"biases up to {np.abs(bias).max()} add up over {self.steps} steps"
                raise Unreadable(what, f"use even ones up to {2 * BIAS_LIMIT // self.steps}")
        self._readout()
        self._linear_node(part.name, replace(part.weights, bias=total), Phase.END, bias_exp)
        # In real numbers the readout is the mean over steps, to which a bias is added once.
        self.real.tensors[f"{part.name}/bias"] = bias * 1.0
        self.shape = (len(bias),)
        self._output(1 / (self.steps << ALIGN))
        self.notes.append(
            "the last layer never fires: its membranes after T steps, divided by 64 T, are the logits"
        )

    def _readout(self) -> None:
        if len(self.shape) == 3:
            self._tokens("tokens")
        values: dict[str, Any] = {"name": "readout", "mode": "mean-field", "blocks": 1} | _END
        self.integers.add(FixedReadout(**values, z_shift=0, z_limit=1, divide_bits=0, y_shift=0))
        self.real.add(Readout(**values))

    def _output(self, unit: float) -> None:
        self.integers.add(FixedOutput(name="output", **_END, unit=unit))
        self.real.add(Output(name="output", **_END))

    def _end(self) -> int:
        """Read the spikes of the last layer, unless its membranes are read; gives the number of outputs."""
        if not isinstance(self.real.nodes[-1], Output):
            positions = prod(self.shape[1:])
            if positions > 1:
                self.notes.append(f"the logits are means over the {positions} positions of the last map")
            self._readout()
            self._output(1 / (self.steps * positions))
        return self.shape[0]


def _where(name: str, phase: Phase) -> dict[str, Any]:
    scope = {Phase.ONCE: "stem", Phase.END: "head"}.get(phase, _SCOPE)
    return {"name": name, "phase": phase, "scope": scope}


def _for_synapses(part: Part) -> Weights:
    """Leave a bias to the current that outlasts a step: in synaptic input it would add up there."""
    assert part.weights is not None and part.neurons is not None
    return part.weights.without_bias() if part.neurons.outlasting else part.weights


def _before(part: Part) -> Shape:
    """Find the shape of the input from that of the first convolution's output."""
    assert part.weights is not None and part.window is not None
    _, channels, *kernel = part.weights.weight.shape
    if part.window.stride != (1, 1) or not part.shape:
        what = "the shape of the input is not in the file, and the first layer leaves it open"
        raise Unreadable(what, "give it: --input-shape C,H,W")
    sides = (
        size + (taps - 1) * apart - 2 * around
        for size, taps, apart, around in zip(
            part.shape[1:], kernel, part.window.dilation, part.window.padding, strict=True
        )
    )
    return (channels * part.window.groups, *sides)


_RULES: Mapping[str, Callable[[Walk, Part], None]] = {
    "conv": Walk._conv,
    "dense": Walk._dense,
    "flatten": Walk._flatten,
    "input": Walk._input,
}
