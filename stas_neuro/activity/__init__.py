"""Activity records: event counts of a run by kind, image, layer and step."""

from stas_neuro.activity.collector import ActivityCollector, Part
from stas_neuro.activity.comparable import COMPARED, SAME_NETWORK, Fact, check_facts, not_checked
from stas_neuro.activity.file import read_activity, write_activity
from stas_neuro.activity.layers import builder_for, layers_of, mapped_layers
from stas_neuro.activity.neurobench import neurobench_metrics
from stas_neuro.activity.origin import Origin, hash_images
from stas_neuro.activity.record import (
    KINDS,
    MAPPED_KINDS,
    PHASES,
    SAMPLE,
    TOTAL_LIMIT,
    Activity,
    ActivityBuilder,
    Counts,
    Layer,
    Visits,
    Whole,
    image_by_image,
    no_counts,
    sample_of,
    step_labels,
)

__all__ = [
    "COMPARED",
    "KINDS",
    "MAPPED_KINDS",
    "PHASES",
    "SAME_NETWORK",
    "SAMPLE",
    "TOTAL_LIMIT",
    "Activity",
    "ActivityBuilder",
    "ActivityCollector",
    "Counts",
    "Fact",
    "Layer",
    "Origin",
    "Part",
    "Visits",
    "Whole",
    "builder_for",
    "check_facts",
    "hash_images",
    "image_by_image",
    "layers_of",
    "mapped_layers",
    "neurobench_metrics",
    "no_counts",
    "not_checked",
    "read_activity",
    "sample_of",
    "step_labels",
    "write_activity",
]
