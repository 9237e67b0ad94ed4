"""Words of the IR: phases, stages, kinds of value, and the type every value of a graph has."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


class _Word(str, Enum):
    """A string enum whose `str()` and format are its value on every supported Python."""

    def __str__(self) -> str:
        return str(self.value)


class Stage(_Word):
    """How far a graph is lowered."""

    TRACED = "traced"
    """Float, BatchNorm present: what the frontend makes."""
    FOLDED = "folded"
    """Float64, every BatchNorm folded into the Conv2d or Linear before it."""
    QUANTISED = "quantised"
    """Integers throughout, as a core computes them (`fixed`)."""


class Phase(_Word):
    """When a node runs within one inference of T model steps."""

    ONCE = "once"
    """Once an inference."""
    STEM = "stem"
    """In each of T prologue steps, before the model steps."""
    STEP = "step"
    """In each of the T model steps."""
    END = "end"
    """Once, after the last model step."""


class Kind(_Word):
    """What a value is, which decides how hardware can send it and what it costs."""

    CURRENT = "current"
    """Real-valued, or an integer of either sign: an image, or synaptic input to a neuron."""
    SPIKE = "spike"
    """0 or 1."""
    GRADED = "graded"
    """A non-negative integer with a known bound: a number of spikes."""
    NUMBER = "number"
    """The same, of a quantised graph, where the float graph has a real number: a pixel, a mean over steps."""
    MEMBRANE = "membrane"
    """A real-valued state that lives across visits (the halting sum)."""
    SCORE = "score"
    """A halting score or weight in [0, 1], one a token."""
    MASK = "mask"
    """0 or 1, one a token: whether the token is still alive."""


EVENTS = frozenset({Kind.SPIKE, Kind.GRADED, Kind.NUMBER})
"""Kinds that travel as integer events."""
VALUES = EVENTS | {Kind.CURRENT}
"""Kinds that synapses and neurons take."""


@dataclass(frozen=True)
class ValueType:
    """Type of the value at an output port.

    `shape` is without batch and time: maps (C, H, W), tokens (N, D), masks and scores (N,), vectors (D,).
    `bound` is the largest integer the value can take, or None where it is not an integer, `low` then the
    smallest. The float SpikeMatMul is the one exception: its bound is of the raw integer product, before
    `scale` (what hardware holds).
    """

    kind: Kind
    shape: Shape
    phase: Phase
    bound: int | None = None
    low: int = 0

    def __str__(self) -> str:
        bound = "" if self.bound is None else f" <={self.bound}"
        if self.low:
            bound = f" {self.low}..{self.bound}"
        return f"{self.kind}{self.shape}{bound}"


@dataclass(frozen=True)
class Preprocessing:
    """What the host does to an image before Input, per channel: `(uint8 / 255 - mean) / std`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def neutral(port: str) -> float:
    """Return what a delayed edge brings to `port` before the first step: all alive, nothing accumulated."""
    return 0.0 if port == "total" else 1.0
