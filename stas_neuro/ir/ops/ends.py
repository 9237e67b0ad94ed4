"""Where a network begins and ends: the image that comes in, the logits that go out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from stas_neuro.ir.ops.base import (
    AttributeRange,
    BoundContext,
    Node,
    Traits,
    TypeContext,
    Wanted,
    no_memory,
    same_values,
)
from stas_neuro.ir.ranges import PIXEL_LIMIT, Range
from stas_neuro.ir.types import Kind, Phase, Shape, ValueType

__all__ = ["Encoding", "FixedInput", "FixedOutput", "Input", "Output"]

Encoding = Literal["graded", "bias", "spikes"]
"""How the integer program of a float network takes its image."""

_BESIDE_THE_CORES = Traits(
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


@dataclass(frozen=True, kw_only=True)
class Input(Node):
    """Preprocessed image (phase once), or one frame of event data a step (phase stem or step)."""

    shape: Shape

    INPUTS: ClassVar[tuple[str, ...]] = ()
    TRAITS: ClassVar[Traits] = _BESIDE_THE_CORES
    memory = no_memory
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.ONCE, Phase.STEM, Phase.STEP})
    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "shape": (lambda shape: len(shape) == 3 and min(shape) > 0, "it must be (C, H, W), each above 0")
    }

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type an image of real numbers, with a mean and a deviation for each channel."""
        self._check_preprocessing(at)
        return {"y": at.made(Kind.CURRENT, self.shape)}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Depend on nothing."""
        return {}

    def _check_preprocessing(self, at: TypeContext) -> None:
        for key in ("mean", "std"):
            channels = len(getattr(at.graph.preprocessing, key))
            if channels != self.shape[0]:
                what = f"preprocessing {key} has {channels} channels, the shape {self.shape}"
                at.problems.add(self.name, what, "give one number a channel")


@dataclass(frozen=True, kw_only=True)
class FixedInput(Input, integers_of=Input):
    """The image as integers 0..255, not normalised: the first convolution holds the normalisation.

    `graded`: a pixel is a graded spike. `bias`: what the first convolution makes of it is computed off the
    cores and enters as bias currents. `spikes`: the integers are 0 or 1, plain spikes.
    """

    encoding: Encoding

    @property
    def largest(self) -> int:
        """Largest integer that it takes."""
        return 1 if self.encoding == "spikes" else PIXEL_LIMIT

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type an image of 8-bit integers, or spikes."""
        self._check_preprocessing(at)
        kind = Kind.SPIKE if self.encoding == "spikes" else Kind.NUMBER
        return {"y": at.made(kind, self.shape, self.largest)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound pixels."""
        return {"y": Range(0, self.largest)}


@dataclass(frozen=True, kw_only=True)
class Output(Node):
    """The logits: x (classes,)."""

    OUTPUTS: ClassVar[tuple[str, ...]] = ()
    TRAITS: ClassVar[Traits] = replace(_BESIDE_THE_CORES, may_end=True)
    needs = same_values
    memory = no_memory
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.END})

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Check that there is a logit for each class."""
        x = at.take("x", ranks=(1,))
        at.require("x", "the number of logits", x.shape[0], len(at.graph.classes), "the number of classes")
        return {}


@dataclass(frozen=True, kw_only=True)
class FixedOutput(Output, integers_of=Output):
    """The logits as integers; times `unit` they are those of the float network, but for rounding."""

    unit: float

    RANGES: ClassVar[dict[str, AttributeRange]] = {"unit": (lambda unit: unit > 0, "it must be above 0")}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound nothing: it has no output."""
        return {}
