"""What runs on Lava, in either runtime. Needs no Lava: a job is assembled where it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stas_neuro.errors import unknown
from stas_neuro.exporters.lava.schedule import Schedule
from stas_neuro.ir import Array, Graph

if TYPE_CHECKING:
    from stas_neuro.exporters.lava.assemble import Assembly
    from stas_neuro.exporters.lava.processes import Run
    from stas_neuro.exporters.lava.reports import Reporter

RUNTIMES = ("in-process", "multiprocess")
Progress = Callable[[int, int], None]
"""Called with the number of finished images and of all."""
Records = Mapping[str, Mapping[str, Any]]
"""What each process recorded, by its name."""


class Job(Protocol):
    """Processes and what they run; the multi-process runtime sends it to the worker."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the processes."""

    @property
    def total(self) -> int:
        """Number of images."""

    def spec(self, reporter: Reporter | None = None) -> Run:
        """Tell what the run asks of every process."""

    def assembled(self, run: Run) -> AbstractContextManager[Assembly]:
        """Make and compile the processes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerJob:
    """A process for each node of a network.

    `images` (B, ...), `cores` as of `assemble.assembled`, `options` of `Run`.
    """

    network: Graph
    images: Array
    cores: Mapping[str, Array]
    options: Mapping[str, Any]

    @property
    def names(self) -> Sequence[str]:
        """Names of the processes."""
        return [node.name for node in self.network.nodes]

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.images)

    def spec(self, reporter: Reporter | None = None) -> Run:
        """Tell what the run asks of every process."""
        from stas_neuro.exporters.lava.processes import Run

        period = Schedule.of(self.network).period
        return Run(images=self.total, period=period, reporter=reporter, **self.options)

    def assembled(self, run: Run) -> AbstractContextManager[Assembly]:
        """Make and compile the processes."""
        from stas_neuro.exporters.lava.assemble import assembled

        return assembled(self.network, self.images, run, self.cores)


def check_runtime(runtime: str) -> None:
    """Raise InputError unless there is such a runtime."""
    if runtime not in RUNTIMES:
        raise unknown("runtime", runtime, RUNTIMES)


def run_job(job: Job, *, runtime: str, deadline_s: float, progress: Progress | None) -> Records:
    """Run a job in a runtime; `deadline_s` as of `execute.run_network`."""
    heard = progress or (lambda done, total: None)
    if runtime == "in-process":
        from stas_neuro.exporters.lava.executor import execute

        run = job.spec()
        with job.assembled(run) as assembly:
            return execute(assembly, run, lambda done: heard(done, job.total))
    from stas_neuro.exporters.lava.supervisor import supervise

    return supervise(job, deadline_s=deadline_s, progress=heard)
