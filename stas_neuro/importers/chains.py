"""Chains of linear operations: each becomes one convolution or linear layer of each value that it reads."""

from __future__ import annotations

from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from stas_neuro.importers import recurrence
from stas_neuro.importers.axes import Dims, named, shape_of
from stas_neuro.importers.errors import Refused
from stas_neuro.importers.measure import Layer, measure
from stas_neuro.importers.region import Region
from stas_neuro.importers.trace import path_of
from stas_neuro.importers.values import Chain, Shaped, Source, Value
from stas_neuro.ir import Add, BatchNorm, Conv2d, Linear

if TYPE_CHECKING:
    from stas_neuro.importers.build import Builder
    from stas_neuro.importers.lower import Lowering
    from stas_neuro.importers.rules import Call


def extend(call: Call, x: Shaped, dims: Dims | None = None, **sizes: int) -> Chain:
    """Return the result of a linear call as a chain; `sizes` are those of axes that differ from x's."""
    laid = x.dims if dims is None else dims
    step = getattr(x, "step", None)
    return Chain(dims=laid, sizes={**x.sizes, **sizes}, made=call.node, made_dims=laid, step=step)


def elementwise(call: Call, x: object) -> Chain:
    """Return a value plus, minus or times a constant, which must keep its shape."""
    laid = call.linear(x)
    if shape_of(laid.dims) != call.shape:
        raise Refused(f"extends {named(laid.dims)} to {call.shape}", "use a constant of its shape")
    return extend(call, laid)


def parallel(builder: Builder, a: Value, b: Value) -> bool:
    """Return whether the sum of two values is that of layers of one value, and cheaper as one layer."""
    first, second = (_layer_of(builder, each.source) for each in (a, b))
    if first is None or second is None or builder.inputs[first.name] != builder.inputs[second.name]:
        return False
    if not (isinstance(first, Conv2d) and isinstance(second, Conv2d)):
        return type(first) is type(second)
    if first.sides.stride != second.sides.stride:
        return False
    before = np.maximum(first.sides.padding, second.sides.padding)
    behind = np.maximum(*(np.subtract(each.sides.extent, each.sides.padding) for each in (first, second)))
    fan_in = first.in_channels // gcd(first.groups, second.groups)
    return bool(np.prod(before + behind) * fan_in <= first.fan_in + second.fan_in)


def _layer_of(builder: Builder, source: Source) -> Conv2d | Linear | None:
    """Return the layer that makes a value, behind its normalisation if it has one."""
    node = builder.nodes[source[0]]
    while isinstance(node, BatchNorm):
        node = builder.nodes[builder.inputs[node.name]["x"][0]]
    return node if isinstance(node, Conv2d | Linear) else None


def finish(chain: Chain, call: Call) -> Value:
    """Make the layers of a chain, and sums of them."""
    lowering = call.lowering
    region = Region.of(lowering, chain.made)
    step = recurrence.common_step(*region.read)
    if any(base.at_end for base in region.read):
        raise Refused(f"computes {region} after the last step", "end in linear layers")
    if region.computes not in lowering.chains:
        lowering.chains[region.computes] = _made(region, chain)
    return replace(lowering.chains[region.computes], step=step, dims=chain.dims)


def _made(region: Region, chain: Chain) -> Value:
    lowering, measured = region.lowering, measure(region, chain)
    bias: Tensor | None = measured.bias if measured.bias.any() else None
    total: Value | None = None
    for layer in measured.layers:
        value = _emit(lowering, layer, bias, chain)
        bias = None
        if total is None:
            total = value
            continue
        if total.form != value.form:
            total, value = lowering.map(total), lowering.map(value)
        inputs = {"a": total.source, "b": value.source}
        phase = lowering.phase(total, value)
        source = lowering.builder.emit(Add, f"{_name(chain)}.add", inputs, phase=phase)
        total = replace(value, source=source, static=total.static and value.static)
    assert total is not None
    return total


def _name(chain: Chain) -> str:
    return path_of(chain.made) or "chain"


def _emit(lowering: Lowering, layer: Layer, bias: Tensor | None, chain: Chain) -> Value:
    """Make the node of one layer."""
    tensors = {"weight": layer.weight} | ({} if bias is None else {"bias": bias})
    per_token = layer.is_point and (bias is None or bias.ndim == 1)
    x = layer.base
    if per_token and (x.form != "map" or chain.made_dims[-1] == chain.whole("C")):
        x = lowering.tokens(x)
        tensors["weight"] = layer.weight.flatten(1)
        source = lowering.builder.emit(
            Linear,
            _name(chain),
            {"x": x.source},
            phase=lowering.phase(x),
            tensors=tensors,
            in_features=x.sizes["C"],
            out_features=chain.sizes["C"],
            bias=bias is not None,
        )
    else:
        x = lowering.map(x)
        source = lowering.builder.emit(
            Conv2d,
            _name(chain),
            {"x": x.source},
            phase=lowering.phase(x),
            tensors=tensors,
            in_channels=x.sizes["C"],
            out_channels=chain.sizes["C"],
            **layer.window,
            bias=bias is not None,
            bias_map=() if bias is None else tuple(bias.shape[1:]),
            groups=layer.groups,
        )
    return Value(source=source, form=x.form, dims=chain.made_dims, sizes=chain.sizes, static=x.static)
