"""Whether estimates are right: against what others measured, and against another program's counts.

docs/validation.md says what each comparison shows, and what it does not.
"""

from stas_neuro.validation.cases import sanafe_cases
from stas_neuro.validation.checks import Check, Promise
from stas_neuro.validation.measurements import Measured, PilotNet, Quartz, pilotnet, quartz
from stas_neuro.validation.published import pilotnet_activity, quartz_activity, validate_published
from stas_neuro.validation.sanafe import ENERGY_BOUND, Case, Count, CrossCheck, architecture_of, cross_check

__all__ = [
    "ENERGY_BOUND",
    "Case",
    "Check",
    "Count",
    "CrossCheck",
    "Measured",
    "PilotNet",
    "Promise",
    "Quartz",
    "architecture_of",
    "cross_check",
    "pilotnet",
    "pilotnet_activity",
    "quartz",
    "quartz_activity",
    "sanafe_cases",
    "validate_published",
]
