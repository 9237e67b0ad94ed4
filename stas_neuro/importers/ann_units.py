"""What one unit of each value of a converted network stands for, see `stas_neuro.importers.ann`.

The spikes of a ReLU stand for its scale. Values that are added, and what is pooled, averaged or laid out
anew, have one unit; a layer makes values of any unit from values of any other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from torch import fx, nn

from stas_neuro.ir import Problems

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_KEEPING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, nn.Identity)
_PRODUCTS = ("matmul", "bmm", "mul", "__matmul__")
_SUMS = ("add", "iadd", "add_")
_SCALED = ("truediv", "div")
_LAYOUT = (
    *("view", "reshape", "flatten", "unflatten", "transpose", "permute", "contiguous"),
    *("unsqueeze", "squeeze", "repeat", "hold"),
)
PASSING = frozenset((*_LAYOUT, *_SUMS))
"""Functions and methods by which a constant that is added before them is added behind them."""
_POOLING = ("getitem", "mean", "sum", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "average")
_NAMES = frozenset((*_LAYOUT, *_POOLING))
"""Functions and methods that keep the unit of their operand."""
_NO_SPIKES = (
    "rates of spikes cannot compute it: use ReLUs, convolutions, linear layers, BatchNorm behind them, "
    "pooling, sums, and products of ReLUs"
)


def called(graph: fx.GraphModule, node: fx.Node) -> str:
    """Return the name of what a node calls: of a class, function or method."""
    if node.op == "call_module":
        return type(graph.get_submodule(str(node.target))).__name__
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return str(name)


def is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node is a ReLU: a module, function or method."""
    if node.op == "call_module":
        return type(graph.get_submodule(str(node.target))) is nn.ReLU
    return node.op in ("call_function", "call_method") and called(graph, node) in ("relu", "relu_")


class Units:
    """Groups the values of a network that have one unit.

    Parameters
    ----------
    graph : GraphModule
    tensors : collection of Node
        The nodes whose values are tensors.
    problems : Problems
        Operations that rates cannot compute are added here.
    """

    def __init__(self, graph: fx.GraphModule, tensors: Collection[fx.Node], problems: Problems) -> None:
        self.graph, self.tensors, self.problems = graph, tensors, problems
        self.layers: list[fx.Node] = []
        """Convolutions, linear layers and normalisations."""
        self._root: dict[fx.Node, fx.Node] = {}
        self._products: dict[fx.Node, tuple[fx.Node, ...]] = {}
        self._fixed: dict[fx.Node, str] = {}
        """Values whose unit is 1, and why."""
        for node in graph.graph.nodes:
            if node in tensors or node.op == "output":
                self._add(node)

    def group(self, node: fx.Node) -> fx.Node:
        """Return the node that stands for all values with the unit of this one."""
        while self._root.setdefault(node, node) is not node:
            node = self._root[node]
        return node

    def _join(self, nodes: Iterable[fx.Node]) -> None:
        first, *others = map(self.group, nodes)
        for other in others:
            self._root[self.group(other)] = self.group(first)

    def _add(self, node: fx.Node) -> None:
        """Take a node into account, behind those that it takes."""
        taken = [each for each in node.args if isinstance(each, fx.Node) and each in self.tensors]
        name = called(self.graph, node)
        if node.op == "placeholder":
            self._fixed[node] = "is the image"
        elif not taken:
            self._refuse(node, f"reads {name}, which is no value of the network alone")
        elif node.op == "output":
            self._fixed.update(dict.fromkeys(taken, "is the output"))
        elif is_relu(self.graph, node):
            pass  # whose unit is its scale
        elif node.op == "call_module":
            self._add_module(node, self.graph.get_submodule(str(node.target)), taken[0])
        elif name in _SUMS and len(taken) == 2 and not node.kwargs:
            self._join([node, *taken])
        elif name in _PRODUCTS and len(taken) == 2:
            self._products[node] = (taken[0], taken[1])
        elif name in _NAMES or (len(taken) == 1 and self._multiplies(node, name, taken[0])):
            self._join([node, taken[0]])
        else:
            self._refuse(node, f"{name} has no form in spikes")

    def _multiplies(self, node: fx.Node, name: str, value: fx.Node) -> bool:
        """Return whether a node multiplies a value by a number, or divides it by one."""
        others = [each for each in node.args if each is not value]
        numbers = all(isinstance(each, int | float | fx.Node) for each in others) and len(others) == 1
        return numbers and (name == "mul" or (name in _SCALED and node.args[0] is value))

    def _add_module(self, node: fx.Node, module: nn.Module, taken: fx.Node) -> None:
        if isinstance(module, LAYERS + NORMS):
            self.layers.append(node)
            if isinstance(module, NORMS):
                self._fixed[taken] = "is normalised"
            if [each.target for each in self.layers].count(node.target) > 1:
                self._refuse(node, "is called twice", "use two layers with the same weights")
        elif isinstance(module, _KEEPING):
            self._join([node, taken])
        else:
            self._refuse(node, f"{type(module).__name__} has no form in spikes")

    def _refuse(self, node: fx.Node, what: str, remedy: str = _NO_SPIKES) -> None:
        where = str(node.target) if node.op == "call_module" else node.name
        self.problems.add(where, what, remedy)

    def solve(self, scales: Mapping[fx.Node, float], problems: Problems) -> Mapping[fx.Node, float]:
        """Return the unit of each value, given the scale of each ReLU; those that are added share one."""
        known: dict[fx.Node, float] = {}
        for node, scale in scales.items():
            known[self.group(node)] = scale
        for node, why in self._fixed.items():
            if self.group(node) in known:
                what = f"{why}, and has the unit of spikes ({', '.join(map(str, self._of(node, scales)))})"
                self._refuse(node, what, "put a convolution or a linear layer between them")
            known[self.group(node)] = 1.0
        for node, factors in self._products.items():
            unit = math.prod(known.get(self.group(each), 1.0) for each in factors)
            if known.get(self.group(node), unit) != unit:
                self._refuse(node, "is a product that is added to spikes", "put a ReLU behind it")
            known[self.group(node)] = unit
        return _Known(self, known)

    def _of(self, node: fx.Node, scales: Mapping[fx.Node, float]) -> list[fx.Node]:
        return [each for each in scales if self.group(each) is self.group(node)]


class _Known(dict[fx.Node, float]):
    """Units by node; those that nothing determines are 1."""

    def __init__(self, units: Units, known: Mapping[fx.Node, float]) -> None:
        super().__init__()
        self.units, self.known = units, known

    def __missing__(self, node: fx.Node) -> float:
        return self.known.get(self.units.group(node), 1.0)
