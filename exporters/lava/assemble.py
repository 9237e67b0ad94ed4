"""From a network and a batch of images to connected Lava processes, and to Lava's executable of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .lava_api import Executable, ProcessServer, RunConfig
from .network import Array, Layer, Network
from .processes import (
    FIXED_POINT,
    FLOATING_POINT,
    PROCESSES,
    Inlet,
    LayerProcess,
    Run,
    in_port,
    out_port,
    typed_model,
)
from .schedule import Schedule

CHANNEL_SIZE = 2
"""Messages that a channel of the multi-process runtime holds: a delayed wire has up to two on the way."""


@dataclass(frozen=True)
class Assembly:
    """Connected processes in topological order of the undelayed wires, and Lava's executable of them."""

    processes: tuple[LayerProcess, ...]
    executable: Executable


@contextmanager
def assembled(network: Network, images: Array, run: Run) -> Iterator[Assembly]:
    """Build and compile a network for one run over `images` (B, ...), as many as `run.images`.

    Lava keeps every process it ever made, weights and images included, and a log handler each: both go when
    the run is over.
    """
    with _handlers_restored():
        processes = connect(network, images, run)
        try:
            executable = processes[-1].compile(
                ModelsOf(processes, run), compile_config={"pypy_channel_size": CHANNEL_SIZE}
            )
            yield Assembly(processes, executable)
        finally:
            made = {id(process) for process in processes}
            server = ProcessServer()
            server.processes[:] = [process for process in server.processes if id(process) not in made]


def connect(network: Network, images: Array, run: Run) -> tuple[LayerProcess, ...]:
    """Make one process a layer and connect their ports."""
    schedule = Schedule.of(network)
    layers = {layer.name: layer for layer in network.layers}
    processes: dict[str, LayerProcess] = {}
    for layer in network.layers:
        tensors = {"images": images} if layer.op == "Input" else network.params_of(layer.name)
        processes[layer.name] = PROCESSES[layer.op](
            name=layer.name,
            inlets=_inlets(network, layers, schedule, layer),
            outlets={port: value.shape for port, value in layer.outputs.items()},
            params=layer.params,
            tensors=tensors,
            window=schedule.windows[layer.name],
            run=run,
            place=network.place_of(layer.name),
        )
    for wire in network.wires:
        target = getattr(processes[wire.dst], in_port(wire.dst_port))
        getattr(processes[wire.src], out_port(wire.src_port)).connect(target)
    return tuple(processes.values())


def _inlets(
    network: Network, layers: Mapping[str, Layer], schedule: Schedule, layer: Layer
) -> dict[str, Inlet]:
    inlets = {}
    for wire in network.wires_into(layer.name):
        sender = layers[wire.src]
        value = sender.outputs[wire.src_port]
        inlets[wire.dst_port] = Inlet(value.shape, value.kind, schedule.arrival(wire, sender))
    return inlets


class ModelsOf(RunConfig):  # type: ignore[misc]
    """Gives every process its floating-point model, in the precision of the run, or its fixed-point one.

    Naming the models spares Lava its search for them, which executes every file beside a process's.
    """

    def __init__(self, processes: tuple[LayerProcess, ...], run: Run) -> None:
        super().__init__()
        models = FIXED_POINT if run.fixed else FLOATING_POINT
        self.exception_proc_model_map = {
            process: typed_model(models[type(process)], process, run.dtype) for process in processes
        }

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
