"""The stock Lava processes of a pipeline: the door to Lava of this lowering."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from stas_neuro.ir import Array

from ..lava_api import AbstractProcess, Executable, ProcessServer, RunConfig
from .netlist import FULL_DECAY, SPIKE, Graded, Lif, NeuronGroup, Pipeline, Product, Synapses

# isort: split
from lava.magma.core.process.variable import VarServer
from lava.proc.graded.models import PyGradedVecModelFixed
from lava.proc.graded.process import GradedVec
from lava.proc.io.sink import PyReceiveModelFixed
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import PySendModelFixed
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.models import PyLifModelBitAcc, PyLifResetModelBitAcc
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.prodneuron.models import PyProdNeuronModelFixed
from lava.proc.prodneuron.process import ProdNeuron
from lava.proc.sparse.models import PySparseModelBitAcc
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

MODELS = {
    GradedVec: PyGradedVecModelFixed,
    LIF: PyLifModelBitAcc,
    LIFReset: PyLifResetModelBitAcc,
    ProdNeuron: PyProdNeuronModelFixed,
    Sink: PyReceiveModelFixed,
    Source: PySendModelFixed,
    Sparse: PySparseModelBitAcc,
}
"""The fixed-point model of every process used."""


@dataclass(frozen=True)
class Assembly:
    """Connected processes, and Lava's executable of them.

    `order` lists them so that each comes after those it hears from in the same step; the synapses of a group
    with itself, `feedback`, come after their group. `sinks` hold what each group sent.
    """

    order: tuple[AbstractProcess, ...]
    feedback: frozenset[AbstractProcess]
    sinks: Mapping[str, AbstractProcess]
    executable: Executable


@contextmanager
def assembled(pipeline: Pipeline, inputs: Mapping[str, Array], steps: int) -> Iterator[Assembly]:
    """Build and compile a pipeline for a number of Lava steps.

    `inputs` gives what each source sends, int (size, steps). Lava keeps every process and variable it ever
    made, weights included, and a log handler each: all go when the run is over.
    """
    loggers = logging.getLogger(), logging.getLogger("lava.magma.compiler.compiler")
    handlers = [list(logger.handlers) for logger in loggers]
    kept = ProcessServer().processes, VarServer().vars
    known = [len(made) for made in kept]
    try:
        yield _assemble(pipeline, inputs, steps)
    finally:
        for made, before in zip(kept, known, strict=True):
            del made[before:]
        for logger, own in zip(loggers, handlers, strict=True):
            logger.handlers[:] = own


def _assemble(pipeline: Pipeline, inputs: Mapping[str, Array], steps: int) -> Assembly:
    order: list[AbstractProcess] = []
    feedback: list[AbstractProcess] = []
    neurons: dict[str, AbstractProcess] = {}
    sinks: dict[str, AbstractProcess] = {}
    for group in pipeline.groups:
        neuron = _neurons(group, pipeline.period, inputs)
        neurons[group.name] = neuron
        loops: list[AbstractProcess] = []
        for synapses in pipeline.into(group):
            source = pipeline.group(synapses.src)
            for process in _sparse(synapses, source, group):
                neurons[source.name].s_out.connect(process.s_in)
                process.a_out.connect(getattr(neuron, synapses.port))
                (loops if synapses.feedback else order).append(process)
        sinks[group.name] = Sink(shape=(group.size,), buffer=steps)
        neuron.s_out.connect(sinks[group.name].a_in)
        order += [neuron, *loops, sinks[group.name]]
        feedback += loops
    executable = order[-1].compile(_FixedPoint(order), compile_config={"pypy_channel_size": 2})
    return Assembly(tuple(order), frozenset(feedback), sinks, executable)


def _neurons(group: NeuronGroup, period: int, inputs: Mapping[str, Array]) -> AbstractProcess:
    shape = (group.size,)
    match group.neuron:
        case Graded():
            return GradedVec(shape=shape, vth=0)
        case Product():
            return ProdNeuron(shape=shape, vth=0)
        case Lif() as lif:
            constants = {
                "shape": shape,
                "du": FULL_DECAY,
                "dv": lif.dv,
                "vth": lif.vth,
                "bias_mant": lif.bias.astype(np.int32),
                "bias_exp": lif.bias_exp,
            }
            if lif.reset == "never":
                return LIF(**constants)
            # Lava counts steps from 1; a group of depth d meets an image's first step d steps after the host.
            interval = period if lif.reset == "image" else 1
            return LIFReset(**constants, reset_interval=interval, reset_offset=(1 + group.depth) % interval)
    return Source(data=inputs[group.name].astype(np.int32))


def _sparse(synapses: Synapses, source: NeuronGroup, target: NeuronGroup) -> list[AbstractProcess]:
    """Make the Sparse processes of synapses."""
    bits = 0 if source.reach == SPIKE else source.reach.magnitude.bit_length()
    made = []
    for sign, chosen in synapses.parts():
        places = (synapses.rows[chosen], synapses.columns[chosen])
        weights = csr_matrix(
            (synapses.weights[chosen].astype(np.int32), places), shape=(target.size, source.size)
        )
        made.append(
            Sparse(
                weights=weights,
                weight_exp=synapses.exp,
                num_message_bits=bits,
                sign_mode=SignMode[sign],
            )
        )
    return made


class _FixedPoint(RunConfig):  # type: ignore[misc]
    """Gives every process its fixed-point model. Naming them spares Lava its search for them."""

    def __init__(self, processes: list[AbstractProcess]) -> None:
        super().__init__()
        self.exception_proc_model_map = {process: MODELS[type(process)] for process in processes}

    def select(self, process: Any, proc_models: Any) -> Any:
        """Not reached: every process is named."""
        raise LookupError(f"no fixed-point model for process {process.name}")
