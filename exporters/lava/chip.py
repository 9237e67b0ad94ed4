"""An integer program in a Lava process for each chip. Lava is imported where it runs.

The program is given: what it computes with is no concern of the processes. That of a chip receives images,
has its share of the program take one model step a Lava step, and passes on what this sends to other chips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.execute import check_images
from stas_neuro.exporters.lava.jobs import check_runtime, run_job
from stas_neuro.ir import Array, FixedOutput, Graph
from stas_neuro.trace import Trace, TraceCollector

if TYPE_CHECKING:
    from stas_neuro.exporters.lava.assemble import Assembly
    from stas_neuro.exporters.lava.processes import Run
    from stas_neuro.exporters.lava.reports import Reporter

IMAGES, LOGITS = "images", "logits"
"""Names of the processes beside those of the chips."""


class Exchange(Protocol):
    """How a chip reaches the others, which are known by their numbers: messages in order."""

    def send(self, chip: int, words: Array) -> None:
        """Send int32 (words,), at most those of the link."""

    def receive(self, chip: int) -> Array:
        """Wait for the next message, which is followed by 0 where it is shorter than the link."""


class StartedProgram(Protocol):
    """A share of a program in the process that runs it, batch after batch.

    Iterables are exhausted; they pause where other chips wait for what this one has sent, and it for them.
    """

    def load(self, images: Array) -> Iterable[None]:
        """Take a batch, int (B, *shape), and run what precedes its steps."""

    def model_step(self, step: int) -> Iterable[None]:
        """Run a model step of the batch; all are run in order, from 0."""

    def finish(self) -> Iterable[None]:
        """Run what follows the last step."""

    def trace(self) -> Any:
        """Return what the chip did, with `logits` where it is the one that classifies."""


class ChipProgram(Protocol):
    """The share of a chip, which is sent to the process that runs it."""

    def start(self, exchange: Exchange) -> StartedProgram:
        """Prepare what is run."""


class Program(Protocol):
    """An integer program, divided by chip."""

    @property
    def chips(self) -> Sequence[int]:
        """The numbers of the chips."""

    def share(self, chip: int) -> ChipProgram:
        """Give the share of a chip."""

    @property
    def classifier(self) -> int:
        """The chip that has the logits."""

    def links(self, images: int) -> Mapping[tuple[int, int], int]:
        """Give the words of the longest message from one chip to another, of so many images at a time."""

    def joined(self, traces: Sequence[Any]) -> Trace:
        """Join what the chips did with a batch, in their order."""


def name_of(chip: int) -> str:
    """Name the process of a chip."""
    return f"chip{chip}"


@dataclass(frozen=True, eq=False, kw_only=True)
class ChipJob:
    """Processes for the images, for each chip, and for the logits.

    `images` uint8 (B, *shape), of which `replicas` at a time are in the chips.
    """

    graph: Graph
    program: Program
    images: Array
    replicas: int

    @property
    def names(self) -> Sequence[str]:
        """Names of the processes."""
        return IMAGES, *map(name_of, self.program.chips), LOGITS

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
    program: Program,
    images: Array,
    *,
    replicas: int,
    runtime: str = "in-process",
    deadline_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Run the integer program of a graph in a Lava process for each chip that it is placed on.

    Parameters
    ----------
    graph : Graph
        A quantised graph.
    program : Program
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
        what = f"the graph is {graph.stage}, Lava by chip runs only integer programs"
        raise InputError(what, "quantise it, or run one process for each layer")
    check_runtime(runtime)
    check_images(graph, images)
    job = ChipJob(graph=graph, program=program, images=np.asarray(images, np.uint8), replicas=replicas)
    records = run_job(job, runtime=runtime, deadline_s=deadline_s, progress=progress)
    collector = TraceCollector(len(images))
    of_chips = [records[name_of(chip)]["traces"] for chip in program.chips]
    while of_chips[0]:  # what is joined is let go of
        collector.add(program.joined([traces.popleft() for traces in of_chips]))
    return replace(collector.trace(), logits=records[LOGITS]["logits"] * float(output.unit))
