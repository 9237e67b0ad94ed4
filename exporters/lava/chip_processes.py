"""The Lava processes of a network by chip: images, each chip, and logits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from stas_neuro.exporters.lava.assemble import Models
from stas_neuro.exporters.lava.chip import IMAGES, LOGITS, ChipProgram, Program, name_of
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
from stas_neuro.exporters.lava.processes import ReportingModel, Run, typed_model
from stas_neuro.ir import Array, FixedOutput, Graph, Shape


def connect(graph: Graph, program: Program, images: Array, run: Run) -> Models:
    """Make the processes, each with its model, and connect them; `images` uint8 (B, *shape)."""
    output = graph.output
    assert isinstance(output, FixedOutput)  # `run_chips` takes no others
    logits = (run.replicas, *graph.source_type(graph.inputs(output)["x"]).shape)
    links = program.links(run.replicas)
    source, sink = Images(images=images, run=run), Logits(shape=logits, run=run)
    chips = {
        chip: Chip(
            chip=chip,
            program=program.share(chip),
            images=source.sent.shape,
            sends={receiver: words for (sender, receiver), words in links.items() if sender == chip},
            receives={sender: words for (sender, receiver), words in links.items() if receiver == chip},
            logits=logits if chip == program.classifier else None,
            unit=float(output.unit),
            run=run,
        )
        for chip in program.chips
    }
    for process in chips.values():
        source.sent.connect(process.images_in)
    for sender, receiver in links:
        getattr(chips[sender], _to(receiver)).connect(getattr(chips[receiver], _from(sender)))
    chips[program.classifier].logits_out.connect(sink.taken)
    models = {process: typed_model(PyChipModel, process, np.int32) for process in chips.values()}
    return {source: PyImagesModel, **models, sink: PyLogitsModel}


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


class Chip(AbstractProcess):  # type: ignore[misc]
    """The cores of a chip: takes the images of a round, and messages of other chips while it computes.

    `sends` and `receives` have the words of the messages to and from each of these. Where `logits` are of a
    shape (replicas, classes) it sends them in its last step, as integers of a unit.
    """

    def __init__(
        self,
        *,
        chip: int,
        program: ChipProgram,
        images: Shape,
        sends: Mapping[int, int],
        receives: Mapping[int, int],
        logits: Shape | None,
        unit: float,
        run: Run,
    ) -> None:
        super().__init__(name=name_of(chip), program=program, logits=logits, unit=unit, run=run)
        self.images_in = InPort(shape=images)
        for other, words in receives.items():
            setattr(self, _from(other), InPort(shape=(words,)))
        for other, words in sends.items():
            setattr(self, _to(other), OutPort(shape=(words,)))
        if logits is not None:
            self.logits_out = OutPort(shape=logits)


def _from(chip: int) -> str:
    return f"from_chip{chip}"


def _to(chip: int) -> str:
    return f"to_chip{chip}"


@implements(proc=Chip, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyChipModel(ReportingModel):
    """Takes one model step of all replicas a Lava step; record "traces" has what it did in each round."""

    EXCHANGES = True

    def _prepare(self, proc_params: Any) -> None:
        self._program = proc_params["program"].start(self)
        self._logits: Shape | None = proc_params["logits"]
        self._unit: float = proc_params["unit"]
        self._traces: deque[Any] = deque()

    def send(self, chip: int, words: Array) -> None:
        """Send a message to another chip."""
        port = getattr(self, _to(chip))
        message = np.zeros(port.shape, np.int32)
        message[: len(words)] = words
        port.send(message)

    def receive(self, chip: int) -> Array:
        """Receive one from another chip."""
        words: Array = getattr(self, _from(chip)).recv()
        return words

    def _lava_step(self, turn: int, at: int) -> Iterator[None]:
        run = self.run_spec
        if at == 0:
            left = run.finished(turn + 1) - run.finished(turn)
            yield from self._program.load(self.images_in.recv()[:left])
        yield from self._program.model_step(at)
        if at < run.period - 1:
            return
        yield from self._program.finish()
        trace = self._program.trace()
        self._traces.append(trace)
        if self._logits is not None:
            message = np.zeros(self._logits, np.int32)
            message[: len(trace.logits)] = np.rint(trace.logits / self._unit)
            self.logits_out.send(message)
        if turn == run.rounds - 1:
            self.record["traces"] = self._traces


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
