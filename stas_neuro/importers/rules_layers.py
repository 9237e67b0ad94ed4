"""Rules of layers with weights, of normalisation and max-pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stas_neuro.importers import chains, rules_readout
from stas_neuro.importers.axes import Dims, axis, kinds_of, merge, named, size_of
from stas_neuro.importers.errors import Refused, missing
from stas_neuro.importers.region import continues
from stas_neuro.importers.rules import (
    Call,
    Rule,
    Weights,
    refuse_unless,
    require_layout,
    require_map,
)
from stas_neuro.importers.values import Chain, Head, Pooled, Shaped, StepSum, Value
from stas_neuro.ir import BatchNorm, Conv2d, Linear, MaxPool, SpikeMaxPool

# Layers with weights ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A window, by direction."""

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]

    @classmethod
    def of(cls, call: Call, kernel: Sequence[int]) -> Window:
        """Read the window of a convolution or of pooling."""
        count = len(kernel)
        stride, padding, dilation = (call.given[key] for key in ("stride", "padding", "dilation"))
        if isinstance(padding, str):
            apart = tuple(dilation) * (count // len(dilation))
            reach = [(size - 1) * step for size, step in zip(kernel, apart, strict=True)]
            odd = padding == "same" and any(each % 2 for each in reach)
            refuse_unless(not odd, "pads more on one side", "use an odd kernel")
            padding = [each // 2 if padding == "same" else 0 for each in reach]

        def both(given: Sequence[int]) -> tuple[int, ...]:
            return tuple(given) * (count // len(given))

        return cls(both(kernel), both(stride or kernel), both(padding), both(dilation))

    @property
    def is_point(self) -> bool:
        """Whether it contains one position."""
        return set(self.kernel) == set(self.stride) == {1} and set(self.padding) == {0}

    @property
    def row(self) -> Window:
        """A window along W as that of a map with one row."""
        return Window((1, *self.kernel), (1, *self.stride), (0, *self.padding), (1, *self.dilation))

    @property
    def sides(self) -> dict[str, Any]:
        """Its attributes, rows and columns."""
        return {name: tuple(map(int, getattr(self, name))) for name in vars(self)}


def _conv2d(call: Call, x: Any, weight: Weights, bias: Weights | None = None, *_: object) -> object:
    x = call.linear(x)
    require_map(x)
    out, height, width = call.shape[-3:]
    dims = (x.dims[0], axis("C", out), axis("H", height), axis("W", width))
    sizes = {"C": out, "H": height, "W": width}
    if continues(call.lowering, x):
        return chains.extend(call, x, dims, **sizes)
    window = Window.of(call, weight.tensor.shape[2:])
    if window.is_point and x.form == "tokens" and call.given["groups"] == 1:
        return replace(_linear_of(call, x, weight, bias), dims=dims, sizes=sizes)
    return replace(_convolved(call, x, weight, bias, window.sides), dims=dims, sizes=sizes)


def _convolved(
    call: Call, x: Value, weight: Weights, bias: Weights | None, sides: Mapping[str, Any]
) -> Value:
    lowering, groups = call.lowering, int(call.given.get("groups", 1))
    x = lowering.map(x)
    source = lowering.builder.emit(
        Conv2d,
        _layer_name(call, weight),
        {"x": x.source},
        phase=lowering.phase(x),
        tensors=_tensors(weight, bias),
        in_channels=weight.tensor.shape[1] * groups,
        out_channels=int(weight.tensor.shape[0]),
        **sides,
        bias=bias is not None,
        groups=groups,
    )
    return replace(x, source=source, spikes=False)


def _conv1d(call: Call, x: Any, weight: Weights, bias: Weights | None = None, *_: object) -> object:
    x = call.linear(x)
    require_layout(x, ("C",), ("H", "W"))
    out, length = call.shape[1:]
    window = Window.of(call, weight.tensor.shape[2:])
    dims, changed = (x.dims[0], axis("C", out), x.dims[2]), {"C": out}
    if not window.is_point:
        _require_one_row(x)
        dims, changed = (*dims[:2], axis("W", length)), {"C": out, "W": length}
    if continues(call.lowering, x):
        return chains.extend(call, x, dims, **changed)
    assert isinstance(x, Value)
    if window.is_point and call.given["groups"] == 1:
        made = _linear_of(call, x, weight, bias)
    else:
        row = replace(weight, tensor=weight.tensor[:, :, None])
        made = _convolved(call, x, row, bias, window.row.sides)
    return replace(made, dims=dims, sizes={**x.sizes, **changed})


def _require_one_row(x: Shaped) -> None:
    if x.sizes["H"] > 1:
        raise missing("a window along the tokens of a map")


def linear(call: Call, x: Any, weight: Weights, bias: Weights | None = None) -> object:
    """Multiply the last dimension by a matrix (out, in): channels, or a whole map."""
    out = int(weight.tensor.shape[0])
    if isinstance(x, Pooled | StepSum):
        mean = rules_readout.pooled(x, call.lowering.time_steps)
        head = Head(_layer_name(call, weight), weight.tensor, None if bias is None else bias.tensor)
        return rules_readout.with_head(mean, head)
    x = call.linear(x)
    dims = (*x.dims[:-1], axis("C", out))
    if x.dims[-1] != x.whole("C"):
        return _whole_map(call, x, weight, bias, dims)
    if continues(call.lowering, x):
        return chains.extend(call, x, dims, C=out)
    return replace(_linear_of(call, x, weight, bias), dims=dims, sizes={**x.sizes, "C": out})


def _whole_map(call: Call, x: Value | Chain, weight: Weights, bias: Weights | None, dims: Dims) -> object:
    """Multiply a flattened map by a matrix: a convolution whose window is the whole map."""
    last = merge(x.dims[-1])
    if sorted(last, key=str) != sorted(x.whole("C", "H", "W"), key=str):
        raise Refused(
            f"a linear layer reads {named(x.dims)}", "its last dimension must be all channels, or a whole map"
        )
    sizes = {"C": size_of(dims[-1]), "H": 1, "W": 1}
    if continues(call.lowering, x):
        return chains.extend(call, x, dims, **sizes)
    assert isinstance(x, Value)
    present = [kind for kind in "CHW" if x.sizes[kind] > 1]
    kinds = [piece.kind for piece in last]
    kernel = weight.tensor.reshape(-1, *(piece.size for piece in last))
    ordered = kernel.permute(0, *(1 + kinds.index(kind) for kind in present))
    kernel = ordered.reshape(-1, *(x.sizes[kind] for kind in "CHW"))
    sides = {"kernel": tuple(kernel.shape[2:]), "stride": (1, 1), "padding": (0, 0)}
    value = _convolved(call, x, replace(weight, tensor=kernel), bias, sides)
    return replace(value, dims=dims, sizes=sizes)


def _linear_of(call: Call, x: Value, weight: Weights, bias: Weights | None) -> Value:
    """Multiply each token by a matrix, as a kernel of one position does."""
    lowering = call.lowering
    x = lowering.tokens(x)
    matrix = weight.tensor.flatten(1)
    source = lowering.builder.emit(
        Linear,
        _layer_name(call, weight),
        {"x": x.source},
        phase=lowering.phase(x),
        tensors=_tensors(replace(weight, tensor=matrix), bias),
        in_features=matrix.shape[1],
        out_features=matrix.shape[0],
        bias=bias is not None,
    )
    return replace(x, source=source, spikes=False)


def _batch_norm(call: Call, x: Any, *_: object) -> object:
    x = call.linear(x)
    refuse_unless(
        x.dims[1] == x.whole("C"), f"normalises dimension 1 of {named(x.dims)}", "it must be all channels"
    )
    mean, var = call.given["running_mean"], call.given["running_var"]
    if call.given["training"] or mean is None or var is None:
        raise Refused("normalises by statistics of the batch", "track running statistics", x)
    if isinstance(x, Chain) or not _is_layer(call, x):
        return chains.extend(call, x)
    gamma, beta = call.given["weight"], call.given["bias"]
    source = call.lowering.builder.emit(
        BatchNorm,
        call.path or "norm",
        {"x": x.source},
        phase=call.lowering.phase(x),
        tensors={
            "gamma": torch.ones_like(mean.tensor) if gamma is None else gamma.tensor,
            "beta": torch.zeros_like(mean.tensor) if beta is None else beta.tensor,
            "mean": mean.tensor,
            "var": var.tensor,
        },
        features=int(mean.tensor.numel()),
        eps=float(call.given["eps"]),
    )
    return replace(x, source=source, spikes=False)


def _is_layer(call: Call, x: Value) -> bool:
    return isinstance(call.lowering.builder.nodes[x.source[0]], Conv2d | Linear)


def _tensors(weight: Weights, bias: Weights | None) -> Mapping[str, Tensor]:
    return {"weight": weight.tensor} | ({} if bias is None else {"bias": bias.tensor})


def _layer_name(call: Call, weight: Weights) -> str:
    return call.path or weight.name.removesuffix(".weight")


# Max-pooling ------------------------------------------------------------------------------------------------


def _max_pool2d(call: Call, x: Any, kernel: Sequence[int], *_: object) -> object:
    x = call.value(x)
    require_map(x)
    height, width = call.shape[-2:]
    dims, sizes = (*x.dims[:-2], axis("H", height), axis("W", width)), {"H": height, "W": width}
    result = replace(x, dims=dims, sizes={**x.sizes, **sizes})
    return _max_pooled(call, x, result, Window.of(call, kernel))


def _max_pool1d(call: Call, x: Any, kernel: Sequence[int], *_: object) -> object:
    x = call.value(x)
    require_layout(x, ("C",), ("H", "W"))
    _require_one_row(x)
    width = call.shape[-1]
    result = replace(x, dims=(*x.dims[:-1], axis("W", width)), sizes={**x.sizes, "W": width})
    return _max_pooled(call, x, result, Window.of(call, kernel).row)


def _max_pooled(call: Call, x: Value, result: Value, window: Window) -> Value:
    if call.given["ceil_mode"]:
        raise Refused("pools with ceil_mode", "pad the map instead", result)
    sides = window.sides
    x = call.lowering.map(x)
    source = call.lowering.builder.emit(
        SpikeMaxPool if x.spikes else MaxPool,
        call.path or "pool",
        {"x": x.source},
        phase=call.lowering.phase(x),
        **sides,
    )
    return replace(result, source=source, form="map")


def _max_pool3d(call: Call, x: Any, *_: object, **__: object) -> object:
    raise missing("max-pool along other axes than H and W")


def _avg_pool1d(call: Call, x: Any, kernel: Sequence[int], *_: object, **__: object) -> object:
    """Average groups of neighbouring channels, as votes for a class: a linear layer."""
    x = rules_readout.pooled(x, call.lowering.time_steps) if isinstance(x, StepSum) else x
    x = x if isinstance(x, Pooled) else call.linear(x)
    channels, count = size_of(x.dims[-1]), call.shape[-1]
    plain = list(call.given["stride"] or kernel) == list(kernel) and not any(call.given["padding"])
    if kinds_of(x.dims[-1:]) != {"C"} or not plain or channels != count * kernel[0]:
        raise Refused(f"averages windows of {named(x.dims)}", "average groups of channels side by side")
    matrix = torch.eye(count, dtype=torch.float64).repeat_interleave(kernel[0], 1) / kernel[0]
    return linear(call, x, Weights(call.named("votes"), matrix))


RULES: Mapping[str, Rule] = {
    "conv2d": _conv2d,
    "conv1d": _conv1d,
    "linear": linear,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _max_pool2d),
    "max_pool1d": _max_pool1d,
    "avg_pool1d": _avg_pool1d,
    **dict.fromkeys(("max_pool3d", "max_pool3d_with_indices"), _max_pool3d),
}
