"""Runs an assembled network inside this interpreter: the models that Lava compiled, over in-memory channels.

A model is stepped after those that it receives from, so that what they send in a step has arrived. Chips,
which send to each other in both directions, are taken in turn from pause to pause. A delayed edge needs
nothing more: its messages queue, and the receiver is a step behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from stas_neuro.exporters.lava.assemble import Assembly
from stas_neuro.exporters.lava.failure import LavaRunError
from stas_neuro.exporters.lava.lava_api import AbstractProcess, ChannelBuilderMp, Executable, create_port_id
from stas_neuro.exporters.lava.processes import ReportingModel, Run
from stas_neuro.ir import Array

_DONE = object()


@dataclass(frozen=True, eq=False)
class _SendPort:
    """The sending end of a channel, as Lava's out ports see it.

    Arrays pass by reference: Lava's in ports copy what they receive, and no model changes what it has sent.
    """

    name: str
    queue: deque[Array]

    def send(self, data: Array) -> None:
        self.queue.append(data)


@dataclass(frozen=True, eq=False)
class _ReceivePort:
    """The receiving end of a channel, as Lava's in ports see it."""

    name: str
    queue: deque[Array]

    def recv(self) -> Array:
        if not self.queue:
            raise LavaRunError(
                f"port {self.name} waits for a message that nobody sends before it in this step",
                "order the processes topologically, or delay the edge by a step",
            )
        return self.queue.popleft()


def execute(assembly: Assembly, run: Run, progress: Callable[[int], None]) -> dict[str, dict[str, Any]]:
    """Run all steps; the record of every process by its name. `progress` hears of all finished images."""
    models: list[ReportingModel] = build(assembly.executable, assembly.processes)
    # Those that exchange messages within a step are one group, every other model is one of its own.
    groups = [list(group) for _, group in groupby(models, lambda model: model.EXCHANGES or model)]
    for turn in range(run.rounds):
        for _ in range(run.period):
            for group in groups:
                _step(group)
        progress(run.finished(turn + 1))
    return {model.name: model.record for model in models}


def _step(group: Sequence[ReportingModel]) -> None:
    """Take a step of models: from pause to pause, so that each has sent what others wait for after it."""
    for model in group:
        model.time_step += 1
    steps = running = [model.paused() for model in group]
    try:
        while running:
            running = [each for each in running if next(each, _DONE) is not _DONE]
    finally:
        for each in steps:  # where one failed, the others still wait
            each.close()


def build(executable: Executable, processes: Iterable[AbstractProcess]) -> list[Any]:
    """Build the models that Lava compiled for `processes`, in that order, over in-memory channels.

    They may be any processes whose ports are connected without reference ports, Lava's own too.
    """
    builders = executable.proc_builders
    for channel in executable.channel_builders:
        if not isinstance(channel, ChannelBuilderMp):
            raise TypeError(f"the executor has no channel of type {type(channel).__name__}")
        queue: deque[Array] = deque()
        sender = _SendPort(channel.src_port_initializer.name, queue)
        receiver = _ReceivePort(channel.dst_port_initializer.name, queue)
        builders[channel.src_process].set_csp_ports([sender])
        builders[channel.dst_process].set_csp_ports([receiver])
        source = create_port_id(channel.src_process.id, channel.src_port_initializer.name)
        builders[channel.dst_process].add_csp_port_mapping(source, receiver)
    return [builders[process].build() for process in processes]
