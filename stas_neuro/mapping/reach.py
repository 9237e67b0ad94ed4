"""Which values a piece of a layer depends on, found by going backwards from it to what keeps neurons."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from stas_neuro.ir import Graph, LateHaltAccumulate, Node
from stas_neuro.ir.ops.base import Wanted
from stas_neuro.mapping.neurons import extent, neuron_layers


class Need(NamedTuple):
    """From which node a piece takes values, by which receiving node, through whose gate first.

    `block` is that whose visits open the first token gate on the way; None where there is none.
    """

    source: str
    receiver: str
    block: int | None


K = TypeVar("K")


def join(into: dict[K, Wanted], key: K, values: Wanted) -> None:
    """Add values to what is wanted at a key."""
    into[key] = into[key] | values if key in into else values


class Reach:
    """Goes backwards through a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.extents = {node.name: extent(graph, node) for node in graph.nodes if node.OUTPUTS}
        beside = {node.name for node in graph.nodes if not node.input_ports or node.off_core}
        self.sources = neuron_layers(graph).keys() | beside
        accumulators = graph.accumulators
        self._own_block = {node.name: block for block, node in enumerate(accumulators)}
        self._visits: dict[tuple[str, str, int], int] = {}
        """Block that visits where an accumulator's mask says so, by the mask's place and delay."""
        for block, node in reversed(list(enumerate(accumulators))):
            if (edge := graph.inputs(node).get("alive")) is not None:
                self._visits[edge.src, edge.src_port, edge.delay] = block

    def of(self, layer: str, positions: tuple[int, ...], features: tuple[int, int]) -> dict[Need, Wanted]:
        """Find what a piece needs: bool (positions, features) of each source."""
        wanted = np.zeros(self.extents[layer], np.bool_)
        wanted[list(positions), slice(*features)] = True
        return self._back({layer: wanted})

    def tokens(self, source: str) -> Wanted | None:
        """Find the tokens that each position's values enter, (N, positions); None where n enters n only."""
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
                starts[gate.name] = np.zeros(self.extents[gate.name], np.bool_)
                starts[gate.name][token] = True
            row: dict[str, Wanted] = {}
            for need, wanted in self._back(starts).items():
                join(row, need.source, np.asarray(wanted.any(axis=1)))
            for source, positions in row.items():
                rows.setdefault(source, []).append(positions)
        return {source: np.array(tokens) for source, tokens in rows.items()}

    def _back(self, starts: dict[str, Wanted]) -> dict[Need, Wanted]:
        """Pull what is wanted of some nodes back to sources."""
        found: dict[Need, Wanted] = {}
        pending: dict[str, dict[tuple[str, int | None], Wanted]] = {
            name: {(name, None): wanted} for name, wanted in starts.items()
        }
        for node in reversed(self.graph.nodes):
            for (receiver, block), wanted in pending.pop(node.name, {}).items():
                if node.traits.counts_events:
                    # What comes after synapses does not change what has gone through them.
                    receiver, block = node.name, None
                for port, pulled in self._pull(node, wanted).items():
                    for source in self._senders(node, port):
                        opened = self._gated(node, source, block)
                        if source in self.sources:
                            join(found, Need(source, receiver, opened), pulled)
                        else:
                            join(pending.setdefault(source, {}), (receiver, opened), pulled)
        return found

    def _senders(self, node: Node, port: str) -> Iterator[str]:
        """Name whose values come in at a port, without its own state.

        A late decision cannot wait for scores that the accumulators between pass on: each has sent its own.
        """
        if isinstance(node, LateHaltAccumulate) and port == "total":
            sources = [accumulator.name for accumulator in self.graph.accumulators]
        else:
            sources = [self.graph.inputs(node)[port].src]
        return (source for source in sources if source != node.name)

    def _gated(self, node: Node, source: str, block: int | None) -> int | None:
        """Give the first block whose visits open the way from `source` into `node`, and on under `block`."""
        if source in self._own_block:
            return self._own_block[source]
        if node.traits.gates_tokens:
            mask = self.graph.inputs(node)["mask"]
            opened = self._visits.get((mask.src, mask.src_port, mask.delay))
            return block if opened is None else opened
        return block

    def _pull(self, node: Node, wanted: Wanted) -> dict[str, Wanted]:
        """Find the values at a node's ports that its wanted outputs depend on.

        Masks of tokens reach cores as gates, not as values.
        """
        shapes = {
            port: self.graph.source_type(edge).shape
            for port, edge in self.graph.inputs(node).items()
            if not port.startswith("alive") and not (node.traits.gates_tokens and port == "mask")
        }
        return {port: values for port, values in node.needs(wanted, shapes).items() if port in shapes}
