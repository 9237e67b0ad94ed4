"""Networks cut to their first model steps: the graph of a model that was built with so many."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support.ir_random import images_for
from support.random_models import random_config, random_model

from stas_neuro.compiler import load_model
from stas_neuro.errors import InputError
from stas_neuro.frontend.torch_model import lower
from stas_neuro.models.config import BACKBONES, StasConfig
from stas_neuro.passes import FewerSteps, FoldBatchNorm, Quantise
from stas_neuro.reference import run_reference


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("accumulate", ("off", "raster", "time", "image"))
def test_it_is_the_graph_of_a_model_with_fewer_steps(backbone: str, accumulate: str) -> None:
    options = {"backbone": backbone, "accumulate": accumulate, "readout": "rate"}
    config = random_config(options, 5).replace(time_steps=4)
    model = random_model(config, 5)
    whole = lower(model)
    assert FewerSteps(2)(whole) == lower(load_model(model, time_steps=2))


def _three_steps(**options: str) -> StasConfig:
    return random_config(options, 1).replace(time_steps=3)


def test_its_last_logits_are_those_of_a_shorter_run() -> None:
    graph = FoldBatchNorm()(lower(random_model(_three_steps(accumulate="off"), 1)))
    x = images_for(graph, 2)
    once, twice = (run_reference(FewerSteps(steps)(graph), x) for steps in (1, 2))
    assert once.visits.shape[1] == 1 and twice.visits.shape[1] == 2
    assert not np.array_equal(once.logits, twice.logits)
    np.testing.assert_array_equal(
        run_reference(FewerSteps(3)(graph), x).logits, run_reference(graph, x).logits
    )


def test_what_cannot_be_cut_is_refused() -> None:
    graph = lower(random_model(_three_steps(), 1))
    for steps in (0, 4):
        with pytest.raises(InputError, match=re.escape("use 1 to 3")):
            FewerSteps(steps)(graph)
    with pytest.raises(InputError, match="then quantise it"):
        FewerSteps(1)(Quantise(bits=8)(FoldBatchNorm()(graph)))
    learned = lower(random_model(_three_steps(stem="late-learned"), 1))
    with pytest.raises(InputError, match="has a weight for each of the 3 model steps"):
        FewerSteps(2)(learned)
