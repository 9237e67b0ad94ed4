"""Time: sequences along axis T, and loops over steps that a module has written out.

In a loop every step calls the same modules again. `Builder` returns the node of the first step for such a
call, so it remains to count: a value has its step, the state of a neuron the step after which it is, and the
values of all steps joined in order have axis T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import fx

from stas_neuro.importers.axes import Piece, axis, named
from stas_neuro.importers.errors import Refused
from stas_neuro.importers.trace import operation
from stas_neuro.importers.values import Chain, Membrane, Pooled, Product, StepSum, Value

MIXED = "use in each step only values of that step; only neurons have state"


def sequences_of(calls: Sequence[fx.Node]) -> list[int]:
    """Return the sizes of the first axis of neurons that receive all steps at once."""
    return [int(node.meta["val"].shape[0]) for node in calls if operation(node) == "stas::spikes"]


def steps_of(calls: Sequence[fx.Node], images: int) -> int | None:
    """Return the steps T: of the shortest sequence, or the longest chain of states; None without neurons.

    A sequence whose size is a multiple of the number of images has steps and images in one axis.
    """
    if sequences := sequences_of(calls):
        steps = [size // images if size % images == 0 else size for size in sequences]
        return min([each for each in steps if each > 1], default=1)
    chain: dict[fx.Node, int] = {}
    for node in calls:
        if operation(node) == "stas::step":
            state = node.args[1]
            before = state.args[0] if isinstance(state, fx.Node) and state.args else None
            chain[node] = 1 + (chain.get(before, 0) if isinstance(before, fx.Node) else 0)
    return max(chain.values(), default=None)


def common_step(*values: Value | Chain | Pooled | Product) -> int | None:
    """Return the step of values; refuse values of several steps."""
    steps = {value.step for value in values} - {None}
    if len(steps) > 1:
        what = f"joins values of steps {', '.join(str(step + 1) for step in sorted(steps))}"  # type: ignore[operator,type-var]
        raise Refused(what, MIXED)
    return next(iter(steps), None)


def next_step(state: object, x: Value) -> tuple[str, int]:
    """Return the LIF whose membrane a step continues (none in the first step), and the number of the step."""
    if not isinstance(state, Membrane):
        raise Refused(
            "its state is not that of the neuron after the step before", "pass the state on unchanged"
        )
    step = state.step + 1
    if x.step is not None and x.step != step:
        raise Refused(f"step {step + 1} of the neuron reads a value of step {x.step + 1}", MIXED)
    return state.node, step


def stack(parts: Sequence[Value | Pooled], position: int, steps: int) -> Value | Pooled:
    """Join the values of all steps, in order, along a new axis T."""
    first = parts[0]
    same = all(replace(part, step=first.step) == first for part in parts)
    order = [part.step for part in parts]
    if not same or order != list(range(steps)):
        counted = ", ".join("none" if step is None else str(step + 1) for step in order)
        what = f"joins values of steps {counted} of {steps}"
        raise Refused(what, "stack one value of every step, in order")
    dims = list(first.dims)
    dims.insert(position % (len(dims) + 1), axis("T", steps))
    return replace(first, dims=tuple(dims), step=None)


def select(value: Value | Pooled | Product, dimension: int, index: int) -> Value | Pooled | Product:
    """Return one step of a sequence."""
    dims = list(value.dims)
    taken = dims.pop(dimension)
    if [piece.kind for piece in taken] != ["T"]:
        what = f"selects index {index} of dimension {dimension} of {named(value.dims)}"
        raise Refused(what, "only steps can be selected one by one")
    steps = taken[0].size
    static = isinstance(value, Value) and value.static
    return replace(value, dims=tuple(dims), step=None if static else index % steps)


def add_step(total: object, term: object) -> StepSum | None:
    """Add the value of one more step to a sum over steps; return None if the operands are something else."""
    if isinstance(term, StepSum) and not isinstance(total, StepSum):
        total, term = term, total
    if not isinstance(term, Value | Pooled) or term.step is None:
        return None
    plain = replace(term, step=None)
    if isinstance(total, StepSum):
        known, steps = total.term, total.steps
    elif isinstance(total, Value | Pooled) and total.step is not None:
        known, steps = replace(total, step=None), frozenset({total.step})
    else:
        return None
    if known != plain or term.step in steps:
        return None
    return StepSum(plain, steps | {term.step})


def has_time(value: Value | Pooled | Product) -> Piece | None:
    """Return the axis T of a value, or None."""
    return next((piece for dim in value.dims for piece in dim if piece.kind == "T"), None)
