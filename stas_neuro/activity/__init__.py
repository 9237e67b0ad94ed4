"""Activity records: event counts of a run by kind, image, layer and step."""

from stas_neuro.activity.collector import ActivityCollector
from stas_neuro.activity.comparable import COMPARED, SAME_NETWORK, Fact, check_facts, not_checked
from stas_neuro.activity.file import read_activity, write_activity
from stas_neuro.activity.layers import builder_for, layers_of, mapped_layers
from stas_neuro.activity.neurobench import neurobench_metrics
from stas_neuro.activity.origin import Origin, hash_images
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

__all__ = [
    "COMPARED",
    "KINDS",
    "MAPPED_KINDS",
    "PHASES",
    "SAME_NETWORK",
    "TOTAL_LIMIT",
    "Activity",
    "ActivityBuilder",
    "ActivityCollector",
    "Counts",
    "Fact",
    "Layer",
    "Origin",
    "Visits",
    "builder_for",
    "check_facts",
    "hash_images",
    "layers_of",
    "mapped_layers",
    "neurobench_metrics",
    "not_checked",
    "read_activity",
    "step_labels",
    "write_activity",
]
