"""The score of a whole image: whether its running prediction is clear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stas_neuro.ir.ops.base import (
    AT_LEAST_0,
    TOKENS,
    AttributeRange,
    BoundContext,
    CoreMemory,
    Node,
    Traits,
    TypeContext,
    Wanted,
    within,
)
from stas_neuro.ir.ops.halting import HaltingScore
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import BIAS_LIMIT, STATE_LIMIT, WORD_LIMIT, Range
from stas_neuro.ir.types import Kind, Phase, Shape, ValueType

__all__ = ["FixedImageScore", "ImageScore"]


@dataclass(frozen=True, kw_only=True)
class ImageScore(Node):
    """h (N,) = 1 for all tokens where the prediction so far is clear, else 0: z (N, D) -> h (N,).

    S += W mean_k(z) + b in each step, and the prediction is clear in step t (from 1) where the largest of S
    is at least t * `margin` above the second largest: the logits of the mean over t steps differ by `margin`.
    With `summed` it has to be `margin` above it in any step: the sum of the logits differs by that.
    W (classes, D) and b (classes,) are those of the head.
    """

    features: int
    classes: int
    margin: float
    summed: bool = False

    INPUTS: ClassVar[tuple[str, ...]] = ("z",)
    OUTPUTS: ClassVar[tuple[str, ...]] = ("h",)
    TRAITS: ClassVar[Traits] = HaltingScore.TRAITS
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.STEP})
    RANGES: ClassVar[dict[str, AttributeRange]] = {"margin": AT_LEAST_0}
    LATER: ClassVar[frozenset[str]] = frozenset({"summed"})

    def check(self, problems: Problems) -> None:
        """Note a single class, whose prediction has nothing to be compared with."""
        if self.classes < 2:
            problems.add(self.name, f"classes is {self.classes}", "a margin needs at least 2 classes")

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {"weight": (self.classes, self.features), "bias": (self.classes,)}

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a score a token."""
        z = at.take("z", ranks=TOKENS)
        at.require("z", "the number of features", z.shape[1], self.features, "features")
        return {"h": at.made(Kind.SCORE, z.shape[:1])}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take everything, for any token's score."""
        return {"z": np.full(shapes["z"], wanted.any())}

    def memory(self, entering: Mapping[str, Shape], leaving: Shape, bits: int) -> CoreMemory:
        """Keep the weights, which tokens can share."""
        weights = self.classes * self.features * bits
        return CoreMemory(synapse_bits=np.full(leaving[0], weights, dtype=np.int64), shared_bits=weights)


@dataclass(frozen=True, kw_only=True)
class FixedImageScore(ImageScore, integers_of=ImageScore):
    """S += (W sum_k(z') >> shift) + (bias << bias_exp), z' = clip(z >> z_shift, -z_limit, z_limit).

    h is 2^score_bits where the largest of S is at least t * `threshold` above the second largest, or with
    `summed` at least `threshold`.
    """

    weight_bits: int
    z_shift: int
    z_limit: int
    shift: int
    bias_exp: int
    threshold: int
    score_bits: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "threshold": AT_LEAST_0,
        "weight_bits": within(1, 9),
        "z_shift": within(0, 31),
        "shift": within(0, 31),
        "bias_exp": within(0, 7),
        "score_bits": within(1, 14),
    }

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound the sums of the classes over all steps."""
        weight, bias = at.tensor("weight"), at.tensor("bias")
        most, steps = 1 << (self.weight_bits - 1), at.graph.time_steps
        if weight.min() < -most or weight.max() >= most:
            what = f"weights in {weight.min()}..{weight.max()} have more than {self.weight_bits} bits"
            at.problems.add(f"{self.name}/weight", what, f"use -{most}..{most - 1}")
        at.fits("a bias", Range(int(bias.min()), int(bias.max())), BIAS_LIMIT, "raise its bias_exp")
        z = min(at.inputs["z"].shifted(self.z_shift).magnitude, self.z_limit)
        product = at.source_type("z").shape[0] * z * int(np.abs(weight).sum(axis=1).max())
        at.fits("the sum over tokens", Range(-product, product), WORD_LIMIT, "use fewer weight bits")
        # A shift to the right rounds down, away from 0 by one at most.
        each = (product >> self.shift) + 1 + (int(np.abs(bias).max()) << self.bias_exp)
        at.fits("the sum of a class", Range(-each * steps, each * steps), STATE_LIMIT, "raise its shift")
        margin = self.threshold * (1 if self.summed else steps)
        at.fits("the margin of all steps", Range(0, margin), WORD_LIMIT, "lower threshold")
        return {"h": Range(0, 1 << self.score_bits)}
