"""Linear layer: a layer with weights on tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from stas_neuro.ir.ops.base import (
    TOKENS_OR_VECTOR,
    AttributeRange,
    BoundContext,
    Traits,
    TypeContext,
    Wanted,
    anywhere,
    of_parts,
)
from stas_neuro.ir.ops.synapses import (
    INTEGER_RANGES,
    STORED_WEIGHTS,
    FixedSynaptic,
    Synaptic,
    bound_synapses,
)
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import Array, Kind, Shape, ValueType

__all__ = ["FixedLinear", "Linear"]


@dataclass(frozen=True, kw_only=True)
class Linear(Synaptic):
    """y = x W^T + alive * bias, per token; on x (D,) without alive."""

    in_features: int
    out_features: int
    bias: bool

    OPTIONAL: ClassVar[tuple[str, ...]] = ("alive",)
    TRAITS: ClassVar[Traits] = replace(STORED_WEIGHTS, masks_tokens=True)

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        weight = (self.out_features, self.in_features)
        return {"weight": weight} | ({"bias": (self.out_features,)} if self.bias else {})

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type tokens, or a vector, of currents."""
        x = at.take("x", ranks=TOKENS_OR_VECTOR)
        at.require("x", "the number of features", x.shape[-1], self.in_features, "in_features")
        return {"y": at.made(Kind.CURRENT, (*x.shape[:-1], self.out_features))}

    @property
    def width(self) -> int:
        """Features of the input."""
        return self.in_features

    @property
    def fan_in(self) -> int:
        """Weights of one output value."""
        return self.in_features

    def taps(self, entering: Shape, leaving: Shape) -> Array:
        """All inputs of a token, for each token."""
        return np.full(leaving[0] if len(leaving) == 2 else 1, self.in_features, dtype=np.int64)

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take all features of the token."""
        return {"x": of_parts(anywhere(wanted, axis=1), self.in_features)}


@dataclass(frozen=True, kw_only=True)
class FixedLinear(Linear, FixedSynaptic, integers_of=Linear):
    """y = alive * ((shift(x W^T, weight_exp) << 6) + (bias << bias_exp)), as of `FixedConv2d`.

    A dead token's x is 0, so that only its bias has to be held back.
    """

    weight_bits: int
    bias_exp: int
    x_shift: int = 0

    LATER: ClassVar[frozenset[str]] = frozenset({"x_shift"})
    RANGES: ClassVar[dict[str, AttributeRange]] = INTEGER_RANGES

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        features = (self.out_features,)
        return {"weight": (self.out_features, self.in_features), "weight_exp": features, "bias": features}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound synaptic input with its bias, which halting may hold back."""
        y = bound_synapses(self, at)
        return {"y": y.with_zero() if "alive" in at.graph.inputs(self) else y}
