"""Rules of the head of a network: means over tokens and time in any order, and linear layers between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from stas_neuro.importers import chains, recurrence
from stas_neuro.importers.axes import axis, kinds_of, merge, named, size_of
from stas_neuro.importers.errors import Refused, missing
from stas_neuro.importers.region import continues
from stas_neuro.importers.rules import Call, Rule, refuse_unless, require_map
from stas_neuro.importers.values import Chain, Head, Pooled, S, Source, StepSum, Value
from stas_neuro.ir import Conv2d, Integrate, Linear, MaskedColumnSum, Phase, Readout, TokenMean

ALL = frozenset("THW")


def is_finished(mean: Pooled, steps: int) -> bool:
    """Return whether a mean is over all tokens and all steps; over one token in several steps anyhow."""
    if steps == 1:
        return mean.reduced >= ALL - {"T"}
    return mean.reduced | {kind for kind in "HW" if mean.sizes[kind] == 1} >= ALL


def finish(mean: Pooled, call: Call) -> Value:
    """Make the nodes of a finished mean: the readout, then its linear layers."""
    lowering = call.lowering
    if mean.tokens.form == "vector":
        raise missing("the mean over time of a vector")
    if mean.scale != 1:
        raise Refused(f"computes {mean.scale:g} times a mean", "divide by the number of terms of the sum")
    if mean.tokens.static:
        raise Refused("averages values behind no neuron", "place a neuron before it")
    tokens = lowering.tokens(mean.tokens)
    source = lowering.builder.emit(
        Readout, "readout", {"z0": tokens.source}, phase=Phase.END, mode="mean-field", blocks=1
    )
    source = _with_heads(mean.heads, source, Phase.END, call)
    return Value(source=source, form="vector", dims=mean.dims, sizes=mean.sizes, at_end=True)


def in_each_step(mean: Pooled, call: Call) -> Value:
    """Make the nodes of a mean over tokens, but not over time: one token, then its linear layers.

    A mean over axes of size 1 alone is the value itself.
    """
    lowering = call.lowering
    several = {kind for kind in "HW" if mean.sizes[kind] > 1}
    over_tokens = mean.reduced & several
    if "T" in mean.reduced or over_tokens not in (several, set()):
        over = " and ".join(sorted(mean.reduced))
        raise Refused(f"reads a mean over {over} in each step", "average over H and W, all tokens")
    if mean.tokens.form == "vector":
        raise Refused("averages a value without tokens", "average values of tokens")
    if mean.scale == mean.sizes["H"] * mean.sizes["W"] != 1 and mean.tokens.spikes and over_tokens == several:
        return _counted(mean, call)
    if mean.scale != 1:
        raise Refused(f"computes {mean.scale:g} times a mean", "divide by the number of terms of the sum")
    if not over_tokens and not mean.heads:
        return replace(mean.tokens, dims=mean.dims, step=mean.step)
    tokens = lowering.tokens(mean.tokens)
    phase, source, sizes = lowering.phase(tokens), tokens.source, mean.sizes
    if over_tokens:
        source = lowering.builder.emit(TokenMean, call.named("mean"), {"x": source}, phase=phase)
        sizes = {**mean.sizes, "H": 1, "W": 1}
    source = _with_heads(mean.heads, source, phase, call)
    return replace(tokens, source=source, dims=mean.dims, sizes=sizes, spikes=False, step=mean.step)


def _counted(mean: Pooled, call: Call) -> Value:
    """Make the node of the sum of spikes over all tokens: of spikes times themselves, which is exact."""
    spikes = call.lowering.tokens(mean.tokens)
    inputs = {"k": spikes.source, "v": spikes.source}
    source = call.lowering.builder.emit(MaskedColumnSum, call.named("sum"), inputs, phase=Phase.STEP)
    sizes = {**mean.sizes, "H": 1, "W": 1}
    return Value(source=source, form="vector", dims=mean.dims, sizes=sizes, step=mean.step)


def integrated(mean: Pooled, call: Call) -> Value:
    """Make the node of a mean over time that all steps read: what is before it is a stem that runs first."""
    refuse_unless(
        mean.reduced == {"T"} and not mean.heads and mean.scale == 1,
        "copies a mean that is not over time alone",
        "copy the mean over all steps of a map or of tokens",
    )
    builder = call.lowering.builder
    before = [mean.tokens.source[0]]
    for name in before:
        before += [source for source, _ in builder.inputs[name].values() if source not in before]
        if builder.nodes[name].phase == Phase.STEP:
            builder.nodes[name] = replace(builder.nodes[name], phase=Phase.STEM)
    source = builder.emit(
        Integrate, call.named("mean"), {"x": mean.tokens.source}, phase=Phase.ONCE, mode="mean"
    )
    return replace(mean.tokens, source=source, dims=mean.dims, spikes=False, static=True, step=None)


def _with_heads(heads: Sequence[Head], source: Source, phase: Phase, call: Call) -> Source:
    for head in heads:
        source = call.lowering.builder.emit(
            Linear,
            head.name,
            {"x": source},
            phase=phase,
            tensors=head.tensors(),
            in_features=head.weight.shape[1],
            out_features=head.weight.shape[0],
            bias=head.bias is not None,
        )
    return source


def pooled(x: Value | Pooled | StepSum, steps: int) -> Pooled:
    """Return a value as a mean over none of its axes, a sum over all steps as a mean over time."""
    if isinstance(x, Pooled):
        return x
    if isinstance(x, StepSum):
        if len(x.steps) != steps:
            raise Refused(f"reads a sum over {len(x.steps)} of {steps} steps", "sum over all steps")
        mean = pooled(x.term, steps)
        return replace(mean, reduced=mean.reduced | {"T"}, step=None).times(steps)
    tokens = replace(x, step=None)
    return Pooled(dims=x.dims, sizes=x.sizes, tokens=tokens, reduced=frozenset(), step=x.step)


def with_head(mean: Pooled, head: Head) -> Pooled:
    """Append a linear layer to a mean."""
    out = head.weight.shape[0]
    refuse_unless(
        {"H", "W"} <= mean.reduced and mean.dims[-1] == mean.whole("C"),
        f"a linear layer reads {named(mean.dims)}",
        "average over tokens first",
    )
    return replace(
        mean,
        heads=(*mean.heads, head.times(mean.scale, 1.0)),
        scale=1.0,
        dims=(*mean.dims[:-1], axis("C", out)),
        sizes={**mean.sizes, "C": out},
    )


def summed(call: Call, x: Value | Pooled, dims: Sequence[int], keepdim: bool) -> Pooled:
    """Sum over tokens or time."""
    over = {index % len(x.dims) for index in dims}
    count = size_of(tuple(piece for index in over for piece in x.dims[index]))
    return averaged(x, over, call, keepdim).times(count)


def averageable(call: Call, x: object) -> Value | Pooled:
    """Return an operand that can be averaged: a value, a mean, or a sum over steps."""
    if isinstance(x, Pooled | StepSum):
        return pooled(x, call.lowering.time_steps)
    return call.value(x)


def _mean(call: Call, x: object, dims: Sequence[int] = (), keepdim: bool = False, **_: object) -> object:
    x = averageable(call, x)
    over = {index % len(x.dims) for index in dims or range(len(x.dims))}
    return averaged(x, over, call, keepdim)


def averaged(x: Value | Pooled, dims: set[int], call: Call, keepdim: bool = False) -> Pooled:
    """Return the mean over dimensions that consist of all tokens, or of time."""
    over = kinds_of(x.dims[index] for index in dims)
    pieces = [piece for index in sorted(dims) for piece in merge(x.dims[index])]
    known = recurrence.has_time(x)
    full = {piece.kind: piece.size for piece in pieces}
    sizes = {**x.sizes, **({"T": known.size} if known else {})}
    if not over <= ALL or any(full[kind] != sizes.get(kind) for kind in over):
        raise Refused(
            f"averages {named(tuple(x.dims[d] for d in sorted(dims)))} of {named(x.dims)}",
            "average over all tokens, or over time",
        )
    whole = pooled(x, call.lowering.time_steps)
    spatial = {kind for kind in "HW" if x.sizes[kind] == 1} | over  # an axis of size 1 has no piece
    kept = tuple(
        () if index in dims else dim for index, dim in enumerate(x.dims) if keepdim or index not in dims
    )
    return replace(whole, dims=kept, reduced=whole.reduced | spatial)


def _averages(call: Call, x: Value | Chain, kernel: Sequence[int], **sides: Any) -> Value | Chain:
    """Average windows, as a convolution of each channel by itself."""
    lowering = call.lowering
    if continues(lowering, x):
        smaller = _smaller(call, x)
        return chains.extend(call, smaller, smaller.dims)
    assert isinstance(x, Value)
    x = lowering.map(x)
    channels, (rows, columns) = x.sizes["C"], kernel
    # Of float64 whatever the dtype of the module: a ninth in float32 is another number.
    weight = torch.full((channels, 1, rows, columns), 1 / (rows * columns), dtype=torch.float64)
    source = lowering.builder.emit(
        Conv2d,
        call.path or "pool",
        {"x": x.source},
        phase=lowering.phase(x),
        tensors={"weight": weight},
        in_channels=channels,
        out_channels=channels,
        kernel=(rows, columns),
        **sides,
        bias=False,
        groups=channels,
    )
    return replace(_smaller(call, x), source=source, spikes=False)


def _smaller(call: Call, x: S) -> S:
    """Return a value with the layout of the result of pooling."""
    height, width = call.shape[-2:]
    dims = (*x.dims[:-2], axis("H", height), axis("W", width))
    return replace(x, dims=dims, sizes={**x.sizes, "H": height, "W": width})


def _adaptive_avg_pool2d(call: Call, x: object, size: Sequence[int]) -> object:
    x = call.linear(x)
    if tuple(size) == (1, 1):
        return averaged(call.value(x), {len(x.dims) - 2, len(x.dims) - 1}, call, keepdim=True)
    require_map(x)
    if x.sizes["H"] % size[0] or x.sizes["W"] % size[1]:
        what = f"averages windows of several sizes, {named(x.dims)} to {tuple(size)}"
        raise Refused(what, "average to a size that divides H and W", _smaller(call, x))
    kernel = (x.sizes["H"] // size[0], x.sizes["W"] // size[1])
    return _averages(call, x, kernel, stride=kernel, padding=(0, 0))


def _avg_pool2d(call: Call, x: object, kernel: Sequence[int], *_: object, **__: object) -> object:
    x = call.linear(x)
    if tuple(call.shape[-2:]) == (1, 1) and (x.sizes["H"], x.sizes["W"]) == _both(kernel):
        return averaged(call.value(x), {len(x.dims) - 2, len(x.dims) - 1}, call, keepdim=True)
    require_map(x)
    stride, padding = _both(call.given["stride"] or kernel), _both(call.given["padding"])
    divides_evenly = call.given["count_include_pad"] or not any(padding)
    if not divides_evenly or call.given["ceil_mode"] or call.given["divisor_override"] is not None:
        raise Refused(
            "divides the sums of windows by other numbers than that of their values",
            "use neither ceil_mode, nor divisor_override, nor padding without count_include_pad",
            _smaller(call, x),
        )
    return _averages(call, x, _both(kernel), stride=stride, padding=padding)


def _both(given: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(int, given)) * (2 // len(given))


RULES: Mapping[str, Rule] = {
    "mean": _mean,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "avg_pool2d": _avg_pool2d,
}
