"""Readout: from the values of blocks over all model steps to one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from stas_neuro.ir.ops.base import (
    TOKENS,
    AttributeRange,
    BoundContext,
    MaskPort,
    Node,
    Traits,
    TypeContext,
    Wanted,
    anywhere,
    no_memory,
    within,
)
from stas_neuro.ir.ops.halting import FixedHaltAccumulate
from stas_neuro.ir.policies import POLICIES
from stas_neuro.ir.ranges import STATE_LIMIT, WORD_LIMIT, Range
from stas_neuro.ir.types import Kind, Phase, Shape, ValueType
from stas_neuro.limits import BLOCKS_LIMIT

__all__ = ["FixedReadout", "Readout"]

ReadoutMode = Literal["mean-field", "last-state", "rate"]


@dataclass(frozen=True, kw_only=True)
class Readout(Node):
    """Step values z{l} (N, D) of `blocks` blocks -> y (D,), with alive{l} and p{l} (N,) where halting is on.

    mean-field: mean_k(sum of p z / (sum of p if normalise else 1)), without p the weight is 1/T.
    last-state: mean_k of z at the token's last visited visit. rate: per step z of the token's last visited
    block, averaged over its visited steps, then mean_k. An open alive{l} means always visited.
    """

    mode: ReadoutMode
    blocks: int
    normalise: bool = False

    INPUTS: ClassVar[tuple[str, ...]] = ()
    TRAITS: ClassVar[Traits] = Traits(
        counts_events=True,
        fires=False,
        keeps_neurons=True,
        makes_current=False,
        stores_weights=False,
        multiplies_spikes=False,
        passes_current=False,
        in_place=False,
        mixes_tokens=(),
        masks_tokens=False,
        needs_program=False,
        gathers=True,
        stacks=False,
        gates_tokens=False,
        sends_if_visited=False,
        may_end=False,
        state="",
    )
    memory = no_memory
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.END})
    RANGES: ClassVar[dict[str, AttributeRange]] = {"blocks": within(1, BLOCKS_LIMIT)}

    @property
    def required_inputs(self) -> tuple[str, ...]:
        """The last block's value: every mode reads it."""
        return (f"z{self.blocks - 1}",)

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """Earlier blocks' values, then the masks, then the weights."""
        earlier = tuple(f"z{block}" for block in range(self.blocks - 1))
        return earlier + tuple(f"{port}{block}" for port in ("alive", "p") for block in range(self.blocks))

    def mask_port(self, port: str) -> MaskPort | None:
        """Take the masks under which blocks ran."""
        return MaskPort(port.replace("alive", "z")) if port.startswith("alive") else None

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the feature of all tokens, and one weight of each."""
        of_token = {port: wanted if port.startswith("z") else anywhere(wanted, axis=1) for port in shapes}
        return {
            port: np.broadcast_to(values, (shapes[port][0], values.shape[1]))
            for port, values in of_token.items()
        }

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a vector of currents."""
        last = at.take(f"z{self.blocks - 1}", ranks=TOKENS)
        for port in at.inputs:
            if port.startswith("z"):
                z = at.take(port, ranks=TOKENS)
                at.require(port, "the shape", z.shape, last.shape, "that of the last block")
            elif port.startswith("p"):
                p = at.take(port, {Kind.SCORE}, (1,))
                at.require(port, "the shape", p.shape, last.shape[:1], "that of one weight a token")
        return {"y": at.made(Kind.CURRENT, last.shape[1:])}


@dataclass(frozen=True, kw_only=True)
class FixedReadout(Readout, integers_of=Readout):
    """Sums over tokens, of z' = clip(z >> z_shift, -z_limit, z_limit) in place of z.

    mean-field: y = (sum of p z') >> y_shift (p = 1 where it is open). last-state: y = (sum of z') >> y_shift.
    Where the float node divides by a weight w (normalise, rate; w = 0 counts as 1), each token's sum becomes
    (sum << divide_bits) / w, rounded towards 0, on a processor beside the cores.
    """

    z_shift: int
    z_limit: int
    divide_bits: int
    y_shift: int

    RANGES: ClassVar[dict[str, AttributeRange]] = dict.fromkeys(
        ("z_shift", "y_shift", "divide_bits"), within(0, 31)
    )

    @property
    def divides(self) -> bool:
        """Whether sums are divided by weights."""
        return self.normalise or self.mode == "rate"

    @property
    def off_core(self) -> bool:
        """Whether a processor divides."""
        return self.divides

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound a token's weighted sum, and that of all tokens."""
        tokens = at.source_type(f"z{self.blocks - 1}").shape[0]
        values = [value.shifted(self.z_shift) for port, value in at.inputs.items() if port.startswith("z")]
        z = Range(
            max(min(value.low for value in values), -self.z_limit),
            min(max(value.high for value in values), self.z_limit),
        ).with_zero()
        remedy = "raise its z_shift or lower its z_limit, or use fewer score bits"
        state = z.times(self._weight_of_a_token(at))
        if self.divides:
            at.fits("a token's sum", state, STATE_LIMIT, remedy)
            at.fits("a token's dividend", state.times(1 << self.divide_bits), WORD_LIMIT, "lower divide_bits")
            y = z.times((1 << self.divide_bits) * tokens)
            at.fits("the sum over tokens", y, WORD_LIMIT, "lower divide_bits")
        else:
            y = state.times(tokens)
            at.fits("the sum over tokens", y, STATE_LIMIT, remedy)
        y = y.shifted(self.y_shift)
        at.fits("its output", y, STATE_LIMIT, "raise its y_shift")
        return {"y": y}

    def _weight_of_a_token(self, at: BoundContext) -> int:
        """Largest sum of the weights with which a token's values are added up."""
        graph = at.graph
        weights = [value.high for port, value in at.inputs.items() if port.startswith("p")]
        if not weights:
            return 1 if self.mode == "last-state" else graph.time_steps
        accumulator = graph.accumulators[0]
        assert isinstance(accumulator, FixedHaltAccumulate)
        policy = POLICIES[accumulator.mode]
        return policy.largest_weight(1 << accumulator.score_bits, weights, graph.time_steps)
