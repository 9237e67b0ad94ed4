"""Activity records: event counts of a run by kind, image, layer and step."""

from stas_neuro.activity.collector import ActivityCollector, Part
from stas_neuro.activity.comparable import COMPARED, SAME_NETWORK, Fact, check_facts, not_checked
from stas_neuro.activity.file import read_activity, write_activity
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
from stas_neuro.activity.rows import HALTING_KINDS, neuron_rows, owner_of, record_halts, stages_in

__all__ = [
    "COMPARED",
    "HALTING_KINDS",
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
    "check_facts",
    "hash_images",
    "image_by_image",
    "neuron_rows",
    "no_counts",
    "not_checked",
    "owner_of",
    "read_activity",
    "record_halts",
    "sample_of",
    "stages_in",
    "step_labels",
    "write_activity",
]
