"""What rearranges tokens, takes some of their channels or their mean, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from stas_neuro.ir.ops.base import (
    AT_LEAST_0,
    TOKENS,
    AttributeRange,
    BoundContext,
    Node,
    Traits,
    TypeContext,
    Untypable,
    Wanted,
    no_memory,
    product,
    same_values,
)
from stas_neuro.ir.ops.layout import Tokens
from stas_neuro.ir.ops.synapses import SHIFT_RANGE
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import STATE_LIMIT, Range
from stas_neuro.ir.types import EVENTS, Kind, Shape, ValueType

__all__ = ["FixedTokenMean", "Map", "Slice", "TokenMean"]


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


@dataclass(frozen=True, kw_only=True)
class Slice(Node):
    """Channels `start` to `stop` (which is not among them) of a map, of tokens or of a vector."""

    start: int
    stop: int

    TRAITS: ClassVar[Traits] = Tokens.TRAITS
    RANGES: ClassVar[dict[str, AttributeRange]] = {"start": AT_LEAST_0}
    memory = no_memory

    def check(self, problems: Problems) -> None:
        """Note a slice of nothing."""
        if self.start >= self.stop:
            what = f"start {self.start} is not below stop {self.stop}"
            problems.add(self.name, what, "a slice has at least 1 channel")

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type fewer channels of what the input has."""
        x = at.take("x")
        axis = 0 if len(x.shape) == 3 else -1
        if self.stop > x.shape[axis]:
            what = f"has {x.shape[axis]} channels, the slice ends at {self.stop}"
            at.refuse("x", what, "take channels that are there")
            raise Untypable
        kept = (self.stop - self.start,)
        return {"y": at.made(x.kind, kept + x.shape[1:] if axis == 0 else x.shape[:-1] + kept, x.bound)}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the same channel, by its number in the input."""
        channels = shapes["x"][0 if len(shapes["x"]) == 3 else -1]
        return {"x": np.pad(wanted, ((0, 0), (self.start, channels - self.stop)))}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound as the input."""
        return {"y": at.inputs["x"]}


@dataclass(frozen=True, kw_only=True)
class TokenMean(Node):
    """Mean over tokens: x (N, D) -> y (1, D).

    The synapses of layers before it end on the neurons behind it, which add up what all tokens bring.
    """

    TRAITS: ClassVar[Traits] = replace(Tokens.TRAITS, in_place=True, mixes_tokens=("x",))
    memory = no_memory

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type one token of real numbers."""
        return {"y": at.made(Kind.CURRENT, (1, at.take("x", ranks=TOKENS).shape[1]))}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the feature of all tokens."""
        return {"x": np.broadcast_to(wanted, shapes["x"])}


@dataclass(frozen=True, kw_only=True)
class FixedTokenMean(TokenMean, integers_of=TokenMean):
    """Sum over the N tokens: what follows holds the 1/N.

    With `x_shift` each token's x is sent to the sum as x / 2^x_shift, rounded to the nearest. Then synapses
    of layers before it cannot end on the neurons behind it: what is rounded is added up before.
    """

    x_shift: int = 0

    LATER: ClassVar[frozenset[str]] = frozenset({"x_shift"})
    RANGES: ClassVar[dict[str, AttributeRange]] = {"x_shift": SHIFT_RANGE}

    @property
    def traits(self) -> Traits:
        """What it is like: only what is not rounded can end on the neurons behind it."""
        return replace(self.TRAITS, in_place=False, needs_program=True) if self.x_shift else self.TRAITS

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type the sum of events, which stands for a real number, as one."""
        x = at.take("x", ranks=TOKENS)
        if x.kind in EVENTS:
            return {"y": at.made(Kind.NUMBER, (1, x.shape[1]), product(x.bound, x.shape[0]))}
        return TokenMean.infer(self, at)

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound the sum over tokens."""
        y = at.inputs["x"].rounded(self.x_shift).times(at.source_type("x").shape[0])
        at.fits("the sum over tokens", y, STATE_LIMIT, "lower the weight_exp of the layers before it")
        return {"y": y}
