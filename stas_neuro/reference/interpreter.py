"""Runs a graph node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Activity
from stas_neuro.analysis import visit_mask
from stas_neuro.data import PreparedImages
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    FixedInput,
    FixedOutput,
    Graph,
    Input,
    Kind,
    Node,
    Output,
    Phase,
    Stage,
    neutral,
)
from stas_neuro.mapping import Mapping
from stas_neuro.reference.activity import ActivityCounter, Counting
from stas_neuro.reference.exact import Dtype, exact_dtype
from stas_neuro.reference.ops import FIXED_OPERATORS, OPERATORS
from stas_neuro.reference.ops.base import Inputs, NodeContext, Outputs, Values
from stas_neuro.trace import Collect, Trace


class Listener(Protocol):
    """Follows a run, and leaves all values as they are."""

    def computed(self, node: Node, step: int, inputs: Inputs, outputs: Outputs) -> None:
        """Take what a node was given in a step, and what it made of it."""

    def step_ended(self, phase: Phase, step: int) -> None:
        """Take note that all nodes of a step of a phase are computed."""

    def activity(self) -> Activity:
        """Give what was counted, once the run has ended."""


Observe = Callable[[Node, Inputs], None]
"""Called with a node and the values at its connected input ports, which it must leave as they are."""


def run_reference(  # noqa: PLR0913
    graph: Graph,
    images: NDArray[Any] | PreparedImages,
    *,
    dtype: Dtype = np.float64,
    record_spikes: bool = False,
    record_states: bool = False,
    skip: bool = True,
    mapping: Mapping | None = None,
    gating: str = "silent",
    count: bool = True,
    chunk: int = 16,
    progress: Callable[[int, int], None] | None = None,
    observe: Observe | None = None,
    collect: Collect = Trace.collect,
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
    count : bool
        Whether the trace holds the activity. Without it a run is faster.
    chunk : int
        Images computed at once, which bounds the memory needed.
    progress : callable, optional
        Called with the number of finished images and of all.
    observe : callable, optional
        Called for each node in each of its steps, before it is computed, with the values at its connected
        input ports, batch first: (images of the chunk, *shape); of an Integrate (T, images, *shape).
    collect : callable
        Joins the traces of the chunks, which it is given as they come, with the number of all images.

    Raises
    ------
    InputError
        When the images do not fit the graph, or hold other values; or states of a float graph are asked for;
        or a value is beyond the floats that are computed with.
    """
    check_shape(graph, images.shape)
    fixed = graph.stage == Stage.QUANTISED
    if mapping is not None and not count:
        raise InputError("the run is on cores and is not counted", "count it, or give no mapping")
    if record_states and not fixed:
        raise InputError(f"the graph is {graph.stage}, it has no integer states", "run a quantised graph")
    dtypes = {node.name: exact_dtype(graph, node) if fixed else dtype for node in graph.nodes}
    counting = Counting.of(graph, mapping, gating) if count else None

    def batches() -> Iterator[Trace]:
        for start in range(0, len(images), chunk):
            batch = images[start : start + chunk]
            check_values(graph, batch)
            run = Execution(
                graph,
                batch.astype(dtypes[graph.input.name]),
                dtypes,
                spikes=record_spikes,
                states=record_states,
                skip=skip,
                observe=observe,
            )
            if counting is not None:
                run.listeners = [ActivityCounter(counting, run)]
            yield run.trace()
            if progress is not None:
                progress(min(start + chunk, len(images)), len(images))

    return collect(batches(), len(images))


def count_on_cores(
    graph: Graph, images: NDArray[Any], countings: Sequence[Counting], chunk: int = 16
) -> list[Activity]:
    """Run a quantised graph once, and count its activity in several ways, such as on several placements.

    Parameters
    ----------
    graph : Graph
        Quantised.
    images : integers (B, C, H, W), or (B, T, C, H, W)
        As for `run_reference`.
    countings : sequence of Counting
        Plans for this graph, or for one that differs from it in weights and other numbers only.
    chunk : int
        Images computed at once.

    Returns
    -------
    list of Activity
        For each plan the record that `run_reference` counts on its mapping; its origin is unknown.
    """
    check_shape(graph, images.shape)
    check_values(graph, images)
    dtypes = {node.name: exact_dtype(graph, node) for node in graph.nodes}
    parts: list[list[Activity]] = [[] for _ in countings]
    for start in range(0, len(images), chunk):
        batch = images[start : start + chunk].astype(dtypes[graph.input.name])
        run = Execution(graph, batch, dtypes, spikes=False, states=False, skip=True, observe=None)
        counters = [ActivityCounter(counting, run) for counting in countings]
        run.listeners = [*counters]
        run.trace()
        for part, counter in zip(parts, counters, strict=True):
            part.append(counter.activity())
    return [Activity.concatenate(part) for part in parts]


def check_shape(graph: Graph, shape: tuple[int, ...]) -> None:
    """Raise InputError unless images of a shape are those that a graph takes."""
    wanted = graph.image_shape
    if shape[1:] != wanted or not shape[0]:
        axes = ", ".join(map(str, wanted))
        raise InputError(f"images have shape {shape}", f"give (images, {axes}), at least 1 image")


def check_values(graph: Graph, images: NDArray[Any]) -> None:
    """Raise InputError unless images have the values that a graph takes."""
    if isinstance(graph.input, FixedInput):
        largest = graph.input.largest
        if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > largest:
            what = f"images ({images.dtype}) are not integers 0..{largest}"
            raise InputError(what, "give a quantised graph the pixels as they are stored")
    elif images.dtype.kind != "f" or not np.isfinite(images).all():
        raise InputError(f"images ({images.dtype}) are not finite floats", "preprocess them and remove NaN")


class Execution:
    """One batch on its way through the graph; `listeners` are told of every node and step."""

    def __init__(
        self,
        graph: Graph,
        images: Values,
        dtypes: dict[str, Dtype],
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
        self.listeners: list[Listener] = []
        self._nodes = _by_time(graph)
        self.visits = np.ones((len(images), graph.time_steps, graph.blocks, graph.tokens), np.bool_)

    def trace(self) -> Trace:
        """Run all phases."""
        self.begin()
        for step in range(self.graph.time_steps):
            self.model_step(step)
        return self.end()

    def begin(self) -> None:
        """Run what precedes the model steps."""
        for node in self._nodes[Phase.ONCE]:
            self._prologue(node)
        self._step_ended(Phase.ONCE)
        for step in range(self.graph.time_steps):
            self._step_ended(Phase.STEM, step)

    def model_step(self, step: int) -> None:
        """Run a model step; they come in order, after `begin`."""
        self.previous = dict(self.values)
        for node in self._nodes[Phase.STEP]:
            self._evaluate(node, step)
        self._note_visits(step)
        self._step_ended(Phase.STEP, step)

    def end(self) -> Trace:
        """Run what follows the last model step."""
        for node in self._nodes[Phase.END]:
            self._evaluate(node, 0)
        self._step_ended(Phase.END)
        return Trace(
            logits=self._logits(),
            visits=self.visits,
            counted=self.listeners[0].activity() if self.listeners else None,
            spikes={name: np.stack(steps, axis=1) for name, steps in self.spikes.items()},
            states={name: np.stack(steps, axis=1) for name, steps in self.states.items()},
        )

    def _logits(self) -> Values:
        output = self.graph.output
        logits = self._inputs(output)["x"]
        return logits.astype(np.float64) * output.unit if isinstance(output, FixedOutput) else logits

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
        context = self.sites[node.name]
        context.step = step
        inputs = self._inputs(node, step)
        if self.observe is not None:
            self.observe(node, inputs)
        if isinstance(node, Input):
            outputs = self._frame(node, step)
        else:
            try:
                with np.errstate(over="raise", invalid="raise"):
                    outputs = self.operators[type(node)](node, inputs, context)
            except FloatingPointError as error:
                what = f"{node.name}: {error} in {np.dtype(self.dtypes[node.name])}"
                raise InputError(what, "run it in float64, or lower its weights") from error
        self.values.update({(node.name, port): value for port, value in outputs.items()})
        for listener in self.listeners:
            listener.computed(node, step, inputs, outputs)
        self._record(node, context, outputs)

    def _step_ended(self, phase: Phase, step: int = 0) -> None:
        for listener in self.listeners:
            listener.step_ended(phase, step)

    def _record(self, node: Node, context: NodeContext, outputs: Outputs) -> None:
        if self.record_spikes and node.traits.fires:
            for port, value in outputs.items():
                if self.graph.types[node.name, port].kind == Kind.SPIKE:
                    self.spikes.setdefault(node.name, []).append(value.astype(np.uint8))
        if self.record_states and (name := node.traits.state):
            state = outputs[name] if name in outputs else context.state[name]
            self.states.setdefault(node.name, []).append(state.astype(np.int32))

    def _frame(self, node: Input, step: int) -> Outputs:
        return {"y": self.images if node.phase == Phase.ONCE else self.images[:, step]}

    def _inputs(self, node: Node, step: int = 0) -> dict[str, Values]:
        dtype = self.dtypes[node.name]
        return {
            port: self.value(node, port, step).astype(dtype, copy=False) for port in self.graph.inputs(node)
        }

    def value(self, node: Node, port: str, step: int) -> Values:
        """Give the value at an input port of a node in a step, (B, ...)."""
        edge = self.graph.inputs(node)[port]
        key = edge.src, edge.src_port
        if edge.delay:
            if key not in self.previous:
                shape = self.graph.types[key].shape
                return np.full((len(self.images), *shape), neutral(port), self.images.dtype)
            return self.previous[key]
        if self.graph.types[key].phase == Phase.STEM and not node.traits.stacks:
            value: Values = self.values[key][step]
            return value
        return self.values[key]

    def sent(self, source: str, step: int) -> Values:
        """Give what a node sent first of its ports in a step, (B, ...)."""
        node = self.graph.node(source)
        latest = self.values[source, node.OUTPUTS[0]]
        return latest[step] if node.phase == Phase.STEM else latest

    def _note_visits(self, step: int) -> None:
        for block in range(self.graph.blocks):
            if (mask := visit_mask(self.graph, block)) is not None:
                self.visits[:, step, block] = self.value(self.graph.node(mask.dst), "alive", step) != 0


def _by_time(graph: Graph) -> dict[Phase, list[Node]]:
    """List the nodes to evaluate before the model steps (once or in the stem), in each, and after them."""
    nodes: dict[Phase, list[Node]] = {Phase.ONCE: [], Phase.STEP: [], Phase.END: []}
    for node in graph.nodes:
        phase = Phase.ONCE if node.evaluated_in == Phase.STEM else node.evaluated_in
        if not isinstance(node, Output):
            nodes[phase].append(node)
    return nodes


def _site(graph: Graph, node: Node, dtype: Dtype, skip: bool) -> NodeContext:
    return NodeContext(_Tensors(graph, node, dtype), graph.time_steps, skip)


class _Tensors(dict[str, Values]):
    """Parameters of a node, converted when they are first asked for: the fast backend has its own of most."""

    def __init__(self, graph: Graph, node: Node, dtype: Dtype) -> None:
        self._of = graph, node, dtype

    def __missing__(self, param: str) -> Values:
        graph, node, dtype = self._of
        self[param] = graph.tensor(node, param).astype(dtype, copy=False)
        return self[param]
