"""Sweeps: many configurations, computed in parallel, whose results survive any interruption."""

from stas_neuro.sweeper.config import read_plan
from stas_neuro.sweeper.driver import Report, Swept, run_plan
from stas_neuro.sweeper.plan import JOIN, Kind, Options, Plan, Value, first_cells
from stas_neuro.sweeper.pools import Pool, cluster, processes
from stas_neuro.sweeper.work import Made

__all__ = [
    "JOIN",
    "Kind",
    "Made",
    "Options",
    "Plan",
    "Pool",
    "Report",
    "Swept",
    "Value",
    "cluster",
    "first_cells",
    "processes",
    "read_plan",
    "run_plan",
]
