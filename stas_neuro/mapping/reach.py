"""Dependencies of a piece of a layer, found by a backward traversal to the nodes with neurons."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from stas_neuro.analysis import Mask, extent, neuron_layers, own_block, place_of, visit_mask
from stas_neuro.ir import Graph, LateHaltAccumulate, Node
from stas_neuro.ir.ops.base import Wanted, anywhere, union
from stas_neuro.ir.types import Shape


class Need(NamedTuple):
    """Source node of values that a piece needs, the receiving node, and the first gate between them.

    `block` is the block whose visits open the first token gate on the path; None where there is no gate.
    """

    source: str
    receiver: str
    block: int | None


K = TypeVar("K")


def join(into: dict[K, Wanted], key: K, values: Wanted) -> None:
    """Add values to those needed at a key."""
    into[key] = union(into[key], values) if key in into else values


class Reach:
    """Backward traversal of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.extents = {node.name: extent(graph, node) for node in graph.nodes if node.OUTPUTS}
        beside = {node.name for node in graph.nodes if not node.input_ports or node.off_core}
        self.sources = neuron_layers(graph).keys() | beside
        self._own_block = {node.name: own_block(graph, node) for node in graph.accumulators}
        self._visits: dict[Mask, int] = {}
        """First block whose visits a mask determines."""
        for block in range(graph.blocks):
            if (mask := visit_mask(graph, block)) is not None:
                self._visits.setdefault(place_of(mask), block)

    def of(self, layer: str, positions: tuple[int, ...], features: tuple[int, int]) -> dict[Need, Wanted]:
        """Return the values that a piece needs, bool (positions, features) of each source, read-only."""
        extent = self.extents[layer]
        wanted = np.zeros((extent[0], 1), np.bool_)
        wanted[list(positions)] = True
        if features != (0, extent[1]):
            numbers = np.arange(extent[1])
            wanted = wanted & (features[0] <= numbers) & (numbers < features[1])
        return self._back({layer: np.broadcast_to(wanted, extent)})

    def behind(self, starts: dict[str, Wanted]) -> tuple[dict[str, Wanted], dict[str, Wanted]]:
        """Trace some values, bool (positions, features) by node, back to what they depend on.

        The first result has the values of neurons and of nodes beside the cores, where the trace ends; the
        second has all values on the way, the given ones included.
        """
        sources: dict[str, Wanted] = {}
        passed: dict[str, Wanted] = {}
        for need, wanted in self._back(starts, passed).items():
            join(sources, need.source, wanted)
        return sources, passed

    def tokens(self, source: str) -> Wanted | None:
        """Return which tokens the values of each position reach, bool (N, positions).

        None where position n reaches token n only.
        """
        entered = self._entered.get(source)
        one_each = entered is None or np.array_equal(entered, np.eye(len(entered), dtype=np.bool_))
        return None if one_each else entered

    @cached_property
    def _entered(self) -> dict[str, Wanted]:
        gates = [node for node in self.graph.nodes if node.traits.gates_tokens]
        rows: dict[str, list[Wanted]] = {}
        for token in range(self.graph.tokens):
            starts = {}
            for gate in gates:
                tokens, features = self.extents[gate.name]
                this = (np.arange(tokens) == token)[:, None]
                starts[gate.name] = np.broadcast_to(this, (tokens, features))
            row: dict[str, Wanted] = {}
            for need, wanted in self._back(starts).items():
                join(row, need.source, anywhere(wanted, axis=1))
            for source, positions in row.items():
                rows.setdefault(source, []).append(positions[:, 0])
        return {source: np.array(tokens) for source, tokens in rows.items()}

    def _back(self, starts: dict[str, Wanted], passed: dict[str, Wanted] | None = None) -> dict[Need, Wanted]:
        """Trace the needed values of some nodes back to their sources; `passed` takes those on the way."""
        found: dict[Need, Wanted] = {}
        pending: dict[str, dict[tuple[str, int | None], Wanted]] = {
            name: {(name, None): wanted} for name, wanted in starts.items()
        }
        for node in reversed(self.graph.nodes):
            for (receiver, block), wanted in pending.pop(node.name, {}).items():
                if passed is not None:
                    join(passed, node.name, wanted)
                if node.traits.counts_events:
                    # Nodes after synapses do not affect the values that pass through the synapses.
                    receiver, block = node.name, None
                for port, pulled in self.pull(node, wanted).items():
                    for source in self.senders(node, port):
                        opened = self._gated(node, source, block)
                        if source in self.sources:
                            join(found, Need(source, receiver, opened), pulled)
                        else:
                            join(pending.setdefault(source, {}), (receiver, opened), pulled)
        return found

    def senders(self, node: Node, port: str) -> Iterator[str]:
        """Return the nodes whose values arrive at a port, without the node itself (its own state).

        A late decision cannot wait for the accumulators in between to forward scores, so each accumulator
        sends its own score.
        """
        if isinstance(node, LateHaltAccumulate) and port == "total":
            sources = [accumulator.name for accumulator in self.graph.accumulators]
        else:
            sources = [self.graph.inputs(node)[port].src]
        return (source for source in sources if source != node.name)

    def _gated(self, node: Node, source: str, block: int | None) -> int | None:
        """Return the first block whose visits open the path from `source` into `node`, then `block`."""
        if source in self._own_block:
            return self._own_block[source]
        if node.traits.gates_tokens:
            mask = self.graph.inputs(node)["mask"]
            opened = self._visits.get(place_of(mask))
            return block if opened is None else opened
        return block

    def pull(self, node: Node, wanted: Wanted) -> dict[str, Wanted]:
        """Find the values at a node's ports that its wanted outputs depend on."""
        shapes = self.ports(node)
        return {port: values for port, values in node.needs(wanted, shapes).items() if port in shapes}

    def ports(self, node: Node) -> dict[str, Shape]:
        """Return the shapes at the ports whose values reach cores; masks of tokens reach them as gates."""
        return {
            port: self.graph.source_type(edge).shape
            for port, edge in self.graph.inputs(node).items()
            if not port.startswith("alive") and not (node.traits.gates_tokens and port == "mask")
        }
