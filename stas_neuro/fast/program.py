"""An integer program that others step: one model step of a batch at a time, in a process of their choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stas_neuro.fast.counting import FastCounting
from stas_neuro.fast.execution import FastExecution, batches_of, images_at_once
from stas_neuro.fast.plan import plan
from stas_neuro.fast.products import eight_bit_pays
from stas_neuro.fast.threads import one_blas_thread, workers
from stas_neuro.ir import Graph
from stas_neuro.mapping import Mapping
from stas_neuro.trace import Trace


@dataclass(frozen=True, eq=False, kw_only=True)
class FastProgram:
    """A program to run, which may be sent to another process: `start` makes there what is run.

    Parameters
    ----------
    graph : Graph
        A quantised graph.
    mapping : Mapping, optional
        The cores on which the activity is counted.
    gating, record_spikes, record_states, eight_bit
        As of `run_fast`.
    """

    graph: Graph
    mapping: Mapping | None = None
    gating: str = "silent"
    record_spikes: bool = False
    record_states: bool = False
    eight_bit: bool | None = None

    @property
    def chips(self) -> tuple[int, ...]:
        """One, as if all were on it."""
        return (self.classifier,)

    @property
    def classifier(self) -> int:
        """The number of this chip; 0 without a mapping."""
        return 0 if self.mapping is None else self.mapping.used_chips[0]

    def share(self, chip: int) -> FastProgram:
        """Give all of the program."""
        return self

    def images_at_once(self, images: int) -> int:
        """Number the images, out of some, that are taken at a time."""
        return images_at_once(self.graph, images)

    def links(self, images: int) -> dict[tuple[int, int], int]:
        """Give none: there are no others to send to."""
        return {}

    def joined(self, traces: Sequence[Trace]) -> Trace:
        """Give the trace of a batch."""
        (trace,) = traces
        return trace

    def start(self, exchange: object) -> StartedProgram:
        """Prepare kernels, products and counting; nothing is exchanged."""
        return StartedProgram(self)


class StartedProgram:
    """A program with its buffers: batches one after another, parts of a batch side by side on all processors.

    Nothing makes it pause: what its methods return is empty. A part is what `run_fast` takes at a time: its
    values fit in caches.
    """

    def __init__(self, program: FastProgram) -> None:
        self._program, graph, eight_bit = program, program.graph, program.eight_bit
        self._plan = plan(graph, eight_bit=eight_bit_pays() if eight_bit is None else eight_bit)
        self._counting = FastCounting(graph, program.mapping, program.gating, set(self._plan.operations))
        self._workers = workers()
        self._pool = ThreadPoolExecutor(self._workers)
        self._parts: list[FastExecution] = []
        self._running: list[FastExecution] = []
        """The parts that have images of the batch."""
        self._traces: list[Trace] = []

    def load(self, images: NDArray[Any]) -> tuple[()]:
        """Take a batch, int (B, C, H, W) or (B, T, C, H, W) in 0..255, and run what precedes its steps."""
        program = self._program
        batches = batches_of(program.graph, len(images), self._workers)
        while len(self._parts) < len(batches):
            self._parts.append(
                FastExecution(program.graph, self._plan, program.record_spikes, program.record_states)
            )
        self._running = self._parts[: len(batches)]

        def begin(part: FastExecution, batch: slice) -> None:
            part.load(images[batch], self._counting)
            part.begin()

        self._side_by_side(begin, batches)
        return ()

    def model_step(self, step: int) -> tuple[()]:
        """Run a model step of the batch; all are run in order, from 0."""
        self._side_by_side(lambda part: part.model_step(step))
        return ()

    def finish(self) -> tuple[()]:
        """Run what follows the last step of the batch."""
        self._traces = self._side_by_side(FastExecution.end)
        return ()

    def trace(self) -> Trace:
        """Return the trace of the batch, after that."""
        traces, self._traces = self._traces, []
        return traces[0] if len(traces) == 1 else Trace.concatenate(traces)

    def _side_by_side(self, do: Callable[..., Any], *given: Iterable[Any]) -> list[Any]:
        """Do something with each part that runs, and what is given for it."""
        with one_blas_thread():
            # One part needs no other thread, which takes time to wake.
            each = map if len(self._running) == 1 else self._pool.map
            return list(each(do, self._running, *given))
