"""An integer program divided by chip: each computes its share, and sends what others need of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Counts
from stas_neuro.activity.layers import builder_for
from stas_neuro.analysis import extent, neurons_of
from stas_neuro.fast.counting import FastCounting
from stas_neuro.fast.execution import FastExecution, batch_size
from stas_neuro.fast.plan import Plan, plan, stored_as
from stas_neuro.fast.products import eight_bit_pays
from stas_neuro.fast.program import FastProgram
from stas_neuro.fast.rows import Rows
from stas_neuro.fast.threads import one_blas_thread
from stas_neuro.ir import Graph, Node, Phase
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.chips import ChipShare, Division, divide
from stas_neuro.mapping.routes import Routes, routes
from stas_neuro.trace import Trace

Array = NDArray[Any]
_WORD = np.dtype(np.int32)


class Exchange(Protocol):
    """How a chip reaches the others: messages to and from each, in order."""

    def send(self, chip: int, words: NDArray[np.int32]) -> None:
        """Send a message (words,)."""

    def receive(self, chip: int) -> NDArray[np.int32]:
        """Wait for the next message, which may be longer than what was sent."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ChipTrace:
    """What a chip did with a batch: as a `Trace`, of its share alone.

    `logits` and `visits` are None where it does not classify; `counts` has each kind of events, int64
    (images, rows, steps), of the rows with names `rows`. Spikes and states of other chips are 0.
    """

    logits: NDArray[np.floating[Any]] | None
    visits: NDArray[np.bool_] | None
    rows: Sequence[str]
    counts: Dict[str, Counts]
    spikes: Dict[str, NDArray[np.uint8]]
    states: Dict[str, NDArray[np.int32]]


@dataclass(frozen=True, eq=False, kw_only=True)
class ChipsProgram:
    """A program on the chips of a mapping.

    Parameters
    ----------
    graph : Graph
        A quantised graph.
    mapping : Mapping
    gating, record_spikes, record_states, eight_bit
        As of `run_fast`.

    Raises
    ------
    InputError
        When it is divided, if the mapping is not one of the graph.
    """

    graph: Graph
    mapping: Mapping
    gating: str = "silent"
    record_spikes: bool = False
    record_states: bool = False
    eight_bit: bool | None = None

    @cached_property
    def division(self) -> Division:
        """What each chip computes and sends."""
        return divide(self.graph, self.mapping)

    @property
    def chips(self) -> Sequence[int]:
        """The numbers of the chips."""
        return [share.chip for share in self.division.shares]

    @cached_property
    def routes(self) -> Routes:
        """The routes of all messages."""
        return routes(self.graph, self.mapping)

    def share(self, chip: int) -> ChipProgram:
        """Give what a chip computes."""
        (share,) = (share for share in self.division.shares if share.chip == chip)
        return ChipProgram(self, share, _of_share(self.routes, share))

    @property
    def classifier(self) -> int:
        """The chip that has the logits."""
        return next(share.chip for share in self.division.shares if share.classifies)

    def images_at_once(self, images: int) -> int:
        """Number the images, out of some, that the chips take at a time."""
        return batch_size(self.graph, images)

    def links(self, images: int) -> Dict[tuple[int, int], int]:
        """Give the words of the longest message from one chip to another, of a batch of images."""
        graph, links = self.graph, dict[tuple[int, int], int]()
        for name, transfers in self.division.transfers.items():
            node = graph.node(name)
            dtypes = [np.dtype(stored_as(graph, node, port)) for port in node.OUTPUTS]
            for each in transfers:
                link = each.sender, each.receiver
                words = sum(_words_of(images * math.prod(each.shape), dtype) for dtype in dtypes)
                links[link] = max(links.get(link, 0), words)
        return links

    def joined(self, traces: Sequence[ChipTrace]) -> Trace:
        """Join what the chips did with one batch."""
        graph = self.graph
        (classified,) = (trace for trace in traces if trace.logits is not None)
        logits, visits = classified.logits, classified.visits
        assert logits is not None and visits is not None
        builder = builder_for(graph, len(visits), self.mapping)
        number = {layer.name: at for at, layer in enumerate(builder.layers)}
        for trace in traces:
            rows = [number[name] for name in trace.rows]
            kinds = [kind for kind, counts in trace.counts.items() if counts.any()]
            builder.begin(kinds)
            for kind in kinds:
                builder.table(kind)[:, rows] = trace.counts[kind]
        return Trace(
            logits=logits,
            visits=visits,
            counted=builder.build(visits),
            spikes=_sums([trace.spikes for trace in traces]),
            states=_sums([trace.states for trace in traces]),
        )


def program_of(*, mapping: Mapping | None, **settings: Any) -> FastProgram | ChipsProgram:
    """Return the program of a graph on the chips of a mapping; of one chip, or without any, as a whole.

    `settings` are the other fields of either.
    """
    if mapping is None or mapping.chips == 1:
        return FastProgram(mapping=mapping, **settings)
    return ChipsProgram(mapping=mapping, **settings)


def _sums(of_chips: Iterable[Dict[str, Array]]) -> dict[str, Array]:
    """Add arrays by name, each of which is 0 where another has values."""
    found: dict[str, Array] = {}
    for arrays in of_chips:
        for name, values in arrays.items():
            found[name] = found[name] + values if name in found else values
    return found


def _of_share(ways: Routes, share: ChipShare) -> Routes:
    """Give the routes of what a chip sends, and what arrives there from beside the cores."""
    cores = {piece.core for piece in share.mapping.pieces}
    return replace(
        ways,
        routes=tuple(route for route in ways.routes if route.source in share.holds),
        arrivals=tuple(arrival for arrival in ways.arrivals if arrival.core in cores),
    )


@dataclass(frozen=True, eq=False)
class ChipProgram:
    """The share of one chip, which may be sent to another process: `start` makes there what is run."""

    program: ChipsProgram
    share: ChipShare
    ways: Routes

    def start(self, exchange: Exchange) -> StartedChip:
        """Prepare kernels, products and counting."""
        return StartedChip(self, exchange)


class StartedChip:
    """A chip with its buffers: batches one after another.

    Its methods are iterators that pause where all chips have sent what others wait for: those that are driven
    by one thread are taken to each pause in turn.
    """

    def __init__(self, chip: ChipProgram, exchange: Exchange) -> None:
        program = chip.program
        eight_bit = eight_bit_pays() if program.eight_bit is None else program.eight_bit
        planned = plan(program.graph, eight_bit=eight_bit, share=chip.share)
        self._counting = FastCounting(
            program.graph, program.mapping, program.gating, set(planned.operations), chip.ways, chip.share
        )
        self._execution = ChipExecution(chip, planned, exchange)

    def load(self, images: Array) -> Iterator[None]:
        """Take a batch, int (B, C, H, W) or (B, T, C, H, W) in 0..255, and run what precedes its steps."""
        self._execution.load(images, self._counting)
        return _with_one_thread(self._execution.beginning())

    def model_step(self, step: int) -> Iterator[None]:
        """Run a model step of the batch; all are run in order, from 0."""
        return _with_one_thread(self._execution.stepping(step))

    def finish(self) -> Iterator[None]:
        """Run what follows the last step of the batch."""
        return _with_one_thread(self._execution.ending())

    def trace(self) -> ChipTrace:
        """Return what was done, after that."""
        return self._execution.share_trace(self._counting)


def _with_one_thread(work: Iterator[None]) -> Iterator[None]:
    """Let BLAS use one thread between pauses: the chips share the processors."""
    while True:
        with one_blas_thread():
            try:
                next(work)
            except StopIteration:
                return
        yield


class ChipExecution(FastExecution):
    """Batches on their way through a chip's share of a graph."""

    def __init__(self, chip: ChipProgram, planned: Plan, exchange: Exchange) -> None:
        program = chip.program
        super().__init__(program.graph, planned, program.record_spikes, program.record_states)
        self._share, self._exchange = chip.share, exchange
        self._transfers = program.division.transfers
        self._extents = {name: extent(program.graph, program.graph.node(name)) for name in self._transfers}
        self._nodes = {
            phase: [each for each in nodes if {each.name} & (chip.share.computes.keys() | self._transfers)]
            for phase, nodes in self._nodes.items()
        }

    def beginning(self) -> Iterator[None]:
        """Run what precedes the model steps."""
        for node in self._nodes[Phase.ONCE]:
            yield from self._stem(node) if node.phase == Phase.STEM else self._node(node, 0)
        self._step_ended(Phase.ONCE)
        for step in range(self.graph.time_steps):
            self._step_ended(Phase.STEM, step)

    def stepping(self, step: int) -> Iterator[None]:
        """Run a model step."""
        self.previous = dict(self.values)
        for node in self._nodes[Phase.STEP]:
            yield from self._node(node, step)
        self._note_visits(step)
        self._step_ended(Phase.STEP, step)

    def ending(self) -> Iterator[None]:
        """Run what follows the last model step."""
        for node in self._nodes[Phase.END]:
            yield from self._node(node, 0)
        self._step_ended(Phase.END)

    def share_trace(self, counting: FastCounting) -> ChipTrace:
        """Return what this chip did."""
        assert self.counter is not None
        trace = ChipTrace(
            logits=self._logits() if self._share.classifies else None,
            visits=self.visits if self._share.classifies else None,
            rows=[layer.name for layer in counting.counting.builder(0).layers],
            counts=dict(self.counter.counts()),
            spikes=self._held(self.spikes),
            states=self._held(self.states),
        )
        self.counter, self.listeners = None, []
        return trace

    def _held(self, recorded: Dict[str, list[Array]]) -> dict[str, Array]:
        """Join the steps of each node, and clear what other chips hold."""
        found = {}
        for name, steps in recorded.items():
            home = neurons_of(self.graph, self.graph.node(name))
            held, shape = self._share.holds[home], steps[0].shape[1:]
            of_node = (held.T if len(shape) == 3 else held).reshape(shape)
            found[name] = np.stack(steps, axis=1) * of_node.astype(np.uint8)
        return found

    def _stem(self, node: Node) -> Iterator[None]:
        """Run all steps of a node of the stem, and keep its values by step."""
        steps: dict[tuple[str, str], list[Any]] = {}
        for step in range(self.graph.time_steps):
            yield from self._node(node, step)
            for key in ((node.name, port) for port in node.OUTPUTS):
                if key in self.values:
                    steps.setdefault(key, []).append(self.values[key])
        for key, held in steps.items():
            self.values[key] = held if isinstance(held[0], Rows) else np.stack(held)  # type: ignore[assignment]

    def _node(self, node: Node, step: int) -> Iterator[None]:
        """Compute what this chip has of a node, send what others need, and receive what it needs."""
        if node.name in self._share.computes:
            self._evaluate(node, step)
        if node.name not in self._transfers:
            return
        if node.traits.gathers and step < self.graph.time_steps - 1:
            return  # it has no value yet
        sends = [each for each in self._transfers[node.name] if each.sender == self._share.chip]
        receives = [each for each in self._transfers[node.name] if each.receiver == self._share.chip]
        tables = {port: self._table(node, port, step) for port in node.OUTPUTS} if sends or receives else {}
        for transfer in sends:
            message = [_words(table[transfer.index]) for table in tables.values()]
            # One message a node: a channel has room for two, and both of two chips send before they receive.
            self._exchange.send(transfer.receiver, np.concatenate(message))
        yield
        for transfer in receives:
            words = self._exchange.receive(transfer.sender)
            for table in tables.values():
                shape = len(table), *transfer.shape
                size = _words_of(math.prod(shape), table.dtype)
                table[transfer.index] = _values(words[:size], shape, table.dtype)
                words = words[size:]
        for port, table in tables.items() if receives else ():
            self._put(node, port, table)

    def _table(self, node: Node, port: str, step: int) -> Array:
        """Give what this chip has of a value, (images, positions, features), 0 where it has none."""
        key = node.name, port
        shape, dtype = self.graph.types[key].shape, self._plan.stored[key]
        size = len(self.images), *self._extents[node.name]
        if node.name not in self._share.computes:
            self.sites[node.name].step = step
            table = self.out(node, size, dtype, port)
            table.fill(0)
            return table
        value: Any = self.values[key]
        if not isinstance(value, Rows):
            if len(shape) == 1:
                dense: Array = value.astype(dtype)
                return dense.reshape(size)
            value = Rows.of(value.copy(), shape, dtype, self.everyone)
        rows: Rows = value.on(self.everyone(size[1]))
        return rows.data.reshape(size)

    def _put(self, node: Node, port: str, table: Array) -> None:
        """Take what this chip has of a value now."""
        shape, (images, positions, features) = self.graph.types[node.name, port].shape, table.shape
        value: Any = Rows(table.reshape(images * positions, features), self.everyone(positions), shape)
        if len(shape) == 1:
            value = table.reshape(images, *shape).astype(self.dtypes[node.name])
        self.values[node.name, port] = value


def _words_of(values: int, dtype: np.dtype[Any]) -> int:
    """Count the words of a number of values."""
    return -(-values // _WORD.itemsize) if dtype == np.uint8 else values


def _words(values: Array) -> NDArray[np.int32]:
    """Give whole numbers as words: bytes as they are, all else one by one."""
    if values.dtype != np.uint8:
        return values.astype(np.int32).ravel()
    words = np.zeros(_words_of(values.size, values.dtype), np.int32)
    words.view(np.uint8)[: values.size] = values.ravel()
    return words


def _values(words: NDArray[np.int32], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Give the values that words are of."""
    numbers = words.view(np.uint8) if dtype == np.uint8 else words
    return numbers[: math.prod(shape)].reshape(shape)
