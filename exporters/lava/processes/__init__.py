"""Our own Lava processes, one a node type, each with a floating-point and a fixed-point process model."""

from __future__ import annotations

from .attention import (
    MaskedColumnSum,
    PyMaskedColumnSumModelFixed,
    PyMaskedColumnSumModelFloat,
    PySpikeMatMulModelFixed,
    PySpikeMatMulModelFloat,
    SpikeMatMul,
)
from .base import Inlet, LayerModel, LayerProcess, Run, in_port, out_port, typed_model
from .halting import (
    HaltAccumulate,
    HaltingScore,
    LateHaltAccumulate,
    PyHaltAccumulateModelFixed,
    PyHaltAccumulateModelFloat,
    PyHaltingScoreModelFixed,
    PyHaltingScoreModelFloat,
    PyLateHaltAccumulateModelFixed,
    PyLateHaltAccumulateModelFloat,
)
from .neurons import (
    LIF,
    Integrate,
    PyIntegrateModelFixed,
    PyIntegrateModelFloat,
    PyLIFModelFixed,
    PyLIFModelFloat,
    PySpikeMaxPoolModel,
    SpikeMaxPool,
)
from .readout import PyReadoutModelFixed, PyReadoutModelFloat, Readout
from .shaping import Add, Gate, PyAddModelFixed, PyAddModelFloat, PyGateModel, PyTokensModel, Tokens
from .sources import Input, Output, PyInputModel, PyOutputModel
from .synapses import (
    Conv2d,
    Linear,
    PyConv2dModelFixed,
    PyConv2dModelFloat,
    PyLinearModelFixed,
    PyLinearModelFloat,
)

_EITHER: dict[type[LayerProcess], type[LayerModel]] = {
    Input: PyInputModel,
    SpikeMaxPool: PySpikeMaxPoolModel,
    Tokens: PyTokensModel,
    Gate: PyGateModel,
    Output: PyOutputModel,
}
FLOATING_POINT: dict[type[LayerProcess], type[LayerModel]] = _EITHER | {
    Conv2d: PyConv2dModelFloat,
    Linear: PyLinearModelFloat,
    LIF: PyLIFModelFloat,
    Integrate: PyIntegrateModelFloat,
    Add: PyAddModelFloat,
    SpikeMatMul: PySpikeMatMulModelFloat,
    MaskedColumnSum: PyMaskedColumnSumModelFloat,
    HaltingScore: PyHaltingScoreModelFloat,
    HaltAccumulate: PyHaltAccumulateModelFloat,
    LateHaltAccumulate: PyLateHaltAccumulateModelFloat,
    Readout: PyReadoutModelFloat,
}
"""The model of each process with tag "floating_pt"."""
FIXED_POINT: dict[type[LayerProcess], type[LayerModel]] = _EITHER | {
    Conv2d: PyConv2dModelFixed,
    Linear: PyLinearModelFixed,
    LIF: PyLIFModelFixed,
    Integrate: PyIntegrateModelFixed,
    Add: PyAddModelFixed,
    SpikeMatMul: PySpikeMatMulModelFixed,
    MaskedColumnSum: PyMaskedColumnSumModelFixed,
    HaltingScore: PyHaltingScoreModelFixed,
    HaltAccumulate: PyHaltAccumulateModelFixed,
    LateHaltAccumulate: PyLateHaltAccumulateModelFixed,
    Readout: PyReadoutModelFixed,
}
"""The model of each process with tag "fixed_pt"."""
PROCESSES: dict[str, type[LayerProcess]] = {process.__name__: process for process in FLOATING_POINT}
"""Processes by the op that a network file names."""

__all__ = [
    "FIXED_POINT",
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
