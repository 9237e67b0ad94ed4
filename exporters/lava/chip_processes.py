"""The Lava processes of a network by chip: images, chips and logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from stas_neuro.exporters.lava.assemble import Models
from stas_neuro.exporters.lava.chip import CHIPS, IMAGES, LOGITS, ChipProgram
from stas_neuro.exporters.lava.lava_api import (
    CPU,
    AbstractProcess,
    InPort,
    LavaPyType,
    LoihiProtocol,
    OutPort,
    PyInPort,
    PyOutPort,
    implements,
    requires,
    tag,
)
from stas_neuro.exporters.lava.processes import ReportingModel, Run
from stas_neuro.ir import Array, FixedOutput, Graph, Shape
from stas_neuro.trace import TraceCollector


def connect(graph: Graph, program: ChipProgram, images: Array, run: Run) -> Models:
    """Make the processes, each with its model, and connect them; `images` uint8 (B, *shape)."""
    output = graph.output
    assert isinstance(output, FixedOutput)  # `run_chips` takes no others
    logits = (run.replicas, *graph.source_type(graph.inputs(output)["x"]).shape)
    source = Images(images=images, run=run)
    chips = Chips(program=program, unit=float(output.unit), taken=source.sent.shape, sent=logits, run=run)
    sink = Logits(shape=logits, run=run)
    source.sent.connect(chips.taken)
    chips.sent.connect(sink.taken)
    return {source: PyImagesModel, chips: PyChipsModel, sink: PyLogitsModel}


class Images(AbstractProcess):  # type: ignore[misc]
    """Sends the images of a round, int32 (replicas, *shape), in its first step; 0 where none are left."""

    def __init__(self, *, images: Array, run: Run) -> None:
        super().__init__(name=IMAGES, images=images, run=run)
        self.sent = OutPort(shape=(run.replicas, *images.shape[1:]))


@implements(proc=Images, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyImagesModel(ReportingModel):
    """Holds all images."""

    sent = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def _prepare(self, proc_params: Any) -> None:
        self._images: Array = proc_params["images"]

    def _lava_step(self, turn: int, at: int) -> None:
        if at == 0:
            replicas = self.run_spec.replicas
            here = self._images[turn * replicas : (turn + 1) * replicas]
            message = np.zeros((replicas, *here.shape[1:]), np.int32)
            message[: len(here)] = here
            self.sent.send(message)


class Chips(AbstractProcess):  # type: ignore[misc]
    """The cores of all chips: takes the images of a round, and sends their logits in its last step.

    `unit` is that of the logits, which are sent as integers.
    """

    def __init__(self, *, program: ChipProgram, unit: float, taken: Shape, sent: Shape, run: Run) -> None:
        super().__init__(name=CHIPS, program=program, unit=unit, run=run)
        self.taken = InPort(shape=taken)
        self.sent = OutPort(shape=sent)


@implements(proc=Chips, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyChipsModel(ReportingModel):
    """Takes one model step of all replicas a Lava step; record "trace" holds what the cores did."""

    taken = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    sent = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def _prepare(self, proc_params: Any) -> None:
        self._program = proc_params["program"].start()
        self._unit: float = proc_params["unit"]
        self._traces = TraceCollector(self.run_spec.images)

    def _lava_step(self, turn: int, at: int) -> None:
        run = self.run_spec
        if at == 0:
            left = run.finished(turn + 1) - run.finished(turn)
            self._program.load(self.taken.recv()[:left])
        self._program.model_step(at)
        if at < run.period - 1:
            return
        trace = self._program.unload()
        self._traces.add(trace)
        message = np.zeros(self.sent.shape, np.int32)
        message[: trace.images] = np.rint(trace.logits / self._unit)
        self.sent.send(message)
        if turn == run.rounds - 1:
            self.record["trace"] = self._traces.trace()


class Logits(AbstractProcess):  # type: ignore[misc]
    """Takes the logits of a round, int32 (replicas, classes)."""

    def __init__(self, *, shape: Shape, run: Run) -> None:
        super().__init__(name=LOGITS, shape=shape, run=run)
        self.taken = InPort(shape=shape)


@implements(proc=Logits, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyLogitsModel(ReportingModel):
    """Keeps them as record "logits", int32 (B, classes), and reports the images that are finished."""

    taken = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def _prepare(self, proc_params: Any) -> None:
        self.record["logits"] = np.zeros((self.run_spec.images, *proc_params["shape"][1:]), np.int32)

    def _lava_step(self, turn: int, at: int) -> None:
        run = self.run_spec
        if at < run.period - 1:
            return
        first, last = run.finished(turn), run.finished(turn + 1)
        self.record["logits"][first:last] = self.taken.recv()[: last - first]
        if self.reporter is not None:
            self.reporter.event(images=last)
