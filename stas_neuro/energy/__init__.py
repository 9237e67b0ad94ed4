"""What a run costs on a chip: hardware profiles times activity."""

from stas_neuro.energy.compare import Comparison, Saving, compare
from stas_neuro.energy.events import GATINGS, PRICES, Gating, Price
from stas_neuro.energy.pricing import estimate, op_count
from stas_neuro.energy.profile import (
    Arithmetic,
    Capability,
    Entry,
    MissingEntry,
    Profile,
    Source,
    list_profiles,
    load_profile,
    parse_profile,
)
from stas_neuro.energy.result import Estimate, EventCost, Interval, LayerCost, Spread, StepCost
from stas_neuro.energy.schedule import SCHEDULES, Schedule, fastest

__all__ = [
    "GATINGS",
    "PRICES",
    "SCHEDULES",
    "Arithmetic",
    "Capability",
    "Comparison",
    "Entry",
    "Estimate",
    "EventCost",
    "Gating",
    "Interval",
    "LayerCost",
    "MissingEntry",
    "Price",
    "Profile",
    "Saving",
    "Schedule",
    "Source",
    "Spread",
    "StepCost",
    "compare",
    "estimate",
    "fastest",
    "list_profiles",
    "load_profile",
    "op_count",
    "parse_profile",
]
