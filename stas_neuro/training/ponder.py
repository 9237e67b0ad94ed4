"""A differentiable estimate of the energy of visits, by which the ponder loss can weigh them.

Energy = with no visits + sum over model steps t and blocks l of (visit[t, l] x share of tokens that visit
+ step[t, l] x whether any token visits). The coefficients are differences of prices: a network runs a few
images with all visits, and its record is priced with visits taken away one after another. docs/method.md says
how well it predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stas_neuro.activity import Activity, Visits, record_halts
from stas_neuro.chips import Profile
from stas_neuro.choices import Mode
from stas_neuro.energy import Deployment, price
from stas_neuro.energy.early_end import can_end_early, exits_by_image
from stas_neuro.errors import InputError
from stas_neuro.ir import POLICIES, Graph, HaltAccumulate, HaltingScore, ImageScore, Node
from stas_neuro.passes import PipelineExit
from stas_neuro.reference import run_reference
from stas_neuro.scopes import block_of

SHARPNESS = 0.1
"""Width of the soft maximum over tokens, by which the energy of hardware steps is differentiated."""
_NEVER = -60.0
"""Logit of a halting score that no number of visits adds up to a threshold."""
_MOVED = ("updates_active", "updates_inactive")
"""Kinds of events that become `updates_gated` where tokens do not visit."""
_KEPT = ("updates_gated", "updates_skipped")


Table = tuple[tuple[float, ...], ...]
"""Numbers by model step and block."""


@dataclass(frozen=True)
class EnergySurrogate:
    """Energy of an image in J, from its visits.

    Parameters
    ----------
    base : float
        With no visits.
    visit : (T, L)
        Of the visits of all tokens, beyond that of the hardware steps.
    step : (T, L)
        Of the hardware steps that a block takes in a model step if any token visits it.
    """

    base: float
    visit: Table
    step: Table

    @property
    def full(self) -> float:
        """Energy in J with all visits."""
        return self.base + sum(map(sum, (*self.visit, *self.step)))

    def energy(self, visits: Tensor) -> Tensor:
        """Estimate the energy in J of each image, (B,), from visits (B, T, L, N) of values 0 to 1.

        Any visit counts as one hardware step; its gradient is shared by the tokens as that of a soft maximum.
        """
        visit, step = (torch.tensor(each, dtype=torch.float64) for each in (self.visit, self.step))
        soft = SHARPNESS * torch.logsumexp(visits / SHARPNESS, -1)
        most = visits.amax(-1).detach() + (soft - soft.detach())
        return self.base + (visit * visits.mean(-1).double() + step * most.double()).sum((1, 2))

    def loss(self, visits: Tensor) -> Tensor:
        """Return the mean energy over the images in units of a visit: T*L with all visits."""
        return self.energy(visits).mean() * (visits[0, ..., 0].numel() / self.full)


def surrogate(graph: Graph, images: NDArray[Any], profile: Profile, mode: Mode = "single") -> EnergySurrogate:
    """Price the visits of a network that halts.

    Visits are added in raster order: one token first, whose price is that of the hardware steps and of one
    visit, then all others. So the energies of no and of all visits are exact; between them, a price is not
    linear where the slowest core decides.

    Parameters
    ----------
    graph : Graph
        A folded float graph that halts.
    images : float (B, ...)
        Preprocessed images, the prices of which are averaged.
    profile : Profile
    mode : "single" or "stream"
        Whether an image is priced alone or in a stream; see `deployment_of`.

    Raises
    ------
    InputError
        If the network does not halt, or the profile has no price of it.
    """
    if not graph.accumulators:
        raise InputError("the network does not halt, so no visits can be weighed", "give it a halting policy")
    activity = full_activity(graph, images)
    deployment = deployment_of(activity, profile, mode)

    def joules(visits: NDArray[np.bool_]) -> float:
        seen = np.broadcast_to(visits, (activity.images, *visits.shape))
        totals = price(thinned(activity, seen), profile, deployment)
        energy = totals.dynamic_energy_j if totals.energy_j is None else totals.energy_j
        if energy is None:
            raise InputError(f"profile {profile.name} has no energy of any event", "use another profile")
        return energy.value

    steps, blocks, tokens = graph.time_steps, graph.blocks, graph.tokens
    if POLICIES[graph.halting].by_image:
        return _of_exits(joules, steps, blocks, tokens)
    seen = np.zeros((steps, blocks, tokens), dtype=np.bool_)
    base = before = joules(seen)
    visit, step = np.zeros((2, steps, blocks))
    for at in np.ndindex(steps, blocks):
        seen[at][:1] = True
        one = joules(seen)
        seen[at] = True
        every = joules(seen)
        # One visit costs `one - before`, the others `every - one`; what they do not explain is the step.
        each = (every - one) / max(tokens - 1, 1)
        step[at] = max(one - before - each, 0.0) if tokens > 1 else 0.0
        visit[at] = every - before - step[at]
        before = every
    visits, hardware = (tuple(map(tuple, each.tolist())) for each in (visit, step))
    return EnergySurrogate(base, visits, hardware)


def _of_exits(
    joules: Callable[[NDArray[np.bool_]], float], steps: int, blocks: int, tokens: int
) -> EnergySurrogate:
    """Price exits: a model step costs what an exit after it costs more than one before it.

    No image exits before the first step, whose visits are the base.
    """
    seen = np.zeros((steps, blocks, tokens), dtype=np.bool_)
    costs = []
    for step in range(steps):
        seen[step] = True
        costs.append(joules(seen))
    added = np.diff(costs, prepend=costs[0])
    nothing = ((0.0,) * blocks,) * steps
    return EnergySurrogate(costs[0], nothing, tuple((each / blocks,) * blocks for each in added.tolist()))


def deployment_of(activity: Activity, profile: Profile, mode: Mode = "single") -> Deployment:
    """Return the deployment by which visits are priced.

    It is the fastest schedule. Model steps, or with image halting the run, end early where the schedule and
    the chip allow it.
    """
    deployment = Deployment(mode=mode)
    ends = exits_by_image(activity) or deployment.schedule_of(activity) == "raster"
    return replace(deployment, early_end=ends and can_end_early(profile))


def full_activity(graph: Graph, images: NDArray[Any]) -> Activity:
    """Count the events of a network on images, float (B, ...), of which no token halts."""
    awake = replace(graph, nodes=tuple(map(_awake, graph.nodes)))
    if POLICIES[graph.halting].by_image:
        awake = PipelineExit()(awake)
    return run_reference(awake, images.astype(np.float32), dtype=np.float32).activity


def _awake(node: Node) -> Node:
    """Give scores that halt no token, and take off the cap on visits."""
    if isinstance(node, HaltingScore):
        return replace(node, alpha=0.0, beta=_NEVER)
    if isinstance(node, ImageScore):
        return replace(node, margin=1e9)
    return replace(node, closes=None) if isinstance(node, HaltAccumulate) else node


def thinned(activity: Activity, visits: Visits) -> Activity:
    """Return the record of a run with all visits, as if it had only made some of them.

    Counts in a block, and of its score, are proportional to the share of tokens that visit it; the neurons of
    the others are not updated (`updates_gated`). That tokens that halt change the spikes of others is
    neglected.

    Parameters
    ----------
    activity : Activity
        Of a run with all visits, without a mapping.
    visits : bool (images, T, L, N)

    Raises
    ------
    InputError
        If the run has no halting or some visits were not made.
    """
    if not record_halts(activity.layers) or activity.visits is None or not activity.visits.all():
        raise InputError("the run has no halting, or tokens have halted", "count a run with all visits")
    if exits_by_image(activity):  # on a pipeline blocks compute on; pricing ends the run
        return replace(activity, visits=visits)
    share = np.ones((activity.images, len(activity.layers), len(activity.steps)))
    at = [activity.step_index(f"step{step + 1}") for step in range(visits.shape[1])]
    shares = visits.mean(axis=3)
    for row, block in enumerate(_blocks(activity, visits.shape[2])):
        if block is not None:
            share[:, row, at] = shares[:, :, block]
    counts = {}
    for kind, counted in activity.counts.items():
        counts[kind] = counted if kind in _KEPT else np.rint(counted * share).astype(np.int64)
    given_up = sum(activity.counts[kind] - counts[kind] for kind in _MOVED)
    counts["updates_gated"] = activity.counts["updates_gated"] + given_up
    return replace(activity, counts=counts, visits=visits)


def _blocks(activity: Activity, blocks: int) -> list[int | None]:
    """Return the block whose visits a row's work belongs to; None for the stem and the end.

    Scores of a network with one accumulator are of the last block.
    """
    units = [row for row, layer in enumerate(activity.layers) if layer.kind == "HaltAccumulate"]
    found: list[int | None] = []
    unit = 0
    for row, layer in enumerate(activity.layers):
        if layer.scope == "halting":
            found.append(unit if len(units) == blocks else blocks - 1)
            unit += row in units
        else:
            found.append(block_of(layer.scope))
    return found
