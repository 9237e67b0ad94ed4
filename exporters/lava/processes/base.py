"""What all processes of a network share: ports from the graph's edges, a window of Lava steps, counting.

A process declares its ports from the edges that reach it; its process model is written without port
declarations and gets them, with the wanted precision, from :func:`typed_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stas_neuro.exporters.lava.lava_api import (
    AbstractProcess,
    InPort,
    LavaPyType,
    OutPort,
    PyInPort,
    PyLoihiProcessModel,
    PyOutPort,
)
from stas_neuro.exporters.lava.processes.pieces import Pieces
from stas_neuro.exporters.lava.reports import Reporter
from stas_neuro.exporters.lava.schedule import DELAYED, EACH, HELD, Window
from stas_neuro.ir import Array, Kind, Node, Shape

EVENT_KINDS = (Kind.SPIKE, Kind.GRADED)
"""Values that arrive as events; all others are multiplied."""


@dataclass(frozen=True)
class Inlet:
    """An input port: shape of its messages, kind of the value sent, and how it arrives (see `schedule`)."""

    shape: Shape
    kind: Kind
    arrival: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run asks of every process; `reporter` only in the multi-process runtime.

    `dtype` is that of messages and states: an integer one asks for the fixed-point models, which alone have
    states to record.
    """

    images: int
    period: int
    replicas: int = 1
    """Images that run side by side in each process."""
    dtype: type[np.number[Any]] = np.float64
    record_spikes: bool = False
    record_states: bool = False
    reporter: Reporter | None = None

    @property
    def steps(self) -> int:
        """Lava steps of the whole run."""
        return self.rounds * self.period

    @property
    def rounds(self) -> int:
        """Times that the network runs: for `replicas` images each, or those that are left."""
        return -(-self.images // self.replicas)

    def finished(self, rounds: int) -> int:
        """Images that are classified after some rounds."""
        return min(rounds * self.replicas, self.images)

    @property
    def fixed(self) -> bool:
        """Whether it computes in integers."""
        return issubclass(self.dtype, np.integer)


@dataclass(slots=True)
class Moment:
    """The image at work and the step within the window, both from 0."""

    image: int = 0
    step: int = 0


def in_port(name: str) -> str:
    """Attribute of a process that is its input port `name`; an output port may have the same name."""
    return f"{name}_in"


def out_port(name: str) -> str:
    """Attribute of a process that is its output port `name`."""
    return f"{name}_out"


class NodeProcess(AbstractProcess):  # type: ignore[misc]
    """A node of the network as a Lava process; the subclasses say which."""

    def __init__(
        self,
        *,
        node: Node,
        inlets: Mapping[str, Inlet],
        outlets: Mapping[str, Shape],
        tensors: Mapping[str, Array],
        window: Window,
        run: Run,
        place: Mapping[str, Array] | None = None,
    ) -> None:
        super().__init__(
            name=node.name,
            node=node,
            inlets=inlets,
            outlets=outlets,
            tensors=tensors,
            window=window,
            run=run,
            place=place or {},
        )
        for port, inlet in inlets.items():
            setattr(self, in_port(port), InPort(shape=inlet.shape))
        for port, shape in outlets.items():
            setattr(self, out_port(port), OutPort(shape=shape))


class ReportingModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Takes the steps of a run, and reports where that is asked for: its `record` at the end, and failures.

    Subclasses write :meth:`_prepare` and :meth:`_lava_step`.
    """

    EXCHANGES: ClassVar[bool] = False
    """Whether such processes send to each other in both directions within a step, and so have to pause."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.name: str = proc_params["name"]
        self.run_spec: Run = proc_params["run"]
        self.reporter = self.run_spec.reporter
        self.record: dict[str, Any] = {}
        try:
            self._prepare(proc_params)
        except Exception:
            self._report_failure()
            raise

    def _prepare(self, proc_params: Any) -> None:
        """Prepare what does not depend on images."""

    def _lava_step(self, turn: int, at: int) -> Iterable[None] | None:
        """Take step `at` of a round of the run, both from 0; an iterable is exhausted, and may pause."""
        raise NotImplementedError

    def run_spk(self) -> None:
        """One Lava step."""
        for _ in self.paused():
            pass  # to receive is to wait

    def paused(self) -> Generator[None]:
        """One Lava step, from pause to pause."""
        try:
            yield from self._lava_step(*divmod(self.time_step - 1, self.run_spec.period)) or ()
            if self.reporter is not None and self.time_step == self.run_spec.steps:
                self.reporter.record(self.name, self.record)
        except Exception:
            self._report_failure()
            raise

    def _report_failure(self) -> None:
        if self.reporter is not None:
            self.reporter.failure(self.name)


class NodeModel(ReportingModel):
    """Zero-delay behaviour: in each step of its window receives all inputs, computes and sends.

    A model that computes the same in floating point and in integers carries both tags.
    Subclasses write :meth:`_compute`, whose arguments are the input ports, and :meth:`_reset` where they
    have state. What a run reads out is in `record`: counts of events int64 (images, steps of the window) by
    kind, of a node on cores (images, steps, pieces); where it is asked for, "sent", a bit for each value
    that was sent and not 0, uint8 (images, steps, bytes); and whatever the model adds to it.
    """

    EVENTS: ClassVar[tuple[str, ...]] = ()
    """Kinds of events this model counts."""

    def _prepare(self, proc_params: Any) -> None:
        self.inlets: Mapping[str, Inlet] = proc_params["inlets"]
        self.outlets: Mapping[str, Shape] = proc_params["outlets"]
        self.node: Any = proc_params["node"]  # of the operation that the process is for
        self.window: Window = proc_params["window"]
        self.dtype = self.run_spec.dtype
        self.now = Moment()
        self.place = Pieces(self._neurons(), proc_params["place"])
        counts = (self.run_spec.images, self.window.steps, *self.place.axes)
        self.record |= {kind: np.zeros(counts, np.int64) for kind in self.EVENTS}
        if self.place.sends:
            self.record["sent"] = np.zeros((*counts[:2], -(-self.place.size // 8)), np.uint8)
        self._values: dict[str, Array] = {}
        self._arriving: dict[str, list[tuple[str, Callable[[], Array]]]] = {}
        self._leaving: dict[str, Callable[[Array], None]] = {}
        self.tensors: dict[str, Array] = {
            key: array.astype(self.dtype, copy=False) for key, array in proc_params["tensors"].items()
        }
        self._setup()

    def _setup(self) -> None:
        """Prepare constants and the record."""

    def _neurons(self) -> Shape:
        """Shape of the neurons that events are counted at: of what the first port sends."""
        return next(iter(self.outlets.values()), ())

    def _reset(self) -> None:
        """Put the state to what it is before an image."""

    def _compute(self, *args: Any, **inputs: Any) -> Array | dict[str, Array] | None:
        """One step: the value of the out port, or of each by its name; None to send nothing."""
        raise NotImplementedError

    def count(self, kind: str, events: float | np.number[Any] | Array) -> None:
        """Enter the events of the step at work, whole numbers: one, or one a piece."""
        self.record[kind][self.now.image, self.now.step] = events

    def count_synapses(self, kind: Kind, driven: Any, unary: Any) -> None:
        """Enter inputs of a kind: the synapses they drive, and those times the value of each."""
        if kind not in EVENT_KINDS:
            self.count("macs", driven)
            return
        self.count("synops", driven)
        self.count("synops_unary", driven if kind == Kind.SPIKE else unary)

    @property
    def last_step(self) -> bool:
        """Whether this is the last step of the window."""
        return self.now.step == self.window.steps - 1

    def _lava_step(self, turn: int, at: int) -> None:
        step = at - self.window.first
        if 0 <= step < self.window.steps:
            self.now.image, self.now.step = turn, step
            self._work(turn, step)

    def _work(self, image: int, step: int) -> None:
        if not self._arriving:
            self._find_ports()
        if step == 0:
            self._reset()
        sent = self._compute(**self._receive(image, step))
        if self.place.sends and sent is not None:
            self.record["sent"][image, step] = np.packbits(sent != 0)
        if isinstance(sent, dict):
            for port, value in sent.items():
                self._leaving[port](value)
        elif sent is not None:
            for send in self._leaving.values():
                send(sent)

    def _find_ports(self) -> None:
        """Look up the ports once: the builder sets them only after construction."""
        self._arriving = {EACH: [], HELD: [], DELAYED: []}
        for port, inlet in self.inlets.items():
            self._arriving[inlet.arrival].append((port, getattr(self, in_port(port)).recv))
        self._leaving = {port: getattr(self, out_port(port)).send for port in self.outlets}

    def _receive(self, image: int, step: int) -> dict[str, Array]:
        values = self._values
        for port, receive in self._arriving[EACH]:
            values[port] = receive()
        if step == 0:
            for port, receive in self._arriving[HELD]:
                values[port] = receive()
        for port, receive in self._arriving[DELAYED]:
            if image or step:
                values[port] = receive()  # of the step before: at the first, what the last image left behind
            if step == 0:
                values[port] = self._neutral(port)
        return values

    def _neutral(self, port: str) -> Array:
        """Before the first step nothing is accumulated and every token is alive."""
        return np.full(self.inlets[port].shape, port != "total", self.dtype)


def typed_model(
    model: type[ReportingModel], process: AbstractProcess, dtype: type[np.number[Any]]
) -> type[ReportingModel]:
    """The model with the ports of one process declared for Lava, in the precision of the run."""
    incoming, outgoing = process.in_ports.members, process.out_ports.members
    declared: dict[str, Any] = {port.name: LavaPyType(PyInPort.VEC_DENSE, dtype) for port in incoming}
    declared |= {port.name: LavaPyType(PyOutPort.VEC_DENSE, dtype) for port in outgoing}
    return type(model.__name__, (model,), declared | {"__module__": model.__module__})
