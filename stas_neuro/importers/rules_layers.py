"""Rules of layers with weights, of normalisation, pooling and sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stas_neuro.importers import recurrence, rules_readout
from stas_neuro.importers.axes import axis, kinds_of, merge, named
from stas_neuro.importers.errors import Refused, missing
from stas_neuro.importers.rules import Call, Rule, Weights, refuse_unless, require_layout, require_map
from stas_neuro.importers.values import Head, Inverse, Pooled, StepSum, Value
from stas_neuro.ir import Add, BatchNorm, Conv2d, Linear, MaxPool, SpikeMaxPool

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
            reach = [(size - 1) * dilation[0] for size in kernel]
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

    def sides(self, result: Value) -> dict[str, Any]:
        """Return its attributes, rows and columns; refuse windows that are dilated."""
        if set(self.dilation) != {1}:
            raise missing("dilated windows", result)
        return {name: tuple(map(int, getattr(self, name))) for name in ("kernel", "stride", "padding")}


def _conv2d(call: Call, x: Any, weight: Weights, bias: Weights | None = None, *_: object) -> object:
    x = call.value(x)
    require_map(x)
    out, height, width = call.shape[-3:]
    dims = (x.dims[0], axis("C", out), axis("H", height), axis("W", width))
    sizes = {"C": out, "H": height, "W": width}
    result = replace(x, dims=dims, sizes=sizes, spikes=False)
    window = Window.of(call, weight.tensor.shape[2:])
    if window.is_point and x.form == "tokens" and call.given["groups"] == 1:
        return replace(_linear_of(call, x, weight, bias), dims=dims, sizes=sizes)
    return replace(_convolved(call, x, weight, bias, window.sides(result)), dims=dims, sizes=sizes)


def _convolved(
    call: Call, x: Value, weight: Weights, bias: Weights | None, sides: Mapping[str, Any]
) -> Value:
    lowering, groups = call.lowering, int(call.given["groups"])
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
    x = call.value(x)
    require_layout(x, ("C",), ("H", "W"))
    out = call.shape[1]
    dims, sizes = (x.dims[0], axis("C", out), x.dims[2]), {**x.sizes, "C": out}
    if not Window.of(call, weight.tensor.shape[2:]).is_point:
        raise missing("a convolution along tokens")
    if call.given["groups"] == 1:
        return replace(_linear_of(call, x, weight, bias), dims=dims, sizes=sizes)
    point = replace(weight, tensor=weight.tensor[..., None])
    sides = {"kernel": 1, "stride": 1, "padding": 0}
    return replace(_convolved(call, x, point, bias, sides), dims=dims, sizes=sizes)


def _linear(call: Call, x: Any, weight: Weights, bias: Weights | None = None) -> object:
    out = int(weight.tensor.shape[0])
    if isinstance(x, Pooled | StepSum):
        mean = rules_readout.pooled(x, call.lowering.time_steps)
        head = Head(_layer_name(call, weight), weight.tensor, None if bias is None else bias.tensor)
        return rules_readout.with_head(mean, head)
    x = call.value(x)
    if x.dims[-1] != x.whole("C"):
        if kinds_of(x.dims[-1:]) & {"H", "W"}:
            raise missing("a linear layer over a whole map (fully connected)")
        raise Refused(f"a linear layer reads {named(x.dims)}", "its last dimension must be all channels")
    dims = (*x.dims[:-1], axis("C", out))
    return replace(_linear_of(call, x, weight, bias), dims=dims, sizes={**x.sizes, "C": out})


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
    x = call.value(x)
    refuse_unless(
        x.dims[1] == x.whole("C"), f"normalises dimension 1 of {named(x.dims)}", "it must be all channels"
    )
    mean, var = call.given["running_mean"], call.given["running_var"]
    if call.given["training"] or mean is None or var is None:
        raise Refused("normalises by statistics of the batch", "track running statistics", x)
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


def _tensors(weight: Weights, bias: Weights | None) -> Mapping[str, Tensor]:
    return {"weight": weight.tensor} | ({} if bias is None else {"bias": bias.tensor})


def _layer_name(call: Call, weight: Weights) -> str:
    return call.path or weight.name.removesuffix(".weight")


# Pooling and sums -------------------------------------------------------------------------------------------


def _max_pool2d(call: Call, x: Any, kernel: Sequence[int], *_: object) -> object:
    x = call.value(x)
    require_map(x)
    height, width = call.shape[-2:]
    result = replace(
        x,
        dims=(*x.dims[:-2], axis("H", height), axis("W", width)),
        sizes={**x.sizes, "H": height, "W": width},
    )
    if call.given["ceil_mode"]:
        raise Refused("pools with ceil_mode", "pad the map instead", result)
    sides = Window.of(call, kernel).sides(result)
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


def _add(call: Call, a: object, b: object, *, alpha: float = 1) -> object:
    refuse_unless(alpha == 1, f"adds {alpha} times a value", "scale the weights before it")
    if isinstance(a, Weights | float | int):
        a, b = b, a
    if isinstance(b, float | int | Weights):
        if not (b.tensor.any() if isinstance(b, Weights) else b):
            return a  # the start of a sum in a loop over time
        raise missing("adding a constant (a positional embedding)", a)
    total = recurrence.add_step(a, b)
    if total is not None:
        return total
    refuse_unless(
        not isinstance(a, StepSum | Pooled) and not isinstance(b, StepSum | Pooled),
        "adds to a sum or mean over steps",
        "add values of the same step",
    )
    return _sum(call, call.value(a), call.value(b))


def _sum(call: Call, a: Value, b: Value) -> Value:
    refuse_unless(
        [merge(dim) for dim in a.dims] == [merge(dim) for dim in b.dims],
        f"adds {named(a.dims)} and {named(b.dims)}",
        "both must have the same axes in the same order",
    )
    lowering = call.lowering
    if a.form != b.form:
        a, b = lowering.tokens(a), lowering.tokens(b)
    source = lowering.builder.emit(
        Add, call.named("add"), {"a": a.source, "b": b.source}, phase=lowering.phase(a, b)
    )
    return replace(
        a, source=source, spikes=False, static=a.static and b.static, step=recurrence.common_step(a, b)
    )


def _subtract(call: Call, a: object, b: object, *, alpha: float = 1) -> object:
    if isinstance(a, Weights) and a.tensor.numel() == 1:
        a = float(a.tensor)
    if a == 1 == alpha and isinstance(b, Inverse):
        return b.spikes.laid_out(b.dims)
    if a == 1 == alpha and (spikes := call.value(b)).spikes:
        return Inverse(dims=spikes.dims, sizes=spikes.sizes, spikes=spikes, step=spikes.step)
    raise missing("a difference other than 1 - spikes", a if isinstance(a, Value) else b)


def _subtract_from(call: Call, b: object, a: object, alpha: float = 1) -> object:
    return _subtract(call, a, b, alpha=alpha)


RULES: Mapping[str, Rule] = {
    "conv2d": _conv2d,
    "conv1d": _conv1d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _max_pool2d),
    **dict.fromkeys(("max_pool3d", "max_pool3d_with_indices", "max_pool1d"), _max_pool3d),
    "add": _add,
    "sub": _subtract,
    "rsub": _subtract_from,
}
