"""Nodes of products of spikes: masks of channels and of heads, both of two, one without another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stas_neuro.importers import recurrence
from stas_neuro.importers.axes import kinds_of, merge, named, size_of
from stas_neuro.importers.rules import Call, refuse_unless
from stas_neuro.importers.values import Coincidences, Inverse, Value
from stas_neuro.ir import Gate, HeadSum, Phase, SpikeAnd

SPIKES_ONLY = "multiply spikes: place a neuron before it"


def head_sum(call: Call, x: Value, dims: Sequence[int], keepdim: bool) -> Value:
    """Sum over the channels of each head."""
    lowering, channels = call.lowering, x.sizes["C"]
    summed = {index % len(x.dims) for index in dims}
    over = merge(piece for index in sorted(summed) for piece in x.dims[index])
    kept = tuple(
        () if index in summed else dim for index, dim in enumerate(x.dims) if keepdim or index not in summed
    )
    width = size_of(over)
    heads = channels // width
    left = [piece for dim in kept for piece in dim if piece.kind == "C"]
    blocks = merge([*left, *over]) == x.whole("C") and len(over) == len(left) + (heads == 1) == 1
    refuse_unless(blocks, f"sums {named((over,))} of {named(x.dims)}", "heads are blocks of channels")
    refuse_unless(x.spikes and x.form != "vector", "sums channels of values that are not spikes", SPIKES_ONLY)
    x = lowering.tokens(x)
    source = lowering.builder.emit(
        HeadSum, call.named("heads"), {"x": x.source}, phase=lowering.phase(x), heads=heads
    )
    unstrided = tuple(tuple(replace(p, stride=1) if p in left else p for p in dim) for dim in kept)
    return replace(x, source=source, dims=unstrided, sizes={**x.sizes, "C": heads}, spikes=False)


def gate_heads(call: Call, x: Value, mask: Value) -> Value:
    """Mask the channels of each head at each token."""
    lowering = call.lowering
    heads = mask.sizes["C"]
    width = x.sizes["C"] // heads
    padded = (((),) * (len(x.dims) - len(mask.dims))) + mask.dims
    expected = tuple(
        merge(replace(piece, stride=piece.stride * width) if piece.kind == "C" else piece for piece in dim)
        for dim in padded
    )
    one_of_each = tuple(merge(p for p in dim if p.kind != "C" or p.stride >= width) for dim in x.dims)
    refuse_unless(
        x.form != "vector" and expected == one_of_each,
        f"multiplies {named(x.dims)} by {named(mask.dims)}",
        "both must have the same axes, or one have a value for each token and head",
    )
    refuse_unless(x.spikes and mask.spikes, "multiplies values that are not spikes", SPIKES_ONLY)
    x, mask = lowering.tokens(x), lowering.tokens(mask)
    inputs = {"x": x.source, "mask": mask.source}
    source = lowering.builder.emit(Gate, call.named("gate"), inputs, phase=Phase.STEP, axis="head")
    return replace(x, source=source, step=recurrence.common_step(x, mask))


def both(product: Coincidences, call: Call) -> Value:
    """Make the node of a product of spikes that is not summed over tokens."""
    return _and(call, product.k.laid_out(product.dims), product.v, invert=False)


def without(call: Call, x: Value, inverse: Inverse) -> Value:
    """Make the node of x * (1 - spikes)."""
    refuse_unless(
        [merge(dim) for dim in x.dims] == [merge(dim) for dim in inverse.dims],
        f"multiplies {named(x.dims)} by {named(inverse.dims)}",
        "both must have the same axes in the same order",
    )
    refuse_unless(x.spikes, "multiplies values that are not spikes", SPIKES_ONLY)
    return _and(call, x, inverse.spikes, invert=True)


def _and(call: Call, a: Value, b: Value, *, invert: bool) -> Value:
    lowering = call.lowering
    if a.form != b.form:
        a, b = lowering.tokens(a), lowering.tokens(b)
    inputs = {"a": a.source, "b": b.source}
    source = lowering.builder.emit(
        SpikeAnd, call.named("and"), inputs, phase=lowering.phase(a, b), invert=invert
    )
    return replace(a, source=source, step=recurrence.common_step(a, b))


def gate_channels(call: Call, x: Value, mask: Value) -> Value:
    """Mask the channels of all tokens."""
    padded = (((),) * (len(x.dims) - len(mask.dims))) + mask.dims
    fits = all(
        merge(own) == merge(other) or (not other and kinds_of((own,)) <= {"H", "W"})
        for own, other in zip(x.dims, padded, strict=True)
    )
    refuse_unless(
        fits, f"multiplies {named(x.dims)} by {named(mask.dims)}", "a mask has one value for each channel"
    )
    refuse_unless(x.spikes and mask.spikes, "multiplies values that are not spikes", SPIKES_ONLY)
    lowering = call.lowering
    x = lowering.tokens(x)
    source = lowering.builder.emit(
        Gate, call.named("gate"), {"x": x.source, "mask": mask.source}, phase=Phase.STEP, axis="channel"
    )
    return replace(x, source=source, step=recurrence.common_step(x, mask))
