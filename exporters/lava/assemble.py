"""From a graph and a batch of images to connected Lava processes, and to Lava's executable of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from stas_neuro.exporters.lava.lava_api import AbstractProcess, Executable, ProcessServer, RunConfig
from stas_neuro.exporters.lava.processes import (
    FIXED_POINT,
    FLOATING_POINT,
    PROCESSES,
    Inlet,
    NodeProcess,
    ReportingModel,
    Run,
    in_port,
    out_port,
    typed_model,
)
from stas_neuro.exporters.lava.schedule import Schedule, connections
from stas_neuro.ir import Array, Edge, Graph, Input, op_of

CHANNEL_SIZE = 2
"""Messages that a channel of the multi-process runtime holds: a delayed edge has up to two on the way."""

Models = Mapping[AbstractProcess, type[ReportingModel]]
"""Connected processes, and the model of each: in topological order of the undelayed edges, chips in any."""


@dataclass(frozen=True)
class Assembly:
    """Connected processes in the order of `Models`, and Lava's executable of them."""

    processes: tuple[AbstractProcess, ...]
    executable: Executable


def assembled(
    graph: Graph, images: Array, run: Run, cores: Mapping[str, Array] | None = None
) -> AbstractContextManager[Assembly]:
    """Build and compile a graph for one run over `images` (B, ...), as many as `run.images`.

    `cores` maps "<node>/<what>" to what a process is told of the cores it is on (see `processes.pieces`).
    """
    return compiled(lambda: models_of(connect(graph, images, run, cores or {}), run))


@contextmanager
def compiled(make: Callable[[], Models]) -> Iterator[Assembly]:
    """Compile the connected processes that `make` gives, each with its model.

    Lava keeps every process it ever made, weights and images included, and a log handler each: both go when
    the run is over.
    """
    with _handlers_restored():
        models = make()
        processes = tuple(models)
        try:
            executable = processes[-1].compile(
                NamedModels(models), compile_config={"pypy_channel_size": CHANNEL_SIZE}
            )
            yield Assembly(processes, executable)
        finally:
            made = {id(process) for process in processes}
            server = ProcessServer()
            server.processes[:] = [process for process in server.processes if id(process) not in made]


def connect(graph: Graph, images: Array, run: Run, cores: Mapping[str, Array]) -> tuple[NodeProcess, ...]:
    """Make one process a node and connect their ports."""
    schedule = Schedule.of(graph)
    edges = connections(graph)
    inlets: dict[str, dict[str, Inlet]] = {node.name: {} for node in graph.nodes}
    for edge in edges:
        inlets[edge.dst][edge.dst_port] = _inlet(graph, schedule, edge)
    processes = {
        node.name: PROCESSES[op_of(node)](
            node=node,
            inlets=inlets[node.name],
            outlets={port: graph.types[node.name, port].shape for port in node.OUTPUTS},
            tensors={"images": images}
            if isinstance(node, Input)
            else {param: graph.tensor(node, param) for param in node.params(graph.time_steps)},
            window=schedule.windows[node.name],
            run=run,
            place=_of_node(cores, node.name),
        )
        for node in graph.nodes
    }
    for edge in edges:
        target = getattr(processes[edge.dst], in_port(edge.dst_port))
        getattr(processes[edge.src], out_port(edge.src_port)).connect(target)
    return tuple(processes.values())


def _inlet(graph: Graph, schedule: Schedule, edge: Edge) -> Inlet:
    value = graph.source_type(edge)
    return Inlet(value.shape, value.kind, schedule.arrival(edge, graph.node(edge.src)))


def _of_node(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    prefix = f"{name}/"
    return {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}


def models_of(processes: tuple[NodeProcess, ...], run: Run) -> Models:
    """Give every process its floating-point model, in the precision of the run, or its fixed-point one."""
    models = FIXED_POINT if run.fixed else FLOATING_POINT
    return {process: typed_model(models[type(process)], process, run.dtype) for process in processes}


class NamedModels(RunConfig):  # type: ignore[misc]
    """Names the model of every process.

    It spares Lava its search for them, which executes every file beside a process's.
    """

    def __init__(self, models: Models) -> None:
        super().__init__()
        self.exception_proc_model_map = dict(models)

    def select(self, process: Any, proc_models: Any) -> Any:
        """Not reached: every process is named."""
        raise LookupError(f"no model for process {process.name}")


@contextmanager
def _handlers_restored() -> Iterator[None]:
    loggers = logging.getLogger(), logging.getLogger("lava.magma.compiler.compiler")
    before = [list(logger.handlers) for logger in loggers]
    try:
        yield
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
