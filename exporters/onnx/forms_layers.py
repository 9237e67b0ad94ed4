"""Layers with weights, pooling and neurons.

onnxruntime has no Conv of float64 or int32 and no MaxPool of int32. Windows are then gathered, and multiplied
by MatMul. Where bounds prove that unsigned bytes hold the inputs and signed ones the weights, integers use
MatMulInteger and ConvInteger. Weights are given to these as unsigned bytes around 128: products of unsigned
and signed bytes saturate on some processors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stas_neuro.exporters.onnx.body import INT32_LIMIT, Body
from stas_neuro.exporters.onnx.forms_base import Form
from stas_neuro.exporters.onnx.function import Value, where
from stas_neuro.ir import (
    ALIGN,
    LIF,
    STATE_LIMIT,
    BatchNorm,
    Conv2d,
    FixedSynaptic,
    Linear,
    MaxPool,
    Node,
    SpikeMaxPool,
    SynapticCurrent,
    current_range,
    membrane_bound,
)
from stas_neuro.ir.ops.windows import Windowed, windows_over

_ZERO_POINT = 128


def _windows(body: Body, x: Value, outside: float = 0) -> Value:
    """Gather the windows over maps: (B, C, H, W) to (B, C, kernel rows, H', kernel columns, W')."""
    node: Windowed = body.node
    kernel, stride, (above, left), dilation = node.sides
    counts = windows_over(node, body.shape("x")[1:])
    if above or left:
        around = body.whole([above, left, above, left])
        x = x.apply("Pad", around, body.constant(outside, x.dtype), body.whole([2, 3]))
    for axis, size, apart, step, count in zip((2, 4), kernel, dilation, stride, counts, strict=True):
        x = x.take(body.count(size, apart).reshape(-1, 1) + body.count(count, step), axis)
    return x


def _window_attributes(node: Windowed) -> dict[str, Any]:
    kernel, stride, padding, dilation = node.sides
    return {
        "dilations": list(dilation),
        "kernel_shape": list(kernel),
        "pads": [*padding, *padding],
        "strides": list(stride),
    }


def _convolved_windows(body: Body, x: Value, weight: Value) -> Value:
    """Convolve by a product of windows and weights, group by group: (B, Cout, H', W')."""
    node: Conv2d = body.node
    rows, columns = windows_over(node, body.shape("x")[1:])
    groups, fan_in = node.groups, node.fan_in
    split = _windows(body, x).reshape(
        0, groups, node.in_channels // groups, node.sides.kernel[0], rows, node.sides.kernel[1], columns
    )
    windows = split.transpose(0, 1, 4, 6, 2, 3, 5).reshape(0, groups, rows * columns, fan_in)
    matrix = weight.reshape(groups, node.out_channels // groups, fan_in).transpose(0, 2, 1)
    return (windows @ matrix).transpose(0, 1, 3, 2).reshape(0, node.out_channels, rows, columns)


def _conv2d(body: Body) -> dict[str, Value]:
    node, x, weight = body.node, body["x"], body.param("weight")
    if body.dtype == np.float32:
        y = x.apply("Conv", weight, group=node.groups, **_window_attributes(node))
    else:
        y = _convolved_windows(body, x, weight)
    return {"y": y + _on_map(body, body.param("bias")) if node.bias else y}


def _on_map(body: Body, bias: Value) -> Value:
    """Give biases as (Cout, H', W') or (Cout, 1, 1)."""
    return bias if body.node.bias_map else bias.reshape(-1, 1, 1)


def _linear(body: Body) -> dict[str, Value]:
    y = body["x"] @ body.param("weight").transpose(1, 0)
    return {"y": _if_alive(body, y + body.param("bias") if body.node.bias else y)}


def _if_alive(body: Body, y: Value) -> Value:
    """Clear halted tokens (B, N, D)."""
    alive = body.get("alive")
    return y if alive is None else y * alive.unsqueeze(2)


def _batch_norm(body: Body) -> dict[str, Value]:
    by_map = (-1, 1, 1) if len(body.shape("x")) == 3 else (-1,)
    gamma, beta, mean, var = (body.param(each).reshape(*by_map) for each in ("gamma", "beta", "mean", "var"))
    y = (body["x"] - mean) / (var + body.node.eps).apply("Sqrt") * gamma + beta
    return {"y": _if_alive(body, y)}


def _in_bytes(body: Body) -> bool:
    """Tell whether bytes are proved to hold inputs and mantissas.

    An int32 holds sums of their products: a graph is not made if these, shifted by -8 or more and by 6 to the
    left, can pass 2^23 in either direction.
    """
    node: FixedSynaptic = body.node
    weight = np.abs(body.graph.tensor(node, "weight").astype(np.int64)).reshape(-1, node.fan_in)
    low, high = body.range("x").rounded(node.x_shift)
    assert weight.sum(axis=1).max() * max(high, -low) <= INT32_LIMIT
    return low >= 0 and high <= 255 and node.weight_bits <= 8


def _byte_weights(body: Body) -> tuple[Value, int]:
    """Give the weights as unsigned bytes around `_ZERO_POINT`, and what they were divided by."""
    unit = 1 << (9 - body.node.weight_bits)  # mantissas are multiples of it
    return (body.param("weight") / unit + _ZERO_POINT).cast(np.uint8), unit


def _zero_points(body: Body) -> tuple[Value, Value]:
    return body.constant(0, np.uint8), body.constant(_ZERO_POINT, np.uint8)


def _fixed_conv2d(body: Body) -> dict[str, Value]:
    node, x = body.node, body["x"].rounded(body.node.x_shift)
    if _in_bytes(body):
        weight, unit = _byte_weights(body)
        operands = x.cast(np.uint8), weight, *_zero_points(body)
        attributes = _window_attributes(node)
        sums = body.add("ConvInteger", *operands, dtype=np.int32, group=node.groups, **attributes) * unit
    else:
        sums = _convolved_windows(body, x, body.param("weight"))
    bias = body.param("bias") * 2**node.bias_exp
    y = _synaptic_input(body, sums, (-1, 1, 1)) + _on_map(body, bias)
    return {"y": y.shifted_right(node.bias_exp) * 2**node.bias_exp if node.off_core else y}


def _fixed_linear(body: Body) -> dict[str, Value]:
    node, x = body.node, body["x"].rounded(body.node.x_shift)
    if _in_bytes(body):
        weight, unit = _byte_weights(body)
        operands = x.cast(np.uint8), weight.transpose(1, 0), *_zero_points(body)
        sums = body.add("MatMulInteger", *operands, dtype=np.int32) * unit
    else:
        sums = x @ body.param("weight").transpose(1, 0)
    y = _synaptic_input(body, sums, (-1,)) + body.param("bias") * 2**node.bias_exp
    return {"y": _if_alive(body, y)}


def _synaptic_input(body: Body, sums: Value, features: tuple[int, ...]) -> Value:
    """Shift sums of products by the exponents of their features, and up to the unit of membranes."""
    exponents = body.param("weight_exp").reshape(*features)
    zero, two = body.constant(0, np.int32), body.constant(2, np.int32)
    up, down = (two.apply("Pow", exponent.apply("Max", zero)) for exponent in (exponents, zero - exponents))
    return (sums * up).divided(down) * (1 << ALIGN)


def _max_pool(body: Body) -> dict[str, Value]:
    return {"y": body["x"].apply("MaxPool", **_window_attributes(body.node))}


def _fixed_max_pool(body: Body) -> dict[str, Value]:
    return {"y": _windows(body, body["x"], outside=-INT32_LIMIT).max(2, 4)}


def _lif(body: Body) -> dict[str, Value]:
    node, x = body.node, body["x"]
    v = body.state("v", body.shape("x"), x)
    v = v + (x - v) / node.tau if node.decay_input else v - v / node.tau + x
    return _fires(body, v, v > node.threshold if node.fire == ">" else v >= node.threshold)


def _fixed_lif(body: Body) -> dict[str, Value]:
    node, x = body.node, body["x"]
    v = body.state("v", body.shape("x"), x)
    v = _kept(body, v, 4096 - node.dv, membrane_bound(body.graph, node)) + x
    if node.clips:
        v = v.clip(-STATE_LIMIT, STATE_LIMIT)
    return _fires(body, v, v > node.vth << ALIGN)


def _kept(body: Body, state: Value, keep: int, largest: int) -> Value:
    """Keep `keep` of 4096 parts of a state of at most a magnitude, rounded towards 0."""
    if not keep:
        return state * 0
    part = keep & -keep  # in lowest terms, the product is as small as can be
    size = abs(state).cast(body.wide(largest * (keep // part))) * (keep // part)
    return state.apply("Sign") * size.shifted_right(13 - part.bit_length()).cast(np.int32)


def _current(body: Body) -> dict[str, Value]:
    x = body["x"]
    u = body.state("u", body.shape("x"), x)
    return _outlasts(body, u - u / body.node.tau + x)


def _fixed_current(body: Body) -> dict[str, Value]:
    node, x = body.node, body["x"]
    u = body.state("u", body.shape("x"), x)
    steps = body.graph.time_steps if body.repeated else 1
    largest = current_range(node, body.range("x"), steps).magnitude
    return _outlasts(body, _kept(body, u, 4095 - node.du, largest) + x, 2**node.bias_exp)


def _outlasts(body: Body, u: Value, unit: int = 1) -> dict[str, Value]:
    """Keep a current, and give it with its biases."""
    body.keep("u", u)
    if not body.node.bias:
        return {"y": u}
    by_feature = (-1, 1, 1) if len(body.shape("x")) == 3 else (-1,)
    return {"y": u + body.param("bias").reshape(*by_feature) * unit}


def _fires(body: Body, v: Value, fired: Value) -> dict[str, Value]:
    body.keep("v", where(fired, 0, v))
    return {"s": fired}


FORMS: Mapping[type[Node], Form] = {
    BatchNorm: Form(_batch_norm, None),
    Conv2d: Form(_conv2d, _fixed_conv2d),
    LIF: Form(_lif, _fixed_lif),
    Linear: Form(_linear, _fixed_linear),
    SynapticCurrent: Form(_current, _fixed_current),
    MaxPool: Form(_max_pool, _fixed_max_pool),
    SpikeMaxPool: Form(_max_pool, _fixed_max_pool),
}
