"""What each type of NIR node becomes: a rule by type, or the reason why a graph cannot express it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from stas_neuro.importers.nir_draft import Place, Refused, Value, as_step
from stas_neuro.importers.nir_time import HOW, steps_of
from stas_neuro.ir import LIF, Array, Conv2d, Linear, Tokens
from stas_neuro.limits import VALUES_LIMIT

Rule = Callable[[Place, Value], Value]


def _layer(at: Place, x: Value) -> Value:
    """Make a Linear of an Affine or Linear, or a convolution that covers a flattened map."""
    weight = _matrix(at)
    bias = at.array("bias").astype(np.float64).reshape(-1) if at.nir.kind == "Affine" else None
    if x.flat:
        return _covering(at, x, weight, bias)
    if len(x.shape) == 3:
        what = f"applies to the last axis of a map {x.shape}"
        raise Refused(what, "put a Flatten before it")
    node = Linear(
        **at.where(x), in_features=weight.shape[1], out_features=weight.shape[0], bias=bias is not None
    )
    y = at.draft.add(node, (1, weight.shape[0]), x=x)
    _keep(at, weight, bias)
    return replace(y, layer=at.name)


def _matrix(at: Place) -> Array:
    weight = at.array("weight").astype(np.float64)
    if weight.ndim < 2 or prod(weight.shape[:-2]) != 1 or not weight.size:
        raise Refused(f"weight has shape {weight.shape}, not (out, in)", "export without batch axes")
    return weight.reshape(weight.shape[-2:])


def _keep(at: Place, weight: Array, bias: Array | None) -> None:
    at.draft.tensors[f"{at.name}/weight"] = weight
    if bias is not None:
        at.draft.tensors[f"{at.name}/bias"] = bias


def _covering(at: Place, x: Value, weight: Array, bias: Array | None) -> Value:
    """Make a convolution whose one window covers the map (C, H, W)."""
    if weight.shape[1] != prod(x.shape):
        what = f"takes {weight.shape[1]} features, the flattened map {x.shape} has {prod(x.shape)}"
        raise Refused(what, "make them equal")
    y = _convolution(at, x, weight.reshape(-1, *x.shape), bias, _Window((1, 1), (0, 0)))
    return replace(_tokens(at, y, at.draft.new_name(f"{at.name}.tokens")), layer=at.name)


def _tokens(at: Place, x: Value, name: str) -> Value:
    channels, height, width = x.shape
    return at.draft.add(Tokens(**at.where(x) | {"name": name}), (height * width, channels), x=x)


class _Window(NamedTuple):
    """Distance from a window to the next, and zeros at each border, for rows and columns; groups."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int = 1


def _conv2d(at: Place, x: Value) -> Value:
    if len(x.shape) != 3 or x.flat:
        raise Refused(f"takes a map, its input has shape {x.shape}", "connect a map (C, H, W)")
    weight = at.array("weight").astype(np.float64)
    if weight.ndim != 4 or not weight.size:
        raise Refused(f"weight has shape {weight.shape}, not (out, in, rows, columns)", "write four axes")
    if at.sizes("dilation", 1) != (1, 1):
        raise Refused("has a dilation", "use a dilation of 1")
    stride, groups = at.sizes("stride", 1), at.sizes("groups", 1)[0]
    window = _Window(stride, _padding(at, weight.shape[2:], stride), groups)
    return _convolution(at, x, weight, at.array("bias").astype(np.float64).reshape(-1), window)


def _padding(at: Place, kernel: tuple[int, ...], stride: tuple[int, int]) -> tuple[int, int]:
    padding = at.nir.fields.get("padding")
    word = str(padding) if padding is not None and padding.dtype.kind == "U" and padding.shape == () else ""
    if word == "valid":
        return 0, 0
    rows, columns = kernel
    if word == "same" and stride == (1, 1) and rows % 2 and columns % 2:
        return rows // 2, columns // 2
    if word:
        raise Refused(f"padding is {word!r:.80} with kernel {kernel} and stride {stride}", "give numbers")
    return at.sizes("padding", 0)


def _convolution(at: Place, x: Value, weight: Array, bias: Array | None, window: _Window) -> Value:
    out, kernel = weight.shape[0], (weight.shape[2], weight.shape[3])
    sides = (
        (side + 2 * padding - width) // stride + 1
        for side, width, stride, padding in zip(
            x.shape[1:], kernel, window.stride, window.padding, strict=True
        )
    )
    shape = (out, *sides)
    # The graph checks the rest; these would let later nodes make arrays of any size.
    if min(shape) < 1 or prod(shape) > VALUES_LIMIT:
        what = f"makes a map {shape} of {x.shape}"
        raise Refused(what, f"use windows that touch the map, and at most {VALUES_LIMIT} values")
    node = Conv2d(
        **at.where(x), in_channels=x.shape[0], out_channels=out, kernel=kernel, stride=window.stride,
        padding=window.padding, bias=bias is not None, groups=window.groups,
    )  # fmt: skip
    y = at.draft.add(node, shape, x=x)
    _keep(at, weight, bias)
    return replace(y, layer=at.name)


def _pool(at: Place, x: Value) -> Value:
    """Make a convolution of each channel by itself, or leave the average of the whole map to the readout."""
    if len(x.shape) != 3 or x.flat:
        raise Refused(f"takes a map, its input has shape {x.shape}", "connect a map (C, H, W)")
    average, kernel = at.nir.kind == "AvgPool2d", at.sizes("kernel_size", 1)
    window = _Window(at.sizes("stride", 1), at.sizes("padding", 0), groups=x.shape[0])
    if average and at.to_readout and kernel == x.shape[1:] and window.padding == (0, 0):
        return replace(x, pooled=True)
    if x.shape[0] * prod(kernel) > VALUES_LIMIT:
        raise Refused(f"has windows of {kernel}", "use smaller windows")
    at.draft.note("pooling by sum or average is stored as a convolution with fixed weights")
    weight = np.full((x.shape[0], 1, *kernel), 1 / prod(kernel) if average else 1.0)
    return _convolution(at, x, weight, None, window)


def _flatten(at: Place, x: Value) -> Value:
    first, last = (int(at.array(field).reshape(-1)[0]) for field in ("start_dim", "end_dim"))
    # Some tools count a batch axis, which is left out of shapes here.
    if first not in (0, 1) or last not in (-1, 2, 3):
        raise Refused(f"flattens axes {first} to {last} only", "flatten all axes of the map")
    if len(x.shape) == 2 or x.flat:
        return x
    if x.pooled or prod(x.shape[1:]) == 1:
        return _tokens(at, x, at.name)
    return replace(x, flat=True)


def _scale(at: Place, x: Value) -> Value:
    scale = at.array("scale").astype(np.float64)
    if (scale == 1).all():
        return x
    _scale_features(at, x, "scale", scale)
    return x


def _scale_features(at: Place, x: Value, field: str, gain: Array) -> None:
    """Let the layer before do what a number for each of its outputs does."""
    channels = x.shape[0] if len(x.shape) == 3 else x.shape[1]
    if not (x.layer and at.alone):
        what = f"{field} differs from neuron to neuron, or from 1, and is not behind a layer of its own"
        raise Refused(what, "move it into the weights of a layer")
    by_channel = _by_feature(gain, x.shape).reshape(channels, -1)
    if (by_channel != by_channel[:, :1]).any():
        raise Refused(f"{field} differs within a channel", "use one number for each channel")
    at.draft.scale_rows(x.layer, by_channel[:, 0])
    at.draft.note("numbers of their own for each neuron are in the weights of the layers before")


def _by_feature(values: Array, shape: tuple[int, ...]) -> Array:
    if values.size not in (1, prod(shape)):
        what = f"has {values.size} values for a value of shape {shape}"
        raise Refused(what, "give one, or one for each neuron")
    return np.broadcast_to(values.reshape(-1), prod(shape))


def _lif(at: Place, x: Value) -> Value:
    tau, gain, threshold = at.array("tau"), at.array("r"), at.array("v_threshold")
    for field in ("v_leak", "v_reset"):
        if field in at.nir.fields and at.array(field).any():
            raise Refused(f"{field} is not 0", "shift the membrane in the model before exporting it")
    if not tau.size or (tau != tau.flat[0]).any():
        raise Refused("tau differs from neuron to neuron", "use one time constant for each layer")
    if not gain.size or not threshold.size or gain.min() <= 0 or threshold.min() <= 0:
        raise Refused(
            "r or v_threshold is not above 0", "use thresholds above the reset value, and r above 0"
        )
    steps = steps_of(tau.reshape(-1)[0], at.dt)
    if steps < 1:
        what = f"tau {float(tau.flat[0]):g} is {steps:g} of dt {at.dt:g}, a neuron needs at least 1"
        raise Refused(what, f"give --dt, {HOW}")
    wide_gain, wide_threshold = gain.astype(np.float64), threshold.astype(np.float64)
    level = float(wide_threshold.flat[0] / wide_gain.flat[0])
    if (gain != gain.flat[0]).any() or (threshold != threshold.flat[0]).any():
        relative = _by_feature(wide_gain, x.shape) / _by_feature(wide_threshold, x.shape)
        _scale_features(at, x, "r or v_threshold", relative * level)
    step = as_step(x)
    # v / r is kept in place of v, so that x enters as it is.
    node = LIF(**at.where(step), tau=steps, threshold=level, fire=at.fire)
    return replace(x, node=at.draft.add(node, x.shape, x=x).node, port="s", phase=step.phase, layer="")


RULES: Mapping[str, Rule] = {
    "Affine": _layer,
    "AvgPool2d": _pool,
    "Conv2d": _conv2d,
    "Flatten": _flatten,
    "LIF": _lif,
    "Linear": _layer,
    "Scale": _scale,
    "SumPool2d": _pool,
}
_STATES = "retrain it with LIF neurons"
_REFUSED: Mapping[str, tuple[str, str]] = {
    "Conv1d": ("is a one-dimensional convolution", "make it a Conv2d with one row"),
    "CubaLI": ("has a synaptic current with a time constant of its own", _STATES),
    "CubaLIF": ("has a synaptic current with a time constant of its own", _STATES),
    "Delay": ("delays its input by seconds", "remove it"),
    "I": ("integrates without a leak", _STATES),
    "IF": ("integrates without a leak", _STATES),
    "LI": ("has a membrane that leaks but does not fire", "read out a layer of weights, or LIF neurons"),
    "NIRGraph": ("is a network inside the network", "export one network without parts"),
    "Threshold": ("fires without a membrane", _STATES),
}


def refused(kind: str) -> Refused:
    """Return why a graph cannot express a type of NIR node that has no rule."""
    return Refused(
        *_REFUSED.get(kind, (f"has the unknown type {kind!r:.80}", "use the node types of NIR 1.0"))
    )
