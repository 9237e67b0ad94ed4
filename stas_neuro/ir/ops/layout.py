"""What moves, sums up or masks values: tokens from maps, residual sums, sums over steps, gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from stas_neuro.ir.ops.base import (
    MAP,
    TOKENS,
    AttributeRange,
    BoundContext,
    MaskPort,
    Node,
    Traits,
    TypeContext,
    Wanted,
    anywhere,
    check_heads,
    in_parts,
    no_memory,
    product,
    same_values,
    within,
)
from stas_neuro.ir.ranges import STATE_LIMIT, WORD_LIMIT, Range
from stas_neuro.ir.types import EVENTS, Kind, Phase, Shape, ValueType

__all__ = ["Add", "FixedAdd", "FixedIntegrate", "Gate", "Integrate", "Tokens"]

IntegrateMode = Literal["max", "mean", "sum", "learned"]
GateAxis = Literal["token", "channel", "head"]

_PASSES = Traits(
    counts_events=False,
    fires=False,
    keeps_neurons=False,
    makes_current=False,
    stores_weights=False,
    multiplies_spikes=False,
    passes_current=True,
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


@dataclass(frozen=True, kw_only=True)
class Tokens(Node):
    """Map to tokens: x (D, H, W) -> y (H*W, D), row-major."""

    TRAITS: ClassVar[Traits] = _PASSES
    needs = same_values
    memory = no_memory

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type tokens of what the map has."""
        x = at.take("x", ranks=MAP)
        channels, height, width = x.shape
        return {"y": at.made(x.kind, (height * width, channels), x.bound)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound as the map."""
        return {"y": at.inputs["x"]}


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """y = a + b, same shape."""

    INPUTS: ClassVar[tuple[str, ...]] = ("a", "b")
    TRAITS: ClassVar[Traits] = _PASSES
    needs = same_values
    memory = no_memory

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a sum: of events a count, of currents a current, with a number in it a number."""
        a, b = at.take("a"), at.take("b")
        at.require("b", "the shape", b.shape, a.shape, "that of a")
        if a.kind in EVENTS and b.kind in EVENTS and a.bound is not None and b.bound is not None:
            kind = Kind.NUMBER if Kind.NUMBER in (a.kind, b.kind) else Kind.GRADED
            return {"y": at.made(kind, a.shape, a.bound + b.bound)}
        return {"y": at.made(Kind.CURRENT, a.shape)}


@dataclass(frozen=True, kw_only=True)
class FixedAdd(Add, integers_of=Add):
    """y = a_weight * a + b_weight * b.

    The weights are 1 but where a mean or a weighted sum over steps has left a finer unit than a spike's.
    """

    a_weight: int = 1
    b_weight: int = 1

    RANGES: ClassVar[dict[str, AttributeRange]] = {"a_weight": within(1, 256), "b_weight": within(1, 256)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound the weighted sum."""
        a, b = at.inputs["a"].times(self.a_weight), at.inputs["b"].times(self.b_weight)
        y = Range(a.low + b.low, a.high + b.high)
        at.fits("the sum", y, STATE_LIMIT, "lower the weight_exp of the layers before it")
        return {"y": y}


@dataclass(frozen=True, kw_only=True)
class Integrate(Node):
    """Reduces a value of the T stem steps to one value (phase once). `learned` weighs the steps."""

    mode: IntegrateMode

    TRAITS: ClassVar[Traits] = replace(_PASSES, needs_program=True, stacks=True)
    needs = same_values
    memory = no_memory
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.ONCE})

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {"weights": (time_steps,)} if self.mode == "learned" else {}

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type the largest value, or the sum of events as their count, else a real number."""
        x = at.take("x")
        if self.mode == "max":
            return {"y": at.made(x.kind, x.shape, x.bound)}
        if self.mode == "sum" and x.kind in EVENTS:
            kind = Kind.NUMBER if x.kind == Kind.NUMBER else Kind.GRADED
            return {"y": at.made(kind, x.shape, product(x.bound, at.graph.time_steps))}
        return {"y": at.made(Kind.CURRENT, x.shape)}


@dataclass(frozen=True, kw_only=True)
class FixedIntegrate(Integrate, integers_of=Integrate):
    """Max, or sum over the T steps (that of `mean` too: what follows holds the 1/T).

    learned: y = (sum over t of weights[t] * x[t]) >> shift, weights of 16 bits.
    """

    shift: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {"shift": within(0, 31)}

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type as the float node; a mean, which is a sum here, stands for a real number."""
        x = at.take("x")
        if self.mode == "mean" and x.kind in EVENTS:
            return {"y": at.made(Kind.NUMBER, x.shape, product(x.bound, at.graph.time_steps))}
        return Integrate.infer(self, at)

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound the sum over steps."""
        x, steps = at.inputs["x"].with_zero(), at.graph.time_steps
        if self.mode == "max":
            return {"y": at.inputs["x"]}
        if self.mode != "learned":
            y = x.times(steps)
        else:
            weights = at.tensor("weights")
            positive, negative = int(np.maximum(weights, 0).sum()), int(np.minimum(weights, 0).sum())
            y = Range(positive * x.low + negative * x.high, positive * x.high + negative * x.low)
            at.fits("the weighted sum", y, WORD_LIMIT, "raise its shift")
            y = y.shifted(self.shift)
        at.fits("the sum over steps", y, STATE_LIMIT, "lower the weight_exp of the layers before it")
        return {"y": y}


@dataclass(frozen=True, kw_only=True)
class Gate(Node):
    """y = x * mask, x (N, D); mask (N,) per token, (D,) per channel, or (N, heads) per token and head.

    A mask of heads holds for the D/heads contiguous channels of each. The gates of channels and of heads
    multiply spikes; that of tokens is what halting does to a core.
    """

    axis: GateAxis

    INPUTS: ClassVar[tuple[str, ...]] = ("x", "mask")
    TRAITS: ClassVar[Traits] = replace(_PASSES, in_place=True, gates_tokens=True)
    memory = no_memory
    BY_SPIKES: ClassVar[Traits] = replace(_PASSES, in_place=True, counts_events=True, multiplies_spikes=True)

    @property
    def traits(self) -> Traits:
        """What a gate of its axis is like."""
        return self.TRAITS if self.axis == "token" else self.BY_SPIKES

    def mask_port(self, port: str) -> MaskPort | None:
        """Take a mask of tokens where it gates these."""
        return MaskPort("x") if port == "mask" and self.axis == "token" else None

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the same value, and its mask; a mask of tokens reaches cores as a gate."""
        if self.axis == "head":
            return {"x": wanted, "mask": in_parts(wanted, shapes["mask"][1])}
        return {"x": wanted, "mask": anywhere(wanted, axis=0)}

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type as the input; masks of channels and heads are spikes, those of tokens checked with halting."""
        x = at.take("x", ranks=TOKENS)
        if self.axis == "channel":
            mask = at.take("mask", frozenset({Kind.SPIKE}), (1,))
            at.require("mask", "the shape", mask.shape, x.shape[1:], "that of a channel mask")
        elif self.axis == "head":
            tokens, heads = at.take("mask", frozenset({Kind.SPIKE}), TOKENS).shape
            at.require("mask", "the number of tokens", tokens, x.shape[0], "that of x")
            check_heads(at, heads, x.shape[1])
        return {"y": at.made(x.kind, x.shape, x.bound)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound as the input, or 0."""
        return {"y": at.inputs["x"].with_zero()}
