"""Halting by stock neurons: the table of scores as thresholds, their sum as synapses, the limit as a LIF."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stas_neuro.ir import ALIGN, Array, FixedHaltAccumulate, FixedHaltingScore, Graph, Node

from .netlist import Graded, Lif, Netlist, Signal, Wire, one_to_one, weighted


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
                f"{name}.alive", tokens, [*self._all(self.go, tokens, node.limit), *_negative(reached)], scope
            )
        else:
            # It sums over the steps until it fires, once it has halts its token for the rest of the image.
            crossed = Lif(0, node.limit - 1, np.zeros(tokens, np.int64), 0, "image")
            halts = self.netlist.add(f"{name}.halts", crossed, tokens, reached, scope)
            stops = one_to_one(Signal(halts, np.arange(tokens)), weight=2)
            opened = self.netlist.threshold(
                f"{name}.alive",
                tokens,
                [*self._all(self.first, tokens, 1), *_negative(stops)],
                scope,
                latch=1,
            )
        following = self.graph.accumulators[self.graph.accumulators.index(node) + 1]
        if not following.last_block:
            bound = node.limit + largest if node.mode == "block" else None
            total = self.netlist.add(f"{name}.total", Graded(), tokens, reached, scope, bound=bound)
            self.below = Signal(total, np.arange(tokens))
        return Signal(opened, np.arange(tokens))

    def _score(self, score: FixedHaltingScore, z: Signal, alive: Signal) -> list[Wire]:
        """Wire a visited token's score: that of z = 0 by its alive spike, then a step for each z reached."""
        tokens, most = len(z.index), z.group.bound
        table = self.graph.tensor(score, "table").astype(np.int64)
        place = np.clip((np.arange(most + 1) >> score.shift) - score.low, 0, score.entries - 1)
        scores = table[place]
        each = np.arange(tokens)
        wires = weighted(alive, each, each, np.full(tokens, scores[0]))
        reached = np.flatnonzero(np.diff(scores))  # z > n moves the score
        if reached.size:
            levels = self._levels(score, Signal(z.group, z.index[:, 0]), reached)
            steps = np.tile(np.diff(scores)[reached], tokens)
            wires += weighted(levels, np.repeat(each, len(reached)), np.arange(steps.size), steps)
        return wires

    def _levels(self, score: FixedHaltingScore, z: Signal, reached: Array) -> Signal:
        """Add a neuron for each token and number n of `reached`, which fires where z > n."""
        count = len(reached)
        size = z.index.size * count
        spread = Signal(z.group, np.repeat(z.index, count))
        bias = -np.tile(reached, z.index.size)
        group = self.netlist.threshold(
            f"{score.name}.levels", size, one_to_one(spread), score.scope, bias=bias, bias_exp=ALIGN
        )
        return Signal(group, np.arange(size))

    def _all(self, control: Signal, size: int, weight: int) -> list[Wire]:
        return weighted(control, np.arange(size), np.zeros(size, np.int64), np.full(size, weight))


def _negative(wires: list[Wire]) -> list[Wire]:
    return [Wire(wire.signal, wire.rows, wire.columns, -wire.weights, wire.exp, wire.port) for wire in wires]
