"""Halting: scores of tokens, and accumulators that decide which tokens still visit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from stas_neuro.ir.ops.base import TOKENS, AttributeRange, BoundContext, Node, Traits, TypeContext, within
from stas_neuro.ir.ranges import STATE_LIMIT, Range
from stas_neuro.ir.types import Kind, Phase, Shape, ValueType

HaltMode = Literal["raster", "rectangular", "block", "time"]


@dataclass(frozen=True, kw_only=True)
class HaltingScore(Node):
    """h = sigmoid(alpha * z[:, 0] + beta): z (N, D) -> h (N,)."""

    alpha: float
    beta: float

    INPUTS: ClassVar[tuple[str, ...]] = ("z",)
    OUTPUTS: ClassVar[tuple[str, ...]] = ("h",)
    TRAITS: ClassVar[Traits] = Traits(
        counts_events=True,
        fires=False,
        keeps_neurons=False,
        makes_current=False,
        stores_weights=False,
        multiplies_spikes=False,
        passes_current=False,
        in_place=False,
        mixes_tokens=(),
        masks_tokens=False,
        needs_program=True,
        gathers=False,
    )
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.STEP})

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a score a token."""
        return {"h": at.made(Kind.SCORE, at.take("z", ranks=TOKENS).shape[:1])}


@dataclass(frozen=True, kw_only=True)
class FixedHaltingScore(HaltingScore):
    """h = table[clip(z[:, 0] >> shift, low, low + entries - 1) - low]: the sigmoid as a table of integers."""

    shift: int
    low: int
    entries: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "shift": within(0, 31),
        "low": within(-(2**15), 2**15),
    }

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {"table": (self.entries,)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound by the largest score of the table."""
        table = at.tensor("table")
        if table.min() < 0:
            at.problems.add(f"{self.name}/table", f"holds {table.min()}", "a score is at least 0")
        return {"h": Range(0, int(table.max()))}


@dataclass(frozen=True, kw_only=True)
class HaltAccumulate(Node):
    """Accumulates halting scores (docs/adr/0002-ir.md has the four modes); all values (N,).

    In: score h, alive a (open = 1), total H (open = 0). Out: alive and total for the next visit, p the weight
    of this one.

    With `late` above 0 (modes raster and time) decisions are `late` hardware steps late: the next visit's
    alive rests on the scores that have arrived by then, p on all. Then `total` is no sum but (T*A, N), the
    scores of the last T visits of A accumulators in raster order, 0 where the token did not visit. `lags`
    (A,) says of the last A of them, the newest last, by how many model steps they come later than in raster
    order; it holds for those A visits earlier alike, and so on.
    """

    mode: HaltMode
    epsilon: float
    last_block: bool
    late: int = 0
    lags: tuple[int, ...] = ()

    INPUTS: ClassVar[tuple[str, ...]] = ("score",)
    OPTIONAL: ClassVar[tuple[str, ...]] = ("alive", "total")
    OUTPUTS: ClassVar[tuple[str, ...]] = ("alive", "total", "p")
    TRAITS: ClassVar[Traits] = Traits(
        counts_events=True,
        fires=True,
        keeps_neurons=True,
        makes_current=False,
        stores_weights=False,
        multiplies_spikes=False,
        passes_current=False,
        in_place=False,
        mixes_tokens=(),
        masks_tokens=False,
        needs_program=True,
        gathers=False,
    )
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.STEP})
    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "epsilon": (lambda epsilon: 0 <= epsilon < 1, "it must be in [0, 1), such as 0.01"),
        "lags": (lambda lags: min(lags, default=0) >= 0, "scores arrive 0 or more steps late"),
    }

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a mask, a sum (of late decisions the scores themselves) and a weight a token."""
        shape = at.take("score", {Kind.SCORE}, (1,)).shape
        scores = (at.graph.time_steps * len(at.graph.accumulators),) if self.late else ()
        return {
            "alive": at.made(Kind.MASK, shape, 1),
            "total": at.made(Kind.MEMBRANE, (*scores, *shape)),
            "p": at.made(Kind.SCORE, shape),
        }


@dataclass(frozen=True, kw_only=True)
class FixedHaltAccumulate(HaltAccumulate):
    """As the float one, with 1 = 2^score_bits and `limit` for 1 - epsilon.

    p of mode block is not divided by T: the unit of what follows holds that.
    """

    score_bits: int
    limit: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {"score_bits": within(1, 14)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound the sum of all scores that a token can collect."""
        one, h, graph = 1 << self.score_bits, at.inputs["score"].high, at.graph
        if not 0 < self.limit <= one:
            at.problems.add(self.name, f"limit is {self.limit}", f"1 - epsilon is in 1..{one} of these bits")
        if h > one:
            at.problems.add(self.name, f"scores reach {h}", f"a score is at most {one} of these bits")
        # A token may have visited all before the news that it had to halt arrives.
        everything = h * graph.time_steps * len(graph.accumulators)
        if self.mode == "rectangular":
            total, p = everything, h
        else:
            total, p = everything if self.late else self.limit + h, one
        at.fits("its total", Range(0, total), STATE_LIMIT, "use fewer score bits")
        sent = h if self.late else total  # late decisions send scores, and add them up where they are used
        return {"alive": Range(0, 1), "total": Range(0, sent), "p": Range(0, p)}
