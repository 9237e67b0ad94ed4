"""Networks that are compared on the cores of chips."""

from __future__ import annotations

import numpy as np
import pytest
from support.random_models import random_model

import stas_neuro
from stas_neuro.chip_runs import ChipRuns, compare_on_chips
from stas_neuro.chips import load_profile
from stas_neuro.data import LabelledImages
from stas_neuro.models.config import preset
from stas_neuro.models.stas import StasModel
from stas_neuro.passes import PipelineExit


@pytest.mark.parametrize("placed", [False, True])
def test_a_pipeline_ends_with_the_exit_on_chips_that_can_end_it(placed: bool) -> None:
    config = preset("simulated-glimpses").replace(
        dim=8, heads=1, accumulate="image", readout="rate", margin=0.0, event_input=True
    )
    model = random_model(config, 3)
    static = StasModel(config.replace(accumulate="off")).double()
    static.load_state_dict(model.state_dict())
    images = np.random.RandomState(0).randint(2, size=(3, 8, 2, 4, 4)).astype(np.uint8) * 255
    graph, without = stas_neuro.fold(model), stas_neuro.fold(static.eval())
    runs = ChipRuns(LabelledImages(images, None), placed=placed)
    chips = [load_profile(name) for name in ("loihi2", "cmos45")]
    pipeline, plain = (
        compare_on_chips(runs, ("exit", each), {"static": without}, chips).rows
        for each in (PipelineExit()(graph), graph)
    )
    ends = [(row.halting.early_end, row.halting.schedule) for row in pipeline if row.halting is not None]
    assert ends == [(True, "pipelined"), (False, "pipelined")]
    assert [row.halting.early_end for row in plain if row.halting is not None] == [False, False]
    shorter, all_steps = pipeline[0].halting, pipeline[0].without
    assert shorter is not None and all_steps is not None
    fewer, every = (each.hardware_steps_per_image for each in (shorter, all_steps))
    assert fewer is not None and every is not None and fewer < every
