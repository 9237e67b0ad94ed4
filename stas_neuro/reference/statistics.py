"""What the layers of a network see on a sample of images: what scales of integers are chosen by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import OPERATIONS, Array, Conv2d, Graph, Linear, Node, Readout, op_of, per_op
from stas_neuro.passes import Statistics
from stas_neuro.reference.interpreter import run_reference
from stas_neuro.reference.ops.base import Inputs
from stas_neuro.reference.ops.windows import taps_of


@dataclass(frozen=True)
class Sample:
    """Statistics of the inputs of every Conv2d and Linear, and the largest magnitude of a block's output."""

    statistics: dict[str, Statistics]
    largest_output: float


def sample_statistics(graph: Graph, images: NDArray[np.floating]) -> Sample:
    """Run a folded graph on preprocessed images (B, C, H, W) and gather what its layers see.

    Only live tokens count: the input of a halted one is zero whatever the weights.

    Raises
    ------
    InputError
        When the images do not fit the graph.
    """
    gathering = _Gathering()
    run_reference(graph, images, count=False, observe=gathering.take)
    sums = gathering.sums.items()
    seen = {name: Statistics(total / count, second / count) for name, (count, total, second) in sums}
    return Sample(seen, gathering.largest_output)


@dataclass
class _Gathering:
    """Sums over the run: rows seen, their sum (groups, in), the sum of their products (groups, in, in)."""

    sums: dict[str, tuple[int, Array, Array]] = field(default_factory=dict)
    largest_output: float = 0.0

    def take(self, node: Node, inputs: Inputs) -> None:
        if node.traits.stores_weights:
            self._add(node.name, _ROWS[op_of(node)](node, inputs))
        elif isinstance(node, Readout):
            outputs = (np.abs(value).max() for port, value in inputs.items() if port.startswith("z"))
            self.largest_output = max(self.largest_output, *map(float, outputs))

    def _add(self, name: str, groups: Array) -> None:
        count, total, second = self.sums.get(name, (0, 0.0, 0.0))
        if groups.shape[1]:
            products = np.stack([rows.T @ rows for rows in groups])
            self.sums[name] = count + groups.shape[1], total + groups.sum(1), second + products


def _conv2d(node: Conv2d, inputs: Inputs) -> Array:
    # (taps, B, Cin, H', W') to rows of (Cin / groups, taps), which is how a kernel lies in memory
    windows = np.stack([taps for _, _, taps in taps_of(inputs["x"], node)])
    groups = windows.reshape(*windows.shape[:2], node.groups, -1, *windows.shape[3:])
    rows: Array = groups.transpose(2, 1, 4, 5, 3, 0).reshape(node.groups, -1, node.fan_in)
    return rows


def _linear(node: Linear, inputs: Inputs) -> Array:
    x, alive = inputs["x"], inputs.get("alive")
    return (x if alive is None else x[alive != 0]).reshape(1, -1, node.in_features)


_ROWS: Mapping[type[Node], Callable[[Any, Inputs], Array]] = per_op(
    "what a layer sees of its inputs, (groups, rows, columns of its weights)",
    {Conv2d: _conv2d, Linear: _linear},
    of=[op for op in OPERATIONS if op.TRAITS.stores_weights],
)
