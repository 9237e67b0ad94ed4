"""Changes to the traced graph of a network that is converted, see `stas_neuro.importers.ann`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from stas_neuro.choices import StemMode
from stas_neuro.errors import InputError
from stas_neuro.importers.ann_units import NORMS, is_relu
from stas_neuro.importers.errors import CannotImport
from stas_neuro.ir import Problem


def traced(module: nn.Module) -> fx.GraphModule:
    """Trace a copy of a module, without dropout; normalisations have weights."""
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module))
    except Exception as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        what = f"torch.fx cannot trace it: {first}"
        raise CannotImport(Problem("module", what, "remove control flow that depends on tensors")) from error
    for node in list(graph.graph.nodes):
        layer: Any = graph.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, nn.Dropout | nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
        elif isinstance(layer, NORMS) and not layer.affine and layer.track_running_stats:
            mean: Any = layer.running_mean
            layer.weight = nn.Parameter(torch.ones_like(mean))
            layer.bias = nn.Parameter(torch.zeros_like(mean))
    return graph


def stem_of(graph: fx.GraphModule, path: str) -> Collection[fx.Node]:
    """Return the ReLUs in the submodule that runs first."""
    relus = {node: _path(node) for node in graph.graph.nodes if is_relu(graph, node)}
    found = {node for node, own in relus.items() if f"{own}.".startswith(f"{path}.")}
    if not found:
        named = ", ".join(dict.fromkeys(each.partition(".")[0] for each in relus.values() if each))
        raise InputError(f"stem: no ReLU is in {path!r}", f"name the first of the modules {named}")
    return found


def _path(node: fx.Node) -> str:
    """Return the path of the module that makes a call."""
    if node.op == "call_module":
        return str(node.target)
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    return [path for path, _ in stack.values()][-1] if stack else ""


def divide(
    graph: fx.GraphModule, tensors: set[fx.Node], stem: Collection[fx.Node], mode: StemMode, steps: int
) -> None:
    """Insert what leads from the image, and from a stem that runs first, to the values of all steps.

    `tensors`, the nodes whose values are tensors, gets the nodes that are made.
    """
    late = mode == "late-mean"
    once: set[fx.Node] = set()
    inside = {node for relu in stem for node in _before(relu)} if late else set()
    for node in list(graph.graph.nodes):
        taken = [each for each in node.all_input_nodes if each in tensors]
        alike = all(each in once for each in taken) and node.op != "output"
        if alike and (not is_relu(graph, node) or (node in stem and not late)):
            once.add(node)
        elif node in stem and not late:
            what = f"stem: {node.name} of {_path(node)!r} takes spikes of all steps"
            raise InputError(what, "name modules that come first in the network")
        else:
            for each in taken:
                if each in once:
                    tensors.add(_between(graph, each, node, repeat, steps))
                elif each in inside and node not in inside:
                    tensors.add(_between(graph, each, node, hold, steps))


def _before(node: fx.Node) -> set[fx.Node]:
    """Return a node and all that it depends on."""
    found, left = {node}, [node]
    while left:
        new = [each for each in left.pop().all_input_nodes if each not in found]
        found.update(new)
        left += new
    return found


def _between(graph: fx.GraphModule, value: fx.Node, reader: fx.Node, function: Any, steps: int) -> fx.Node:
    """Let a node read a function of a value instead of the value; return the call of the function."""
    made = next((each for each in value.users if each.target is function), None)
    if made is None:
        with graph.graph.inserting_after(value):
            made = graph.graph.call_function(function, (value, steps))
    reader.replace_input_with(value, made)
    return made


def replace(graph: fx.GraphModule, relu: fx.Node, neurons: nn.Module) -> None:
    """Put neurons in the place of a ReLU, under its path, or a new one if that is called several times."""
    path = str(relu.target) if relu.op == "call_module" else f"{_path(relu)}.{relu.name}".lstrip(".")
    calls = [node for node in graph.graph.nodes if node.op == "call_module" and node.target == path]
    if calls != [relu] and path in dict(graph.named_modules()):
        path = f"{path}_{len(calls)}"
    graph.add_submodule(path, neurons)
    with graph.graph.inserting_after(relu):
        made = graph.graph.call_module(path, (relu.all_input_nodes[0],))
    relu.replace_all_uses_with(made)
    graph.graph.erase_node(relu)


def finish(graph: fx.GraphModule, time_steps: int) -> fx.GraphModule:
    """Let the network return the mean over the steps."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    logits = output.all_input_nodes[0]
    with graph.graph.inserting_before(output):
        output.args = (graph.graph.call_function(average, (logits, time_steps)),)
    graph.graph.lint()
    graph.recompile()
    return graph.eval()


def average(x: Tensor, time_steps: int) -> Tensor:
    """Return the mean over the steps of a batch of all steps, (T * B, ...)."""
    steps: Tensor = x.unflatten(0, (time_steps, -1))
    return steps.mean(0)


def repeat(x: Tensor, time_steps: int) -> Tensor:
    """Return a batch (B, ...) once for each step, (T * B, ...)."""
    return x.expand(time_steps, *x.shape).flatten(0, 1)


def hold(x: Tensor, time_steps: int) -> Tensor:
    """Return the mean over the steps of a batch of all steps in the place of each, (T * B, ...)."""
    return repeat(average(x, time_steps), time_steps)
