"""Facts derived from a graph. Each is derived only here; those of a record are in `activity.rows`."""

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
    PER_TOKEN,
    beside_cores,
    extent,
    neuron_layers,
    neurons_of,
    placed_with,
    works_in,
)
from stas_neuro.analysis.stages import spiking_stages, stages_of, waited_for_in

__all__ = [
    "PER_TOKEN",
    "Mask",
    "accumulator_of",
    "beside_cores",
    "extent",
    "mask_heard",
    "neuron_layers",
    "neurons_of",
    "own_block",
    "place_of",
    "placed_with",
    "score_mask",
    "spiking_stages",
    "stages_of",
    "visit_mask",
    "waited_for_in",
    "works_in",
]
