"""A chip's share of an integer program: it computes what it holds, and exchanges values with other chips.

All chips go through the nodes in the same order. At a node of which values are sent, a chip first sends, then
pauses, then receives: where one thread drives all chips, each has sent before any receives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import Counts
from stas_neuro.analysis import PER_TOKEN, neurons_of
from stas_neuro.fast.counting import FastCounting
from stas_neuro.fast.execution import FastExecution
from stas_neuro.fast.messages import Port, Words, packed, unpack
from stas_neuro.fast.plan import Plan, plan
from stas_neuro.fast.products import eight_bit_pays
from stas_neuro.fast.program import FastProgram
from stas_neuro.fast.rows import Rows
from stas_neuro.fast.threads import one_blas_thread
from stas_neuro.ir import Node, Phase
from stas_neuro.mapping.chips import ChipShare, Transfer
from stas_neuro.mapping.routes import Routes

Array = NDArray[Any]


class Exchange(Protocol):
    """How a chip reaches the others: messages to and from each, in order."""

    def send(self, chip: int, words: Words) -> None:
        """Send a message (words,)."""

    def receive(self, chip: int) -> Words:
        """Wait for the next message. Zeros may follow its end."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ChipTrace:
    """What a chip did with a batch: as a `Trace`, of its share alone.

    `logits` and `visits` are None where it does not classify; `counts` has the kinds of events that occurred,
    int64 (images, rows, steps), of the rows that its share has. Spikes and states of other chips are 0.
    """

    logits: NDArray[np.floating[Any]] | None
    visits: NDArray[np.bool_] | None
    counts: Dict[str, Counts]
    spikes: Dict[str, NDArray[np.uint8]]
    states: Dict[str, NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class ChipProgram:
    """The share of one chip, which may be sent to another process: `start` makes there what is run.

    `transfers` has those from and to this chip, by node. It is empty for nodes that only others exchange,
    where this chip pauses too: all pause equally often. `ways` are the routes of what the chip sends.
    """

    program: FastProgram
    share: ChipShare
    transfers: Dict[str, Sequence[Transfer]]
    ways: Routes

    def start(self, exchange: Exchange) -> StartedChip:
        """Prepare kernels, products and counting."""
        return StartedChip(self, exchange)


class StartedChip:
    """A chip with its buffers: batches one after another. What its methods return is to be exhausted."""

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
        return self._execution.share_trace()


def _with_one_thread(work: Iterator[None]) -> Iterator[None]:
    """Let BLAS use one thread: the chips share the processors."""
    with one_blas_thread():
        yield from work


class ChipExecution(FastExecution):
    """Batches on their way through a chip's share of a graph."""

    def __init__(self, chip: ChipProgram, planned: Plan, exchange: Exchange) -> None:
        program = chip.program
        super().__init__(program.graph, planned, program.record_spikes, program.record_states)
        self._share, self._transfers, self._exchange = chip.share, chip.transfers, exchange
        met = chip.share.computes.keys() | chip.share.needs | chip.transfers.keys()
        self._nodes = {
            phase: [node for node in nodes if node.name in met] for phase, nodes in self._nodes.items()
        }
        known = chip.share.needs | {name for name, transfers in chip.transfers.items() if transfers}
        self._ports = {name: Port.of(program.graph, name) for name in known}

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
        name, computes = node.name, node.name in self._share.computes
        if computes:
            self._evaluate(node, step)
        has_value = not node.traits.gathers or step == self.graph.time_steps - 1
        if not has_value or (computes and name not in self._transfers):
            return
        transfers = self._transfers.get(name, ())
        sends = [each for each in transfers if each.sender == self._share.chip]
        receives = [each for each in transfers if each.receiver == self._share.chip]
        # Of what only others exchange a chip has no table, unless it needs one of 0.
        ports = self._ports.get(name, ()) if transfers or not computes else ()
        tables = [port.table(self) if computes else port.nothing(self, step) for port in ports]
        for transfer in sends:
            # One message a node: a channel has room for two, and both of two chips send before they receive.
            self._exchange.send(transfer.receiver, packed(ports, tables, transfer))
        if name in self._transfers:
            yield
        for transfer in receives:
            unpack(ports, tables, transfer, self._exchange.receive(transfer.sender))
        if receives or not computes:
            for port, table in zip(ports, tables, strict=True):
                port.put(self, table)

    def share_trace(self) -> ChipTrace:
        """Return what this chip did."""
        assert self.counter is not None
        classifies = self._share.classifies
        trace = ChipTrace(
            logits=self._logits() if classifies else None,
            visits=self.visits if classifies else None,
            counts={kind: counts for kind, counts in self.counter.counts().items() if counts.any()},
            spikes=self._held(self.spikes),
            states=self._held(self.states),
        )
        self.counter, self.listeners = None, []
        return trace

    def _held(self, recorded: Dict[str, list[Array]]) -> dict[str, Array]:
        """Join the steps of each node, and clear what other chips hold."""
        found = {}
        for name, steps in recorded.items():
            node = self.graph.node(name)
            held, shape = self._share.holds[neurons_of(self.graph, node)], steps[0].shape[1:]
            if self.graph.types[name, node.OUTPUTS[0]].kind in PER_TOKEN:  # tokens are the last axis
                mine = np.broadcast_to(held[:, 0], shape)
            else:
                mine = (held.T if len(shape) == 3 else held).reshape(shape)
            found[name] = np.stack(steps, axis=1) * mine.astype(np.uint8)
        return found
