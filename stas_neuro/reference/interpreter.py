"""Runs a graph node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import ActivityBuilder, builder_for
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    LIF,
    PIXEL_LIMIT,
    FixedOutput,
    Graph,
    HaltAccumulate,
    HaltingScore,
    Input,
    Integrate,
    Node,
    Output,
    Phase,
    Readout,
    Stage,
    neutral,
    op_of,
)
from stas_neuro.mapping import Mapping, works_in
from stas_neuro.reference.cores import Events, Messages, Standstill, parts_of
from stas_neuro.reference.counting import COUNTERS, Part
from stas_neuro.reference.fixed import FIXED_OPERATORS, Dtype, exact_dtype
from stas_neuro.reference.operators import OPERATORS, Inputs, Outputs, Site, Values
from stas_neuro.trace import Trace

Observe = Callable[[Node, Inputs], None]
"""Called with a node and the values at its connected input ports, which it must leave as they are."""


def run_reference(  # noqa: PLR0913
    graph: Graph,
    images: NDArray[Any],
    *,
    dtype: Dtype = np.float64,
    record_spikes: bool = False,
    record_states: bool = False,
    skip: bool = True,
    mapping: Mapping | None = None,
    gating: str = "silent",
    chunk: int = 16,
    progress: Callable[[int, int], None] | None = None,
    observe: Observe | None = None,
) -> Trace:
    """Classify preprocessed images.

    Parameters
    ----------
    graph : Graph
        Of any stage; a traced one runs its BatchNorms, a quantised one is computed exactly.
    images : (B, C, H, W), or (B, T, C, H, W) where the graph takes event data
        Floating, what `graph.preprocessing` made of the raw images; of a quantised graph the raw images,
        integers 0..255.
    dtype : numpy.float64 or numpy.float32
        Precision of all arithmetic, the logits too. It means nothing for a quantised graph.
    record_spikes : bool
        Whether the trace holds the spikes of every LIF.
    record_states : bool
        Whether the trace of a quantised graph holds the membranes of every LIF and the accumulated scores.
    skip : bool
        Compute the products of halted tokens not at all, instead of on zeros. Both give the same trace.
    mapping : Mapping, optional
        The cores on which the activity is counted.
    gating : str
        "core" counts the updates that cores without a live token spare; "silent" has none.
    chunk : int
        Images computed at once, which bounds the memory needed.
    progress : callable, optional
        Called with the number of finished images and of all.
    observe : callable, optional
        Called for each node in each of its steps, before it is computed, with the values at its connected
        input ports, batch first: (images of the chunk, *shape); of an Integrate (T, images, *shape).

    Raises
    ------
    InputError
        When the images do not fit the graph, or hold other values; or states of a float graph are asked for.
    """
    _check_images(graph, images)
    fixed = graph.stage == Stage.QUANTISED
    if record_states and not fixed:
        raise InputError(f"the graph is {graph.stage}, it has no integer states", "run a quantised graph")
    dtypes = {node.name: exact_dtype(graph, node) if fixed else dtype for node in graph.nodes}
    counting = _Counting.of(graph, mapping, gating)
    traces = []
    for start in range(0, len(images), chunk):
        batch = images[start : start + chunk].astype(dtypes[graph.input.name])
        run = _Run(
            graph,
            batch,
            dtypes,
            counting,
            spikes=record_spikes,
            states=record_states,
            skip=skip,
            observe=observe,
        )
        traces.append(run.trace())
        if progress is not None:
            progress(min(start + chunk, len(images)), len(images))
    return Trace.concatenate(traces)


def _check_images(graph: Graph, images: NDArray[Any]) -> None:
    by_step = graph.input.phase != Phase.ONCE
    wanted = ((graph.time_steps,) if by_step else ()) + graph.input.shape
    if images.shape[1:] != wanted or not len(images):
        axes = ", ".join(map(str, wanted))
        raise InputError(f"images have shape {images.shape}", f"give (images, {axes}), at least 1 image")
    if graph.stage == Stage.QUANTISED:
        if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > PIXEL_LIMIT:
            what = f"images ({images.dtype}) are not integers 0..{PIXEL_LIMIT}"
            raise InputError(what, "give a quantised graph the pixels as they are stored")
    elif images.dtype.kind != "f" or not np.isfinite(images).all():
        raise InputError(f"images ({images.dtype}) are not finite floats", "preprocess them and remove NaN")


@dataclass(frozen=True, eq=False)
class _Counting:
    """How a run is counted: in which steps, for which parts of the outputs of nodes, and between cores."""

    mapping: Mapping | None
    phases: dict[str, Phase]
    parts: dict[str, tuple[Part, ...]]
    messages: Messages | None
    standstill: Standstill | None

    @staticmethod
    def of(graph: Graph, mapping: Mapping | None, gating: str) -> _Counting:
        phases = {node.name: works_in(graph, node) for node in graph.nodes}
        parts = parts_of(graph, mapping)
        if mapping is None:
            return _Counting(None, phases, parts, None, None)
        standstill = Standstill(graph, mapping) if gating in ("core", "power") else None
        return _Counting(mapping, phases, parts, Messages(graph, mapping), standstill)


class _Run:
    """One batch on its way through the graph."""

    def __init__(
        self,
        graph: Graph,
        images: Values,
        dtypes: dict[str, Dtype],
        counting: _Counting,
        *,
        spikes: bool,
        states: bool,
        skip: bool,
        observe: Observe | None,
    ) -> None:
        self.graph = graph
        self.images = images
        self.dtypes = dtypes
        self.record_spikes = spikes
        self.record_states = states
        self.observe = observe
        self.operators = FIXED_OPERATORS if graph.stage == Stage.QUANTISED else OPERATORS
        self.sites = {node.name: _site(graph, node, dtypes[node.name], skip) for node in graph.nodes}
        self.values: dict[tuple[str, str], Values] = {}
        """Latest value at each output port; of stem nodes those of all steps, (T, B, ...)."""
        self.previous: dict[tuple[str, str], Values] = {}
        """The values at the end of the model step before."""
        self.spikes: dict[str, list[NDArray[np.uint8]]] = {}
        self.states: dict[str, list[NDArray[np.int32]]] = {}
        self.counting = counting
        self.activity: ActivityBuilder = builder_for(graph, len(images), counting.mapping)
        self.visits = np.ones((len(images), graph.time_steps, graph.blocks, graph.tokens), np.bool_)

    def trace(self) -> Trace:
        """Run all phases."""
        for node in self._in_phase(Phase.ONCE, Phase.STEM):
            self._prologue(node)
        self._count_on_cores(Phase.ONCE)
        for step in range(self.graph.time_steps):
            self._count_on_cores(Phase.STEM, step)
        for step in range(self.graph.time_steps):
            self.previous = dict(self.values)
            for node in self._in_phase(Phase.STEP):
                self._evaluate(node, step)
            self._note_visits(step)
            self._count_on_cores(Phase.STEP, step)
        for node in self._in_phase(Phase.END):
            self._evaluate(node, 0)
        self._count_on_cores(Phase.END)
        return Trace(
            logits=self._logits(),
            visits=self.visits,
            activity=self.activity.build(self.visits),
            spikes={name: np.stack(steps, axis=1) for name, steps in self.spikes.items()},
            states={name: np.stack(steps, axis=1) for name, steps in self.states.items()},
        )

    def _logits(self) -> Values:
        output = self.graph.output
        logits = self._inputs(output)["x"]
        return logits.astype(np.float64) * output.unit if isinstance(output, FixedOutput) else logits

    def _in_phase(self, *phases: Phase) -> Iterator[Node]:
        """Give the nodes to evaluate. Readout gathers during the model steps and answers at their end."""
        for node in self.graph.nodes:
            phase = Phase.STEP if isinstance(node, Readout) else node.phase
            if phase in phases and not isinstance(node, Output):
                yield node

    def _prologue(self, node: Node) -> None:
        """Evaluate a node of the phases before the model steps: a stem node for all its steps at a time."""
        if node.phase == Phase.ONCE:
            self._evaluate(node, 0)
            return
        steps = []
        for step in range(self.graph.time_steps):
            self._evaluate(node, step)
            steps.append({port: self.values[node.name, port] for port in node.OUTPUTS})
        self.values.update({(node.name, port): np.stack([s[port] for s in steps]) for port in node.OUTPUTS})

    def _evaluate(self, node: Node, step: int) -> None:
        site = self.sites[node.name]
        site.step = step
        inputs = self._inputs(node, step)
        if self.observe is not None:
            self.observe(node, inputs)
        if isinstance(node, Input):
            outputs = self._frame(node, step)
        else:
            outputs = self.operators[type(node)](node, inputs, site)
        self.values.update({(node.name, port): value for port, value in outputs.items()})
        self._count(node, step, inputs, outputs)
        self._record(node, site, outputs)

    def _record(self, node: Node, site: Site, outputs: Outputs) -> None:
        if self.record_spikes and isinstance(node, LIF):
            self.spikes.setdefault(node.name, []).append(outputs["s"].astype(np.uint8))
        if self.record_states and isinstance(node, LIF | HaltAccumulate):
            state = site.state["v"] if isinstance(node, LIF) else outputs["total"]
            self.states.setdefault(node.name, []).append(state.astype(np.int32))

    def _frame(self, node: Input, step: int) -> Outputs:
        return {"y": self.images if node.phase == Phase.ONCE else self.images[:, step]}

    def _inputs(self, node: Node, step: int = 0) -> dict[str, Values]:
        dtype = self.dtypes[node.name]
        return {
            port: self._value(node, port, step).astype(dtype, copy=False) for port in self.graph.inputs(node)
        }

    def _value(self, node: Node, port: str, step: int) -> Values:
        edge = self.graph.inputs(node)[port]
        key = edge.src, edge.src_port
        if edge.delay:
            if key not in self.previous:
                shape = self.graph.types[key].shape
                return np.full((len(self.images), *shape), neutral(port), self.images.dtype)
            return self.previous[key]
        if self.graph.types[key].phase == Phase.STEM and not isinstance(node, Integrate):
            value: Values = self.values[key][step]
            return value
        return self.values[key]

    def _count(self, node: Node, step: int, inputs: dict[str, Values], outputs: Outputs) -> None:
        if not node.traits.counts_events:
            return
        if isinstance(node, HaltingScore) and (mask := self._visit_mask(node, step)) is not None:
            inputs = {**inputs, "alive": mask}
        kinds = {port: self.graph.source_type(e).kind for port, e in self.graph.inputs(node).items()}
        counted = COUNTERS[op_of(node)](node, inputs, outputs, kinds)
        phase = self.counting.phases[node.name]
        # What is computed once for neurons of every step is brought to them in each: the same events again.
        repeated = node.phase == Phase.ONCE and phase != Phase.ONCE
        labels = [_label(phase, at) for at in (range(self.graph.time_steps) if repeated else [step])]
        for part in self.counting.parts[node.name]:
            for event, counts in counted:
                of_part = part.count(counts)
                for label in labels:
                    self.activity.add(event, part.row, label, of_part)

    def _count_on_cores(self, phase: Phase, step: int = 0) -> None:
        """Count what cores send in a step of a phase, and which of their neurons are not stepped."""
        if self.counting.messages is None:
            return

        def value(source: str) -> Values:
            node = self.graph.node(source)
            latest = self.values[source, node.OUTPUTS[0]]
            return latest[step] if node.phase == Phase.STEM else latest

        def visits(block: int) -> NDArray[np.bool_]:
            return self.visits[:, step, block]

        label = _label(phase, step)
        self._add(label, self.counting.messages.events(phase, value, visits))
        if self.counting.standstill is not None and phase == Phase.STEP:
            self._add(label, self.counting.standstill.events(partial(self._alive, step=step)))

    def _alive(self, name: str, step: int) -> Values:
        return self._value(self.graph.node(name), "alive", step)

    def _add(self, label: str, events: Events) -> None:
        for kind, row, counts in events:
            self.activity.add(kind, row, label, counts)

    def _visit_mask(self, node: HaltingScore, step: int) -> Values | None:
        """Find the mask of the visit that a score belongs to: what its accumulator takes."""
        for edge in self.graph.consumers(node):
            accumulator = self.graph.node(edge.dst)
            if "alive" in self.graph.inputs(accumulator):
                return self._value(accumulator, "alive", step)
        return None

    def _note_visits(self, step: int) -> None:
        accumulators = self.graph.accumulators
        for block in range(self.graph.blocks if accumulators else 0):
            node: HaltAccumulate = accumulators[block if len(accumulators) > 1 else 0]
            if "alive" in self.graph.inputs(node):
                self.visits[:, step, block] = self._value(node, "alive", step) != 0


def _site(graph: Graph, node: Node, dtype: Dtype, skip: bool) -> Site:
    tensors = {
        param: graph.tensor(node, param).astype(dtype, copy=False) for param in node.params(graph.time_steps)
    }
    return Site(tensors, graph.time_steps, skip)


def _label(phase: Phase, step: int) -> str:
    """Name a step as records do."""
    return str(phase) if phase in (Phase.ONCE, Phase.END) else f"{phase}{step + 1}"
