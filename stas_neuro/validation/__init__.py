"""Validation of estimates against published measurements.

docs/validation.md explains what each comparison shows, and what it does not show.
"""

from stas_neuro.validation.checks import Check, Promise
from stas_neuro.validation.coverage import Coverage, coverage
from stas_neuro.validation.evidence import evidence, leave_out
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
from stas_neuro.validation.published import pilotnet_activity, validate_published

__all__ = [
    "Check",
    "Coverage",
    "LoihiRun",
    "Measured",
    "Nearest",
    "PilotNet",
    "Promise",
    "Quartz",
    "coverage",
    "evidence",
    "leave_out",
    "loihi_runs",
    "nearest",
    "pilotnet",
    "pilotnet_activity",
    "quartz",
    "validate_published",
]
