"""Layers of which only parts are computed: their sums, and the whole of which the parts are written into.

A part is a smaller layer with positions of its own. Its results go to the rows of a table of the whole layer,
in which all else is 0 until it is received.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis.halting import Mask
from stas_neuro.fast.operators import Fire
from stas_neuro.fast.parts import Part
from stas_neuro.fast.rows import Live, Rows
from stas_neuro.fast.sums import Block, ConvSums, Current, LinearSums, Sums
from stas_neuro.ir import FixedLIF, Node, Shape

if TYPE_CHECKING:
    from stas_neuro.fast.execution import FastExecution

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class LinearPart(LinearSums):
    """Some outputs of a linear layer; `product` and `current` have only its features."""

    part: Part

    def live(self, run: FastExecution, step: int) -> Live:
        """Compute the rows of its mask at its positions."""
        return super().live(run, step).within(self.part)


@dataclass(frozen=True, eq=False)
class ConvPart(ConvSums):
    """Some outputs of a convolution; `product` and `current` have only its features and positions."""

    part: Part

    def live(self, run: FastExecution, step: int) -> Live:
        """Compute all rows of its positions."""
        return super().live(run, step).within(self.part)

    @cached_property
    def _windows(self) -> tuple[int, int, int, Array]:
        """Only the output rows that have some of its positions."""
        columns, sides = self.shapes[1][2], np.array(self.node.sides)
        first, last = self.part.positions[[0, -1]] // columns
        sides[2, 0] -= first * sides[1, 0]
        return int(last - first + 1), columns, self.shapes[0][0], sides

    def _chosen(self, windows: Array) -> Array:
        """Choose those of its positions."""
        if windows.shape[1] == len(self.part.positions):
            return windows
        columns = self.shapes[1][2]
        return windows[:, self.part.positions - self.part.positions[0] // columns * columns]


@dataclass(frozen=True, eq=False)
class ChosenSums:
    """Some of the sums of a layer that are computed as a whole; `current` has only its features."""

    whole: Sums
    part: Part
    current: Current

    def live(self, run: FastExecution, step: int) -> Live:
        """Give the rows of its positions."""
        return self.whole.live(run, step).within(self.part)

    def blocks(self, run: FastExecution, step: int) -> Iterator[Block]:
        """Choose them."""
        chosen = self.live(run, step).chosen
        yield slice(None), run.sums(self.whole, step)[chosen, self.part.features]


@dataclass(frozen=True, eq=False)
class LayerTable:
    """A table of the values of a layer that is computed in parts, with a row for each position."""

    node: Node
    mask: Mask | None
    positions: int
    features: int
    shape: Shape
    dtype: type[np.generic]

    def empty(self, run: FastExecution) -> Array:
        """Give one of 0."""
        table = run.out(self.node, (len(run.images) * self.positions, self.features), self.dtype)
        table.fill(0)
        return table

    def rows(self, run: FastExecution, table: Array) -> Rows:
        """Give one as rows."""
        return Rows(table, run.everyone(self.positions), self.shape)


@dataclass(frozen=True, eq=False)
class FireParts:
    """Parts of a layer of neurons."""

    node: FixedLIF
    table: LayerTable
    parts: Sequence[tuple[Part, Fire]]

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Step them."""
        table = self.table
        live = run.live(table.mask, table.positions, step)
        assert run.counter is not None  # runs of chips are counted
        counts = run.counter.neurons(self.node, live, step)
        spikes = table.empty(run)
        for part, fire in self.parts:
            here = live.within(part)
            some = counts.of_some(here.chosen, part.features)
            of_part = run.buffers.get("part", (len(here.where), part.shape[1]), np.uint8)
            fire.fire(run, step, here, some, of_part)
            counts.add(some, part.features)
            spikes[here.at, part.features] = of_part
        if run.record_states:
            states = np.zeros(spikes.shape)
            for part, fire in self.parts:
                every = run.everyone(table.positions).within(part)
                states[every.at, part.features] = fire.membranes(run, live.within(part))
            run.record_state(self.node, table.rows(run, states))
        return {"s": table.rows(run, spikes)}


@dataclass(frozen=True, eq=False)
class SynapseParts:
    """Parts of a layer whose current is not for its own neurons alone."""

    table: LayerTable
    parts: Sequence[LinearPart | ConvPart]

    def run(self, run: FastExecution, step: int) -> dict[str, Any]:
        """Multiply."""
        if self.parts:
            self.parts[0].run(run, step)  # counts the inputs, of all parts
        y = self.table.empty(run)
        for sums in self.parts:
            at = sums.live(run, step).at
            for rows, block in sums.blocks(run, step):
                y[at[rows], sums.part.features] = sums.current.of(block)
        return {"y": self.table.rows(run, y)}
