"""Placements that networks share, and counts on several of them, against those of each network alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.random_models import random_config, random_model

from stas_neuro import api
from stas_neuro.chips import load_profile
from stas_neuro.compiler import fold, quantise
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.optimiser.placements import Placements, structure_of
from stas_neuro.optimiser.space import Placing
from stas_neuro.passes import FewerSteps, run_passes
from stas_neuro.placement import place
from stas_neuro.reference import count_on_cores

CONFIG = random_config({"accumulate": "raster", "stem": "sps"}, 7)
FEWEST = Placing(strategy="token-major", cores=None, groups=None)
CHIP = load_profile("loihi2")


def network(seed: int, **changes: object) -> Graph:
    return fold(random_model(CONFIG.replace(**changes), seed))


def test_networks_share_a_structure_if_only_their_numbers_differ() -> None:
    graph = network(1)
    known = structure_of(graph)
    assert structure_of(network(2, epsilon=0.3, alpha=0.7)) == known
    others = (
        network(1, time_steps=CONFIG.time_steps + 1),
        network(1, accumulate="rectangular"),
        network(1, accumulate="off"),
        network(1, patch_size=CONFIG.patch_size, image_size=2 * CONFIG.image_size),
        run_passes(network(1, accumulate="off"), [FewerSteps(1)]),
        quantise(graph, bits=8),
        quantise(graph, bits=4),
    )
    assert len({known, *map(structure_of, others)}) == 1 + len(others)
    assert structure_of(quantise(network(2), bits=4)) == structure_of(others[-1])


def test_a_shared_placement_and_its_counts_are_those_of_each_network(tmp_path: Path) -> None:
    images = np.random.default_rng(3).integers(0, 256, (5, *network(1).image_shape)).astype(np.uint8)
    first, second = (quantise(network(seed), bits=8) for seed in (1, 2))
    spread = Placing(strategy="channel-major", cores=12, groups=2)
    for gating in ("silent", "core"):
        shared = [Placements(tmp_path).of(first, CHIP, each, gating) for each in (FEWEST, spread)]
        pixels = api.preprocess(second, images)
        counted = count_on_cores(second, pixels, [each.counting for each in shared], chunk=2)
        for placed, activity in zip(shared, counted, strict=True):
            placing = placed.placing
            own = place(second, CHIP, strategy=placing.strategy, cores=placing.cores, groups=placing.groups)
            assert placed.mapping == own
            run = api.run(second, images, arithmetic="fixed", mapping=own, gating=gating)
            assert activity == run.activity


def test_a_placement_is_made_once_by_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network(1)
    known = Placements(tmp_path).of(graph, CHIP, FEWEST, "silent")
    too_few = Placing(strategy="token-major", cores=1, groups=None)
    with pytest.raises(InputError, match="give at least"):
        Placements(tmp_path).of(
            network(1, dim=64, heads=4, image_size=16), load_profile("loihi1"), too_few, "silent"
        )
    monkeypatch.delattr("stas_neuro.optimiser.placements.place")
    assert Placements(tmp_path).of(graph, CHIP, FEWEST, "silent").mapping == known.mapping
    with pytest.raises(InputError, match="give at least"):
        Placements(tmp_path).of(
            network(2, dim=64, heads=4, image_size=16), load_profile("loihi1"), too_few, "silent"
        )
