"""The integer program of the chips inside one Lava process. Lava is imported where it runs.

The program is given: what it computes with is no concern of the process, which receives images, has the
program take one model step a Lava step, and sends logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.execute import check_images
from stas_neuro.exporters.lava.jobs import check_runtime, run_job
from stas_neuro.ir import Array, FixedOutput, Graph
from stas_neuro.trace import Trace

if TYPE_CHECKING:
    from stas_neuro.exporters.lava.assemble import Assembly
    from stas_neuro.exporters.lava.processes import Run
    from stas_neuro.exporters.lava.reports import Reporter

IMAGES, CHIPS, LOGITS = "images", "chips", "logits"
"""Names of the processes."""


class StartedProgram(Protocol):
    """A program in the process that runs it, batch after batch."""

    def load(self, images: Array) -> None:
        """Take a batch, int (B, *shape)."""

    def model_step(self, step: int) -> None:
        """Run a model step of the batch; all are run in order, from 0."""

    def unload(self) -> Trace:
        """Return the trace of the batch, after its last step."""


class ChipProgram(Protocol):
    """An integer program, which is sent to the process that runs it."""

    def start(self) -> StartedProgram:
        """Prepare what is run."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ChipJob:
    """Three processes: the images, the chips, and the logits.

    `images` uint8 (B, *shape), of which `replicas` at a time are in the chips.
    """

    graph: Graph
    program: ChipProgram
    images: Array
    replicas: int

    @property
    def names(self) -> Sequence[str]:
        """Names of the processes."""
        return IMAGES, CHIPS, LOGITS

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.images)

    def spec(self, reporter: Reporter | None = None) -> Run:
        """Tell what the run asks of every process."""
        from stas_neuro.exporters.lava.processes import Run

        return Run(
            images=self.total,
            period=self.graph.time_steps,
            replicas=self.replicas,
            dtype=np.int32,
            reporter=reporter,
        )

    def assembled(self, run: Run) -> AbstractContextManager[Assembly]:
        """Make and compile the processes."""
        from stas_neuro.exporters.lava.assemble import compiled
        from stas_neuro.exporters.lava.chip_processes import connect

        return compiled(lambda: connect(self.graph, self.program, self.images, run))


def run_chips(
    graph: Graph,
    program: ChipProgram,
    images: Array,
    *,
    replicas: int,
    runtime: str = "in-process",
    deadline_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Run the integer program of a graph in one Lava process, for all chips that it is placed on.

    Parameters
    ----------
    graph : Graph
        A quantised graph.
    program : ChipProgram
        What computes it, counts its activity and records what the trace is to hold.
    images : int (B, C, H, W), or (B, T, C, H, W) for event data
        Pixels 0..255.
    replicas : int
        Images that run side by side: a message holds as many.
    runtime : str
        "in-process" or "multiprocess", see `run_lava`.
    deadline_s : float
        Longest time in seconds that the multi-process runtime may take for `replicas` images.
    progress : Callable
        Called with the number of finished images and of all.

    Raises
    ------
    InputError
        The graph is no integer program.
    LavaRunError
        Images do not fit, or the multi-process runtime raised, stalled or died.
    """
    output = graph.output
    if not isinstance(output, FixedOutput):
        what = f"the graph is {graph.stage}, a process for the chips runs only integer programs"
        raise InputError(what, "quantise it, or run one process for each layer")
    check_runtime(runtime)
    check_images(graph, images)
    job = ChipJob(graph=graph, program=program, images=np.asarray(images, np.uint8), replicas=replicas)
    records = run_job(job, runtime=runtime, deadline_s=deadline_s, progress=progress)
    trace: Trace = records[CHIPS]["trace"]
    return replace(trace, logits=records[LOGITS]["logits"] * float(output.unit))
