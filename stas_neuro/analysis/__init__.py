"""Facts derived from a graph, or from the table of layers of a record. Each is derived only here."""

from stas_neuro.analysis.halting import (
    Mask,
    accumulator_of,
    mask_heard,
    own_block,
    place_of,
    score_mask,
    visit_mask,
)
from stas_neuro.analysis.neurons import (
    beside_cores,
    extent,
    neuron_layers,
    neurons_of,
    placed_with,
    works_in,
)
from stas_neuro.analysis.records import HALTING_KINDS, Row, neuron_rows, owner_of, record_halts, stages_in
from stas_neuro.analysis.stages import spiking_stages, stages_of, waited_for_in

__all__ = [
    "HALTING_KINDS",
    "Mask",
    "Row",
    "accumulator_of",
    "beside_cores",
    "extent",
    "mask_heard",
    "neuron_layers",
    "neuron_rows",
    "neurons_of",
    "own_block",
    "owner_of",
    "place_of",
    "placed_with",
    "record_halts",
    "score_mask",
    "spiking_stages",
    "stages_in",
    "stages_of",
    "visit_mask",
    "waited_for_in",
    "works_in",
]
