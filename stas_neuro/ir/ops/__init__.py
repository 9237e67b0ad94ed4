"""Every operation of the IR, one file a family: node, integer twin, traits, rules for types and bounds.

A new operation is listed here. What other stages need to know of it they keep in tables made by `per_op`,
which fail at import where an operation is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from stas_neuro.ir.ops.attention import FixedMaskedColumnSum, FixedSpikeMatMul, MaskedColumnSum, SpikeMatMul
from stas_neuro.ir.ops.base import Node
from stas_neuro.ir.ops.convolution import Conv2d, FixedConv2d
from stas_neuro.ir.ops.ends import FixedInput, FixedOutput, Input, Output
from stas_neuro.ir.ops.halting import FixedHaltAccumulate, FixedHaltingScore, HaltAccumulate, HaltingScore
from stas_neuro.ir.ops.layout import Add, FixedAdd, FixedIntegrate, Gate, Integrate, Tokens
from stas_neuro.ir.ops.linear import FixedLinear, Linear
from stas_neuro.ir.ops.neurons import LIF, FixedLIF
from stas_neuro.ir.ops.normalisation import BatchNorm
from stas_neuro.ir.ops.pooling import SpikeMaxPool
from stas_neuro.ir.ops.readout import FixedReadout, Readout

__all__ = [
    "FLOAT_OF",
    "INTEGER_TWINS",
    "LIF",
    "NODE_TYPES",
    "OPERATIONS",
    "QUANTISED",
    "Add",
    "BatchNorm",
    "Conv2d",
    "FixedAdd",
    "FixedConv2d",
    "FixedHaltAccumulate",
    "FixedHaltingScore",
    "FixedInput",
    "FixedIntegrate",
    "FixedLIF",
    "FixedLinear",
    "FixedMaskedColumnSum",
    "FixedOutput",
    "FixedReadout",
    "FixedSpikeMatMul",
    "Gate",
    "HaltAccumulate",
    "HaltingScore",
    "Input",
    "Integrate",
    "Linear",
    "MaskedColumnSum",
    "Node",
    "Output",
    "Readout",
    "SpikeMatMul",
    "SpikeMaxPool",
    "Tokens",
    "op_of",
    "per_op",
]

OPERATIONS: tuple[type[Node], ...] = (
    Input, Conv2d, Linear, BatchNorm, LIF, SpikeMaxPool, Integrate, Tokens, Add, SpikeMatMul,
    MaskedColumnSum, Gate, HaltingScore, HaltAccumulate, Readout, Output,
)  # fmt: skip
"""Every node type of the traced and folded stages."""
INTEGER_TWINS: tuple[type[Node], ...] = (
    FixedInput, FixedConv2d, FixedLinear, FixedLIF, FixedAdd, FixedSpikeMatMul, FixedMaskedColumnSum,
    FixedIntegrate, FixedHaltingScore, FixedHaltAccumulate, FixedReadout, FixedOutput,
)  # fmt: skip
"""The node types that stand for one of `OPERATIONS`, their first base, in the quantised stage."""
WITHOUT_INTEGERS: tuple[type[Node], ...] = (BatchNorm,)
"""Operations that no quantised graph has."""
NODE_TYPES: dict[str, type[Node]] = {cls.__name__: cls for cls in (*OPERATIONS, *INTEGER_TWINS)}
"""Every node type by the name it has in files."""
FLOAT_OF: dict[type[Node], type[Node]] = {cls: cls.__mro__[1] for cls in INTEGER_TWINS}
"""The float node type that each integer one stands for; a quantised graph holds none of those."""
QUANTISED: tuple[type[Node], ...] = tuple(
    next((twin for twin, stands_for in FLOAT_OF.items() if stands_for is op), op)
    for op in OPERATIONS
    if op not in WITHOUT_INTEGERS
)
"""Every node type of the quantised stage."""
for _cls in QUANTISED:
    if not hasattr(_cls, "bound"):
        raise TypeError(f"operation {_cls.__name__} lacks bound, the ranges of its integers")

R = TypeVar("R")


def per_op(
    what: str,
    rules: Mapping[type[Node], R],
    *,
    of: Collection[type[Node]] = OPERATIONS,
    without: Collection[type[Node]] = (),
) -> Mapping[type[Node], R]:
    """Return a table of rules by node type, complete.

    Parameters
    ----------
    what : str
        What the table says of an operation, for the error.
    rules : mapping of node type to rule
    of : collection of node types
        Those that need a rule: `OPERATIONS`, or `QUANTISED`.
    without : collection of node types
        Those of them that have none.

    Raises
    ------
    TypeError
        When an operation is neither in `rules` nor in `without`, or in both, or is none of `of`.
    """
    missing = [cls.__name__ for cls in of if (cls in rules) == (cls in without)]
    foreign = [cls.__name__ for cls in (*rules, *without) if cls not in of]
    if missing or foreign:
        named = ", ".join(missing or foreign)
        why = "needs a rule, or to be listed as without one" if missing else "is no operation here"
        raise TypeError(f"{what}: {named} {why}")
    return dict(rules)


def op_of(node: Node) -> type[Node]:
    """Return what a node does, whatever the arithmetic: its type, or the float one it stands for."""
    return FLOAT_OF.get(type(node), type(node))
