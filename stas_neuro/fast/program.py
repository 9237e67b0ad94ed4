"""An integer program that others step: one model step of a batch at a time, in a process of their choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stas_neuro.fast.counting import FastCounting
from stas_neuro.fast.execution import FastExecution
from stas_neuro.fast.plan import plan
from stas_neuro.fast.products import eight_bit_pays
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

    def start(self) -> StartedProgram:
        """Prepare kernels, products and counting."""
        return StartedProgram(self)


class StartedProgram:
    """A program with its buffers; batches run one after another."""

    def __init__(self, program: FastProgram) -> None:
        graph, eight_bit = program.graph, program.eight_bit
        planned = plan(graph, eight_bit=eight_bit_pays() if eight_bit is None else eight_bit)
        self._counting = FastCounting(graph, program.mapping, program.gating, set(planned.operations))
        self._execution = FastExecution(graph, planned, program.record_spikes, program.record_states)

    def load(self, images: NDArray[Any]) -> None:
        """Take a batch, int (B, C, H, W) or (B, T, C, H, W) in 0..255, and run what precedes its steps."""
        self._execution.load(images, self._counting)
        self._execution.begin()

    def model_step(self, step: int) -> None:
        """Run a model step of the batch; all are run in order, from 0."""
        self._execution.model_step(step)

    def unload(self) -> Trace:
        """Run what follows the last step of the batch, and return its trace."""
        return self._execution.end()
