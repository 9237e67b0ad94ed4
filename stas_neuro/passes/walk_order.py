"""The order in which integers are made: what a layer reads has a unit before the layer's group gets one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from stas_neuro.ir import Graph, Input, Integrate, Kind, Node, Problems, Synaptic
from stas_neuro.passes.groups import UnitGroup


def sends_current(graph: Graph, node: Node) -> bool:
    """Return whether a layer with weights reads currents, which are sent as graded numbers; not an image."""
    if not isinstance(node, Synaptic):
        return False
    edge = graph.inputs(node)["x"]
    return graph.source_type(edge).kind == Kind.CURRENT and not _is_image(graph, graph.node(edge.src))


def _is_image(graph: Graph, node: Node) -> bool:
    while isinstance(node, Integrate):
        node = graph.node(graph.inputs(node)["x"].src)
    return isinstance(node, Input)


def walk_order(graph: Graph, groups: Iterable[UnitGroup], problems: Problems) -> tuple[Node, ...]:
    """Order the nodes so that the currents that layers of a group read come before all layers of the group.

    It is the order of the graph where no layer reads currents.
    """
    needed: dict[str, set[str]] = {node.name: set() for node in graph.nodes}
    for group in groups:
        read = {
            graph.inputs(source)["x"].src: source for source in group.sources if sends_current(graph, source)
        }
        own = {source.name for source in group.sources}
        for name, source in read.items():
            if own & _before(graph, name, own):
                what = "reads a sum of currents that its own output is added to, which gives both one unit"
                problems.add(source.name, what, "put a LIF before it")
            else:
                needed |= {each: needed[each] | {name} for each in own}
    if not any(needed.values()) or problems.found:
        return graph.nodes
    for edge in graph.edges:
        if not edge.delay:
            needed[edge.dst].add(edge.src)
    return _sorted(graph, needed, problems)


def _before(graph: Graph, name: str, layers: set[str]) -> set[str]:
    """Find which layers a value is a sum of outputs of, as far as currents pass to it."""
    found: set[str] = set()
    pending = [name]
    while pending:
        node = graph.node(pending.pop())
        if node.name in layers:
            found.add(node.name)
        elif node.traits.passes_current:
            pending += [edge.src for edge in graph.inputs(node).values()]
    return found


def _sorted(graph: Graph, needed: Mapping[str, set[str]], problems: Problems) -> tuple[Node, ...]:
    try:
        names = tuple(TopologicalSorter(needed).static_order())
    except CycleError as error:
        layers = [name for name in error.args[1] if isinstance(graph.node(name), Synaptic)]
        what = f"its unit depends on itself: {', '.join(dict.fromkeys(layers))} read currents of each other"
        problems.add(layers[0], what, "put a LIF before one of them")
        return graph.nodes
    return tuple(graph.node(name) for name in names)
