"""Validation of estimates against published measurements.

docs/validation.md explains what each comparison shows, and what it does not show.
"""

from stas_neuro.validation.checks import Check, Promise
from stas_neuro.validation.coverage import Coverage, coverage
from stas_neuro.validation.evidence import BETWEEN, between_setups, evidence, leave_out
from stas_neuro.validation.measurements import (
    LoihiRun,
    Measured,
    Nearest,
    PilotNet,
    Quartz,
    loihi_runs,
    nearest,
    pilotnet,
    quartz,
)
from stas_neuro.validation.prediction import (
    LEVEL,
    Predicted,
    prediction,
    predictions,
    spread_between,
)
from stas_neuro.validation.published import pilotnet_activity, validate_published

__all__ = [
    "BETWEEN",
    "LEVEL",
    "Check",
    "Coverage",
    "LoihiRun",
    "Measured",
    "Nearest",
    "PilotNet",
    "Predicted",
    "Promise",
    "Quartz",
    "between_setups",
    "coverage",
    "evidence",
    "leave_out",
    "loihi_runs",
    "nearest",
    "pilotnet",
    "pilotnet_activity",
    "prediction",
    "predictions",
    "quartz",
    "spread_between",
    "validate_published",
]
