"""Pooling: the largest value of each window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from stas_neuro.ir.ops.base import (
    MAP,
    BoundContext,
    Traits,
    TypeContext,
    Wanted,
    no_memory,
)
from stas_neuro.ir.ops.windows import Side, Windowed, in_windows, output_size
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import VALUES, Kind, Shape, ValueType

__all__ = ["MaxPool", "SpikeMaxPool"]


@dataclass(frozen=True, kw_only=True)
class _Pool(Windowed, abstract=True):
    """Window over a map."""

    kernel: Side
    stride: Side
    padding: Side
    dilation: Side = 1

    memory = no_memory

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the window of the same channel."""
        return {"x": in_windows(self, wanted, shapes["x"])}


@dataclass(frozen=True, kw_only=True)
class SpikeMaxPool(_Pool):
    """Max pool of spikes, which is their OR: x (C, H, W) -> y (C, H', W')."""

    TRAITS: ClassVar[Traits] = Traits(
        counts_events=False,
        fires=False,
        keeps_neurons=False,
        makes_current=False,
        stores_weights=False,
        multiplies_spikes=False,
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

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a map of spikes."""
        x = at.take("x", frozenset({Kind.SPIKE}), MAP)
        return {"y": at.made(Kind.SPIKE, (x.shape[0], *output_size(self, at, x.shape)), 1)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound spikes."""
        return {"y": Range(0, 1)}


@dataclass(frozen=True, kw_only=True)
class MaxPool(_Pool):
    """Max pool of values other than spikes, among which padding is none: x (C, H, W) -> y (C, H', W').

    A core adds up what reaches a neuron, so that the largest of it needs a neuron program.
    """

    TRAITS: ClassVar[Traits] = replace(SpikeMaxPool.TRAITS, passes_current=True, needs_program=True)

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a map of what the input has."""
        x = at.take("x", VALUES - {Kind.SPIKE}, MAP)
        return {"y": at.made(x.kind, (x.shape[0], *output_size(self, at, x.shape)), x.bound)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound as the input."""
        return {"y": at.inputs["x"]}
