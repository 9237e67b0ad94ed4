"""Attention, gates, and what moves or sums up values without weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.exporters.onnx.body import Body
from stas_neuro.exporters.onnx.forms_base import Form
from stas_neuro.exporters.onnx.function import Value
from stas_neuro.ir import (
    ALIGN,
    Add,
    FixedIntegrate,
    Gate,
    HeadSum,
    Input,
    Integrate,
    Map,
    MaskedColumnSum,
    Node,
    Output,
    Slice,
    SpikeAnd,
    SpikeMatMul,
    TokenMean,
    Tokens,
)

_BYTE = 255


def _input(body: Body) -> dict[str, Value]:
    return {"y": body.image(body.dtype)}


def _fixed_input(body: Body) -> dict[str, Value]:
    return {"y": body.image(np.uint8)}


def _output(body: Body) -> dict[str, Value]:
    return {"logits": body["x"]}


def _fixed_output(body: Body) -> dict[str, Value]:
    return {"logits": body["x"].cast(np.float64) * body.node.unit}


def _spike_mat_mul(body: Body) -> dict[str, Value]:
    node = body.node
    tokens, features = body.shape("q")
    q, k, v = (
        body[port].reshape(0, tokens, node.heads, -1).transpose(0, 2, 1, 3) for port in ("q", "k", "v")
    )
    width = features // node.heads
    if node.form == "Q(K^TV)":
        product = _counted(q, _counted(k.transpose(0, 1, 3, 2), v), 1, tokens)
    else:
        product = _counted(_counted(q, k.transpose(0, 1, 3, 2)), v, width, 1)
    return {"y": product.transpose(0, 2, 1, 3).reshape(0, tokens, features)}


def _counted(a: Value, b: Value, most_a: int = 1, most_b: int = 1) -> Value:
    """Multiply counts of at most `most_a` and `most_b`: integers as bytes, if these hold them."""
    if a.dtype == np.int32 and max(most_a, most_b) <= _BYTE:
        return a.function.add("MatMulInteger", a.cast(np.uint8), b.cast(np.uint8), dtype=np.int32)
    return a @ b


def _scaled_attention(body: Body) -> dict[str, Value]:
    return {"y": _spike_mat_mul(body)["y"] * body.node.scale}


def _masked_column_sum(body: Body) -> dict[str, Value]:
    return {"y": (body["k"] * body["v"]).sum(1)}


def _head_sum(body: Body) -> dict[str, Value]:
    tokens, _ = body.shape("x")
    return {"y": body["x"].reshape(0, tokens, body.node.heads, -1).sum(3)}


def _shifted(counts: dict[str, Value], body: Body) -> dict[str, Value]:
    return {"y": counts["y"] * 2 ** (ALIGN + body.node.exponent)}


def _integrate(body: Body) -> dict[str, Value]:
    node: Integrate = body.node
    x = body["x"]  # (T, B, ...)
    match node.mode:
        case "max":
            return {"y": x.max(0)}
        case "mean":
            return {"y": x.sum(0) / body.graph.time_steps}
        case "sum":
            return {"y": x.sum(0)}
        case "learned":
            return {"y": _weighted_steps(body, x)}


def _fixed_integrate(body: Body) -> dict[str, Value]:
    node: FixedIntegrate = body.node
    x = body["x"]
    match node.mode:
        case "max":
            return {"y": x.max(0)}
        case "mean" | "sum":
            return {"y": x.sum(0)}
        case "learned":
            return {"y": _weighted_steps(body, x).shifted_right(node.shift)}


def _weighted_steps(body: Body, x: Value) -> Value:
    by_step = (-1, *(1 for _ in range(1 + len(body.shape("x")))))
    return (x * body.param("weights").reshape(*by_step)).sum(0)


def _tokens(body: Body) -> dict[str, Value]:
    channels, height, width = body.shape("x")
    return {"y": body["x"].reshape(0, channels, height * width).transpose(0, 2, 1)}


def _map(body: Body) -> dict[str, Value]:
    _, channels = body.shape("x")
    return {"y": body["x"].transpose(0, 2, 1).reshape(0, channels, body.node.height, body.node.width)}


def _add(body: Body) -> dict[str, Value]:
    return {"y": body["a"] + body["b"]}


def _fixed_add(body: Body) -> dict[str, Value]:
    return {"y": body["a"] * body.node.a_weight + body["b"] * body.node.b_weight}


def _gate(body: Body) -> dict[str, Value]:
    node: Gate = body.node
    x, mask = body["x"], body["mask"]
    tokens, features = body.shape("x")
    match node.axis:
        case "token":
            return {"y": x * mask.unsqueeze(2)}
        case "channel":
            return {"y": x * mask.unsqueeze(1)}
        case "head":
            heads = body.shape("mask")[1]
            gated = x.reshape(0, tokens, heads, features // heads) * mask.unsqueeze(3)
            return {"y": gated.reshape(0, tokens, features)}


def _slice(body: Body) -> dict[str, Value]:
    axis = 1 if len(body.shape("x")) == 3 else len(body.shape("x"))
    return {"y": body["x"].part(axis, body.node.start, body.node.stop)}


def _token_mean(body: Body) -> dict[str, Value]:
    return {"y": body["x"].sum(1, keep=True) / body.shape("x")[0]}


def _fixed_token_mean(body: Body) -> dict[str, Value]:
    return {"y": body["x"].rounded(body.node.x_shift).sum(1, keep=True)}


def _spike_and(body: Body) -> dict[str, Value]:
    a, b = body["a"], body["b"]
    return {"y": a * (1 - b) if body.node.invert else a * b}


FORMS: Mapping[type[Node], Form] = {
    Add: Form(_add, _fixed_add),
    Gate: Form(_gate, _gate),
    HeadSum: Form(_head_sum, lambda body: _shifted(_head_sum(body), body)),
    Input: Form(_input, _fixed_input),
    Integrate: Form(_integrate, _fixed_integrate),
    Map: Form(_map, _map),
    MaskedColumnSum: Form(_masked_column_sum, lambda body: _shifted(_masked_column_sum(body), body)),
    Output: Form(_output, _fixed_output),
    Slice: Form(_slice, _slice),
    SpikeAnd: Form(_spike_and, _spike_and),
    SpikeMatMul: Form(_scaled_attention, lambda body: _shifted(_spike_mat_mul(body), body)),
    TokenMean: Form(_token_mean, _fixed_token_mean),
    Tokens: Form(_tokens, _tokens),
}
