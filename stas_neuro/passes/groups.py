"""Which layers must share one unit: those whose outputs are added up before a threshold sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stas_neuro.ir import (
    LIF,
    Graph,
    Node,
    Problems,
    SynapticCurrent,
    TokenMean,
)


@dataclass(frozen=True)
class UnitGroup:
    """Layers of one unit and the neurons that their output drives."""

    sources: tuple[Node, ...]
    lifs: tuple[LIF, ...]
    currents: tuple[SynapticCurrent, ...] = ()
    means: tuple[TokenMean, ...] = ()
    """Those that its layers' output passes through."""

    @property
    def divisor(self) -> float:
        """What the input of its neurons is divided by; 1 where it drives none."""
        return self.lifs[0].divisor if self.lifs else 1.0

    def longest(self, steps: int) -> float:
        """Largest number of times that its membranes hold the input of a step, in a run of `steps`."""
        tau = self.lifs[0].tau if self.lifs else 1.0
        times = steps if tau == math.inf else tau
        for current in self.currents:
            times *= current.tau
        return times


def unit_groups(graph: Graph, problems: Problems) -> tuple[UnitGroup, ...]:
    """Partition the sources and LIFs of a graph, in the order of their first source."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    current = {node.name for node in graph.nodes if node.traits.makes_current}
    for node in graph.nodes:
        if node.traits.passes_current or isinstance(node, LIF):
            for port, edge in graph.inputs(node).items():
                if edge.src in current and port in ("x", "a", "b"):
                    root[find(node.name)] = find(edge.src)
                    if not isinstance(node, LIF):
                        current.add(node.name)
    members: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.traits.makes_current or isinstance(node, LIF | SynapticCurrent):
            members.setdefault(find(node.name), []).append(node)
        elif isinstance(node, TokenMean) and node.name in current:
            members[find(node.name)].append(node)
    return tuple(_group(nodes, problems) for nodes in members.values())


def _group(nodes: list[Node], problems: Problems) -> UnitGroup:
    sources = tuple(node for node in nodes if node.traits.makes_current)
    lifs = tuple(node for node in nodes if isinstance(node, LIF))
    if not sources:
        problems.add(nodes[0].name, "its input comes from no synapses", "put a Linear before it")
    for lif in lifs[1:]:
        if lif.tau != lifs[0].tau:
            what = f"tau is {lif.tau:g}; {lifs[0].name}, which shares its input, has {lifs[0].tau:g}"
            problems.add(lif.name, what, "use one time constant for neurons that share input")
        if lif.decay_input != lifs[0].decay_input:
            what = f"decay_input is {lif.decay_input}; {lifs[0].name}, which shares its input, has another"
            problems.add(lif.name, what, "use one kind of neurons where they share input")
    if len(sources) > 1:
        for source in sources:
            if not source.traits.stores_weights:  # else its integers can be chosen to fit
                what = f"{type(source).__name__} is added to the output of other layers"
                problems.add(source.name, what, "give it neurons of its own")
    currents = tuple(node for node in nodes if isinstance(node, SynapticCurrent))
    means = tuple(node for node in nodes if isinstance(node, TokenMean))
    return UnitGroup(sources, lifs, currents, means)
