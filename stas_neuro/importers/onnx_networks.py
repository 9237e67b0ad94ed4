"""Plain ONNX networks, such as torch.onnx.export writes of a network of ReLUs, as torch modules.

The modules are what `stas_neuro.importers.ann` converts to spikes. A model is read by its fields alone, so
this module does not import onnx.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from stas_neuro.importers.errors import CannotImport, Refused
from stas_neuro.ir import Array, Problems

_DTYPES = {1: ("float_data", np.float32), 11: ("double_data", np.float64), 7: ("int64_data", np.int64)}
"""Types of tensors: the field that holds values which are not raw, and the type in numpy."""
_ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
"""Fields of attributes by their type."""
_SIDES = "pad both sides alike, and export with auto_pad NOTSET"


def module_of(model: Any) -> fx.GraphModule:
    """Convert an onnx.ModelProto to a torch module, which computes the same.

    Raises
    ------
    CannotImport
        If it has operations that networks of ReLUs do not have: all of them, each with the name of its node.
    """
    made = _Reader(model.graph)
    made.run()
    if made.problems.found:
        raise CannotImport(*made.problems.found)
    return fx.GraphModule(made.root, made.fx).eval()


class _Reader:
    """Makes a torch module of an onnx.GraphProto, node by node."""

    def __init__(self, graph: Any) -> None:
        self.graph, self.problems = graph, Problems()
        self.root, self.fx = nn.Module(), fx.Graph()
        self.constants = {each.name: _array(each) for each in graph.initializer}
        self.values: dict[str, fx.Node] = {}
        self.maps: set[str] = set()
        """Values that are maps, (B, C, H, W)."""

    def run(self) -> None:
        inputs = [each for each in self.graph.input if each.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            what = f"has {len(inputs)} inputs and {len(self.graph.output)} outputs"
            self.problems.add("graph", what, "export a network of images alone, with logits alone")
            return
        self.values[inputs[0].name] = self.fx.placeholder("images")
        self.maps.add(inputs[0].name)
        for index, node in enumerate(self.graph.node):
            self._add(node, node.name or f"{node.op_type}_{index}")
        if not self.problems.found:
            self.fx.output(self.values[self.graph.output[0].name])

    def _add(self, node: Any, name: str) -> None:
        attributes = {each.name: _attribute(each) for each in node.attribute}
        try:
            if node.domain not in ("", "ai.onnx") or node.op_type not in RULES:
                remedy = f"use {', '.join(RULES)}"
                raise Refused(f"the operation {node.op_type} is not one of networks of ReLUs", remedy)
            if node.op_type == "Constant":
                self.constants[node.output[0]] = attributes["value"]
                return
            missing = [each for each in node.input if each and each not in (*self.values, *self.constants)]
            if missing and self.problems.found:
                return  # behind an operation that was refused
            self.values[node.output[0]] = RULES[node.op_type](self, node, name, attributes)
            if node.input[0] in self.maps and node.op_type not in (
                "Flatten",
                "Reshape",
                "Gemm",
                "ReduceMean",
            ):
                self.maps.add(node.output[0])
        except Refused as refused:
            self.problems.add(name, refused.what, refused.remedy)

    def value(self, name: str) -> fx.Node:
        """Return an operand that depends on the image."""
        if name not in self.values:
            raise Refused(f"reads {name}, a constant", "fold constants when exporting")
        return self.values[name]

    def constant(self, name: str) -> torch.Tensor:
        """Return an operand that does not."""
        if name not in self.constants:
            raise Refused(f"its operand {name} is not a constant", "use a layer with weights of its own")
        return torch.from_numpy(self.constants[name].copy())

    def module(self, name: str, module: nn.Module, x: str, **tensors: torch.Tensor) -> fx.Node:
        """Call a new module, with these parameters and buffers."""
        for key, tensor in tensors.items():
            held = nn.Parameter(tensor) if key in ("weight", "bias") else tensor
            setattr(module, key, held)
        path = "".join(each if each.isalnum() else "_" for each in name).strip("_") or "layer"
        while hasattr(self.root, path):
            path += "_"
        self.root.add_module(path, module)
        return self.fx.call_module(path, (self.value(x),))


Rule = Callable[[_Reader, Any, str, Mapping[str, Any]], fx.Node]


def _array(tensor: Any) -> Array:
    """Decode an onnx.TensorProto."""
    if tensor.data_type not in _DTYPES or tensor.external_data:
        return np.zeros(0)  # of another type: a layer that reads it is refused
    field, dtype = _DTYPES[tensor.data_type]
    raw = tensor.raw_data
    values = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")) if raw else getattr(tensor, field)
    return np.asarray(values, dtype).reshape(tuple(tensor.dims))


def _attribute(attribute: Any) -> Any:
    value = getattr(attribute, _ATTRIBUTES.get(attribute.type, "type"))
    if attribute.type == 4:
        return _array(value)
    return value.decode() if attribute.type == 3 else value


def _window(attributes: Mapping[str, Any], rank: int) -> dict[str, Any]:
    pads = tuple(attributes.get("pads", (0,) * (2 * rank)))
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or pads[:rank] != pads[rank:]:
        raise Refused(f"pads {pads}, auto_pad {attributes.get('auto_pad', 'NOTSET')}", _SIDES)
    if attributes.get("ceil_mode", 0):
        raise Refused("has ceil_mode", "pad the map instead")
    return {"stride": tuple(attributes.get("strides", (1,) * rank)), "padding": pads[:rank]}


def _conv(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    weight = made.constant(node.input[1])
    if weight.ndim != 4:
        raise Refused(f"its weights have {weight.ndim} axes", "use two-dimensional convolutions")
    groups, has_bias = int(attributes.get("group", 1)), len(node.input) > 2
    window = _window(attributes, 2) | {"dilation": tuple(attributes.get("dilations", (1, 1)))}
    out, into, rows, columns = weight.shape
    layer = nn.Conv2d(into * groups, out, (rows, columns), groups=groups, bias=has_bias, **window)
    bias = {"bias": made.constant(node.input[2])} if has_bias else {}
    return made.module(name, layer, node.input[0], weight=weight, **bias)


def _gemm(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    if attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1 or attributes.get("transA", 0):
        raise Refused("has alpha, beta or transA", "scale the weights instead")
    weight = made.constant(node.input[1])
    weight = weight if attributes.get("transB", 0) else weight.T.contiguous()
    bias = {"bias": made.constant(node.input[2])} if len(node.input) > 2 else {}
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias))
    return made.module(name, layer, node.input[0], weight=weight, **bias)


def _matmul(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    if node.input[1] not in made.constants:
        return made.fx.call_function(torch.matmul, (made.value(node.input[0]), made.value(node.input[1])))
    weight = made.constant(node.input[1]).T.contiguous()
    return made.module(
        name, nn.Linear(weight.shape[1], weight.shape[0], bias=False), node.input[0], weight=weight
    )


def _add(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    a, b = node.input if node.input[0] in made.values else reversed(node.input)
    if b not in made.constants:
        return made.fx.call_function(operator.add, (made.value(a), made.value(b)))
    before = made.value(a)
    layer: Any = made.root.get_submodule(str(before.target)) if before.op == "call_module" else None
    if not isinstance(layer, nn.Linear) or "bias" in dict(layer.named_parameters()) or before.users:
        raise Refused("adds a constant", "add it in the bias of a layer")
    layer.bias = nn.Parameter(made.constant(b).reshape(-1))
    return before


def _norm(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    gamma, beta, mean, var = map(made.constant, node.input[1:])
    cls = nn.BatchNorm2d if node.input[0] in made.maps else nn.BatchNorm1d
    tensors = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}
    return made.module(name, cls(len(gamma), eps=attributes.get("epsilon", 1e-5)), node.input[0], **tensors)


def _pool(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    kernel, window = tuple(attributes["kernel_shape"]), _window(attributes, 2)
    if set(attributes.get("dilations", (1,))) != {1}:
        raise Refused("pools dilated windows", "use neighbouring values")
    if node.op_type == "MaxPool":
        return made.module(name, nn.MaxPool2d(kernel, **window), node.input[0])
    pool = nn.AvgPool2d(kernel, **window, count_include_pad=bool(attributes.get("count_include_pad", 0)))
    return made.module(name, pool, node.input[0])


def _mean(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    axes: Sequence[int] = (2, 3)
    if node.op_type == "ReduceMean":
        axes = made.constant(node.input[1]).tolist() if len(node.input) > 1 else attributes.get("axes", ())
    keep = bool(attributes.get("keepdims", 1))
    return made.fx.call_method("mean", (made.value(node.input[0]), tuple(axes)), {"keepdim": keep})


def _flatten(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    if node.op_type == "Reshape":
        shape = made.constant(node.input[1]).tolist()
        if len(shape) != 2 or shape[0] > 1 or (shape[0] == -1 and shape[1] == -1):
            raise Refused(f"reshapes to {shape}", "flatten all but the axis of images")
    elif attributes.get("axis", 1) != 1:
        raise Refused(f"flattens from axis {attributes['axis']}", "flatten all but the axis of images")
    return made.fx.call_method("flatten", (made.value(node.input[0]), 1))


def _relu(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    return made.module(name, nn.ReLU(), node.input[0])


def _same(made: _Reader, node: Any, name: str, attributes: Mapping[str, Any]) -> fx.Node:
    return made.value(node.input[0])


RULES: Mapping[str, Rule] = {
    "Add": _add,
    "AveragePool": _pool,
    "BatchNormalization": _norm,
    "Constant": _same,  # whose value is kept before
    "Conv": _conv,
    "Dropout": _same,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _mean,
    "Identity": _same,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "ReduceMean": _mean,
    "Relu": _relu,
    "Reshape": _flatten,
}
"""By operation."""
