"""Every operation of the IR, one file a family: node, integer twin, traits, and all that needs only numpy.

An operation is a subclass of `Node` in a module that is imported here; nothing else has to be listed. What
other stages need to know of it they keep in tables made by `per_op`, which fail at import where one is
missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from stas_neuro.ir.ops.attention import *  # noqa: F403
from stas_neuro.ir.ops.base import Node as Node
from stas_neuro.ir.ops.convolution import *  # noqa: F403
from stas_neuro.ir.ops.ends import *  # noqa: F403
from stas_neuro.ir.ops.gates import *  # noqa: F403
from stas_neuro.ir.ops.halting import *  # noqa: F403
from stas_neuro.ir.ops.image_score import *  # noqa: F403
from stas_neuro.ir.ops.layout import *  # noqa: F403
from stas_neuro.ir.ops.linear import *  # noqa: F403
from stas_neuro.ir.ops.neurons import *  # noqa: F403
from stas_neuro.ir.ops.normalisation import *  # noqa: F403
from stas_neuro.ir.ops.pooling import *  # noqa: F403
from stas_neuro.ir.ops.readout import *  # noqa: F403
from stas_neuro.ir.ops.synapses import *  # noqa: F403
from stas_neuro.ir.ops.synapses import Synaptic
from stas_neuro.ir.ops.tokens import *  # noqa: F403


def _subclasses(cls: type[Node]) -> Iterator[type[Node]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


_CONCRETE = sorted({cls for cls in _subclasses(Node) if not cls.ABSTRACT}, key=lambda cls: cls.__name__)
OPERATIONS: tuple[type[Node], ...] = tuple(cls for cls in _CONCRETE if cls.INTEGERS_OF is None)
"""Every node type of the traced and folded stages."""
FLOAT_OF: dict[type[Node], type[Node]] = {cls: cls.INTEGERS_OF for cls in _CONCRETE if cls.INTEGERS_OF}
"""The operation that each integer twin stands for; a quantised graph holds none of those."""
NODE_TYPES: dict[str, type[Node]] = {cls.__name__: cls for cls in (*OPERATIONS, *FLOAT_OF)}
"""Every node type by the name it has in files."""
QUANTISED: tuple[type[Node], ...] = tuple(
    next((twin for twin, stands_for in FLOAT_OF.items() if stands_for is op), op)
    for op in OPERATIONS
    if not op.FOLDED_AWAY
)
"""Every node type of the quantised stage."""
for _cls in QUANTISED:
    if not hasattr(_cls, "bound"):
        raise TypeError(f"operation {_cls.__name__} lacks bound, the ranges of its integers")
for _cls in OPERATIONS:
    if _cls.TRAITS.stores_weights != issubclass(_cls, Synaptic):
        raise TypeError(f"operation {_cls.__name__} has to be a Synaptic, or to store no weights")

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
