"""Rewrites of graphs, each a small named pass, and the driver that runs them."""

from stas_neuro.passes.add_halting import AddHalting
from stas_neuro.passes.compute_halted import ComputeHalted
from stas_neuro.passes.driver import Pass, PassError, run_passes
from stas_neuro.passes.fewer_steps import FewerSteps
from stas_neuro.passes.fold import FoldBatchNorm
from stas_neuro.passes.identity_synapses import with_identity_synapses
from stas_neuro.passes.integer_walk import LayerUnits
from stas_neuro.passes.late_decisions import (
    SCHEDULES,
    DelayDecisions,
    decisions_of,
    schedule_decisions,
)
from stas_neuro.passes.pipeline_exit import PipelineExit
from stas_neuro.passes.quantise import WIDEST_STATE, Exponents, Quantise
from stas_neuro.passes.scales import LayerScale, Statistics

__all__ = [
    "SCHEDULES",
    "WIDEST_STATE",
    "AddHalting",
    "ComputeHalted",
    "DelayDecisions",
    "Exponents",
    "FewerSteps",
    "FoldBatchNorm",
    "LayerScale",
    "LayerUnits",
    "Pass",
    "PassError",
    "PipelineExit",
    "Quantise",
    "Statistics",
    "decisions_of",
    "run_passes",
    "schedule_decisions",
    "with_identity_synapses",
]
