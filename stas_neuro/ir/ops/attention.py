"""Attention without softmax: products of spikes, and sums of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import ClassVar, Literal

import numpy as np

from stas_neuro.ir.ops.base import (
    TOKENS,
    AttributeRange,
    BoundContext,
    CoreMemory,
    Node,
    Traits,
    TypeContext,
    Wanted,
    anywhere,
    check_heads,
    in_parts,
    of_parts,
    within,
)
from stas_neuro.ir.ranges import ALIGN, STATE_LIMIT, Range
from stas_neuro.ir.types import Kind, Shape, ValueType

__all__ = [
    "FixedHeadSum",
    "FixedMaskedColumnSum",
    "FixedSpikeMatMul",
    "HeadSum",
    "MaskedColumnSum",
    "SpikeMatMul",
]

MatMulForm = Literal["(QK^T)V", "Q(K^TV)"]
_SPIKES = frozenset({Kind.SPIKE})

_ATTENTION = Traits(
    counts_events=True,
    fires=False,
    keeps_neurons=False,
    makes_current=True,
    stores_weights=False,
    multiplies_spikes=True,
    passes_current=False,
    in_place=False,
    mixes_tokens=("k", "v"),
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
class SpikeMatMul(Node):
    """Softmax-free attention: per head of D/heads contiguous channels, y = scale * (q k^T) v.

    `form` is the order of the two products: equal results on spikes, other operation counts.
    """

    heads: int
    scale: float = 0.125
    form: MatMulForm

    INPUTS: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    TRAITS: ClassVar[Traits] = _ATTENTION
    RANGES: ClassVar[dict[str, AttributeRange]] = {"scale": (lambda scale: scale > 0, "it must be above 0")}

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type tokens of currents; the bound is that of the integer product."""
        q, k, v = (at.take(port, _SPIKES, TOKENS) for port in self.INPUTS)
        at.require("k", "the shape", k.shape, q.shape, "that of q")
        at.require("v", "the shape", v.shape, q.shape, "that of q")
        tokens, features = q.shape
        check_heads(at, self.heads, features)
        return {"y": at.made(Kind.CURRENT, q.shape, tokens * (features // self.heads))}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the feature's own of v, and those of its head of q and k: of q at its token, else at all."""
        of_head = of_parts(in_parts(wanted, self.heads), wanted.shape[1])
        k, v = (np.broadcast_to(anywhere(values, axis=0), wanted.shape) for values in (of_head, wanted))
        return {"q": of_head, "k": k, "v": v}

    def memory(self, entering: Mapping[str, Shape], leaving: Shape, bits: int) -> CoreMemory:
        """Keep K^T V, or the spikes of K and V.

        Q(K^T V) keeps an integer 0..N for each of the head's channels and each feature. (QK^T)V keeps the
        spikes of K of its heads, and those of V of each feature.
        """
        tokens, features = leaving
        head = features // self.heads
        if self.form == "Q(K^TV)":
            return CoreMemory(feature_bits=head * ceil(log2(tokens + 1)))
        return CoreMemory(feature_bits=tokens, head_bits=tokens * head, head=head)


@dataclass(frozen=True, kw_only=True)
class FixedSpikeMatMul(SpikeMatMul, integers_of=SpikeMatMul):
    """y = ((q k^T) v) << (6 + exponent), per head; `scale` is in the threshold of the LIF behind it."""

    exponent: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {"exponent": within(0, 7)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound a token's sum of coincidences."""
        tokens, features = at.types[self.name, "y"].shape
        return _bounded(at, tokens * (features // self.heads), self.exponent)


@dataclass(frozen=True, kw_only=True)
class MaskedColumnSum(Node):
    """Spike-driven attention: k, v (N, D) -> y (D,), the sum over tokens of k * v."""

    INPUTS: ClassVar[tuple[str, ...]] = ("k", "v")
    TRAITS: ClassVar[Traits] = _ATTENTION

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a vector of counts of tokens."""
        k, v = at.take("k", _SPIKES, TOKENS), at.take("v", _SPIKES, TOKENS)
        at.require("v", "the shape", v.shape, k.shape, "that of k")
        return {"y": at.made(Kind.GRADED, k.shape[1:], k.shape[0])}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the feature at all tokens."""
        return {port: np.broadcast_to(wanted, shapes[port]) for port in self.INPUTS}

    def memory(self, entering: Mapping[str, Shape], leaving: Shape, bits: int) -> CoreMemory:
        """Keep K and V until both are there."""
        return CoreMemory(feature_bits=2 * entering["k"][0])


@dataclass(frozen=True, kw_only=True)
class FixedMaskedColumnSum(MaskedColumnSum, integers_of=MaskedColumnSum):
    """y = (sum over tokens of k * v) << (6 + exponent)."""

    exponent: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {"exponent": within(0, 7)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound a count of tokens."""
        return _bounded(at, at.source_type("k").shape[0], self.exponent)


@dataclass(frozen=True, kw_only=True)
class HeadSum(Node):
    """Sum of a head's spikes: x (N, D) -> y (N, heads), over the D/heads contiguous channels of each."""

    heads: int

    TRAITS: ClassVar[Traits] = replace(_ATTENTION, multiplies_spikes=False, mixes_tokens=())

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type tokens of currents, which are counts of channels."""
        tokens, features = at.take("x", _SPIKES, TOKENS).shape
        check_heads(at, self.heads, features)
        return {"y": at.made(Kind.CURRENT, (tokens, self.heads), features // self.heads)}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the channels of the head at the token."""
        return {"x": of_parts(wanted, shapes["x"][1])}

    def memory(self, entering: Mapping[str, Shape], leaving: Shape, bits: int) -> CoreMemory:
        """Keep a synapse for each channel of a head; a weight of 1 takes one bit."""
        width = entering["x"][1] // self.heads
        return CoreMemory(synapse_bits=width, shared_bits=width)


@dataclass(frozen=True, kw_only=True)
class FixedHeadSum(HeadSum, integers_of=HeadSum):
    """y = (sum over a head's channels of x) << (6 + exponent)."""

    exponent: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {"exponent": within(0, 7)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound a count of channels."""
        return _bounded(at, at.source_type("x").shape[1] // self.heads, self.exponent)


def _bounded(at: BoundContext, most: int, exponent: int) -> dict[str, Range]:
    y = Range(0, most << (ALIGN + exponent))
    at.fits("its synaptic input", y, STATE_LIMIT, "lower its exponent, or the number of tokens or channels")
    return {"y": y}
