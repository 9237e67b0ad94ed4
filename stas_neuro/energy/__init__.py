"""Energy and latency of a run on a chip, from its activity and a hardware profile."""

from stas_neuro.energy.comparable import check_alike, check_same_network
from stas_neuro.energy.compare import Comparison, Saving, Savings, compare
from stas_neuro.energy.core_work import CoreWork, core_work
from stas_neuro.energy.costs import price
from stas_neuro.energy.deployment import Deployment
from stas_neuro.energy.events import PRICES, Price
from stas_neuro.energy.figures import disclaimer_of
from stas_neuro.energy.gating import GATINGS, Gating
from stas_neuro.energy.pricing import estimate, op_count
from stas_neuro.energy.result import (
    CoreCost,
    Estimate,
    EventCost,
    Interval,
    LayerCost,
    Spread,
    StepCost,
    StructuralRange,
    TokenCost,
    Totals,
    Variant,
)
from stas_neuro.energy.savings import Split
from stas_neuro.energy.schedule_times import ScheduleCost, compare_schedules
from stas_neuro.energy.timing import SCHEDULES, Schedule, fastest
from stas_neuro.energy.widths import scale_width, width_of

__all__ = [
    "GATINGS",
    "PRICES",
    "SCHEDULES",
    "Comparison",
    "CoreCost",
    "CoreWork",
    "Deployment",
    "Estimate",
    "EventCost",
    "Gating",
    "Interval",
    "LayerCost",
    "Price",
    "Saving",
    "Savings",
    "Schedule",
    "ScheduleCost",
    "Split",
    "Spread",
    "StepCost",
    "StructuralRange",
    "TokenCost",
    "Totals",
    "Variant",
    "check_alike",
    "check_same_network",
    "compare",
    "compare_schedules",
    "core_work",
    "disclaimer_of",
    "estimate",
    "fastest",
    "op_count",
    "price",
    "scale_width",
    "width_of",
]
