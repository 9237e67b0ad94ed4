"""Which values a piece of a layer depends on, found by going backwards from it to what keeps neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import Mask, extent, neuron_layers, own_block, place_of, visit_mask
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

Wanted = NDArray[np.bool_]
"""Which values of a node are wanted, (positions, features) as `extent` has them."""


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
        beside = {node.name for node in graph.nodes if isinstance(node, Input) or node.off_core}
        self.sources = neuron_layers(graph).keys() | beside
        self._own_block = {node.name: own_block(graph, node) for node in graph.accumulators}
        self._visits: dict[Mask, int] = {}
        """First block that visits where a mask says so."""
        for block in range(graph.blocks):
            if (mask := visit_mask(graph, block)) is not None:
                self._visits.setdefault(place_of(mask), block)

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
                for port, pulled in _pull(node, wanted, self._input_extents(node)).items():
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
        if isinstance(node, HaltAccumulate) and node.late and port == "total":
            sources = [accumulator.name for accumulator in self.graph.accumulators]
        else:
            sources = [self.graph.inputs(node)[port].src]
        return (source for source in sources if source != node.name)

    def _gated(self, node: Node, source: str, block: int | None) -> int | None:
        """Give the first block whose visits open the way from `source` into `node`, and on under `block`."""
        if source in self._own_block:
            return self._own_block[source]
        if isinstance(node, Gate) and node.axis == "token":
            mask = self.graph.inputs(node)["mask"]
            opened = self._visits.get(place_of(mask))
            return block if opened is None else opened
        return block

    def _input_extents(self, node: Node) -> dict[str, tuple[int, ...]]:
        """Shapes at the ports that bring values; masks of tokens reach cores as gates, not as values."""
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
    """Find the values at a node's ports, of `shapes`, that its wanted outputs depend on."""
    pulled = _PULLS[op_of(node)](node, wanted, shapes)
    return {port: values for port, values in pulled.items() if port in shapes}


def _anywhere(wanted: Wanted, axis: int) -> Wanted:
    return np.asarray(wanted.any(axis=axis, keepdims=True))


def _same(node: Node, wanted: Wanted, shapes: Shapes) -> Pulled:
    """Depend for each value on the same value of each input."""
    return dict.fromkeys(shapes, wanted)


def _windows(node: Conv2d | SpikeMaxPool, wanted: Wanted, shapes: Shapes) -> Wanted:
    """Positions (H*W, features) that lie in the windows of wanted outputs."""
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
    """A feature takes its own of v, and all those of its head of q and k: of q at its token, else at all."""
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
    """Sum z over all tokens, weighted by one value p a token."""
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
