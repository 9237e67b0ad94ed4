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
from stas_neuro.importers.rules import Call, Rule, Weights, refuse_unless
from stas_neuro.importers.values import Head, Pooled, StepSum, Value
from stas_neuro.ir import Add, BatchNorm, Conv2d, Linear, SpikeMaxPool

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

        def sides(given: Sequence[int]) -> tuple[int, ...]:
            return tuple(given) * (count // len(given))

        return cls(sides(kernel), sides(stride or kernel), sides(padding), sides(dilation))

    @property
    def is_point(self) -> bool:
        """Whether it contains one position."""
        return set(self.kernel) == set(self.stride) == {1} and set(self.padding) == {0}

    def square(self, result: Value) -> dict[str, Any]:
        """Return its attributes; refuse windows that are dilated or differ between directions."""
        if set(self.dilation) != {1}:
            raise missing("dilated windows", result)
        if any(len(set(each)) > 1 for each in (self.kernel, self.stride, self.padding)):
            raise missing("rectangular kernels, strides or padding", result)
        return {"kernel": self.kernel[0], "stride": self.stride[0], "padding": self.padding[0]}


def _conv2d(call: Call, x: Any, weight: Weights, bias: Weights | None = None, *_: object) -> object:
    x = call.value(x)
    _want(x, ("C",), ("H",), ("W",))
    out, height, width = call.shape[-3:]
    dims = (x.dims[0], axis("C", out), axis("H", height), axis("W", width))
    sizes = {"C": out, "H": height, "W": width}
    result = replace(x, dims=dims, sizes=sizes, spikes=False)
    window = Window.of(call, weight.tensor.shape[2:])
    if call.given["groups"] != 1:
        raise missing("grouped convolution", result)
    if window.is_point and x.form == "tokens":
        return replace(_linear_of(call, x, weight, bias), dims=dims, sizes=sizes)
    sides = window.square(result)
    if x.form != "map":
        raise missing("tokens to map (a convolution behind attention)", replace(result, form="map"))
    source = call.lowering.builder.emit(
        Conv2d,
        _layer_name(call, weight),
        {"x": x.source},
        phase=call.lowering.phase(x),
        tensors=_tensors(weight, bias),
        in_channels=weight.tensor.shape[1],
        out_channels=out,
        **sides,
        bias=bias is not None,
    )
    return replace(result, source=source)


def _conv1d(call: Call, x: Any, weight: Weights, bias: Weights | None = None, *_: object) -> object:
    x = call.value(x)
    _want(x, ("C",), ("H", "W"))
    out = call.shape[1]
    result = replace(
        x, dims=(x.dims[0], axis("C", out), x.dims[2]), sizes={**x.sizes, "C": out}, spikes=False
    )
    if not Window.of(call, weight.tensor.shape[2:]).is_point:
        raise missing("a convolution along tokens")
    if call.given["groups"] != 1:
        raise missing("grouped convolution", result)
    return replace(_linear_of(call, x, weight, bias), dims=result.dims, sizes=result.sizes)


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


def _want(x: Value, *wanted: tuple[str, ...]) -> None:
    """Require a layout: the last dimensions are these whole axes, the first has only images and steps."""
    last = [merge(dim) for dim in x.dims[-len(wanted) :]]
    first = kinds_of(x.dims[: -len(wanted)])
    if last != [x.whole(*kinds) for kinds in wanted] or not first <= {"B", "T"}:
        order = ", ".join(" ".join(kinds) for kinds in wanted)
        raise Refused(f"reads {named(x.dims)}", f"it must be (images and steps, {order})")


# Pooling and sums -------------------------------------------------------------------------------------------


def _max_pool2d(call: Call, x: Any, kernel: Sequence[int], *_: object) -> object:
    x = call.value(x)
    _want(x, ("C",), ("H",), ("W",))
    height, width = call.shape[-2:]
    result = replace(
        x,
        dims=(*x.dims[:-2], axis("H", height), axis("W", width)),
        sizes={**x.sizes, "H": height, "W": width},
    )
    if not x.spikes:
        raise missing("max-pool of currents or of sums of spikes", result)
    if call.given["ceil_mode"]:
        raise Refused("pools with ceil_mode", "pad the map instead", result)
    sides = Window.of(call, kernel).square(result)
    if x.form != "map":
        raise missing("tokens to map (pooling behind attention)", replace(result, form="map"))
    source = call.lowering.builder.emit(
        SpikeMaxPool, call.path or "pool", {"x": x.source}, phase=call.lowering.phase(x), **sides
    )
    return replace(result, source=source)


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


def _subtract(call: Call, a: object, b: object, **_: object) -> object:
    raise missing("a difference (1 - spikes, AND-NOT)", a if isinstance(a, Value) else b)


RULES: Mapping[str, Rule] = {
    "conv2d": _conv2d,
    "conv1d": _conv1d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _max_pool2d),
    **dict.fromkeys(("max_pool3d", "max_pool3d_with_indices", "max_pool1d"), _max_pool3d),
    "add": _add,
    **dict.fromkeys(("sub", "rsub"), _subtract),
}
