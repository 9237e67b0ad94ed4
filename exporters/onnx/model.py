"""The ONNX model of a graph: a call of a function for each node, the steps of a phase as a Scan over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike
from onnx import helper, numpy_helper

from stas_neuro.exporters.onnx.body import (
    FRAME,
    IMAGES,
    LOGITS,
    STEP,
    Body,
    State,
    after,
    before,
    first,
    last,
    stacked,
    tensor_name,
    value_name,
)
from stas_neuro.exporters.onnx.forms import write_body
from stas_neuro.exporters.onnx.function import DOMAIN, OPSET, Function
from stas_neuro.exporters.onnx.refusals import behind_stem
from stas_neuro.ir import Graph, Node, Output, Phase, Shape, Stage, neutral

IR_VERSION = 8
"""The first whose models have functions."""
_STEPS, _FRAMES = "steps", "frames"


def make_model(graph: Graph, *, dtype: DTypeLike = np.float64, spikes: bool = True) -> onnx.ModelProto:
    """Make the model of a graph, without metadata.

    Its input is `images`, (batch, C, H, W), or (batch, T, C, H, W) of events: preprocessed floats, or the
    uint8 pixels of a quantised graph. Its outputs are `logits` (batch, classes), and `<node>/spikes` of each
    LIF, uint8 (batch, T, ...), T = 1 for one that runs once.

    Parameters
    ----------
    graph : Graph
    dtype : float32 or float64
        What a float graph is computed in; a quantised one is computed in int32.
    spikes : bool
        Give spikes, not only logits.
    """
    return _Writer(graph, np.dtype(np.int32 if graph.stage == Stage.QUANTISED else dtype), spikes).model()


@dataclass
class _Scan:
    """A Scan in the making."""

    frames: bool
    """A step takes a frame of the images."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    """What goes from step to step, by name."""
    stacks: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    """Values of a step, by the name of those of all steps."""

    def stack(
        self, name: str, op: str, source: str, dtype: DTypeLike, shape: Shape, **attributes: Any
    ) -> None:
        """Stack what an operator makes of a value in each step."""
        if name not in self.stacks:
            inside = f"{name}/one"
            self.stacks[name] = _info(inside, dtype, shape)
            self.nodes.append(helper.make_node(op, [source], [inside], **attributes))


class _Writer:
    def __init__(self, graph: Graph, dtype: np.dtype[Any], spikes: bool) -> None:
        self.graph = graph
        self.dtype = dtype
        self.spikes = spikes
        self.nodes: list[onnx.NodeProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.functions: dict[bytes, onnx.FunctionProto] = {}
        """By what they hold but their name."""
        self.kinds: Counter[str] = Counter()
        """How many functions are named after a kind of node."""

    def model(self) -> onnx.ModelProto:
        graph, integers = self.graph, self.graph.stage == Stage.QUANTISED
        images, logits = (np.uint8, np.float64) if integers else (self.dtype, self.dtype)
        self.outputs.append(_info(LOGITS, logits, (len(graph.classes),)))
        late = behind_stem(graph)
        once = [node for node in graph.nodes if node.phase == Phase.ONCE]
        self.nodes.append(_constant(_STEPS, range(graph.time_steps)))
        self._once(node for node in once if node.name not in late)
        self._scan(Phase.STEM)
        self._once(node for node in once if node.name in late)
        self._scan(Phase.STEP)
        self._once(node for node in graph.nodes if node.phase == Phase.END)
        main = helper.make_graph(
            self.nodes,
            "network",
            [_info(IMAGES, images, graph.image_shape)],
            self.outputs,
            [numpy_helper.from_array(tensor, name) for name, tensor in graph.tensors.items()],
        )
        return helper.make_model(
            main,
            functions=list(self.functions.values()),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
            ir_version=IR_VERSION,
            producer_name="stas-neuro",
        )

    def _once(self, nodes: Iterable[Node]) -> None:
        """Call nodes that run once, and what answers after the last step."""
        for node in nodes:
            body = Body(self.graph, node, self.dtype, repeated=False)
            self.nodes.append(self._call(body, answer=node.traits.gathers))
            if self._gives_spikes(node):
                fired, axis = f"{node.name}/fired", f"{node.name}/axis"
                self.nodes += [
                    helper.make_node("Cast", [self._spike(node)], [fired], to=onnx.TensorProto.UINT8),
                    _constant(axis, [1]),
                    helper.make_node("Unsqueeze", [fired, axis], [self._spike_output(node, 1)]),
                ]

    def _scan(self, phase: Phase) -> None:
        """Write the steps of a phase, if it has nodes."""
        graph = self.graph
        nodes = [node for node in graph.nodes if _phase_of_inputs(node) == phase]
        if not nodes:
            return
        scan = _Scan(frames=graph.input.phase == phase)
        for node in nodes:
            body = Body(graph, node, self.dtype, repeated=True)
            scan.nodes.append(self._call(body))
            scan.states |= {tensor_name(node.name, name): state for name, state in body.states.items()}
            if self._gives_spikes(node):
                name, shape = f"{node.name}/fired", graph.types[node.name, node.OUTPUTS[0]].shape
                scan.stack(name, "Cast", self._spike(node), np.uint8, shape, to=onnx.TensorProto.UINT8)
        for edge in graph.edges:
            name, taker = value_name(edge.src, edge.src_port), graph.node(edge.dst)
            shape = graph.types[edge.src, edge.src_port].shape
            if edge.delay and _phase_of_inputs(taker) == phase and name not in scan.states:
                scan.states[name] = State(shape, neutral(edge.dst_port))
                scan.nodes.append(helper.make_node("Identity", [name], [after(name)]))
            if taker.traits.stacks and phase == Phase.STEM:
                scan.stack(stacked(name), "Identity", name, self.dtype, shape)
        self._write(scan, phase)
        for node in nodes:
            if self._gives_spikes(node):
                output = self._spike_output(node, graph.time_steps)
                self.nodes.append(
                    _swapped(f"{node.name}/fired", output, graph.types[node.name, node.OUTPUTS[0]].shape)
                )

    def _write(self, scan: _Scan, phase: Phase) -> None:
        """Add a Scan to the model, with what it begins from."""
        states = scan.states
        for name, state in states.items():
            self.nodes.append(self._start(name, state))
        inputs = [_info(STEP, np.int64)]
        outside = [_STEPS]
        if scan.frames:
            shape = self.graph.input.shape
            self.nodes.append(_swapped(IMAGES, _FRAMES, shape))
            image = np.uint8 if self.graph.stage == Stage.QUANTISED else self.dtype
            inputs.append(_info(FRAME, image, shape))
            outside.append(_FRAMES)
        body = helper.make_graph(
            scan.nodes,
            f"{phase}",
            [*(_info(before(name), self.dtype, state.shape) for name, state in states.items()), *inputs],
            [
                *(_info(after(name), self.dtype, state.shape) for name, state in states.items()),
                *scan.stacks.values(),
            ],
        )
        self.nodes.append(
            helper.make_node(
                "Scan",
                [*map(first, states), *outside],
                [*map(last, states), *scan.stacks],
                f"{phase}/steps",
                body=body,
                num_scan_inputs=len(outside),
            )
        )

    def _call(self, body: Body, *, answer: bool = False) -> onnx.NodeProto:
        """Write the function of a node, and give the call of it."""
        node = body.node
        made = write_body(body, answer=answer)
        outputs = []
        for port, value in made.items():
            body.gives(f"{port}_out", value, value.dtype if isinstance(node, Output) else self.dtype)
            outputs.append(LOGITS if isinstance(node, Output) else value_name(node.name, port))
        for name, value in body.kept.items():
            body.gives(f"{name}_after", value, self.dtype)
            outputs.append(after(tensor_name(node.name, name)))
        kind = type(node).__name__ + ("Answer" if answer else "")
        name = f"{node.name}/answer" if answer else node.name
        return helper.make_node(self._function(body, kind), body.arguments, outputs, name, domain=DOMAIN)

    def _start(self, name: str, state: State) -> onnx.NodeProto:
        """Call a function that makes a state, for as many images as there are."""
        function = Function()
        images = function.takes("images", np.uint8)  # only how many there are matters
        function.gives("state", function.filled(state.first, self.dtype, state.shape, images), self.dtype)
        return helper.make_node(
            self._function(function, "Start"), [IMAGES], [first(name)], first(name), domain=DOMAIN
        )

    def _function(self, function: Function, kind: str) -> str:
        """Add a function, unless there is an equal one; gives its name, after the kind of its node.

        ONNX's evaluator would take `MaxPool` or `Slice_1` for an operator of its own.
        """
        content = kind.encode() + function.proto("").SerializeToString(deterministic=True)
        if content not in self.functions:
            self.kinds[kind] += 1
            self.functions[content] = function.proto(f"{kind}_form{self.kinds[kind]}")
        return str(self.functions[content].name)

    def _gives_spikes(self, node: Node) -> bool:
        return self.spikes and node.traits.fires and node.OUTPUTS == ("s",)

    def _spike(self, node: Node) -> str:
        return value_name(node.name, node.OUTPUTS[0])

    def _spike_output(self, node: Node, steps: int) -> str:
        """Add the spikes of a node to the outputs of the model; gives their name."""
        name = f"{node.name}/spikes"
        shape = self.graph.types[node.name, node.OUTPUTS[0]].shape
        self.outputs.append(_info(name, np.uint8, (steps, *shape)))
        return name


def _phase_of_inputs(node: Node) -> Phase:
    """When a node takes its inputs: what gathers does so in every step."""
    return Phase.STEP if node.traits.gathers else node.phase


def _info(name: str, dtype: DTypeLike, shape: Shape | None = None) -> onnx.ValueInfoProto:
    """Type a value of a batch of images, or a number."""
    sizes: list[int | str | None] = [] if shape is None else ["batch", *shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), sizes)


def _constant(name: str, numbers: Sequence[int]) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.array(numbers, np.int64))
    return helper.make_node("Constant", [], [name], value=value)


def _swapped(source: str, name: str, shape: Shape) -> onnx.NodeProto:
    """Swap the axes of steps and images, in front of those of a shape."""
    return helper.make_node("Transpose", [source], [name], perm=[1, 0, *range(2, 2 + len(shape))])
