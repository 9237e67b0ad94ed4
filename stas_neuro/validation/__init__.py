"""Validation of estimates against published measurements.

docs/validation.md explains what each comparison shows, and what it does not show.
"""

from stas_neuro.validation.checks import Check, Promise
from stas_neuro.validation.measurements import Measured, PilotNet, Quartz, pilotnet, quartz
from stas_neuro.validation.published import pilotnet_activity, quartz_activity, validate_published

__all__ = [
    "Check",
    "Measured",
    "PilotNet",
    "Promise",
    "Quartz",
    "pilotnet",
    "pilotnet_activity",
    "quartz",
    "quartz_activity",
    "validate_published",
]
