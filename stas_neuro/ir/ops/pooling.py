"""Pooling of spikes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from stas_neuro.ir.types import Kind, Shape, ValueType

__all__ = ["SpikeMaxPool"]


@dataclass(frozen=True, kw_only=True)
class SpikeMaxPool(Windowed):
    """Max pool of spikes, which is their OR: x (C, H, W) -> y (C, H', W')."""

    kernel: Side
    stride: Side
    padding: Side

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

    memory = no_memory

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a map of spikes."""
        x = at.take("x", frozenset({Kind.SPIKE}), MAP)
        return {"y": at.made(Kind.SPIKE, (x.shape[0], *output_size(self, at, x.shape)), 1)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound spikes."""
        return {"y": Range(0, 1)}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the window of the same channel."""
        return {"x": in_windows(self, wanted, shapes["x"])}
