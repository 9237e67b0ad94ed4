"""Placements that networks share, and counts on several of them, against those of each network alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.random_models import random_config, random_model

from stas_neuro import api
from stas_neuro.chips import Profile, load_profile
from stas_neuro.compiler import fold, quantise
from stas_neuro.compiler.opened import open_trained
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.mapping import CoreLocation, Mapping
from stas_neuro.optimiser import Space, targets_of
from stas_neuro.optimiser.measure import Bench, Images, Measured
from stas_neuro.optimiser.placements import Placed, Placements, structure_of
from stas_neuro.optimiser.search import Search
from stas_neuro.optimiser.space import Placing
from stas_neuro.passes import FewerSteps, run_passes
from stas_neuro.placement import place
from stas_neuro.reference import Counting, count_on_cores

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


@dataclass(frozen=True)
class _Fewest(Placements):
    """Places on 100 cores, in 2 groups of each block, and in no more groups."""

    def of(self, graph: Graph, chip: Profile, placing: Placing, gating: str) -> Placed:
        if placing.groups not in (None, 2):
            raise InputError("the network needs 300 cores", "give more")
        sites = tuple(CoreLocation(chip=0) for _ in range(100))
        mapping = Mapping(profile=chip.name, strategy=placing.strategy, cores=sites, pieces=(), groups=2)
        return Placed(placing, mapping, Counting.of(graph, place(graph, CHIP), gating))


def test_networks_are_spread_in_the_groups_of_the_fewest_cores_where_more_do_not_fit(tmp_path: Path) -> None:
    chip, space = load_profile("loihi1"), Space(strategies=("token-major",), policies=())
    images = LabelledImages(np.zeros((2, 1, 8, 8), np.uint8), np.zeros(2, np.int64))
    bench = Bench("", open_trained(random_model(CONFIG, 1)), Images(images, images), images)
    search = Search([bench], targets_of((chip,), ("single",)), space, _Fewest(tmp_path))
    measured = Measured(variant=bench.full(), graph=network(1), accuracy=1.0, visits=1.0, sample=np.arange(1))
    found = list(search.placed_in_all_ways(bench, bench.compiler(), measured, chip, "silent"))
    assert [each.placing for each in found if isinstance(each, Placed)] == [
        FEWEST, Placing(strategy="token-major", cores=128, groups=2)
    ]  # fmt: skip
