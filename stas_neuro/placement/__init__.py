"""Where a network goes: pieces of layers on cores, cores on tiles, under the limits of a profile."""

from stas_neuro.placement.place import OBJECTIVES, STRATEGIES, Objective, Strategy, place
from stas_neuro.placement.reasons import DoesNotFit, Reason
from stas_neuro.placement.utilisation import Utilisation, utilisation

__all__ = [
    "OBJECTIVES",
    "STRATEGIES",
    "DoesNotFit",
    "Objective",
    "Reason",
    "Strategy",
    "Utilisation",
    "place",
    "utilisation",
]
