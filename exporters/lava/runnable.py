"""Which graphs run on Lava, and which of them a package may hold.

A graph keeps the rules of the IR from the moment it is made. What is left to check is its stage, and, of a
graph that a file brings, that Lava's processes need no more memory than a network may.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from stas_neuro.errors import InputError
from stas_neuro.ir import Conv2d, Graph, Problems, Shape, SpikeMatMul, Stage

MOST_VALUES = 1 << 28
"""Values that a process holds at a time: 2 GiB of float64."""
MOST_NODES = 4096
"""Processes of a network; its blocks have about 20 each."""


def check_stage(graph: Graph) -> None:
    """Raise InputError where a graph still has BatchNorm nodes."""
    if graph.stage not in (Stage.FOLDED, Stage.QUANTISED):
        raise InputError(
            f"the graph is {graph.stage}, Lava runs a folded or a quantised one", "fold it first"
        )


def check_size(graph: Graph) -> None:
    """Raise IRError where a process would hold too much, classes do not print, or nodes are too many."""
    problems = Problems()
    for name in graph.classes:
        if not name.isprintable():
            problems.add("graph", f"the class {name!r} does not print", "rename it")
    if len(graph.nodes) > MOST_NODES:
        problems.add("graph", f"has {len(graph.nodes)} nodes", f"a package holds at most {MOST_NODES}")
    for where, shape in _held(graph):
        if math.prod(shape) > MOST_VALUES:
            what = f"its process would hold {' x '.join(map(str, shape))} values"
            problems.add(where, what, f"a process holds at most {MOST_VALUES}: use smaller images")
    problems.raise_if_any()


def _held(graph: Graph) -> Iterator[tuple[str, Shape]]:
    """Give what processes hold beside their inputs, outputs and tensors, which the IR limits."""
    for conv in graph.of_type(Conv2d):
        sides = graph.types[conv.name, "y"].shape[1:]
        yield conv.name, (conv.in_channels, *conv.sides.kernel, *sides)
    for product in graph.of_type(SpikeMatMul):
        if product.form == "(QK^T)V":
            tokens = graph.types[product.name, "y"].shape[0]
            yield product.name, (product.heads, tokens, tokens)
    yield graph.readout.name, (graph.time_steps, graph.blocks, graph.tokens)
