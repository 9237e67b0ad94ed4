"""Rules of products: attention without softmax, in both orders, and those that `gates` makes nodes of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stas_neuro.importers import chains, gates, recurrence, rules_layers, rules_readout
from stas_neuro.importers.axes import kinds_of, merge, named, shape_of, size_of
from stas_neuro.importers.errors import Refused
from stas_neuro.importers.gates import SPIKES_ONLY
from stas_neuro.importers.rules import Call, Rule, Weights, refuse_unless
from stas_neuro.importers.values import Coincidences, Inverse, Pooled, Product, StepSum, Value
from stas_neuro.ir import MaskedColumnSum, Phase, SpikeMatMul


def _matmul(call: Call, a: object, b: object) -> object:
    if isinstance(b, Weights) and b.tensor.ndim == 2 and not isinstance(a, Weights):
        return rules_layers.linear(call, a, Weights(b.name, b.tensor.T))
    if isinstance(a, Weights) or isinstance(b, Weights):
        raise Refused("multiplies by a constant matrix from the left", "use a linear layer")
    return _product(call, _operand(call, a), _operand(call, b))


def _product(call: Call, left: Value | Product, right: Value | Product) -> Product:
    refuse_unless(
        merge(left.dims[-1]) == merge(right.dims[-2])
        and [merge(dim) for dim in left.dims[:-2]] == [merge(dim) for dim in right.dims[:-2]],
        f"multiplies {named(left.dims)} by {named(right.dims)}",
        "both must have the same axes, and sum over the same one",
    )
    dims = (*left.dims[:-1], right.dims[-1])
    step = recurrence.common_step(left, right)
    for each in (left, right):
        refuse_unless(
            isinstance(each, Product) or each.spikes,
            "multiplies values that are not spikes",
            SPIKES_ONLY,
        )
    if isinstance(left, Value) and isinstance(right, Value):
        if kinds_of(left.dims[-1:]) == {"C"}:
            operands, form = {"left": left, "right": _turned(right)}, "(QK^T)V"
        else:
            operands, form = {"left": _turned(left), "right": right}, "Q(K^TV)"
        return Product(dims=dims, sizes=left.sizes, operands=operands, form=form, step=step)  # type: ignore[arg-type]
    product, other = (left, right) if isinstance(left, Product) else (right, left)
    if not isinstance(product, Product) or not isinstance(other, Value):
        raise Refused("multiplies two products", "use (q k^T) v or q (k^T v)")
    operands = _operands(product, other, product is left)
    finished = replace(product, dims=dims, operands=operands, step=step)
    heads_of(finished)  # refuses here what cannot be finished
    return finished


def _einsum(call: Call, equation: str, operands: Sequence[object], **_: object) -> object:
    """Multiply two operands as matrices: common axes are batches, one axis is summed over."""
    inputs, _arrow, out = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != 2 or not (inputs.replace(",", "") + out).isalpha():
        raise Refused(f"computes einsum {equation!r}", "multiply two operands, and write all axes as letters")
    first, second = terms
    batch = [letter for letter in first if letter in second and letter in out]
    over = [letter for letter in first if letter in second and letter not in out]
    rows = [letter for letter in first if letter not in second]
    columns = [letter for letter in second if letter not in first]
    refuse_unless(
        len(over) == len(rows) == len(columns) == 1 and sorted(out) == sorted(batch + rows + columns),
        f"computes einsum {equation!r}",
        "use a product of matrices: one axis is summed over, and one of each operand is left",
    )
    left = _relaid(_operand(call, operands[0]), first, batch + rows + over)
    right = _relaid(_operand(call, operands[1]), second, batch + over + columns)
    return _relaid(_product(call, left, right), batch + rows + columns, out)


def _relaid(value: Value | Product, have: Sequence[str], wanted: Sequence[str]) -> Value | Product:
    return value.laid_out(tuple(value.dims[have.index(letter)] for letter in wanted))


def _operands(product: Product, other: Value, behind: bool) -> dict[str, Value]:
    """Identify q, k and v from the product of two of them and the side of the third."""
    first, second = product.operands["left"], product.operands["right"]
    if product.form == "(QK^T)V":
        # (q k^T) v, or turned, v^T (k q^T).
        if behind:
            return {"q": first, "k": second, "v": other}
        return {"q": second, "k": first, "v": _turned(other)}
    # q (k^T v), or turned, (v^T k) q^T.
    if behind:
        return {"q": _turned(other), "k": second, "v": first}
    return {"q": other, "k": first, "v": second}


def _turned(value: Value) -> Value:
    """Swap tokens and channels in the layout of an operand."""
    return value.laid_out((*value.dims[:-2], value.dims[-1], value.dims[-2]))


def _operand(call: Call, given: object) -> Value | Product:
    if isinstance(given, Product) and not given.is_finished:
        return given
    return call.value(given)


def heads_of(product: Product) -> int:
    """Return the number of heads of a finished product.

    Raises
    ------
    Refused
        If heads are not blocks of contiguous channels, or attention is not over all tokens.
    """
    q, k, v = (product.operands[port] for port in "qkv")
    channels = q.dims[-1]
    heads = tuple(piece for dim in q.dims[:-2] for piece in dim if piece.kind == "C")
    alike = len({tuple(map(merge, each.dims)) for each in (q, k, v)}) == 1
    whole = merge((*heads, *channels)) == q.whole("C") and len(channels) <= 1
    everywhere = sorted(q.dims[-2], key=str) == sorted(q.whole("H", "W"), key=str)
    if not (alike and whole and everywhere):
        what = f"attends with q {named(q.dims)}, k {named(k.dims)}, v {named(v.dims)}"
        raise Refused(what, "heads are blocks of channels, and each attends to all tokens")
    return q.sizes["C"] // size_of(channels)


def finish(product: Product, call: Call) -> Value:
    """Make the node of a product of all three."""
    lowering = call.lowering
    operands = {port: lowering.tokens(product.operands[port]) for port in "qkv"}
    source = lowering.builder.emit(
        SpikeMatMul,
        ".".join([*_common_path(operands), "attention"]),
        {port: each.source for port, each in operands.items()},
        phase=Phase.STEP,
        heads=heads_of(product),
        scale=product.scale,
        form=product.form,
    )
    sizes = operands["q"].sizes
    return Value(source=source, form="tokens", dims=product.dims, sizes=sizes, step=product.step)


def _common_path(values: Mapping[str, Value]) -> list[str]:
    """Return the path of the innermost module that contains all values."""
    paths = [each.source[0].split(".")[:-1] for each in values.values()]
    common = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return common


def _mul(call: Call, a: object, b: object) -> object:
    if isinstance(a, float | int | Weights):
        a, b = b, a
    if isinstance(b, Weights) and b.tensor.numel() == 1:
        b = float(b.tensor)
    if isinstance(b, float | int):
        return _scaled(call, a, float(b))
    if isinstance(b, Weights):
        return chains.elementwise(call, a)
    if isinstance(a, Inverse):
        a, b = b, a
    left = call.value(a)
    if isinstance(b, Inverse):
        return gates.without(call, left, b)
    right = call.value(b)
    if "vector" in (left.form, right.form):
        x, mask = (left, right) if right.form == "vector" else (right, left)
        return gates.gate_channels(call, x, mask)
    if [merge(dim) for dim in left.dims] != [merge(dim) for dim in right.dims]:
        x, mask = (left, right) if shape_of(left.dims) == call.shape else (right, left)
        return gates.gate_heads(call, x, mask)
    refuse_unless(left.spikes and right.spikes, "multiplies values that are not spikes", SPIKES_ONLY)
    step = recurrence.common_step(left, right)
    return Coincidences(dims=left.dims, sizes=left.sizes, k=left, v=right, step=step)


def _div(call: Call, a: object, b: object, **_: object) -> object:
    if isinstance(b, Weights) and b.tensor.numel() == 1:
        b = float(b.tensor)
    if isinstance(b, Weights) and not isinstance(a, Weights | float | int):
        return chains.elementwise(call, a)
    if not isinstance(b, float | int):
        raise Refused("divides by a value", "divide by a constant")
    return _scaled(call, a, 1 / float(b))


def _scaled(call: Call, x: object, factor: float) -> object:
    if isinstance(x, Pooled | StepSum):
        return rules_readout.pooled(x, call.lowering.time_steps).times(factor)
    if factor == 1:
        return x
    if isinstance(x, Product):
        return replace(x, scale=x.scale * factor)
    return chains.elementwise(call, x)


def _sum(call: Call, x: object, dims: Sequence[int] = (), keepdim: bool = False, **_: object) -> object:
    if isinstance(x, Value | Coincidences) and kinds_of(x.dims[index] for index in dims) == {"C"}:
        return gates.head_sum(call, call.value(x), dims, keepdim)
    if not isinstance(x, Coincidences):
        whole = rules_readout.averageable(call, x)
        return rules_readout.summed(call, whole, dims or range(len(whole.dims)), keepdim)
    summed = {index % len(x.dims) for index in dims or range(len(x.dims))}
    if sorted((p for d in summed for p in x.dims[d]), key=str) != sorted(x.whole("H", "W"), key=str):
        raise Refused(f"sums {named(tuple(x.dims[d] for d in sorted(summed)))}", "sum over all tokens")
    lowering = call.lowering
    k, v = lowering.tokens(x.k), lowering.tokens(x.v)
    source = lowering.builder.emit(
        MaskedColumnSum, call.named("kv"), {"k": k.source, "v": v.source}, phase=Phase.STEP
    )
    kept = tuple(
        () if index in summed else dim for index, dim in enumerate(x.dims) if keepdim or index not in summed
    )
    sizes = {**x.sizes, "H": 1, "W": 1}
    return Value(source=source, form="vector", dims=kept, sizes=sizes, step=x.step)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("matmul", "bmm", "__matmul__"), _matmul),
    "einsum": _einsum,
    "mul": _mul,
    "div": _div,
    "neg": lambda call, x: chains.elementwise(call, x),
    "sum": _sum,
}
