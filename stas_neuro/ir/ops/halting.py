"""Halting: scores of tokens, and accumulators that decide which tokens still visit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

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
    no_memory,
    same_values,
    within,
)
from stas_neuro.ir.policies import POLICIES, HaltMode
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import STATE_LIMIT, WORD_LIMIT, Range
from stas_neuro.ir.types import Kind, Phase, Shape, ValueType
from stas_neuro.limits import STEPS_LIMIT

__all__ = [
    "FixedHaltAccumulate",
    "FixedHaltingScore",
    "FixedLateHaltAccumulate",
    "HaltAccumulate",
    "HaltingScore",
    "LateHaltAccumulate",
]


@dataclass(frozen=True, kw_only=True)
class HaltingScore(Node):
    """h = sigmoid(alpha * z[:, 0] + beta): z (N, D) -> h (N,).

    With `groups`, the number of the group of each token, z[:, 0] is the sum over the tokens of a group: they
    have the same score, and so halt together.
    """

    alpha: float
    beta: float
    groups: tuple[int, ...] = ()

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
        stacks=False,
        gates_tokens=False,
        sends_if_visited=False,
        may_end=False,
        state="",
    )
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.STEP})
    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "groups": (lambda groups: min(groups, default=0) >= 0, "groups are numbered from 0"),
    }
    LATER: ClassVar[frozenset[str]] = frozenset({"groups"})

    memory = no_memory

    def check(self, problems: Problems) -> None:
        """Note numbers of groups that are higher than there can be groups."""
        if (number := max(self.groups, default=0)) and number >= len(self.groups):
            what = f"a group has the number {number}, of {len(self.groups)} tokens"
            problems.add(self.name, what, "number the groups from 0")

    @property
    def largest_group(self) -> int:
        """Number of tokens of the largest group; 1 without groups."""
        return max(Counter(self.groups).values(), default=1)

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a score a token."""
        shape = at.take("z", ranks=TOKENS).shape[:1]
        if self.groups:
            at.require("z", "the number of tokens", shape[0], len(self.groups), "that of groups")
        return {"h": at.made(Kind.SCORE, shape)}

    def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
        """Take the first feature of the token, or of its group."""
        if self.groups:
            groups = np.array(self.groups)
            wanted = np.isin(groups, groups[wanted[:, 0]])[:, None]
        return {"z": wanted & (np.arange(shapes["z"][1]) == 0)}


@dataclass(frozen=True, kw_only=True)
class FixedHaltingScore(HaltingScore, integers_of=HaltingScore):
    """h = table[clip(z[:, 0] >> shift, low, low + entries - 1) - low]: the sigmoid as a table of integers.

    With `groups`, z[:, 0] is the sum over the group.
    """

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
        total = at.inputs["z"].times(self.largest_group)
        at.fits("the sum of a group", total, WORD_LIMIT, "use smaller groups")
        return {"h": Range(0, int(table.max()))}


@dataclass(frozen=True, kw_only=True)
class HaltAccumulate(Node):
    """Accumulates halting scores (docs/adr/0002-ir.md has the policies); all values (N,).

    In: score h, alive a (open = 1), total H (open = 0). Out: alive and total for the next visit, p the weight
    of this one. From the model step `closes` (from 0) on every token halts here: a cap on its visits.
    """

    mode: HaltMode
    epsilon: float
    last_block: bool
    closes: int | None = None

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
        stacks=False,
        gates_tokens=False,
        sends_if_visited=True,
        may_end=True,  # the last block's decision matters to later visits only
        state="total",
    )
    PHASES: ClassVar[frozenset[Phase]] = frozenset({Phase.STEP})
    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "epsilon": (lambda epsilon: 0 <= epsilon < 1, "it must be in [0, 1), such as 0.01"),
        "closes": (
            lambda closes: closes is None or 0 <= closes < STEPS_LIMIT,
            f"use a model step, from 0 to {STEPS_LIMIT - 1}",
        ),
    }
    LATER: ClassVar[frozenset[str]] = frozenset({"closes"})
    needs = same_values
    memory = no_memory

    def is_closed(self, step: int) -> bool:
        """Whether every token halts here in a model step, because it has made as many visits as it may."""
        return self.closes is not None and step >= self.closes

    def mask_port(self, port: str) -> MaskPort | None:
        """Take the mask and the sum of the visit before."""
        kinds = {"alive": Kind.MASK, "total": Kind.MEMBRANE}
        return MaskPort("score", kinds[port], rank=1) if port in kinds else None

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a mask, a sum and a weight a token."""
        shape = at.take("score", {Kind.SCORE}, (1,)).shape
        return {
            "alive": at.made(Kind.MASK, shape, 1),
            "total": at.made(Kind.MEMBRANE, shape),
            "p": at.made(Kind.SCORE, shape),
        }


@dataclass(frozen=True, kw_only=True)
class FixedHaltAccumulate(HaltAccumulate, integers_of=HaltAccumulate):
    """As the float one, with 1 = 2^score_bits and `limit` for 1 - epsilon.

    p that fills a model step is not divided by T: the unit of what follows holds that.
    """

    score_bits: int
    limit: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {"score_bits": within(1, 14)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound the sum of all scores that a token can collect."""
        self.check_scores(at)
        policy, one = POLICIES[self.mode], 1 << self.score_bits
        if policy.fills == "visit":
            total, p = everything(at), one if policy.by_image else at.inputs["score"].high
        else:  # whichever block's score it was that reached the limit
            total, p = self.limit + max(largest_scores(at)), one
        at.fits("its total", Range(0, total), STATE_LIMIT, "use fewer score bits")
        return {"alive": Range(0, 1), "total": Range(0, total), "p": Range(0, p)}

    def check_scores(self, at: BoundContext) -> None:
        """Note a limit, or scores, beyond 1."""
        one, h = 1 << self.score_bits, at.inputs["score"].high
        if not 0 < self.limit <= one:
            at.problems.add(self.name, f"limit is {self.limit}", f"1 - epsilon is in 1..{one} of these bits")
        if h > one:
            at.problems.add(self.name, f"scores reach {h}", f"a score is at most {one} of these bits")


def everything(at: BoundContext) -> int:
    """Bound the sum of the scores of all visits."""
    return sum(largest_scores(at)) * at.graph.time_steps


def largest_scores(at: BoundContext) -> list[int]:
    """Give the largest score of each accumulator, which a total gathers whichever block it is at."""
    if len(at.graph.accumulators) == 1:
        return [at.inputs["score"].high]
    scores = (at.graph.node(at.graph.inputs(node)["score"].src) for node in at.graph.accumulators)
    return [int(at.graph.tensor(score, "table").max()) for score in scores]


@dataclass(frozen=True, kw_only=True)
class LateHaltAccumulate(HaltAccumulate):
    """Decides `late` hardware steps late: the next visit's alive rests on the scores that have arrived.

    p rests on all scores. `total` is no sum but (T*A, N), the scores of the last T visits of A accumulators
    in raster order, 0 where the token did not visit. `lags` (A,) says of the last A of them, the newest last,
    by how many model steps they come later than in raster order; it holds for those A visits earlier alike,
    and so on.
    """

    late: int
    lags: tuple[int, ...]

    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "lags": (lambda lags: min(lags, default=0) >= 0, "scores arrive 0 or more steps late"),
    }

    @classmethod
    def record_kind(cls) -> str:
        """Return that of raster order: it is counted and priced alike."""
        return HaltAccumulate.record_kind()

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type a mask and a weight a token, and the scores of all visits."""
        types = HaltAccumulate.infer(self, at)
        scores = at.graph.time_steps * len(at.graph.accumulators)
        return types | {"total": at.made(Kind.MEMBRANE, (scores, *types["total"].shape))}


@dataclass(frozen=True, kw_only=True)
class FixedLateHaltAccumulate(LateHaltAccumulate, FixedHaltAccumulate, integers_of=LateHaltAccumulate):
    """As `FixedHaltAccumulate`, with late decisions."""

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound the sum of all scores; what is sent are the scores themselves."""
        self.check_scores(at)
        # A token may have visited all before the news that it had to halt arrives.
        at.fits("its total", Range(0, everything(at)), STATE_LIMIT, "use fewer score bits")
        scores = Range(0, max(largest_scores(at)))
        return {"alive": Range(0, 1), "total": scores, "p": Range(0, 1 << self.score_bits)}
