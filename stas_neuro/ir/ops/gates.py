"""Gates of spikes that need no tokens: both of two spikes, or one without the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stas_neuro.ir.ops.base import BoundContext, Node, Traits, TypeContext, no_memory, same_values
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import Kind, ValueType

__all__ = ["SpikeAnd"]


@dataclass(frozen=True, kw_only=True)
class SpikeAnd(Node):
    """y = a AND b, same shape; with `invert` a AND NOT b: port b is the one that is inverted.

    The IAND residual of SEW-ResNet, y = (1 - branch) * shortcut, takes the shortcut at a and the branch at b.
    """

    invert: bool

    INPUTS: ClassVar[tuple[str, ...]] = ("a", "b")
    TRAITS: ClassVar[Traits] = Traits(
        counts_events=True,
        fires=False,
        keeps_neurons=False,
        makes_current=False,
        stores_weights=False,
        multiplies_spikes=True,
        passes_current=False,
        in_place=False,
        mixes_tokens=(),
        masks_tokens=False,
        needs_program=False,
        gathers=False,
        stacks=False,
        gates_tokens=False,
        sends_if_visited=False,
        may_end=False,
        state="",
    )
    needs = same_values
    memory = no_memory

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type spikes."""
        a, b = (at.take(port, frozenset({Kind.SPIKE})) for port in self.INPUTS)
        at.require("b", "the shape", b.shape, a.shape, "that of a")
        return {"y": at.made(Kind.SPIKE, a.shape, 1)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound spikes."""
        return {"y": Range(0, 1)}
