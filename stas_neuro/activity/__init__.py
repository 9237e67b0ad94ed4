"""Events of a run: what happened, how often, where and when."""

from stas_neuro.activity.layers import builder_for, does_events, layers_of
from stas_neuro.activity.record import KINDS, Activity, ActivityBuilder, Counts, Layer, Visits, step_labels

__all__ = [
    "KINDS",
    "Activity",
    "ActivityBuilder",
    "Counts",
    "Layer",
    "Visits",
    "builder_for",
    "does_events",
    "layers_of",
    "step_labels",
]
