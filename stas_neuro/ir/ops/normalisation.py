"""Batch normalisation, which no core has: folding removes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stas_neuro.ir.ops.base import AttributeRange, Node, Traits, TypeContext, no_memory, same_values
from stas_neuro.ir.types import Kind, Shape, ValueType

__all__ = ["BatchNorm"]


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Node):
    """y = ((x - mean) / sqrt(var + eps) * gamma + beta) * alive.

    Features are axis 0 of a map, the last axis of tokens.
    """

    features: int
    eps: float

    OPTIONAL: ClassVar[tuple[str, ...]] = ("alive",)
    TRAITS: ClassVar[Traits] = Traits(
        counts_events=False,
        fires=False,
        keeps_neurons=False,
        makes_current=False,
        stores_weights=False,
        multiplies_spikes=False,
        passes_current=True,
        in_place=True,
        mixes_tokens=(),
        masks_tokens=True,
        needs_program=False,
        gathers=False,
        stacks=False,
        gates_tokens=False,
        sends_if_visited=False,
        may_end=False,
        state="",
    )
    FOLDED_AWAY: ClassVar[bool] = True
    needs = same_values
    memory = no_memory
    RANGES: ClassVar[dict[str, AttributeRange]] = {"eps": (lambda eps: eps > 0, "it must be above 0")}

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {param: (self.features,) for param in ("gamma", "beta", "mean", "var")}

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type currents of the shape of the input."""
        x = at.take("x")
        features = x.shape[0] if len(x.shape) == 3 else x.shape[-1]
        at.require("x", "the number of features", features, self.features, "features")
        return {"y": at.made(Kind.CURRENT, x.shape)}
