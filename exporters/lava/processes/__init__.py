"""Our own Lava processes, one a node type, each with its floating-point process model."""

from __future__ import annotations

from .attention import (
    MaskedColumnSum,
    PyMaskedColumnSumModel,
    PySpikeMatMulModel,
    SpikeMatMul,
)
from .base import Inlet, LayerModel, LayerProcess, Run, in_port, out_port, typed_model
from .halting import HaltAccumulate, HaltingScore, PyHaltAccumulateModel, PyHaltingScoreModel
from .neurons import LIF, Integrate, PyIntegrateModel, PyLIFModel, PySpikeMaxPoolModel, SpikeMaxPool
from .readout import PyReadoutModel, Readout
from .shaping import Add, Gate, PyAddModel, PyGateModel, PyTokensModel, Tokens
from .sources import Input, Output, PyInputModel, PyOutputModel
from .synapses import Conv2d, Linear, PyConv2dModel, PyLinearModel

FLOATING_POINT: dict[type[LayerProcess], type[LayerModel]] = {
    Input: PyInputModel,
    Conv2d: PyConv2dModel,
    Linear: PyLinearModel,
    LIF: PyLIFModel,
    SpikeMaxPool: PySpikeMaxPoolModel,
    Integrate: PyIntegrateModel,
    Tokens: PyTokensModel,
    Add: PyAddModel,
    SpikeMatMul: PySpikeMatMulModel,
    MaskedColumnSum: PyMaskedColumnSumModel,
    Gate: PyGateModel,
    HaltingScore: PyHaltingScoreModel,
    HaltAccumulate: PyHaltAccumulateModel,
    Readout: PyReadoutModel,
    Output: PyOutputModel,
}
"""The model of each process with tag "floating_pt"."""
PROCESSES: dict[str, type[LayerProcess]] = {process.__name__: process for process in FLOATING_POINT}
"""Processes by the op that a network file names."""

__all__ = [
    "FLOATING_POINT",
    "PROCESSES",
    "Inlet",
    "LayerModel",
    "LayerProcess",
    "Run",
    "in_port",
    "out_port",
    "typed_model",
]
