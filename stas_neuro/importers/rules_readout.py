"""Rules of the end of a network: means over tokens and time, in any order, and linear layers among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stas_neuro.importers import recurrence
from stas_neuro.importers.axes import kinds_of, merge, named
from stas_neuro.importers.errors import Refused, missing
from stas_neuro.importers.rules import Call, Rule
from stas_neuro.importers.values import Pooled, Value
from stas_neuro.ir import Linear, Phase, Readout

ALL = frozenset("THW")


def is_finished(mean: Pooled, steps: int) -> bool:
    """Tell whether a mean is over all tokens and all steps."""
    return mean.reduced >= (ALL if steps > 1 else ALL - {"T"})


def finish(mean: Pooled, call: Call) -> Value:
    """Give the nodes of a mean over all: the readout, then the linear layers on it."""
    lowering = call.lowering
    if mean.tokens.form == "vector":
        raise missing("the mean over time of a vector")
    if mean.tokens.static:
        raise Refused("averages what no neuron has seen", "place a neuron before it")
    tokens = lowering.tokens(mean.tokens)
    source = lowering.builder.emit(
        Readout, "readout", {"z0": tokens.source}, phase=Phase.END, mode="mean-field", blocks=1
    )
    for head in mean.heads:
        source = lowering.builder.emit(
            Linear,
            head.name,
            {"x": source},
            phase=Phase.END,
            tensors={"weight": head.weight} | ({} if head.bias is None else {"bias": head.bias}),
            in_features=head.weight.shape[1],
            out_features=head.weight.shape[0],
            bias=head.bias is not None,
        )
    return Value(source=source, form="vector", dims=mean.dims, sizes=mean.sizes, at_end=True)


def pooled(x: Value | Pooled) -> Pooled:
    """Give a value as the mean over none of its axes."""
    if isinstance(x, Pooled):
        return x
    tokens = replace(x, step=None)
    return Pooled(dims=x.dims, sizes=x.sizes, tokens=tokens, reduced=frozenset(), step=x.step)


def _mean(call: Call, x: object, dims: Sequence[int] = (), keepdim: bool = False, **_: object) -> object:
    x = x if isinstance(x, Pooled) else call.value(x)
    averaged = {index % len(x.dims) for index in dims or range(len(x.dims))}
    return _averaged(x, averaged, keepdim)


def _averaged(x: Value | Pooled, averaged: set[int], keepdim: bool) -> Pooled:
    over = kinds_of(x.dims[index] for index in averaged)
    pieces = [piece for index in sorted(averaged) for piece in merge(x.dims[index])]
    known = recurrence.has_time(x)
    full = {piece.kind: piece.size for piece in pieces}
    sizes = {**x.sizes, **({"T": known.size} if known else {})}
    if not over <= ALL or any(full[kind] != sizes.get(kind) for kind in over):
        raise Refused(
            f"averages {named(tuple(x.dims[d] for d in sorted(averaged)))} of {named(x.dims)}",
            "average over all tokens, or over time",
        )
    whole = pooled(x)
    spatial = {kind for kind in "HW" if x.sizes[kind] == 1} | over  # an axis of size 1 has no piece
    kept = tuple(
        () if index in averaged else dim
        for index, dim in enumerate(x.dims)
        if keepdim or index not in averaged
    )
    return replace(whole, dims=kept, reduced=whole.reduced | spatial)


def _adaptive_avg_pool2d(call: Call, x: object, size: Sequence[int]) -> object:
    x = call.value(x)
    if tuple(size) != (1, 1):
        raise missing("average pooling")
    return _averaged(x, {len(x.dims) - 2, len(x.dims) - 1}, keepdim=True)


def _avg_pool2d(call: Call, x: object, kernel: Sequence[int], *_: object, **__: object) -> object:
    x = call.value(x)
    if tuple(call.shape[-2:]) != (1, 1) or [x.sizes["H"], x.sizes["W"]] != list(kernel) * (2 // len(kernel)):
        raise missing("average pooling")
    return _averaged(x, {len(x.dims) - 2, len(x.dims) - 1}, keepdim=True)


RULES: Mapping[str, Rule] = {
    "mean": _mean,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "avg_pool2d": _avg_pool2d,
}
