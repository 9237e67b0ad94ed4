"""How many of a layer's outputs are added up on their way to neurons, and what means leave of their unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from stas_neuro.ir import Graph, Integrate, Node, TokenMean
from stas_neuro.passes.groups import UnitGroup


@dataclass(frozen=True)
class Sums:
    """What happens to the outputs of the layers of a graph.

    Parameters
    ----------
    added : dict of layer to int
        How many of its outputs are added up, where most are.
    factor : dict of layer to float
        How often its unit fits into that of the first neurons of its group: 1/N before a mean of N.
    unit : dict of neurons to float
        The unit of what reaches them, in that of the first of their group: 1/N behind a mean of its own.
    """

    added: dict[str, int] = field(default_factory=dict)
    factor: dict[str, float] = field(default_factory=dict)
    unit: dict[str, float] = field(default_factory=dict)


class _End(NamedTuple):
    """A node that takes a value, and of the way to it: how many are added up, what one of them counts for."""

    node: str
    added: int
    part: float


def rounding_shift(tokens: int) -> int:
    """Bits by which a mean over so many tokens rounds what it adds up, if it does.

    The smallest number with which the sum is not larger than what one token brings, but for the rounding.
    """
    return (tokens - 1).bit_length()


def sums_of(graph: Graph, groups: Iterable[UnitGroup], *, rounded: bool = False) -> Sums:
    """Follow the outputs of all layers to where they end; `rounded`: through means that round."""
    ends, sums = _ends(graph, rounded), Sums()
    for group in groups:
        names = [source.name for source in group.sources]
        if not names:
            continue  # which is a problem that was noted
        sums.added.update({name: max((end.added for end in ends[name]), default=1) for name in names})
        first = [lif.name for lif in group.lifs] or [end.node for end in sorted(ends[names[0]])]
        sums.unit.update(dict.fromkeys(first[:1], 1.0))
        waiting = names
        while waiting:  # layers of a group are joined by where they end
            rest = []
            for name in waiting:
                known = [
                    end.part / sums.unit[end.node] for end in sorted(ends[name]) if end.node in sums.unit
                ]
                if not known:
                    rest.append(name)
                    continue
                sums.factor[name] = known[0]
                for end in ends[name]:
                    sums.unit.setdefault(end.node, end.part / known[0])
            assert len(rest) < len(waiting)
            waiting = rest
    return sums


def _ends(graph: Graph, rounded: bool) -> Mapping[str, frozenset[_End]]:
    """Find the ends of each node's outputs, by its name."""
    found: dict[str, frozenset[_End]] = {}
    for node in reversed(graph.nodes):
        ends: set[_End] = set()
        for edge in graph.consumers(node):
            taker = graph.node(edge.dst)
            if edge.delay or not taker.traits.passes_current:
                ends.add(_End(taker.name, 1, 1.0))
                continue
            added, part = _added(graph, taker, rounded)
            ends |= {_End(end.node, added * end.added, part * end.part) for end in found[taker.name]}
        found[node.name] = frozenset(ends)
    return found


def _added(graph: Graph, node: Node, rounded: bool) -> tuple[int, float]:
    """Tell how many values a node adds up, and what one of them counts for."""
    if isinstance(node, Integrate) and node.mode == "learned":
        return max(1, math.ceil(np.abs(graph.tensor(node, "weights")).sum())), 1.0
    if isinstance(node, Integrate) and node.mode != "max":
        return graph.time_steps, 1.0 / graph.time_steps if node.mode == "mean" else 1.0
    if isinstance(node, TokenMean):
        tokens = graph.source_type(graph.inputs(node)["x"]).shape[0]
        return (1, 2.0 ** rounding_shift(tokens) / tokens) if rounded else (tokens, 1.0 / tokens)
    return 1, 1.0
