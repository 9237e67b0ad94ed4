"""Placement of a network: pieces of layers on cores, and cores on tiles, within the limits of a profile."""

from stas_neuro.placement.demands import DEFAULT_BITS
from stas_neuro.placement.placing import OBJECTIVES, SPREADS, STRATEGIES, Strategy, place
from stas_neuro.placement.reasons import DoesNotFit, Reason
from stas_neuro.placement.steps import CoreSteps, core_steps
from stas_neuro.placement.strategies import Objective
from stas_neuro.placement.utilisation import Utilisation, utilisation

__all__ = [
    "DEFAULT_BITS",
    "OBJECTIVES",
    "SPREADS",
    "STRATEGIES",
    "CoreSteps",
    "DoesNotFit",
    "Objective",
    "Reason",
    "Strategy",
    "Utilisation",
    "core_steps",
    "place",
    "utilisation",
]
