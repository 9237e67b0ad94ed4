"""What rearranges tokens and channels without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stas_neuro.ir.ops.base import (
    TOKENS,
    BoundContext,
    Node,
    Traits,
    TypeContext,
    Untypable,
    no_memory,
    same_values,
)
from stas_neuro.ir.ops.layout import Tokens
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import ValueType

__all__ = ["Map"]


@dataclass(frozen=True, kw_only=True)
class Map(Node):
    """Tokens to map, the inverse of `Tokens`: x (height*width, D), row-major -> y (D, height, width)."""

    height: int
    width: int

    TRAITS: ClassVar[Traits] = Tokens.TRAITS
    needs = same_values
    memory = no_memory

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a map of what the tokens have."""
        x = at.take("x", ranks=TOKENS)
        tokens, channels = x.shape
        if tokens != self.height * self.width:
            what = (
                f"has {tokens} tokens, a map of {self.height} x {self.width} holds {self.height * self.width}"
            )
            at.refuse("x", what, "give the height and width of the grid of tokens")
            raise Untypable
        return {"y": at.made(x.kind, (channels, self.height, self.width), x.bound)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound as the tokens."""
        return {"y": at.inputs["x"]}
