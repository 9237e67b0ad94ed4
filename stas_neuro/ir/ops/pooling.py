"""Pooling of spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stas_neuro.ir.ops.base import MAP, AttributeRange, BoundContext, Node, Traits, TypeContext, within
from stas_neuro.ir.ops.windows import output_size
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import Kind, ValueType
from stas_neuro.limits import KERNEL_LIMIT


@dataclass(frozen=True, kw_only=True)
class SpikeMaxPool(Node):
    """Max pool of spikes, which is their OR: x (C, H, W) -> y (C, H', W')."""

    kernel: int
    stride: int
    padding: int

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
    )

    RANGES: ClassVar[dict[str, AttributeRange]] = {"kernel": within(1, KERNEL_LIMIT)}

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a map of spikes."""
        x = at.take("x", frozenset({Kind.SPIKE}), MAP)
        return {"y": at.made(Kind.SPIKE, (x.shape[0], *output_size(self, at, x.shape)), 1)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound spikes."""
        return {"y": Range(0, 1)}
