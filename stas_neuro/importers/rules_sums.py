"""Rules of sums and differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stas_neuro.importers import chains, recurrence
from stas_neuro.importers.rules import Call, Rule, Weights, refuse_unless, require_alike
from stas_neuro.importers.values import Chain, Inverse, Pooled, StepSum, Value
from stas_neuro.ir import Add


def _add(call: Call, a: object, b: object, *, alpha: float = 1) -> object:
    refuse_unless(alpha == 1, f"adds {alpha} times a value", "scale the weights before it")
    if isinstance(a, Weights | float | int):
        a, b = b, a
    if isinstance(b, float | int | Weights):
        if not (b.tensor.any() if isinstance(b, Weights) else b):
            return a  # the start of a sum in a loop over time
        return chains.elementwise(call, a)
    a, b = (call.value(each) if isinstance(each, Chain) else each for each in (a, b))
    total = recurrence.add_step(a, b)
    if total is not None:
        return total
    refuse_unless(
        not isinstance(a, StepSum | Pooled) and not isinstance(b, StepSum | Pooled),
        "adds to a sum or mean over steps",
        "add values of the same step",
    )
    return _sum(call, call.value(a), call.value(b))


def _sum(call: Call, a: Value, b: Value) -> Value | Chain:
    require_alike(a, b, "adds")
    lowering = call.lowering
    if not a.at_end and chains.parallel(lowering.builder, a, b):
        step = recurrence.common_step(a, b)
        return replace(chains.extend(call, a), step=step)
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
    if a == 1 == alpha and not isinstance(b, Chain) and (spikes := call.value(b)).spikes:
        return Inverse(**vars(chains.extend(call, spikes)), spikes=spikes)
    if isinstance(a, Weights | float | int):
        return chains.elementwise(call, b)
    if isinstance(b, Weights | float | int):
        return chains.elementwise(call, a)
    left, right = call.linear(a), call.linear(b)
    require_alike(left, right, "subtracts")
    return replace(chains.extend(call, left), step=recurrence.common_step(left, right))


def _subtract_from(call: Call, b: object, a: object, alpha: float = 1) -> object:
    return _subtract(call, a, b, alpha=alpha)


RULES: Mapping[str, Rule] = {"add": _add, "sub": _subtract, "rsub": _subtract_from}
