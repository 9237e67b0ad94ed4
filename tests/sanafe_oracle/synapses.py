"""The synapses of a layer, one by one.

Values of a node are numbered position by position, features within.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import extent
from stas_neuro.ir import FixedConv2d, FixedLinear, FixedSynaptic, Graph

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Synapses:
    """Synapses one by one: numbers of source and target, and weights in units of a threshold's."""

    source: Indices
    target: Indices
    weight: NDArray[np.float64]


def synapses_of(graph: Graph, node: FixedSynaptic) -> Synapses:
    """Every synapse of a node, those of weight 0 too: a spike goes through them all the same."""
    exponents = graph.tensor(node, "weight_exp").astype(np.float64)
    mantissas = graph.tensor(node, "weight").astype(np.float64)
    weight = mantissas * 2.0 ** exponents.reshape(-1, *[1] * (mantissas.ndim - 1))
    if isinstance(node, FixedLinear):
        return _linear(weight, extent(graph, node)[0])
    assert isinstance(node, FixedConv2d)  # the other layer with weights
    return _conv2d(graph, node, weight)


def _linear(weight: NDArray[np.float64], positions: int) -> Synapses:
    outputs, inputs = weight.shape
    position, target, source = np.meshgrid(
        np.arange(positions), np.arange(outputs), np.arange(inputs), indexing="ij"
    )
    return Synapses(
        (position * inputs + source).ravel(),
        (position * outputs + target).ravel(),
        np.broadcast_to(weight, position.shape).ravel(),
    )


def _conv2d(graph: Graph, node: FixedConv2d, weight: NDArray[np.float64]) -> Synapses:
    height, width = graph.source_type(graph.inputs(node)["x"]).shape[1:]
    rows, columns = graph.types[node.name, "y"].shape[1:]
    kernel, stride, padding, dilation = node.sides
    row, column, target, source, ky, kx = np.meshgrid(
        *map(np.arange, (rows, columns, *weight.shape[:2], *kernel)), indexing="ij"
    )
    source += target // (node.out_channels // node.groups) * weight.shape[1]
    y = row * stride[0] + ky * dilation[0] - padding[0]
    x = column * stride[1] + kx * dilation[1] - padding[1]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return Synapses(
        ((y * width + x) * node.in_channels + source)[inside],
        ((row * columns + column) * node.out_channels + target)[inside],
        weight[target, source % weight.shape[1], ky, kx][inside],
    )
