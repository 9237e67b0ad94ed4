"""Halting of tokens, weights of visits, and the readout. One object per inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from stas_neuro.ir import POLICIES, per_policy
from stas_neuro.models.config import StasConfig

SOFTNESS = 0.25
"""Width of the sigmoid by which a decision to halt is differentiated; an accumulated score of 1 is 1."""


def soften(live: Tensor, before: Tensor, left: Tensor) -> Tensor:
    """Return exactly the mask `live` of the next visit, with a gradient (straight-through estimator).

    The gradient is that of ``before * sigmoid(left / SOFTNESS)``: `before` is the mask of this visit, with
    its gradient, and `left` what the score lacks of the threshold, in units of 1.
    """
    soft = before * torch.sigmoid(left / SOFTNESS)
    return live.detach() + (soft - soft.detach())


def over_groups(first: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Sum values (B, N) over the group of each token, whose numbers are `groups`; as they are without."""
    if not groups:
        return first
    index = torch.tensor(groups, device=first.device)
    sums = first.new_zeros(len(first), max(groups) + 1).index_add(1, index, first)
    return sums[:, index]


class Halting:
    """Accumulated halting scores of a batch, and the tokens that are still live.

    For each visit (t, l), call :meth:`open`, which returns the live tokens, then :meth:`visit` with the
    block's output, which returns the visit's weights. Visits are in t-major order. All tensors are (B, N) in
    the model's dtype; masks have the values 0 and 1. The accumulation modes are our interpretations of
    arXiv 2508.14138 Eq. 4, see docs/method.md: ``raster`` (over all visits in order), ``rectangular`` (over
    earlier steps and lower blocks), ``block`` (within a step), ``time`` (at the last block only).
    ``image`` is not of the paper: all tokens halt together, once the running prediction of `head` is clear.
    """

    head: nn.Linear | None = None
    """Classifies the mean over tokens; halting by image requires it."""

    def __init__(self, config: StasConfig, like: Tensor) -> None:
        self.config = config
        self.policy = POLICIES[config.accumulate]
        self.total = torch.zeros_like(like)
        self.live = torch.ones_like(like)
        self.remainder = torch.zeros_like(like)
        """Remainder R of the ponder loss; the gradient flows through it."""
        self.visits: list[Tensor] = []
        """Masks of all visits so far."""
        self.soft_visits: list[Tensor] = []
        """The same, with a gradient (`soften`)."""
        self._soft = torch.ones_like(like)
        self._logits: Tensor | None = None
        self._block_totals = [torch.zeros_like(like) for _ in range(config.depth)]

    def open(self, step: int, block: int) -> Tensor:
        """Return the mask of the tokens that visit ``(step, block)``, both counted from 0."""
        if block == 0 and not self.policy.carried:
            self.total = torch.zeros_like(self.total)
            self.live = torch.ones_like(self.live)
            self._soft = torch.ones_like(self._soft)
        self.visits.append(self.live)
        self.soft_visits.append(self._soft)
        return self.live

    def visit(self, step: int, block: int, z: Tensor) -> Tensor | None:
        """Update the scores with the output ``z`` (B, N, D) of a visit; return its weights p, if any."""
        config = self.config
        if block not in self.policy.scored_blocks(config.depth):
            return None
        score = self._image_score(step, z) if self.policy.by_image else self._token_score(z)
        h = score * self.live
        p = _POLICIES[config.accumulate](self, step, block, h)
        before = self._soft * (not self._closed(step, block))  # no score changes that the token halts
        self._soft = soften(self.live, before, 1 - config.epsilon - self.total)
        return p

    def _closed(self, step: int, block: int) -> bool:
        """Whether tokens have made as many visits as they may."""
        closes = self.config.closes(block)
        return closes is not None and step >= closes

    def _token_score(self, z: Tensor) -> Tensor:
        config = self.config
        first = over_groups(z[..., 0], config.groups)
        return torch.sigmoid(config.alpha / config.largest_group * first + config.beta)

    def _image_score(self, step: int, z: Tensor) -> Tensor:
        """Return 1 (B, 1) for images whose logits, summed over the steps so far, are clear, else 0."""
        assert self.head is not None  # the model gives it
        # Not a call of the module: hooks on the head note the final classification.
        logits = nn.functional.linear(z.mean(1), self.head.weight, self.head.bias)
        self._logits = logits if self._logits is None else self._logits + logits
        first, second = self._logits.topk(2, dim=1).values.unbind(1)
        due = self.config.margin * (1 if self.config.summed else step + 1)
        return (first - second >= due).to(z).unsqueeze(1)

    def _raster(self, step: int, block: int, h: Tensor) -> Tensor:
        config = self.config
        last = step == config.time_steps - 1 and block == config.depth - 1
        return self._summed_up(h, forced=last or self._closed(step, block))

    def _block(self, step: int, block: int, h: Tensor) -> Tensor:
        forced = block == self.config.depth - 1 or self._closed(step, block)
        return self._summed_up(h, forced=forced) / self.config.time_steps

    def _image(self, step: int, block: int, h: Tensor) -> Tensor:
        """Halt with the image; visits weigh alike, and nothing remains of a weight of 1."""
        p = self.live
        self.total = self.total + h
        self.live = self.live * (self.total < 1 - self.config.epsilon) * (not self._closed(step, block))
        return p

    def _rectangular(self, step: int, block: int, h: Tensor) -> Tensor:
        config = self.config
        self._block_totals[block] = self._block_totals[block] + h
        before = self.total
        self.total = before + self._block_totals[block]
        live = self.live
        self.live = live * (self.total < 1 - config.epsilon) * (not self._closed(step, block))
        # l_t, the last block of this step, is the one after which the token is closed or the blocks end.
        closing = live if block == config.depth - 1 else live - self.live
        self.remainder = self.remainder + closing * (1 - before) / config.time_steps
        return h

    def _summed_up(self, h: Tensor, *, forced: bool) -> Tensor:
        """Halt where the sum of scores reaches the limit, or everywhere."""
        halts = torch.ones_like(h) if forced else (self.total + h >= 1 - self.config.epsilon).to(h)
        rest = self.live * halts * (1 - self.total)
        self.remainder = self.remainder + rest
        p = h * (1 - halts) + rest
        self.total = self.total + h
        self.live = self.live * (1 - halts)
        return p


_POLICIES: Mapping[str, Callable[[Halting, int, int, Tensor], Tensor]] = per_policy(
    "decisions of torch",
    {
        "raster": Halting._raster,
        "time": Halting._raster,
        "block": Halting._block,
        "rectangular": Halting._rectangular,
        "image": Halting._image,
    },
)


class Readout:
    """Combines the visits' outputs into one feature vector per image."""

    def __init__(self, config: StasConfig, like: Tensor) -> None:
        self.config = config
        self._sum = torch.zeros_like(like)
        self._weight = torch.zeros_like(like[..., :1])
        self._last = torch.zeros_like(like)
        self._entered = self._weight

    def add(self, block: int, z: Tensor, live: Tensor | None, p: Tensor | None) -> None:
        """Add a visit's output ``z`` (B, N, D), live mask (None: all) and weight (None: no weight)."""
        config = self.config
        last_block = block == config.depth - 1
        if config.readout == "mean-field":
            if p is not None:
                self._sum = self._sum + p.unsqueeze(-1) * z
                self._weight = self._weight + p.unsqueeze(-1)
            elif live is None and last_block:
                self._sum = self._sum + z
                self._weight = self._weight + 1
            return
        visited = torch.ones_like(self._weight) if live is None else live.unsqueeze(-1)
        if block == 0:
            self._entered = visited  # a token that is visited at all in a step visits its first block
        self._last = torch.where(visited > 0, z, self._last)
        if config.readout == "rate" and last_block:
            self._sum = self._sum + self._last * self._entered
            self._weight = self._weight + self._entered

    def feature(self) -> Tensor:
        """Return the input of the head, (B, D)."""
        if self.config.readout == "last-state":
            return self._last.mean(1)
        policy = POLICIES.get(self.config.accumulate)
        if self.config.readout == "mean-field" and policy is not None and policy.fills != "visit":
            return self._sum.mean(1)  # weights sum to 1
        # A weight is 0 where every score underflowed to 0, and then so is the sum.
        weight = torch.where(self._weight == 0, 1, self._weight)
        return (self._sum / weight).mean(1)
