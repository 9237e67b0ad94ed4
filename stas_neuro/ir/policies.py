"""Halting policies: all that is not arithmetic, one entry each; docs/adr/0002-ir.md has the arithmetic.

Accumulators decide on halting. A policy says how many there are, in which order decisions are handed on, and
what the weights of a token add up to. A new policy is a word of `HaltMode` (stas_neuro/choices.py) and an
entry of `POLICIES`; tables by policy are made by `per_policy`, which fails at import where one is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np

from stas_neuro.choices import HaltMode as HaltMode
from stas_neuro.errors import InputError


class Link(NamedTuple):
    """Number of the accumulator that hands a decision on, and by how many model steps it is delayed."""

    accumulator: int
    delay: int


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a halting policy is.

    Parameters
    ----------
    per_block : bool
        Each block has an accumulator, and Readout reads each block; else the last one has, and is read.
    carried : bool
        The first decision of a model step rests on the last one of the step before; else it starts anew.
    fills : "run", "step" or "visit"
        In what the weights p of a token add up to 1: the run; each model step, by whose number p is then
        divided; or at most each visit, where mean-field divides by the sum of all.
    for_good : bool
        A token that does not visit a block does not visit it in later model steps.
    may_be_late : bool
        Decisions may rest on the scores that have arrived (`LateHaltAccumulate`).
    by_image : bool
        The image halts as a whole, by its running prediction (`ImageScore`); else each token by its own
        score (`HaltingScore`).
    """

    per_block: bool
    carried: bool
    fills: Literal["run", "step", "visit"]
    for_good: bool
    may_be_late: bool
    by_image: bool

    def accumulators(self, blocks: int) -> int:
        """Count the accumulators of a network."""
        return blocks if self.per_block else 1

    def scored_blocks(self, blocks: int) -> range:
        """List the blocks that have an accumulator, which are those that Readout reads."""
        return range(blocks) if self.per_block else range(blocks - 1, blocks)

    def mask_of(self, block: int, blocks: int) -> Link | None:
        """Tell where the mask of a block's visits comes from; None where every token visits it."""
        if not self.per_block:
            return Link(0, 1)
        if block:
            return Link(block - 1, 0)
        return Link(blocks - 1, 1) if self.carried else None

    def closes(self, block: int, blocks: int, steps: int, most: int) -> int | None:
        """Find the model step from which on every token halts behind a block, so that it makes few visits.

        A token makes at most `most` of its `steps` x `blocks` visits: the first ones in raster order where
        decisions are carried on, and as many in each step (one more in the first ones, to use them up) where
        each step starts anew with block 0. None where the block's own decisions are enough.

        Raises
        ------
        InputError
            When a token makes more visits before it is first asked.
        """
        if most < (fewest := self.fewest_visits(blocks, steps)):
            what = f"max-visits is {most}, and a token makes at least {fewest} visits before it can halt"
            raise InputError(what, f"use at least {fewest}, or another halting policy")
        if most >= blocks * steps:
            return None
        if self.carried:
            until_next = 1 if self.per_block else blocks
            closed = max(0, (most - block - 1 - until_next) // blocks + 1)
            return closed if closed < steps else None
        each, rest = divmod(most, steps)
        return None if block + 1 < each else rest if block + 1 == each else 0

    def fewest_visits(self, blocks: int, steps: int) -> int:
        """Count the visits that a token makes whatever its scores."""
        if not self.per_block:
            return blocks
        return 1 if self.carried else steps

    def visits_within(self, most: int, blocks: int, steps: int, kept: int) -> int:
        """Count the visits of a token with `most` of them that are in the first `kept` of its steps."""
        if self.carried:
            return min(most, kept * blocks)
        each, rest = divmod(most, steps)
        return min(kept * each + min(rest, kept), kept * blocks)

    def largest_weight(self, one: int, visits: Sequence[int], steps: int) -> int:
        """Bound the sum of a token's weights: `one` is 1, `visits` has the largest of a visit to each block.

        Weights that fill a step are not divided by the number of steps.
        """
        return {"run": one, "step": one * steps, "visit": sum(visits) * steps}[self.fills]


R = TypeVar("R")


def group_numbers(tokens: int, count: int) -> tuple[int, ...]:
    """Number the group of each token where tokens are cut in scan order into `count` groups.

    Sizes differ by one token at most, the larger ones first: the groups of token-major placement.
    """
    return tuple(group for group, part in enumerate(np.array_split(range(tokens), count)) for _ in part)


def per_policy(what: str, rules: Mapping[str, R], *, without: Collection[str] = ()) -> Mapping[str, R]:
    """Return a table of rules by policy, complete.

    Raises
    ------
    TypeError
        When a policy is neither in `rules` nor in `without`, or in both, or a rule is for none.
    """
    names = get_args(HaltMode)
    odd = [name for name in names if (name in rules) == (name in without)]
    odd += [name for name in (*rules, *without) if name not in names]
    if odd:
        raise TypeError(f"{what}: {', '.join(odd)} needs one rule, or to be listed as without one")
    return dict(rules)


POLICIES: Mapping[str, Policy] = per_policy(
    "halting policies",
    {
        "raster": Policy(
            per_block=True, carried=True, fills="run", for_good=True, may_be_late=True, by_image=False
        ),
        "rectangular": Policy(
            per_block=True, carried=False, fills="visit", for_good=True, may_be_late=False, by_image=False
        ),
        "block": Policy(
            per_block=True, carried=False, fills="step", for_good=False, may_be_late=False, by_image=False
        ),
        "time": Policy(
            per_block=False, carried=True, fills="run", for_good=True, may_be_late=True, by_image=False
        ),
        "image": Policy(
            per_block=False, carried=True, fills="visit", for_good=True, may_be_late=False, by_image=True
        ),
    },
)
