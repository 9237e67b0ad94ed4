"""What the reference knows of an operation, and what its rules take and give.

An operator takes the values at the connected input ports, with a leading batch axis, and gives those at its
output ports. A counter takes both and gives the events of one step by kind (docs/activity.md), for each value
that the node outputs, so that they can be summed over the whole of a layer or over the pieces of it on cores.

Integers are held by floats, which lets BLAS do the products. A float holds every integer up to 2^24 (float32)
or 2^53 (float64), a sum of integers is exact in whatever order it is taken if the sum of their magnitudes
keeps that limit, and a product with a power of two is exact always. So a shift is a product, then floor where
it goes to the right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import Graph, Kind

Values = NDArray[np.floating[Any]]
Inputs = Mapping[str, Values]
Outputs = dict[str, Values]


@dataclass
class NodeContext:
    """A node's place in a run: its parameters, its state, and which step it is at (from 0, of `steps`).

    State starts empty for each batch.
    """

    tensors: Mapping[str, Values]
    steps: int
    skip: bool
    step: int = 0
    state: dict[str, Values] = field(default_factory=dict)

    @property
    def last_step(self) -> bool:
        """Whether this is the last of the model steps."""
        return self.step == self.steps - 1


Counts = NDArray[np.int64]
Each = NDArray[Any]
"""Counts (B, positions, features) for each value that a node outputs; an axis of 1 stands for equal ones."""


@dataclass(frozen=True, eq=False)
class Shared:
    """Counts of work that a core does once for all the values it is for: (B, positions, features) or coarser.

    An axis of 1 is work for all positions, one of heads is work for the features of a head.
    """

    counts: NDArray[Any]


Counted = list[tuple[str, Each | Shared]]
Kinds = Mapping[str, Kind]
Operator = Callable[[Any, Inputs, NodeContext], Outputs]
Counter = Callable[[Any, Inputs, Inputs, Kinds], Counted]
Between = Callable[[Graph, Any, Mapping[str, int]], int]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Everything that the reference knows of an operation.

    Parameters
    ----------
    floats : operator
    integers : operator or None
        Of the integer twin, whose inputs come in its `exact_dtype`; None where no quantised graph has it.
    between : function
        Bounds the magnitudes that the integers meet between ports, of which each has the given size.
    count : counter or None
        None where it does no events.
    """

    floats: Operator
    integers: Operator | None
    between: Between
    count: Counter | None


def no_more(graph: Graph, node: Any, size: Mapping[str, int]) -> int:
    """Meet nothing larger than what comes and goes at ports."""
    return 0


def shifted_right(value: Values, bits: int) -> Values:
    """Shift to the right, towards minus infinity."""
    return np.asarray(np.floor(value * 0.5**bits))


def sent(x: Values, bits: int) -> Values:
    """Round x to multiples of 2^bits, in units of these."""
    return shifted_right(x + 2.0 ** (bits - 1), bits) if bits else x


def by_position(x: Each) -> Each:
    """View maps (B, C, H, W), tokens (B, N, D) or vectors (B, D) as (B, positions, features)."""
    if x.ndim == 4:
        return x.reshape(*x.shape[:2], -1).swapaxes(1, 2)
    return x if x.ndim == 3 else x[:, None]


def synaptic_events(events: Each | Shared, values: Callable[[], Each | Shared], kind: Kind) -> Counted:
    """Count the inputs that are not 0: products of real numbers, or spikes and, of graded ones, values."""
    if kind in (Kind.CURRENT, Kind.NUMBER):
        return [("macs", events)]
    return [("synops", events), ("synops_unary", values() if kind == Kind.GRADED else events)]


def magnitude_sum(weight: NDArray[np.integer[Any]]) -> int:
    """Largest sum of the magnitudes of an output's weights."""
    return int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1).max())
