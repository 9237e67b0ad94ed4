"""What each type of NIR node becomes: a rule by type, or the reason why a graph cannot express it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from stas_neuro.importers import nir_neurons
from stas_neuro.importers.nir_draft import Place, Refused, Rule, Value
from stas_neuro.ir import Array, Conv2d, Linear, Tokens
from stas_neuro.limits import VALUES_LIMIT


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
    """Distance to the next window, zeros at each border, distance of taps, by rows and columns; groups."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)


def _conv2d(at: Place, x: Value) -> Value:
    if len(x.shape) != 3 or x.flat:
        raise Refused(f"takes a map, its input has shape {x.shape}", "connect a map (C, H, W)")
    weight = at.array("weight").astype(np.float64)
    if weight.ndim != 4 or not weight.size:
        raise Refused(f"weight has shape {weight.shape}, not (out, in, rows, columns)", "write four axes")
    dilation, stride = at.sizes("dilation", 1), at.sizes("stride", 1)
    reach = _reach(weight.shape[2:], dilation)
    window = _Window(stride, _padding(at, reach, stride), at.sizes("groups", 1)[0], dilation)
    return _convolution(at, x, weight, at.array("bias").astype(np.float64).reshape(-1), window)


def _conv1d(at: Place, x: Value) -> Value:
    """Make a convolution of a map with one row."""
    if len(x.shape) != 3 or x.flat or x.shape[1] != 1:
        raise Refused(f"takes a sequence, its input has shape {x.shape}", "connect (C, L)")
    weight = at.array("weight").astype(np.float64)
    if weight.ndim != 3 or not weight.size:
        raise Refused(f"weight has shape {weight.shape}, not (out, in, taps)", "write three axes")
    dilation, stride = (1, at.sizes("dilation", 1)[1]), (1, at.sizes("stride", 1)[1])
    reach = _reach((1, weight.shape[2]), dilation)
    padding = (0, _padding(at, reach, stride)[1])
    window = _Window(stride, padding, at.sizes("groups", 1)[0], dilation)
    bias = at.array("bias").astype(np.float64).reshape(-1)
    return _convolution(at, x, weight[:, :, None], bias, window)


def _reach(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """Return the rows and columns from the first tap to the last."""
    return tuple((taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True))


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
            x.shape[1:], _reach(kernel, window.dilation), window.stride, window.padding, strict=True
        )
    )
    shape = (out, *sides)
    # The graph checks the rest; these would let later nodes make arrays of any size.
    if min(shape) < 1 or prod(shape) > VALUES_LIMIT:
        what = f"makes a map {shape} of {x.shape}"
        raise Refused(what, f"use windows that touch the map, and at most {VALUES_LIMIT} values")
    node = Conv2d(
        **at.where(x), in_channels=x.shape[0], out_channels=out, kernel=kernel, stride=window.stride,
        padding=window.padding, bias=bias is not None, groups=window.groups, dilation=window.dilation,
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


RULES: Mapping[str, Rule] = {
    "Affine": _layer,
    "AvgPool2d": _pool,
    "Conv1d": _conv1d,
    "Conv2d": _conv2d,
    "Flatten": _flatten,
    "Linear": _layer,
    "SumPool2d": _pool,
    **nir_neurons.RULES,
}
_READOUTS = "end in a layer of weights, or in I behind one"
_REFUSED: Mapping[str, tuple[str, str]] = {
    "CubaLI": ("weighs earlier steps less, a readout weighs all steps alike", _READOUTS),
    "I": ("integrates without firing, which only the last node may", _READOUTS),
    "LI": ("weighs earlier steps less, a readout weighs all steps alike", _READOUTS),
    "NIRGraph": ("is a network inside the network", "export one network without parts"),
}


def refused(kind: str) -> Refused:
    """Return why a graph cannot express a type of NIR node that has no rule."""
    return Refused(
        *_REFUSED.get(kind, (f"has the unknown type {kind!r:.80}", "use the node types of NIR 1.0"))
    )
