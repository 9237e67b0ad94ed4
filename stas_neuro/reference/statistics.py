"""What the layers of a network see on a sample of images: what scales of integers are chosen by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import OPERATIONS, Array, Conv2d, Graph, Linear, Node, Phase, Readout, op_of, per_op
from stas_neuro.passes import Statistics
from stas_neuro.reference.interpreter import run_reference
from stas_neuro.reference.ops.base import Inputs
from stas_neuro.reference.ops.windows import taps_of

_IMAGES = 16
_VALUES = 1 << 25
"""Most images that are run at once, and most values of nodes."""


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
    run_reference(graph, images, count=False, observe=gathering.take, chunk=_images_at_once(graph))
    seen = {}
    for name, sums in gathering.sums.items():
        sums.total /= sums.samples
        sums.second /= sums.samples  # in place: a large layer has no room for two
        seen[name] = Statistics(sums.total, sums.second)
    return Sample(seen, gathering.largest_output)


def _images_at_once(graph: Graph) -> int:
    """Return the number of images whose values fit in `_VALUES`, as the run keeps those of all nodes."""
    values = sum(
        math.prod(each.shape) * (graph.time_steps if each.phase == Phase.STEM else 1)
        for each in graph.types.values()
    )
    return max(1, min(_IMAGES, _VALUES // values))


@dataclass
class _Sums:
    """Of a layer: number of samples, their sum (groups, in), the sum of their products (groups, in, in)."""

    samples: int
    total: Array
    second: Array


@dataclass
class _Gathering:
    """Sums over the run."""

    sums: dict[str, _Sums] = field(default_factory=dict)
    largest_output: float = 0.0

    def take(self, node: Node, inputs: Inputs) -> None:
        if node.traits.stores_weights:
            for samples in _SAMPLES[op_of(node)](node, inputs):
                self._add(node.name, samples)
        elif isinstance(node, Readout):
            outputs = (np.abs(value).max() for port, value in inputs.items() if port.startswith("z"))
            self.largest_output = max(self.largest_output, *map(float, outputs))

    def _add(self, name: str, samples: Array) -> None:
        groups, columns, count = samples.shape
        if not count:
            return
        if name not in self.sums:
            self.sums[name] = _Sums(0, np.zeros((groups, columns)), np.zeros((groups, columns, columns)))
        sums = self.sums[name]
        sums.samples += count
        sums.total += samples.sum(2)
        for second, group in zip(sums.second, samples, strict=True):
            second += group @ group.T


def _conv2d(node: Conv2d, inputs: Inputs) -> Iterator[Array]:
    _, _, first = next(taps_of(inputs["x"][:1], node))
    x = _narrowed(inputs["x"], first[0, 0].size)
    for image in range(len(x)):  # windows are many times as large as the map
        # (Cin, taps, H', W') to columns (Cin / groups, taps), which is how a kernel lies in memory
        windows = np.stack([taps[0] for _, _, taps in taps_of(x[image : image + 1], node)], axis=1)
        yield windows.reshape(node.groups, node.fan_in, -1)


def _linear(node: Linear, inputs: Inputs) -> Iterator[Array]:
    x, alive = inputs["x"], inputs.get("alive")
    rows = (x if alive is None else x[alive != 0]).reshape(-1, node.in_features)
    yield _narrowed(rows, len(rows)).T[None]


def _narrowed(x: Array, samples: int) -> Array:
    """Return values in float32 where sums of products of so many are exact in it, as those of spikes are."""
    largest = float(np.abs(x).max(initial=0))
    exact = largest**2 * samples < 2**24 and np.array_equal(x, np.rint(x))
    return x.astype(np.float32) if exact else x


_SAMPLES: Mapping[type[Node], Callable[[Any, Inputs], Iterator[Array]]] = per_op(
    "what a layer sees of its inputs, in parts (groups, columns of its weights, samples)",
    {Conv2d: _conv2d, Linear: _linear},
    of=[op for op in OPERATIONS if op.TRAITS.stores_weights],
)
