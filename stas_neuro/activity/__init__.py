"""Events of a run: what happened, how often, where and when."""

from stas_neuro.activity.file import read_activity, write_activity
from stas_neuro.activity.layers import builder_for, layers_of, mapped_layers
from stas_neuro.activity.record import (
    KINDS,
    MAPPED_KINDS,
    PHASES,
    TOTAL_LIMIT,
    Activity,
    ActivityBuilder,
    Counts,
    Layer,
    Visits,
    step_labels,
)
from stas_neuro.mapping import does_events

__all__ = [
    "KINDS",
    "MAPPED_KINDS",
    "PHASES",
    "TOTAL_LIMIT",
    "Activity",
    "ActivityBuilder",
    "Counts",
    "Layer",
    "Visits",
    "builder_for",
    "does_events",
    "layers_of",
    "mapped_layers",
    "read_activity",
    "step_labels",
    "write_activity",
]
