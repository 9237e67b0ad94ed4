"""What the reference knows of each operation, one file a family: docs/integer.md has the integers."""

from __future__ import annotations

from collections.abc import Mapping

from stas_neuro.ir import FLOAT_OF, OPERATIONS, QUANTISED, Input, Node, Output, per_op
from stas_neuro.reference.ops import (
    attention,
    gates,
    halting,
    image_score,
    layout,
    neurons,
    pooling,
    readout,
    synapses,
    tokens,
)
from stas_neuro.reference.ops.base import Operator, Rules

_ENDS = (Input, Output)
"""The run's own ends."""
RULES: Mapping[type[Node], Rules] = per_op(
    "rules of the reference",
    {
        **attention.RULES,
        **gates.RULES,
        **halting.RULES,
        **image_score.RULES,
        **layout.RULES,
        **neurons.RULES,
        **pooling.RULES,
        **readout.RULES,
        **synapses.RULES,
        **tokens.RULES,
    },
    without=_ENDS,
)


def _operators(types: tuple[type[Node], ...], *, integers: bool) -> dict[type[Node], Operator]:
    found = {}
    for cls in types:
        op = FLOAT_OF.get(cls, cls)
        if op in _ENDS:
            continue
        rules = RULES[op]
        if rules.count is None and op.TRAITS.counts_events:
            raise TypeError(f"rules of the reference: {op.__name__} counts events and has no counter")
        operator = rules.integers if integers else rules.floats
        if operator is None:
            raise TypeError(f"rules of the reference: {cls.__name__} has no integers")
        found[cls] = operator
    return found


OPERATORS: Mapping[type[Node], Operator] = _operators(OPERATIONS, integers=False)
"""The float operator of each node type."""
FIXED_OPERATORS: Mapping[type[Node], Operator] = _operators(QUANTISED, integers=True)
"""The operator of each node type of a quantised graph."""
