"""Pooling of spikes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from stas_neuro.ir.ops.base import (
    AT_LEAST_0,
    MAP,
    AttributeRange,
    BoundContext,
    Node,
    Traits,
    TypeContext,
    Wanted,
    no_memory,
    within,
)
from stas_neuro.ir.ops.windows import check_padding, in_windows, output_size
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import Kind, Shape, ValueType
from stas_neuro.limits import KERNEL_LIMIT

__all__ = ["SpikeMaxPool"]


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
        stacks=False,
        gates_tokens=False,
        sends_if_visited=False,
        may_end=False,
        state="",
    )

    RANGES: ClassVar[dict[str, AttributeRange]] = {"kernel": within(1, KERNEL_LIMIT), "padding": AT_LEAST_0}
    memory = no_memory

    def check(self, problems: Problems) -> None:
        """Note padding that reaches the kernel."""
        check_padding(self, problems)

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
