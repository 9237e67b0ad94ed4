"""Halting by stock neurons: the table of scores as thresholds, their sum as synapses, the limit as a LIF."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from stas_neuro.ir import Array, FixedHaltAccumulate, FixedHaltingScore, Graph, Node, Range

from .netlist import Graded, Lif, Netlist, Signal, Wire, one_to_one, to_all, weighted
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
        name, scope = node.name, node.scope
        tokens = len(z.index)
        scored = self._score(score, z, alive or Signal(self.go.group, np.repeat(self.go.index, tokens)))
        reached = scored + (one_to_one(self.below) if self.below else [])
        largest = int(self.graph.tensor(score, "table").max())
        if node.mode == "block":
            opened = self.netlist.threshold(
                f"{name}.alive",
                tokens,
                [*to_all(self.go, np.full(tokens, node.limit)), *_negative(reached)],
                scope,
            )
        else:
            # It sums over the steps until it fires, once it has halts its token for the rest of the image.
            crossed = Lif(0, node.limit - 1, np.zeros(tokens, np.int64), 0, "image")
            halts = self.netlist.add(f"{name}.halts", crossed, tokens, reached, scope)
            stops = one_to_one(Signal(halts, np.arange(tokens)), weight=2)
            opened = self.netlist.threshold(
                f"{name}.alive",
                tokens,
                [*to_all(self.first, np.ones(tokens, np.int64)), *_negative(stops)],
                scope,
                latch=1,
            )
        following = self.graph.accumulators[self.graph.accumulators.index(node) + 1]
        if not following.last_block:
            reach = Range(0, node.limit + largest) if node.mode == "block" else None
            total = self.netlist.add(f"{name}.total", Graded(), tokens, reached, scope, reach=reach)
            self.below = Signal(total, np.arange(tokens))
        return Signal(opened, np.arange(tokens))

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
