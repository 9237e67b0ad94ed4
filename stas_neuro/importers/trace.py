"""Traces a module with torch.export, with each neuron as one operation, and finds the source of each call."""

from __future__ import annotations

import logging
import operator
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from stas_neuro.importers.errors import CannotImport
from stas_neuro.importers.neurons import FoundNeuron
from stas_neuro.ir import Problem

# Operations that are traced and never run: they have a result on fake tensors only.
torch.library.define("stas::spikes", "(Tensor x, int neuron) -> Tensor")
torch.library.define("stas::rest", "(Tensor x) -> Tensor")
torch.library.define("stas::step", "(Tensor x, Tensor v, int neuron) -> (Tensor, Tensor)")
torch.library.register_fake("stas::spikes", lambda x, neuron: torch.empty_like(x))
torch.library.register_fake("stas::rest", torch.empty_like)
torch.library.register_fake("stas::step", lambda x, v, neuron: (torch.empty_like(x), torch.empty_like(x)))

BATCHES = (13, 17)
"""Numbers of images to trace with: one of them differs from all other sizes, which identifies the axis."""
_LIBRARY = re.compile(r"^<|site-packages|dist-packages|/stas_neuro/|/lib/python")
_LOGGERS = ("torch.utils.flop_counter", "torch._subclasses.fake_tensor", "torch.export")
"""Loggers that report missing triton, which is not needed here, and errors that are also raised."""
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+).*\n\s*(?P<code>.*)')


@dataclass(frozen=True)
class Traced:
    """A traced module: its calls in order, and the constants that they use."""

    program: torch.export.ExportedProgram
    neurons: Sequence[FoundNeuron]
    images: int
    """Number of images that it was traced with."""

    @cached_property
    def calls(self) -> Sequence[fx.Node]:
        """All nodes, in order."""
        return tuple(self.program.graph.nodes)

    @cached_property
    def order(self) -> Mapping[fx.Node, int]:
        """Place of each node."""
        return {node: index for index, node in enumerate(self.calls)}

    @cached_property
    def writes(self) -> Mapping[fx.Node, Sequence[fx.Node]]:
        """Calls that write to the memory of a call's result, through views of it."""
        memory: dict[fx.Node, fx.Node] = {}
        writes: dict[fx.Node, list[fx.Node]] = {}
        for node in self.calls:
            schema = getattr(node.target, "_schema", None)
            first = node.args[0] if node.args else None
            alias = schema.arguments[0].alias_info if schema is not None and schema.arguments else None
            if alias is None or not isinstance(first, fx.Node):
                continue
            memory[node] = memory.get(first, first)
            if alias.is_write:
                writes.setdefault(memory[node], []).append(node)
        return writes

    def unused(self) -> list[str]:
        """Return the names of parameters and buffers that neither calls nor neurons read."""
        neurons = tuple(f"{each.path}." for each in self.neurons)
        return [
            name
            for node, (name, _) in self.constants().items()
            if not node.users and not name.startswith(neurons)
        ]

    def constants(self) -> dict[fx.Node, tuple[str, Tensor]]:
        """Return the name and value of each parameter, buffer and constant that the calls read."""
        signature = self.program.graph_signature
        held = {**self.program.state_dict, **self.program.constants}
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        return {
            node: (names[node.name], held[names[node.name]])
            for node in self.calls
            if node.op == "placeholder" and node.name in names
        }


def trace(
    module: nn.Module, shape: Mapping[str, int], dtype: torch.dtype, found: Sequence[FoundNeuron]
) -> Traced:
    """Trace a module on an input of a shape, by axis.

    Raises
    ------
    CannotImport
        If the module computes something that depends on values, or fails.
    """
    try:
        with _patched(found), _quiet(), torch.no_grad():
            program = torch.export.export(module, (torch.zeros(*shape.values(), dtype=dtype),), strict=False)
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        what = f"torch.export cannot trace it: {first.strip()}"
        remedy = "remove control flow that depends on tensor values, and accept any batch size"
        raise CannotImport(Problem(_place_of_error(error), what, remedy)) from error
    return Traced(program, found, shape["B"])


@contextmanager
def _patched(found: Sequence[FoundNeuron]) -> Iterator[None]:
    """Replace the forward of each neuron by one operation, and put it back."""
    states: dict[int, Tensor] = {}
    try:
        for index, each in enumerate(found):
            each.module.forward = types.MethodType(_forward(index, each, states), each.module)
        yield
    finally:
        for each in found:
            vars(each.module).pop("forward", None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what torch logs while it traces."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _forward(index: int, found: FoundNeuron, states: dict[int, Tensor]) -> Any:
    neuron = found.neuron

    def sequence(self: nn.Module, x: Tensor, state: Any = None) -> Any:
        spikes = torch.ops.stas.spikes(x, index)
        return (spikes, None) if neuron.returns_state else spikes

    def step(self: nn.Module, x: Tensor, state: Any = None) -> Any:
        if neuron.keeps_state:
            state = states.get(index)
        # A state of another shape is an empty one: snnTorch's neurons begin with it.
        if not isinstance(state, Tensor) or state.shape != x.shape:
            state = torch.ops.stas.rest(x)
        spikes, states[index] = torch.ops.stas.step(x, state, index)
        return (spikes, states[index]) if neuron.returns_state else spikes

    return sequence if neuron.call == "sequence" else step


def operation(node: fx.Node) -> str:
    """Return the operation of a call, without overload or namespace of ATen: "conv2d", "stas::spikes"."""
    if node.target is operator.getitem:
        return "getitem"
    schema = getattr(node.target, "_schema", None)
    name = schema.name if schema is not None else str(node.target)
    return str(name).removeprefix("aten::").rstrip("_")


def path_of(node: fx.Node) -> str:
    """Return the path of the module that made a call; empty for the outermost."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path]
    return re.sub(r"@\d+", "", paths[-1]) if paths else ""


def place_of(node: fx.Node) -> str:
    """Return the place of a call: module path, and file, line and text of the source."""
    frames = [*_FRAME.finditer(node.meta.get("stack_trace") or "")]
    own = [frame for frame in frames if not _LIBRARY.search(frame["file"])]
    path = path_of(node) or "module"
    if not (own or frames):
        return path
    frame = (own or frames)[-1]
    return f"{path} ({Path(frame['file']).name}:{frame['line']} `{frame['code'].strip()}`)"


def _place_of_error(error: Exception) -> str:
    """Return the innermost line of the user's source in the traceback of an error."""
    line, trace_ = "", error.__traceback__
    while trace_ is not None:
        file = trace_.tb_frame.f_code.co_filename
        if not _LIBRARY.search(file):
            line = f" ({Path(file).name}:{trace_.tb_lineno})"
        trace_ = trace_.tb_next
    return f"module{line}"
