"""Imported modules whose integers are run on Lava."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

import stas_neuro
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.ir import Graph
from stas_neuro.passes import FoldBatchNorm, Quantise
from stas_neuro.reference import run_reference


def imported_on_lava(module: nn.Module, example: Tensor) -> Graph:
    """Import a module, which compares spikes and logits; run its integers on Lava.

    `example` has pixels divided by 255, as its images; every neuron layer fires on it.
    """
    graph = stas_neuro.open_model(module.eval().double(), example=example)
    assert isinstance(graph, Graph)
    integers = Quantise(bits=8)(FoldBatchNorm()(graph))
    images = np.rint(example.numpy() * 255).astype(np.int64)
    ours = run_reference(integers, images, record_spikes=True)
    lava = run_lava(integers, images, record_spikes=True)
    np.testing.assert_array_equal(ours.logits, lava.logits)
    for name, spikes in ours.spikes.items():
        np.testing.assert_array_equal(spikes, lava.spikes[name], name)
    assert ours.spikes and all(spikes.any() for spikes in ours.spikes.values())
    return graph
