"""The linear calls of a chain, found in the trace, which run as the module has them, in float64."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from stas_neuro.importers.trace import operation, path_of
from stas_neuro.importers.values import Chain, Shaped, Source, Value
from stas_neuro.ir import Add, BatchNorm, Conv2d, Linear, Map, Slice, Tokens

if TYPE_CHECKING:
    from stas_neuro.importers.build import Builder
    from stas_neuro.importers.lower import Lowering

_SAME = frozenset({"to", "_to_copy", "type_as", "_assert_tensor_metadata"})
"""Operations that only concern the dtype: a chain is float64 throughout."""


def continues(lowering: Lowering, x: object) -> bool:
    """Return whether a linear call on a value continues a chain: other linear operations make the value."""
    if isinstance(x, Value):
        return not x.at_end and _is_current(lowering.builder, x.source)
    return isinstance(x, Chain)


def _is_current(builder: Builder, source: Source) -> bool:
    """Return whether an output is a sum of what layers with weights give."""
    pending = [source[0]]
    while pending:
        name = pending.pop()
        node = builder.nodes[name]
        if isinstance(node, Conv2d | Linear | BatchNorm):
            return True
        if isinstance(node, Add | Tokens | Map | Slice):
            pending.extend(src for src, _ in builder.inputs[name].values())
    return False


@dataclass(frozen=True)
class Region:
    """The calls of a chain in order, and the values that they read.

    Parameters
    ----------
    lowering : Lowering
    calls : sequence of fx.Node
    bases : mapping of fx.Node to Value
        What the calls read; the same value in several layouts several times.
    """

    lowering: Lowering
    calls: Sequence[fx.Node]
    bases: Mapping[fx.Node, Value]

    @classmethod
    def of(cls, lowering: Lowering, made: fx.Node) -> Region:
        """Find the calls that make a value, back to what is not linear."""
        order, writes = lowering.traced.order, lowering.traced.writes
        calls: set[fx.Node] = set()
        bases: dict[fx.Node, Value] = {}
        pending = [made]
        while pending:
            node = pending.pop()
            if node in calls or node in bases or lowering.constant(node) is not None:
                continue
            base = None if node is made else _base(lowering, node)
            if base is not None:
                bases[node] = base
                continue
            calls.add(node)
            pending += node.all_input_nodes
            pending += [write for write in writes.get(node, ()) if order[write] < order[made]]
        return cls(lowering, sorted(calls, key=order.__getitem__), bases)

    @property
    def read(self) -> Sequence[Value]:
        """The values that the calls read, each once."""
        return tuple({base.source: base for base in self.bases.values()}.values())

    @property
    def computes(self) -> str:
        """What the calls compute of what, the same in each step of a loop over time."""
        places = {node: f"%{place}" for place, node in enumerate(self.calls)}

        def named(node: fx.Node) -> str:
            if node in places:
                return places[node]
            if node in self.bases:
                return f"{self.bases[node].source} as {self.bases[node].dims}"
            constant = self.lowering.constant(node)
            assert constant is not None
            values = constant.detach().contiguous().numpy()
            return f"{values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"

        calls = [(node.target, fx.node.map_arg((node.args, node.kwargs), named)) for node in self.calls]
        return repr(calls)

    def run(self, values: Mapping[fx.Node, Tensor]) -> Tensor:
        """Run the calls on values of the bases."""
        computed: dict[fx.Node, Any] = dict(values)

        def taken(node: fx.Node) -> Any:
            constant = self.lowering.constant(node)
            return computed[node] if constant is None else _double(constant)

        for node in self.calls:
            arguments, keywords = fx.node.map_arg((node.args, node.kwargs), taken)
            same = operation(node) in _SAME
            target: Any = node.target
            computed[node] = arguments[0] if same else target(*arguments, **keywords)
        result: Tensor = computed[self.calls[-1]]
        return result

    def __str__(self) -> str:
        steps = [f"{path_of(node) or 'module'} ({operation(node)})" for node in self.calls]
        names = [name for name, after in pairwise([*steps, ""]) if name != after]
        shown = names if len(names) <= 8 else [*names[:4], "...", *names[-3:]]
        return " -> ".join(shown)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double() if tensor.is_floating_point() else tensor


def _base(lowering: Lowering, node: fx.Node) -> Value | None:
    """Return the value of a call that is not linear; None if the call is."""
    value = lowering.lowered(node)
    if isinstance(value, Shaped) and not isinstance(value, Value | Chain):
        value = lowering.value_of(node)
    if isinstance(value, Value) and not continues(lowering, value):
        return value
    return None
