"""Lowers a traced module call by call, by rules for operations; records each call that cannot be lowered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from stas_neuro.importers import (
    chains,
    gates,
    recurrence,
    rules_attention,
    rules_layers,
    rules_layout,
    rules_neurons,
    rules_readout,
    rules_sums,
)
from stas_neuro.importers.axes import axis, kinds_of, shape_of
from stas_neuro.importers.build import Builder
from stas_neuro.importers.errors import CannotImport, Refused
from stas_neuro.importers.rules import Call, Rule, Weights
from stas_neuro.importers.trace import Traced, operation, place_of
from stas_neuro.importers.unsupported import unsupported
from stas_neuro.importers.values import (
    Chain,
    Coincidences,
    Membrane,
    Pooled,
    Product,
    StepSum,
    Unknown,
    Value,
)
from stas_neuro.ir import Input, Map, Output, Phase, Problem, Problems, Tokens

_DESCRIBED: Mapping[type, str] = {
    Product: "an attention product that lacks an operand",
    Membrane: "the membrane of a neuron",
    Weights: "a constant",
}
_MEAN = "average over time and tokens before a layer or the output, and end in a linear layer"
RULES: Mapping[str, Rule] = {
    **rules_layout.RULES,
    **rules_neurons.RULES,
    **rules_layers.RULES,
    **rules_attention.RULES,
    **rules_readout.RULES,
    **rules_sums.RULES,
}
"""Rules by operation, without namespace, overload and the suffix of in-place operations."""


@dataclass(frozen=True)
class Spikes:
    """The spikes of one call of a neuron in the graph: its LIF, the layout in torch, the step."""

    node: str
    value: Value


@dataclass
class Lowering:
    """The lowering of a traced module to a graph.

    Parameters
    ----------
    traced : Traced
    axes : str
        Axes of the module's input, one letter for each: "BCHW", "BTCHW" or "TBCHW", or these without H for
        sequences, which are maps of one row.
    problems : Problems
        Calls that cannot be lowered are added here.
    """

    traced: Traced
    axes: str
    problems: Problems
    builder: Builder = field(default_factory=Builder)
    spikes: dict[int, list[Spikes]] = field(default_factory=dict)
    """By index of the neuron, in the order of its calls."""
    batched: list[str] = field(default_factory=list)
    """Paths of neurons that step over the images of a batch as if they were steps."""
    averaged: int | None = None
    """The dimension of the module's output that has its steps; the graph outputs their mean."""
    split: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Neurons that are split by channels, each with its parts."""
    time_steps: int = 1
    classes: int = 0
    chains: dict[str, Value] = field(default_factory=dict)
    """Chains of linear operations that have layers, by what they compute."""
    _constants: dict[fx.Node, Weights] = field(default_factory=dict)
    _values: dict[fx.Node, object] = field(default_factory=dict)

    def run(self) -> None:
        """Lower all calls; fills `builder`, `spikes`, `time_steps` and `classes`."""
        found = recurrence.steps_of(self.traced.calls, self.traced.images)
        if found is None:
            remedy = (
                "name its classes of neurons in the option `neurons`, or give time_steps to convert its ReLUs"
            )
            self.problems.add("module", "has no known neuron", remedy)
        self.time_steps = found or 1
        self._constants = {node: Weights(*it) for node, it in self.traced.constants().items()}
        for node in self.traced.calls:
            if node.op == "placeholder" and node not in self._constants:
                self._values[node] = self._input(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._output(node)

    def _input(self, node: fx.Node) -> Value:
        shape = node.meta["val"].shape
        sizes = {"H": 1} | dict(zip(self.axes, map(int, shape), strict=True))
        timed = "T" in sizes
        if timed and sizes["T"] != self.time_steps:
            ran = f"{self.time_steps} steps" if self.time_steps > 1 else "as many steps as images, or one"
            what = f"the example has {sizes['T']} steps as axes {self.axes}, the neurons run {ran}"
            raise CannotImport(Problem("module", what, "give the axes of the example in their order"))
        source = self.builder.emit(
            Input,
            "input",
            {},
            phase=Phase.STEP if timed else Phase.ONCE,
            shape=tuple(sizes[kind] for kind in "CHW"),
        )
        dims = tuple(axis(kind, sizes[kind]) for kind in self.axes)
        own = {kind: sizes[kind] for kind in "CHW"}
        return Value(source=source, form="map", dims=dims, sizes=own, static=not timed)

    def _call(self, node: fx.Node) -> None:
        name = operation(node)
        if all(each in self._constants for each in node.all_input_nodes) and not name.startswith("stas::"):
            self._constants[node] = Weights(node.name, self._evaluate(node))
            return
        arguments, keywords = self._take(node.args), self._take(node.kwargs)
        call = Call(self, node, _bound(node, arguments, keywords))
        try:
            if name not in RULES:
                raise unsupported(name, node.target)
            if any(isinstance(each, Unknown) for each in _flat(arguments)):
                self._values[node] = Unknown()
                return
            self._values[node] = RULES[name](call, *arguments, **keywords)
        except Refused as refused:
            self._note(node, refused)
            result = refused.result
            self._values[node] = self._guess(node, arguments) if result is None else result

    def _note(self, node: fx.Node, refused: Refused) -> None:
        """Record a problem, once if it occurs in each step of a loop."""
        problem = Problem(place_of(node), refused.what, refused.remedy)
        if problem not in self.problems.found:
            self.problems.add(problem.where, problem.what, problem.remedy)

    def _guess(self, node: fx.Node, arguments: Any) -> object:
        """Continue as if an operation that keeps the shape of its operand were elementwise."""
        shape = getattr(node.meta.get("val"), "shape", None)
        for each in _flat(arguments):
            if isinstance(each, Value) and shape is not None and shape_of(each.dims) == tuple(shape):
                return each
        return Unknown()

    def _take(self, arguments: Any) -> Any:
        def of(node: fx.Node) -> Any:
            return self._constants[node] if node in self._constants else self._values[node]

        return fx.node.map_arg(arguments, of)

    def _evaluate(self, node: fx.Node) -> Tensor:
        """Compute a call that depends only on parameters, in float64: the module is compared in it."""

        def of(each: fx.Node) -> Tensor:
            tensor = self._constants[each].tensor.detach()
            return tensor.double() if tensor.is_floating_point() else tensor

        taken = fx.node.map_arg((node.args, node.kwargs), of)
        with torch.no_grad():
            result: Tensor = node.target(*taken[0], **taken[1])  # type: ignore[operator]
        return result

    def _output(self, node: fx.Node) -> None:
        results = [self._values.get(each, Unknown()) for each in node.all_input_nodes]
        logits = results[0] if results else Unknown()
        if any(not isinstance(each, Membrane) for each in results[1:]):
            what = f"returns {len(results)} tensors"
            self.problems.add("module", what, "return the logits alone")
        if isinstance(logits, Unknown):
            return
        call = Call(self, node, {})
        try:
            if isinstance(logits, Value | Pooled) and recurrence.has_time(logits):
                self.averaged = next(i for i, dim in enumerate(logits.dims) if "T" in kinds_of((dim,)))
                logits = rules_readout.averaged(logits, {self.averaged}, call)
            value = self.value(logits, call)
            if not value.at_end:
                raise Refused("its output still has time or tokens", _MEAN)
        except Refused as refused:
            self.problems.add("module", refused.what, refused.remedy)
            return
        self.classes = value.sizes["C"]
        self.builder.emit(Output, "output", {"x": value.source}, phase=Phase.END)

    # Functions for rules ------------------------------------------------------------------------------------

    def constant(self, node: fx.Node) -> Tensor | None:
        """Return the constant that a call computes, None if it reads the input."""
        return self._constants[node].tensor if node in self._constants else None

    def lowered(self, node: fx.Node) -> object:
        """Return what a call was lowered to."""
        return self._values.get(node)

    def value_of(self, node: fx.Node) -> Value:
        """Return what a call was lowered to as the value of a node."""
        return self.value(self._values[node], Call(self, node, {}))

    def value(self, given: object, call: Call) -> Value:
        """Return an operand as the value of a node; a finished product or mean becomes one."""
        if isinstance(given, Value):
            return given
        if isinstance(given, Chain):
            return chains.finish(given, call)
        if isinstance(given, Product) and given.is_finished:
            return rules_attention.finish(given, call)
        if isinstance(given, StepSum):
            given = rules_readout.pooled(given, self.time_steps)
        if isinstance(given, Pooled) and rules_readout.is_finished(given, self.time_steps):
            return rules_readout.finish(given, call)
        if isinstance(given, Pooled) and "T" not in given.reduced:
            return rules_readout.in_each_step(given, call)
        if isinstance(given, Coincidences):
            return gates.both(given, call)
        if isinstance(given, Pooled):
            left = " and ".join(sorted(rules_readout.ALL - given.reduced))
            raise Refused(f"reads a mean that is not over {left}", _MEAN)
        raise Refused(f"reads {_DESCRIBED.get(type(given), type(given).__name__)}", _MEAN)

    def tokens(self, value: Value) -> Value:
        """Convert a value to tokens."""
        if value.form != "map":
            return value
        name = f"{value.source[0]}.tokens"
        source = self.builder.emit(Tokens, name, {"x": value.source}, phase=self.phase(value))
        return replace(value, source=source, form="tokens")

    def map(self, value: Value) -> Value:
        """Convert tokens to a map."""
        if value.form == "map":
            return value
        if value.form == "vector":
            raise Refused("reads a value without tokens as a map", "use a linear layer")
        height, width = value.sizes["H"], value.sizes["W"]
        name, inputs = f"{value.source[0]}.map", {"x": value.source}
        source = self.builder.emit(Map, name, inputs, phase=self.phase(value), height=height, width=width)
        return replace(value, source=source, form="map")

    def phase(self, *values: Value) -> Phase:
        """Return the phase of a node that reads these values."""
        if any(value.at_end for value in values):
            return Phase.END
        return Phase.ONCE if all(value.static for value in values) else Phase.STEP

    def attributes(self, neuron: int, call: Call) -> dict[str, Any]:
        """Return the attributes of a neuron's LIF, or record why it has none and return a stand-in's."""
        try:
            return self.traced.neurons[neuron].neuron.attributes()
        except Refused as refused:
            self._note(call.node, refused)
            assert isinstance(refused.result, dict)
            return refused.result

    def note_spikes(self, neuron: int, value: Value) -> None:
        """Record the spikes of a call, to compare them with those of the module."""
        self.spikes.setdefault(neuron, []).append(Spikes(value.source[0], value))


def _bound(node: fx.Node, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by their names in ATen, with defaults."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    bound = {each.name: each.default_value for each in schema.arguments}
    names = [each.name for each in schema.arguments]
    return bound | dict(zip(names, arguments, strict=False)) | dict(keywords)


def _flat(arguments: Any) -> list[Any]:
    """Return all operands, including those in lists of operands."""
    if isinstance(arguments, tuple | list):
        return [each for part in arguments for each in _flat(part)]
    return [arguments]
