"""What the layers of a netx network hold: neurons, weights, windows; each layer is checked by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod

import numpy as np

from stas_neuro.exporters.netx.weights import changed_by_netx
from stas_neuro.importers.netx_file import NetxLayer, Unreadable
from stas_neuro.ir import BIAS_LIMIT, VTH_LIMIT, Array, Problems, Shape
from stas_neuro.limits import VALUES_LIMIT

Pair = tuple[int, int]
_LAYERS = ("conv", "dense", "flatten", "input")
_UNSUPPORTED: Mapping[str, tuple[str, str]] = {
    "average": ("averages neurons, which Lava has no process for", "average the outputs yourself"),
    "concat": ("joins layers, and netx networks are a chain", "export a chain of layers"),
    "convT": ("is a transposed convolution, which netx does not load", "use a convolution"),
    "dense_comp": ("has complex weights", "use dense layers of real weights"),
    "dense_rec": ("has recurrent synapses, and a graph has no cycles", "use dense layers"),
    "pool": ("is pooling, which netx does not load", "use strides"),
    "unpool": ("is unpooling, which netx does not load", "use a convolution"),
}


@dataclass(frozen=True)
class Neurons:
    """The neurons of a layer, in netx's words."""

    i_decay: int
    v_decay: int
    threshold: int

    @property
    def tau(self) -> float:
        """Time constant of membranes, in steps."""
        return 4096 / self.v_decay if self.v_decay else inf

    @property
    def outlasting(self) -> bool:
        """Whether currents outlast a step."""
        return self.i_decay < 4096


@dataclass(frozen=True)
class Weights:
    """Whole weights (out, ...) and biases (out,), the latter times 2^6."""

    weight: Array
    bias: Array

    @property
    def bits(self) -> int:
        """Bits of the mantissas: 9, less one for each power of two that all weights are a multiple of."""
        return next(bits for bits in range(1, 10) if not (self.weight % (1 << (9 - bits))).any())

    def without_bias(self) -> Weights:
        """Return the weights alone."""
        return replace(self, bias=np.zeros_like(self.bias))


@dataclass(frozen=True)
class Window:
    """The window of a convolution, each for rows and columns."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Part:
    """A layer that was read: what its type has, `shape` (C, H, W) of what it makes, if the file says it."""

    name: str
    kind: str
    shape: Shape = ()
    neurons: Neurons | None = None
    weights: Weights | None = None
    window: Window | None = None
    transform: Pair = (0, 0)
    """Weight and bias that the network was trained to make its input neurons' biases with."""


def parts_of(layers: Sequence[NetxLayer]) -> tuple[Part, ...]:
    """Read all layers; raises IRError with a problem for each that a graph cannot express."""
    problems, parts = Problems(), []
    for layer in layers:
        try:
            if layer.index and layer.kind == "input":
                raise Unreadable("is not the first layer", "export a chain with one input")
            parts.append(_part(layer))
        except Unreadable as error:
            problems.add(f"layer/{layer.index} ({layer.kind:.40})", error.what, error.remedy)
    problems.raise_if_any()
    return tuple(parts)


def _part(layer: NetxLayer) -> Part:
    if layer.kind not in _LAYERS:
        unknown = f"has the unknown type {layer.kind!r:.40}", f"use {', '.join(_LAYERS)}"
        raise Unreadable(*_UNSUPPORTED.get(layer.kind, unknown))
    part = Part(f"layer{layer.index}", layer.kind)
    if layer.kind == "flatten":
        return part
    if layer.kind == "input":
        neurons = _neurons(layer) if "neuron/type" in layer else None
        if neurons is not None and neurons.outlasting:
            raise Unreadable("has input neurons with a current", "export them with iDecay 4096")
        transform = layer.integer("weight", 64), layer.integer("bias", 0)
        return replace(part, shape=_shape(layer), neurons=neurons, transform=transform)
    if "delay" in layer and layer.integers("delay").any():
        raise Unreadable("has delays of its axons or synapses", "train it without delays")
    dense = layer.kind == "dense"
    weights = _with_bias(layer, _matrix(layer) if dense else _kernels(layer))
    if (changed := changed_by_netx(weights.weight, dense=dense)) is not None:
        raise Unreadable(*changed)
    window = None if dense else _window(layer)
    shape = _shape(layer) if "shape" in layer else ()
    return replace(part, shape=shape, neurons=_neurons(layer), weights=weights, window=window)


def _neurons(layer: NetxLayer) -> Neurons:
    """Read neurons; raises Unreadable for other than LIFs, and for numbers that no core holds."""
    kind = layer.text("neuron/type")
    if kind not in ("CUBA", "LOIHI"):
        raise Unreadable(f"has neurons of type {kind!r:.40}", "use CUBA neurons: other ones are no LIFs")
    numbers = []
    for name, least, most in (("iDecay", 1, 4096), ("vDecay", 0, 4096), ("vThMant", 0, VTH_LIMIT)):
        numbers.append(value := layer.integer(f"neuron/{name}"))
        if not least <= value <= most:
            raise Unreadable(f"neuron/{name} is {value}", f"a core holds {least}..{most}")
    for name, usual, why in (
        ("gradedSpike", 0, "spikes carry values"),
        ("wgtExp", 0, "weights have an exponent, which netx ignores"),
        ("weight_exp", 0, "weights have an exponent, which netx ignores"),
        ("refDelay", 1, "neurons have a refractory period, which Lava's LIF has not"),
    ):
        if (value := layer.integer(f"neuron/{name}", usual)) not in (0, usual):
            raise Unreadable(f"neuron/{name} is {value}: {why}", f"export it with {name} {usual}")
    return Neurons(*numbers)


def _matrix(layer: NetxLayer) -> Array:
    weight = layer.integers("weight")
    out = prod(layer.integers("shape").reshape(-1).tolist()) if "shape" in layer else len(weight)
    if not weight.size or out < 1 or weight.size % out or weight.ndim not in (1, 2):
        raise Unreadable(f"weight has shape {weight.shape} for {out} neurons", "write (out, in)")
    return weight.reshape(out, -1)


def _kernels(layer: NetxLayer) -> Array:
    weight = layer.integers("weight")
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if weight.ndim != 4 or not weight.size:
        raise Unreadable(f"weight has shape {weight.shape}", "write (out, in, rows, columns)")
    return weight


def _window(layer: NetxLayer) -> Window:
    stride, padding, dilation = (
        layer.pair(*each) for each in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    window = Window(stride, padding, dilation, layer.integer("groups", 1))
    if min(*stride, *dilation, window.groups) < 1:
        what = f"stride is {stride}, dilation {dilation}, groups {window.groups}"
        raise Unreadable(what, "use numbers from 1")
    return window


def _with_bias(layer: NetxLayer, weight: Array) -> Weights:
    out = len(weight)
    bias = layer.integers("bias").reshape(-1) if "bias" in layer else np.zeros(1, np.int64)
    if bias.size not in (1, out) or np.abs(bias).max(initial=0) > BIAS_LIMIT:
        what = f"bias has {bias.size} values up to {np.abs(bias).max(initial=0)} for {out} features"
        raise Unreadable(what, f"give one for each, at most {BIAS_LIMIT}")
    return Weights(weight, np.broadcast_to(bias, out))


def _shape(layer: NetxLayer) -> Shape:
    """Read (C, H, W), or (N,) as (N, 1, 1)."""
    shape = tuple(layer.integers("shape").reshape(-1).tolist())
    shape = (*shape, 1, 1) if len(shape) == 1 else shape
    if len(shape) != 3 or min(shape) < 1 or prod(shape) > VALUES_LIMIT:
        raise Unreadable(f"shape is {shape!r:.80}", f"write (C, H, W) of at most {VALUES_LIMIT} values")
    return shape
