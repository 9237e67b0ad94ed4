"""Halting by stock neurons: the table of scores as thresholds, their sum as synapses, the limit as a LIF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from stas_neuro.ir import Array, FixedHaltAccumulate, FixedHaltingScore, Graph, Node, Range, per_policy

from .netlist import Graded, Lif, Netlist, NeuronGroup, Signal, Wire, one_to_one, to_all, weighted
from .units import unit_of


@dataclass
class Halting:
    """Adds the neurons of one accumulator after another, in block order."""

    graph: Graph
    netlist: Netlist
    first: Signal
    go: Signal
    below: Signal | None = field(default=None, init=False)
    """Scores of a token's visits of this step in the blocks so far, summed; graded."""

    def accumulate(
        self, node: FixedHaltAccumulate, score: Node, z: Signal, alive: Signal | None
    ) -> Signal | None:
        """Give the mask (N,) under which the next block runs; None after the last block.

        Scores are at least 0, so that a sum that has reached the limit stays there: in mode block over the
        blocks of a step, in mode rectangular over blocks and over steps.
        """
        assert isinstance(score, FixedHaltingScore)
        if node.last_block:
            return None
        tokens = len(z.index)
        scored = self._score(score, z, alive or Signal(self.go.group, np.repeat(self.go.index, tokens)))
        reached = scored + (one_to_one(self.below) if self.below else [])
        form = HALTING_FORMS[node.mode]
        opened = form.opened(self, node, reached, tokens)
        following = self.graph.accumulators[self.graph.accumulators.index(node) + 1]
        if not following.last_block:
            largest = int(self.graph.tensor(score, "table").max())
            reach = Range(0, node.limit + largest) if form.stops_at_limit else None
            total = self.netlist.add(f"{node.name}.total", Graded(), tokens, reached, node.scope, reach=reach)
            self.below = Signal(total, np.arange(tokens))
        return Signal(opened, np.arange(tokens))

    def block(self, node: FixedHaltAccumulate, reached: list[Wire], tokens: int) -> NeuronGroup:
        """Open the next block while the sum of this step is below the limit."""
        wires = [*to_all(self.go, np.full(tokens, node.limit)), *_negative(reached)]
        return self.netlist.threshold(f"{node.name}.alive", tokens, wires, node.scope)

    def rectangular(self, node: FixedHaltAccumulate, reached: list[Wire], tokens: int) -> NeuronGroup:
        """Sum over the steps until the limit, which halts a token for the rest of the image."""
        name, scope = node.name, node.scope
        crossed = Lif(0, node.limit - 1, np.zeros(tokens, np.int64), 0, "image")
        halts = self.netlist.add(f"{name}.halts", crossed, tokens, reached, scope)
        stops = one_to_one(Signal(halts, np.arange(tokens)), weight=2)
        wires = [*to_all(self.first, np.ones(tokens, np.int64)), *_negative(stops)]
        return self.netlist.threshold(f"{name}.alive", tokens, wires, scope, latch=1)

    def _score(self, score: FixedHaltingScore, z: Signal, alive: Signal) -> list[Wire]:
        """Wire a visited token's score: that of z = 0 by its alive spike, then a step for each z between.

        The z of a halted token is 0.
        """
        tokens, each = len(z.index), np.arange(len(z.index))
        reach = z.group.reach.with_zero()
        numbers = np.arange(reach.low, reach.high + 1) * unit_of(self.graph, score, "z") >> score.shift
        scores = self.graph.tensor(score, "table").astype(np.int64)[
            np.clip(numbers - score.low, 0, score.entries - 1)
        ]
        wires = weighted(alive, each, each, np.full(tokens, scores[-reach.low]))
        changes = np.diff(scores)
        for sign in (1, -1):
            # Neurons that fire where z > n, for n from 0, and where -z > n: where z falls below -n.
            side = changes[-reach.low :] if sign > 0 else -changes[: -reach.low][::-1]
            steps = np.flatnonzero(side)
            if steps.size:
                levels = self._levels(score, Signal(z.group, z.index[:, 0]), steps, sign)
                places = np.arange(levels.index.size)
                wires += weighted(levels, places // len(steps), places, np.tile(side[steps], tokens))
        return wires

    def _levels(self, score: FixedHaltingScore, z: Signal, numbers: Array, sign: int) -> Signal:
        """Add a neuron for each token and number n, which fires where sign * z > n."""
        tokens, size = z.index.size, z.index.size * len(numbers)
        rows = np.arange(size)
        wires = weighted(z, rows, rows // len(numbers), np.full(size, sign))
        wires += to_all(self.go, -np.tile(numbers, tokens))
        side = "above" if sign > 0 else "below"
        return Signal(self.netlist.threshold(f"{score.name}.{side}", size, wires, score.scope), rows)


def _negative(wires: list[Wire]) -> list[Wire]:
    return [replace(wire, weights=-wire.weights) for wire in wires]


def _scores_themselves(node: FixedHaltAccumulate, alive: Array, h: Array, before: Array) -> Array:
    weights: Array = alive * h
    return weights


def _rest_of_one(node: FixedHaltAccumulate, alive: Array, h: Array, before: Array) -> Array:
    halts = (before + h >= node.limit) | node.last_block
    weights: Array = alive * np.where(halts, (1 << node.score_bits) - before, h)
    return weights


@dataclass(frozen=True)
class HaltingForm:
    """How stock processes express a halting policy.

    `opened` makes the neurons of the next block's mask. `weights` is what the host gives visits: p (B, T, N)
    of alive, h and the sum of the scores before, all such. `stops_at_limit` tells whether no token's sum goes
    on once it has reached the limit.
    """

    opened: Callable[[Halting, FixedHaltAccumulate, list[Wire], int], NeuronGroup]
    weights: Callable[[FixedHaltAccumulate, Array, Array, Array], Array]
    stops_at_limit: bool


HALTING_FORMS: Mapping[str, HaltingForm] = per_policy(
    "halting in stock processes",
    {
        "block": HaltingForm(Halting.block, _rest_of_one, stops_at_limit=True),
        "rectangular": HaltingForm(Halting.rectangular, _scores_themselves, stops_at_limit=False),
    },
    without=("image", "raster", "time"),  # which are refused
)
