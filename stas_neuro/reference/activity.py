"""Counts the activity of a run of the reference: a listener, so that a run knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity, ActivityBuilder
from stas_neuro.activity.layers import builder_for
from stas_neuro.analysis import score_mask, works_in
from stas_neuro.ir import Graph, HaltingScore, ImageScore, Node, Phase, op_of
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.chips import ChipShare
from stas_neuro.mapping.routes import Routes, routes
from stas_neuro.reference.cores import Event, Messages, Standstill, parts_of
from stas_neuro.reference.ops import RULES
from stas_neuro.reference.ops.base import Inputs, Outputs, Values
from stas_neuro.reference.rows import RecordRow


class Run(Protocol):
    """What is counted: the graph, the values of a batch, and who visits, bool (B, T, L, N)."""

    graph: Graph
    images: Values
    visits: NDArray[np.bool_]

    def value(self, node: Node, port: str, step: int) -> Values:
        """Give the value at an input port of a node in a step."""

    def sent(self, source: str, step: int) -> Values:
        """Give what a node sent in a step."""


@dataclass(frozen=True, eq=False)
class Counting:
    """How a run is counted: in which steps, for which parts of the outputs of nodes, and between cores.

    `builder` makes an empty record of a number of images.
    """

    builder: Callable[[int], ActivityBuilder]
    phases: dict[str, Phase]
    parts: dict[str, tuple[RecordRow, ...]]
    messages: Messages | None
    standstill: Standstill | None

    @staticmethod
    def of(
        graph: Graph,
        mapping: Mapping | None,
        gating: str,
        ways: Routes | None = None,
        share: ChipShare | None = None,
    ) -> Counting:
        """Plan the counting of a graph, on the cores of a mapping if any; `ways` are its routes, or some.

        With a share of the mapping only its rows are counted.
        """
        empty = builder_for(graph, 0, mapping, share)
        phases = {node.name: works_in(graph, node) for node in graph.nodes}
        if mapping is None:
            parts = parts_of(graph, None)
            return Counting(lambda images: replace(empty, images=images), phases, parts, None, None)
        here = mapping if share is None else share.mapping
        listed = {layer.name for layer in empty.layers}
        parts = {
            name: tuple(part for part in parts if part.row in listed)
            for name, parts in parts_of(graph, here).items()
        }
        standstill = Standstill(graph, here) if gating in ("core", "power") else None
        messages = Messages(graph, here, ways or routes(graph, mapping))
        return Counting(lambda images: replace(empty, images=images), phases, parts, messages, standstill)

    def labels(self, node: Node, step: int, time_steps: int) -> list[str]:
        """Name the steps in which what a node does in a step is counted."""
        phase = self.phases[node.name]
        # What is computed once for neurons of every step is brought to them in each: the same events again.
        repeated = node.phase == Phase.ONCE and phase != Phase.ONCE
        return [label_of(phase, at) for at in (range(time_steps) if repeated else [step])]


class ActivityCounter:
    """Counts one batch."""

    def __init__(self, counting: Counting, run: Run) -> None:
        self._counting = counting
        self._run = run
        self._builder = counting.builder(len(run.images))

    def activity(self) -> Activity:
        """Give the record."""
        return self._builder.build(self._run.visits)

    def computed(self, node: Node, step: int, inputs: Inputs, outputs: Outputs) -> None:
        """Count the events of a node in a step."""
        if not node.traits.counts_events:
            return
        graph = self._run.graph
        if isinstance(node, HaltingScore | ImageScore) and (mask := self._visit_mask(node, step)) is not None:
            inputs = {**inputs, "alive": mask}
        kinds = {port: graph.source_type(edge).kind for port, edge in graph.inputs(node).items()}
        count = RULES[op_of(node)].count
        assert count is not None  # the table has one for what counts events
        counted = count(node, inputs, outputs, kinds)
        labels = self._counting.labels(node, step, graph.time_steps)
        for part in self._counting.parts[node.name]:
            for event, counts in counted:
                of_part = part.count(counts)
                for label in labels:
                    self._add(label, [(event, part.row, of_part)])

    def step_ended(self, phase: Phase, step: int) -> None:
        """Count what cores have sent in a step of a phase, and which of their neurons were not stepped."""
        counting = self._counting
        if counting.messages is None:
            return

        def visits(block: int) -> NDArray[np.bool_]:
            return self._run.visits[:, step, block]

        label = label_of(phase, step)
        self._add(label, counting.messages.events(phase, partial(self._run.sent, step=step), visits))
        if counting.standstill is not None and phase == Phase.STEP:
            self._add(label, counting.standstill.events(partial(self._alive, step=step)))

    def _alive(self, name: str, step: int) -> Values:
        return self._run.value(self._run.graph.node(name), "alive", step)

    def _add(self, label: str, events: Iterable[Event]) -> None:
        for kind, row, counts in events:
            self._builder.add(kind, row, label, counts)

    def _visit_mask(self, node: HaltingScore | ImageScore, step: int) -> Values | None:
        """Give the mask of the visit that a score belongs to: what its accumulator takes."""
        mask = score_mask(self._run.graph, node)
        return None if mask is None else self._alive(mask.dst, step)


def label_of(phase: Phase, step: int) -> str:
    """Name a step as records do."""
    return str(phase) if phase in (Phase.ONCE, Phase.END) else f"{phase}{step + 1}"
