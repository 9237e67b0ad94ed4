"""Our own Lava processes, one an operation, each with a floating-point and a fixed-point process model."""

from __future__ import annotations

from stas_neuro import ir
from stas_neuro.exporters.lava.processes.attention import (
    HeadSum,
    MaskedColumnSum,
    PyHeadSumModelFixed,
    PyHeadSumModelFloat,
    PyMaskedColumnSumModelFixed,
    PyMaskedColumnSumModelFloat,
    PySpikeMatMulModelFixed,
    PySpikeMatMulModelFloat,
    SpikeMatMul,
)
from stas_neuro.exporters.lava.processes.base import (
    Inlet,
    NodeModel,
    NodeProcess,
    ReportingModel,
    Run,
    in_port,
    out_port,
    typed_model,
)
from stas_neuro.exporters.lava.processes.gates import PySpikeAndModel, SpikeAnd
from stas_neuro.exporters.lava.processes.halting import (
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
from stas_neuro.exporters.lava.processes.image_score import (
    ImageScore,
    PyImageScoreModelFixed,
    PyImageScoreModelFloat,
)
from stas_neuro.exporters.lava.processes.neurons import (
    LIF,
    Integrate,
    MaxPool,
    PyIntegrateModelFixed,
    PyIntegrateModelFloat,
    PyLIFModelFixed,
    PyLIFModelFloat,
    PyMaxPoolModelFixed,
    PyMaxPoolModelFloat,
    PySpikeMaxPoolModel,
    PySynapticCurrentModelFixed,
    PySynapticCurrentModelFloat,
    SpikeMaxPool,
    SynapticCurrent,
)
from stas_neuro.exporters.lava.processes.readout import PyReadoutModelFixed, PyReadoutModelFloat, Readout
from stas_neuro.exporters.lava.processes.shaping import (
    Add,
    Gate,
    Map,
    PyAddModelFixed,
    PyAddModelFloat,
    PyGateModel,
    PyMapModel,
    PySliceModel,
    PyTokenMeanModelFixed,
    PyTokenMeanModelFloat,
    PyTokensModel,
    Slice,
    TokenMean,
    Tokens,
)
from stas_neuro.exporters.lava.processes.sources import Input, Output, PyInputModel, PyOutputModel
from stas_neuro.exporters.lava.processes.synapses import (
    Conv2d,
    Linear,
    PyConv2dModelFixed,
    PyConv2dModelFloat,
    PyLinearModelFixed,
    PyLinearModelFloat,
)

_FORMS = ir.per_op(
    "Lava's processes",
    {
        ir.Input: (Input, PyInputModel, PyInputModel),
        ir.Conv2d: (Conv2d, PyConv2dModelFloat, PyConv2dModelFixed),
        ir.Linear: (Linear, PyLinearModelFloat, PyLinearModelFixed),
        ir.LIF: (LIF, PyLIFModelFloat, PyLIFModelFixed),
        ir.SynapticCurrent: (SynapticCurrent, PySynapticCurrentModelFloat, PySynapticCurrentModelFixed),
        ir.SpikeMaxPool: (SpikeMaxPool, PySpikeMaxPoolModel, PySpikeMaxPoolModel),
        ir.MaxPool: (MaxPool, PyMaxPoolModelFloat, PyMaxPoolModelFixed),
        ir.Integrate: (Integrate, PyIntegrateModelFloat, PyIntegrateModelFixed),
        ir.Tokens: (Tokens, PyTokensModel, PyTokensModel),
        ir.Map: (Map, PyMapModel, PyMapModel),
        ir.Slice: (Slice, PySliceModel, PySliceModel),
        ir.TokenMean: (TokenMean, PyTokenMeanModelFloat, PyTokenMeanModelFixed),
        ir.Add: (Add, PyAddModelFloat, PyAddModelFixed),
        ir.SpikeMatMul: (SpikeMatMul, PySpikeMatMulModelFloat, PySpikeMatMulModelFixed),
        ir.MaskedColumnSum: (MaskedColumnSum, PyMaskedColumnSumModelFloat, PyMaskedColumnSumModelFixed),
        ir.HeadSum: (HeadSum, PyHeadSumModelFloat, PyHeadSumModelFixed),
        ir.Gate: (Gate, PyGateModel, PyGateModel),
        ir.SpikeAnd: (SpikeAnd, PySpikeAndModel, PySpikeAndModel),
        ir.HaltingScore: (HaltingScore, PyHaltingScoreModelFloat, PyHaltingScoreModelFixed),
        ir.HaltAccumulate: (HaltAccumulate, PyHaltAccumulateModelFloat, PyHaltAccumulateModelFixed),
        ir.ImageScore: (ImageScore, PyImageScoreModelFloat, PyImageScoreModelFixed),
        ir.LateHaltAccumulate: (
            LateHaltAccumulate,
            PyLateHaltAccumulateModelFloat,
            PyLateHaltAccumulateModelFixed,
        ),
        ir.Readout: (Readout, PyReadoutModelFloat, PyReadoutModelFixed),
        ir.Output: (Output, PyOutputModel, PyOutputModel),
    },
    without=(ir.BatchNorm,),  # which is folded before
)
"""Of each operation: its process, the model of that in floating point and the one in integers."""
PROCESSES: dict[type[ir.Node], type[NodeProcess]] = {op: process for op, (process, _, _) in _FORMS.items()}
FLOATING_POINT: dict[type[NodeProcess], type[NodeModel]] = {
    process: model for process, model, _ in _FORMS.values()
}
"""The model of each process with tag "floating_pt"."""
FIXED_POINT: dict[type[NodeProcess], type[NodeModel]] = {
    process: model for process, _, model in _FORMS.values()
}
"""The model of each process with tag "fixed_pt"."""

__all__ = [
    "FIXED_POINT",
    "FLOATING_POINT",
    "PROCESSES",
    "Inlet",
    "NodeModel",
    "NodeProcess",
    "ReportingModel",
    "Run",
    "in_port",
    "out_port",
    "typed_model",
]
