"""Dependencies of a piece of a layer, found by a backward traversal to the nodes with neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import (
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Readout,
    SpikeMatMul,
    SpikeMaxPool,
    Tokens,
    op_of,
    per_op,
)
from stas_neuro.mapping.neurons import extent, neuron_layers

Wanted = NDArray[np.bool_]
"""Which values of a node are needed, bool (positions, features) as in `extent`."""


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
    into[key] = into[key] | values if key in into else values


class Reach:
    """Backward traversal of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.extents = {node.name: extent(graph, node) for node in graph.nodes if node.OUTPUTS}
        beside = {node.name for node in graph.nodes if isinstance(node, Input) or node.off_core}
        self.sources = neuron_layers(graph).keys() | beside
        accumulators = graph.accumulators
        self._own_block = {node.name: block for block, node in enumerate(accumulators)}
        self._visits: dict[tuple[str, str, int], int] = {}
        """Block whose visits a mask of an accumulator determines, by the mask's node, port and delay."""
        for block, node in reversed(list(enumerate(accumulators))):
            if (edge := graph.inputs(node).get("alive")) is not None:
                self._visits[edge.src, edge.src_port, edge.delay] = block

    def of(self, layer: str, positions: tuple[int, ...], features: tuple[int, int]) -> dict[Need, Wanted]:
        """Return the values that a piece needs, bool (positions, features) of each source."""
        wanted = np.zeros(self.extents[layer], np.bool_)
        wanted[list(positions), slice(*features)] = True
        return self._back({layer: wanted})

    def tokens(self, source: str) -> Wanted | None:
        """Return which tokens the values of each position reach, bool (N, positions).

        None where position n reaches token n only.
        """
        entered = self._entered.get(source)
        one_each = entered is None or np.array_equal(entered, np.eye(len(entered), dtype=np.bool_))
        return None if one_each else entered

    @cached_property
    def _entered(self) -> dict[str, Wanted]:
        gates = [node for node in self.graph.of_type(Gate) if node.axis == "token"]
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
        """Trace the needed values of some nodes back to their sources."""
        found: dict[Need, Wanted] = {}
        pending: dict[str, dict[tuple[str, int | None], Wanted]] = {
            name: {(name, None): wanted} for name, wanted in starts.items()
        }
        for node in reversed(self.graph.nodes):
            for (receiver, block), wanted in pending.pop(node.name, {}).items():
                if node.traits.counts_events:
                    # Nodes after synapses do not affect the values that pass through the synapses.
                    receiver, block = node.name, None
                for port, pulled in _pull(node, wanted, self._input_extents(node)).items():
                    for source in self._senders(node, port):
                        opened = self._gated(node, source, block)
                        if source in self.sources:
                            join(found, Need(source, receiver, opened), pulled)
                        else:
                            join(pending.setdefault(source, {}), (receiver, opened), pulled)
        return found

    def _senders(self, node: Node, port: str) -> Iterator[str]:
        """Return the nodes whose values arrive at a port, without the node itself (its own state).

        A late decision cannot wait for the accumulators in between to forward scores, so each accumulator
        sends its own score.
        """
        if isinstance(node, HaltAccumulate) and node.late and port == "total":
            sources = [accumulator.name for accumulator in self.graph.accumulators]
        else:
            sources = [self.graph.inputs(node)[port].src]
        return (source for source in sources if source != node.name)

    def _gated(self, node: Node, source: str, block: int | None) -> int | None:
        """Return the first block whose visits open the path from `source` into `node`, then `block`."""
        if source in self._own_block:
            return self._own_block[source]
        if isinstance(node, Gate) and node.axis == "token":
            mask = self.graph.inputs(node)["mask"]
            opened = self._visits.get((mask.src, mask.src_port, mask.delay))
            return block if opened is None else opened
        return block

    def _input_extents(self, node: Node) -> dict[str, tuple[int, ...]]:
        """Return the shapes at the ports with values; token masks reach cores as gates, not as values."""
        ports = self.graph.inputs(node)
        masked = isinstance(node, Gate) and node.axis == "token"
        return {
            port: self.graph.source_type(edge).shape
            for port, edge in ports.items()
            if not port.startswith("alive") and not (masked and port == "mask")
        }


Pulled = dict[str, Wanted]
Shapes = dict[str, tuple[int, ...]]


def _pull(node: Node, wanted: Wanted, shapes: Shapes) -> Pulled:
    """Return the values at a node's ports (of shapes `shapes`) that its needed outputs depend on."""
    pulled = _PULLS[op_of(node)](node, wanted, shapes)
    return {port: values for port, values in pulled.items() if port in shapes}


def _anywhere(wanted: Wanted, axis: int) -> Wanted:
    return np.asarray(wanted.any(axis=axis, keepdims=True))


def _same(node: Node, wanted: Wanted, shapes: Shapes) -> Pulled:
    """Return the same values of each input: the node is elementwise."""
    return dict.fromkeys(shapes, wanted)


def _windows(node: Conv2d | SpikeMaxPool, wanted: Wanted, shapes: Shapes) -> Wanted:
    """Return the inputs in the windows of needed outputs, bool (H*W, features)."""
    height, width = shapes["x"][1:]
    pad, stride = node.padding, node.stride
    rows, columns = ((size + 2 * pad - node.kernel) // stride + 1 for size in (height, width))
    outputs = wanted.reshape(rows, columns, -1)
    padded = np.zeros((height + 2 * pad, width + 2 * pad, outputs.shape[2]), np.bool_)
    for row in range(node.kernel):
        for column in range(node.kernel):
            ends = row + (rows - 1) * stride + 1, column + (columns - 1) * stride + 1
            padded[row : ends[0] : stride, column : ends[1] : stride] |= outputs
    return padded[pad : pad + height, pad : pad + width].reshape(height * width, -1)


def _conv2d(node: Conv2d, wanted: Wanted, shapes: Shapes) -> Pulled:
    positions = _windows(node, _anywhere(wanted, axis=1), shapes)
    return {"x": np.repeat(positions, node.in_channels, axis=1)}


def _pool(node: SpikeMaxPool, wanted: Wanted, shapes: Shapes) -> Pulled:
    return {"x": _windows(node, wanted, shapes)}


def _linear(node: Linear, wanted: Wanted, shapes: Shapes) -> Pulled:
    return {"x": np.repeat(_anywhere(wanted, axis=1), node.in_features, axis=1)}


def _spike_mat_mul(node: SpikeMatMul, wanted: Wanted, shapes: Shapes) -> Pulled:
    """Return the inputs of needed features.

    These are the same features of v at all tokens, and all features of their head: of k at all tokens, and
    of q at the tokens of the outputs.
    """
    tokens, features = wanted.shape
    heads = wanted.reshape(tokens, node.heads, -1).any(axis=2)
    of_head = np.repeat(heads, features // node.heads, axis=1)
    k, v = (np.repeat(_anywhere(values, axis=0), tokens, axis=0) for values in (of_head, wanted))
    return {"q": of_head, "k": k, "v": v}


def _masked_column_sum(node: MaskedColumnSum, wanted: Wanted, shapes: Shapes) -> Pulled:
    return {port: np.repeat(wanted, shapes[port][0], axis=0) for port in node.INPUTS}


def _gate(node: Gate, wanted: Wanted, shapes: Shapes) -> Pulled:
    return {"x": wanted, "mask": _anywhere(wanted, axis=0)}


def _halting_score(node: HaltingScore, wanted: Wanted, shapes: Shapes) -> Pulled:
    features = np.arange(shapes["z"][1])
    return {"z": wanted & (features == 0)}


def _readout(node: Readout, wanted: Wanted, shapes: Shapes) -> Pulled:
    """Return the inputs of a sum of z over all tokens, weighted by one value p per token."""
    weight = _anywhere(wanted, axis=1)
    return {
        port: np.repeat(wanted if port.startswith("z") else weight, shape[0], axis=0)
        for port, shape in shapes.items()
    }


_PULLS: Mapping[type[Node], Callable[[Any, Wanted, Shapes], Pulled]] = per_op(
    "what the outputs of a node depend on",
    {
        Conv2d: _conv2d,
        SpikeMaxPool: _pool,
        Linear: _linear,
        SpikeMatMul: _spike_mat_mul,
        MaskedColumnSum: _masked_column_sum,
        Gate: _gate,
        HaltingScore: _halting_score,
        Readout: _readout,
        BatchNorm: _same,
        LIF: _same,
        Integrate: _same,
        Tokens: _same,
        Add: _same,
        HaltAccumulate: _same,
        Output: _same,
    },
    without=(Input,),  # it has no input
)
