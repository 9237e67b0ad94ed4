"""Rules of operations that only move values: views, transposes, selection and joining of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stas_neuro.importers import chains, recurrence, rules_readout
from stas_neuro.importers.axes import axis, kinds_of, named, regroup, shape_of, size_of
from stas_neuro.importers.errors import Refused
from stas_neuro.importers.rules import Call, Rule, Weights
from stas_neuro.importers.values import Chain, Pooled, Several, Shaped, StepSum, Value
from stas_neuro.ir import Slice


def shaped(call: Call, given: object) -> Any:
    """Return an operand that has a layout; a sum over all steps is their mean times their number."""
    if isinstance(given, StepSum):
        return rules_readout.pooled(given, call.lowering.time_steps)
    if not isinstance(given, Shaped):
        raise Refused(
            f"changes the layout of {type(given).__name__}", "leave the state of a neuron unchanged"
        )
    return given


def _reshape(call: Call, x: Any, *_: object, **__: object) -> object:
    x = shaped(call, x)
    return x.laid_out(regroup(x.dims, call.shape))


def _permute(call: Call, x: Any, order: Sequence[int]) -> object:
    x = shaped(call, x)
    return x.laid_out(tuple(x.dims[index] for index in order))


def _movedim(call: Call, x: Any, source: Sequence[int] | int, target: Sequence[int] | int) -> object:
    x = shaped(call, x)
    count = len(x.dims)
    moved, places = ([each % count for each in _listed(given)] for given in (source, target))
    order = [index for index in range(count) if index not in moved]
    for place, index in sorted(zip(places, moved, strict=True)):
        order.insert(place, index)
    return x.laid_out(tuple(x.dims[index] for index in order))


def _listed(given: Sequence[int] | int) -> Sequence[int]:
    return [given] if isinstance(given, int) else given


def _transpose(call: Call, x: Any, a: int, b: int) -> object:
    x = shaped(call, x)
    dims = list(x.dims)
    dims[a], dims[b] = dims[b], dims[a]
    return x.laid_out(tuple(dims))


def _reversed(call: Call, x: Any) -> object:
    x = shaped(call, x)
    return x.laid_out(x.dims[::-1])


def _last_two_swapped(call: Call, x: Any) -> object:
    x = shaped(call, x)
    return x.laid_out((*x.dims[:-2], x.dims[-1], x.dims[-2]))


def _same(call: Call, x: Any, *_: object, **__: object) -> object:
    return x


def _dropout(call: Call, x: Any, *_: object) -> object:
    if call.given["train"]:
        raise Refused("drops values at random", "disable it in evaluation mode", x)
    return x


def _repeat(call: Call, x: Any, counts: Sequence[int]) -> object:
    x = call.value(x)
    dims = [()] * (len(counts) - len(x.dims)) + list(x.dims)
    for index, count in enumerate(counts):
        if count != 1:
            _refuse_copies(x, dims[index], count, call)
            dims[index] = axis("T", count)
    return x.laid_out(tuple(dims))


def _expand(call: Call, x: Any, *_: object, **__: object) -> object:
    x = rules_readout.integrated(x, call) if isinstance(x, Pooled) else call.value(x)
    dims = [()] * (len(call.shape) - len(x.dims)) + list(x.dims)
    for index, size in enumerate(call.shape):
        if not dims[index] and size != 1:
            _refuse_copies(x, dims[index], size, call)
            dims[index] = axis("T", size)
    return x.laid_out(tuple(dims))


def _refuse_copies(x: Value, dim: object, count: int, call: Call) -> None:
    """Refuse copies that are not the steps of a still image."""
    if dim or not x.static or recurrence.has_time(x) or count != call.lowering.time_steps:
        steps = call.lowering.time_steps
        what = f"copies {named(x.dims)} {count} times"
        raise Refused(what, f"copy only a still image, once for each of {steps} steps")


def _select(call: Call, x: Any, dimension: int, index: int) -> object:
    x = shaped(call, x)
    return _one_of(call, x, dimension % len(x.dims), index)


def _unbind(call: Call, x: Any, dimension: int = 0) -> object:
    x = shaped(call, x)
    count = len(call.node.meta["val"])
    return Several(tuple(_one_of(call, x, dimension % len(x.dims), index) for index in range(count)))


def _one_of(call: Call, x: Any, dimension: int, index: int) -> object:
    if kinds_of((x.dims[dimension],)) != {"C"}:
        x = call.value(x) if isinstance(x, Chain) else x
        return recurrence.select(x, dimension, index)
    part = _part_of(call, x, dimension, index % size_of(x.dims[dimension]), 1)
    return part.laid_out(tuple(dim for place, dim in enumerate(part.dims) if place != dimension))


def _getitem(call: Call, several: object, index: int) -> object:
    if not isinstance(several, Several):
        raise Refused("selects one of several results", "use an operation with one result")
    return several.items[index]


def _stack(call: Call, parts: Sequence[object], dimension: int = 0) -> object:
    return _join(call, parts, dimension)


def _cat(call: Call, parts: Sequence[object], dimension: int = 0) -> object:
    laid = [shaped(call, part) for part in parts]
    first = laid[0]
    dimension %= len(first.dims)
    if any(part.dims[dimension] for part in laid):
        return _channels(call, laid, dimension)
    kept = [index for index in range(len(first.dims)) if index != dimension]
    dropped = [part.laid_out(tuple(part.dims[index] for index in kept)) for part in laid]
    return _join(call, dropped, dimension)


def _channels(call: Call, parts: Sequence[Shaped], dimension: int) -> Chain:
    """Join channels: a layer behind it is a sum of layers that read one part each."""
    first, sizes = parts[0], [part.sizes["C"] for part in parts]
    others = [(*part.dims[:dimension], *part.dims[dimension + 1 :]) for part in parts]
    whole = all(part.dims[dimension] == part.whole("C") for part in parts)
    if not whole or others != [others[0]] * len(parts):
        joined = ", ".join(named(part.dims) for part in parts)
        raise Refused(f"joins {joined} along dimension {dimension}", "join steps, or all channels")
    values = [call.linear(part) for part in parts]
    dims = (*first.dims[:dimension], axis("C", sum(sizes)), *first.dims[dimension + 1 :])
    step = recurrence.common_step(*values)
    return replace(chains.extend(call, values[0], dims, C=sum(sizes)), step=step)


def _pad(call: Call, x: Any, sides: Sequence[int], mode: str = "constant", *_: object) -> object:
    if mode != "constant":
        raise Refused(f"pads by {mode}", "pad with zeros")
    return _resized(call, x)


def _resized(call: Call, x: Any) -> Chain:
    """Return a map with a part of the rows and columns, or with more of them."""
    x = call.linear(x)
    dims, sizes = list(x.dims), {}
    for place, size in enumerate(call.shape):
        if size == size_of(x.dims[place]):
            continue
        kinds = kinds_of((x.dims[place],))
        if kinds not in ({"H"}, {"W"}) or x.dims[place] != x.whole(*kinds):
            raise Refused(f"resizes {named(x.dims)} to {call.shape}", "change the size of H and W alone")
        (kind,) = kinds
        dims[place], sizes[kind] = axis(kind, size), size
    return chains.extend(call, x, tuple(dims), **sizes)


def _copy(call: Call, x: Any, source: object, *_: object) -> object:
    """Write a constant to a part of a value; chains find such calls by the memory that they write to."""
    if not isinstance(x, Chain) or not isinstance(source, Weights):
        raise Refused("writes to a part of a value", "write constants, between linear operations")
    return chains.elementwise(call, x)


def _join(call: Call, parts: Sequence[object], dimension: int) -> object:
    values = [part if isinstance(part, Pooled) else call.value(part) for part in parts]
    return recurrence.stack(values, dimension, call.lowering.time_steps)


def _slice(call: Call, x: Any, dimension: int = 0, start: int | None = 0, *_: object, **__: object) -> object:
    x = shaped(call, x)
    if call.shape == shape_of(x.dims):
        return x
    if kinds_of((x.dims[dimension],)) in ({"H"}, {"W"}):
        return _resized(call, x)
    if call.given.get("step", 1) != 1:
        raise Refused("selects every other value", "select neighbouring channels")
    length = size_of(x.dims[dimension])
    first = slice(start, None).indices(length)[0]
    return _part_of(call, x, dimension % len(x.dims), first, call.shape[dimension])


def _parts(call: Call, x: Any, *_: object, **__: object) -> object:
    x = shaped(call, x)
    dimension = call.given["dim"] % len(x.dims)
    parts, start = [], 0
    for each in call.node.meta["val"]:
        size = int(each.shape[dimension])
        parts.append(_part_of(call, x, dimension, start, size))
        start += size
    return Several(tuple(parts))


def _part_of(call: Call, x: Any, dimension: int, start: int, size: int) -> Value:
    """Return a part of the channels; refuse parts of other axes."""
    dim = x.dims[dimension]
    outermost = len(dim) == 1 and dim[0].kind == "C" and dim[0].stride * dim[0].size == x.sizes["C"]
    if not outermost or isinstance(x, Pooled):
        raise Refused(f"selects a part of {named((dim,))}", "use all of it")
    value, width = call.value(x), dim[0].stride
    first, last = start * width, (start + size) * width
    source = call.lowering.builder.emit(
        Slice,
        f"{value.source[0]}-channels-{first}-{last}",
        {"x": value.source},
        phase=call.lowering.phase(value),
        start=first,
        stop=last,
    )
    dims = list(value.dims)
    dims[dimension] = (replace(dim[0], size=size),) if size > 1 else ()
    return replace(value, source=source, dims=tuple(dims), sizes={**value.sizes, "C": last - first})


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        (
            "reshape",
            "view",
            "flatten",
            "unflatten",
            "squeeze",
            "unsqueeze",
            "_unsafe_view",
            "view_as",
            "reshape_as",
        ),
        _reshape,
    ),
    "permute": _permute,
    **dict.fromkeys(("movedim", "moveaxis"), _movedim),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys(("t", "numpy_T"), _reversed),
    **dict.fromkeys(("mT", "adjoint"), _last_two_swapped),
    **dict.fromkeys(
        (
            "contiguous",
            "clone",
            "detach",
            "alias",
            "lift_fresh_copy",
            "to",
            "_to_copy",
            "type_as",
            "positive",
            "_assert_tensor_metadata",
        ),
        _same,
    ),
    **dict.fromkeys(("dropout", "feature_dropout"), _dropout),
    "repeat": _repeat,
    **dict.fromkeys(("expand", "broadcast_to", "expand_as"), _expand),
    "select": _select,
    "unbind": _unbind,
    "getitem": _getitem,
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "copy": _copy,
    "stack": _stack,
    **dict.fromkeys(("cat", "concat"), _cat),
    **dict.fromkeys(("slice", "narrow"), _slice),
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split"), _parts),
}
