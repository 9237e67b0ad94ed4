"""A cap on visits and groups of tokens: torch, the reference, the fast backend, Lava and cores agree."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.lava_support import by_turns
from support.random_models import images_for, random_config, random_model

from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.fast import run_fast
from stas_neuro.frontend.torch_model import lower
from stas_neuro.ir import POLICIES, HaltMode
from stas_neuro.models.config import BACKBONES, StasConfig
from stas_neuro.passes import FoldBatchNorm, Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

Array = np.ndarray
WORDS = ({"max_visits": 5}, {"token_groups": 3}, {"max_visits": 5, "token_groups": 3})
CASES = [
    (mode, backbone, words)
    for (mode, words), backbone in zip(
        itertools.product(POLICIES, WORDS), itertools.cycle(BACKBONES), strict=False
    )
    if not (POLICIES[mode].by_image and "token_groups" in words)
]


@pytest.mark.parametrize(("mode", "backbone", "words"), CASES)
def test_all_executions_agree(mode: HaltMode, backbone: str, words: dict[str, int]) -> None:
    choice = {"accumulate": mode, "backbone": backbone, "readout": "mean-field"}
    sizes = {"time_steps": 4, "depth": 2, "image_size": 8, "patch_size": 2}
    scores = {"alpha": 0.7, "beta": -0.8, "epsilon": 0.5, "margin": 9.0}
    config = random_config(choice, 3).replace(**sizes, **scores, **words)
    model = random_model(config, 3)
    images = images_for(config, 3, 3)
    graph = FoldBatchNorm()(lower(model))
    ours = run_reference(graph, images)
    check_halting(config, ours)
    with torch.no_grad():
        for skip in (False, True):
            output = model(torch.from_numpy(images), skip=skip)
            np.testing.assert_array_equal(output.visits.numpy(), ours.visits)
            np.testing.assert_allclose(output.logits.numpy(), ours.logits, rtol=0, atol=1e-9)
    mapping = by_turns(graph, 3)
    for options in ({}, {"mapping": mapping, "gating": "core"}):
        same(run_lava(graph, images, **options), run_reference(graph, images, **options), 1e-9)

    program = Quantise()(graph)
    pixels = np.random.default_rng(0).integers(0, 256, images.shape)
    integers = run_reference(program, pixels)
    check_halting(config, integers)
    for options in ({}, {"mapping": by_turns(program, 3), "gating": "core"}):
        wanted = run_reference(program, pixels, **options)
        same(run_fast(program, pixels, **options), wanted)
        same(run_lava(program, pixels, **options), wanted)


def same(ours: Trace, theirs: Trace, within: float = 0.0) -> None:
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0, atol=within)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    assert ours.activity == theirs.activity


def check_halting(config: StasConfig, trace: Trace) -> None:
    """Tokens halt, not beyond the cap, and those of a group in the same visit."""
    assert not trace.visits.all()
    if config.max_visits:
        assert trace.visits.sum(axis=(1, 2)).max() <= config.max_visits
    for group in set(config.groups):
        of_group = trace.visits[..., np.array(config.groups) == group]
        assert (of_group == of_group[..., :1]).all()
