"""Cores are filled as a first fit that computes every use anew from all pieces of a core fills them."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from support.ir_random import Recipe, build

from stas_neuro.chips import Profile, load_profile
from stas_neuro.ir import Graph
from stas_neuro.ir.ops.base import Wanted
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.mapping.reach import Reach
from stas_neuro.mapping.routes import merged
from stas_neuro.placement import DoesNotFit, place
from stas_neuro.placement import task as tasks
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.inputs import Inputs
from stas_neuro.placement.limits import Limits
from stas_neuro.placement.packing import Axis, Core, Domain, Packer, Region, _first, _rest, _size


class Simple(Packer):
    """Looks at every core, and at all pieces on it."""

    known: dict[str, LayerDemand]

    def __init__(self, graph: Graph, limits: Limits, inputs: Inputs, most: float) -> None:
        super().__init__(graph, limits, inputs, most)
        self.known = {}
        self._graph, self._reach = graph, Reach(graph)
        self._kept: dict[tuple[str, Region], dict[str, Wanted]] = {}

    def _needed(self, demand: LayerDemand, region: Region) -> dict[str, Wanted]:
        if (demand.name, region) not in self._kept:
            needs = merged(self._reach.of(demand.name, tuple(region.positions), region.features))
            self._kept[demand.name, region] = {
                name: values for name, values in needs.items() if not self._graph.node(name).off_core
            }
        return self._kept[demand.name, region]

    def _received(self, demand: LayerDemand, region: Region, core: Core) -> int:
        assert not core.pieces
        return sum(int(values.sum()) for values in self._needed(demand, region).values())

    def fork(self) -> Packer:
        other: Simple = copy.deepcopy(self)
        return other

    def _open_core(self, demand: LayerDemand, region: Region, domain: Domain) -> int | None:
        for number, core in enumerate(self.cores):
            free = core.domain == domain and demand.name not in core.pieces
            if free and self._fits({**core.pieces, demand.name: region}, demand):
                return number
        return None

    def _prefix(self, demand: LayerDemand, region: Region, axis: Axis) -> tuple[Region | None, list[Region]]:
        for steps in range(_size(region, axis), 0, -1):
            if self._fits({demand.name: _first(region, axis, steps)}, demand):
                return _first(region, axis, steps), _rest(region, axis, steps)
        return None, []

    def _put(self, demand: LayerDemand, region: Region, number: int) -> None:
        core = self.cores[number]
        self.known = {**self.known, demand.name: demand}
        self.cores[number] = Core(core.domain, {**core.pieces, demand.name: region})

    def _needed_by(self, pieces: Mapping[str, Region]) -> dict[str, Wanted]:
        taken: dict[str, Wanted] = {}
        for name, region in pieces.items():
            for source, values in self._needed(self.known[name], region).items():
                taken[source] = taken[source] | values if source in taken else values
        return taken

    def _fits(self, pieces: dict[str, Region], demand: LayerDemand) -> bool:
        self.known = {**self.known, demand.name: demand}
        used: Counter[str] = Counter()
        for name, region in pieces.items():
            sharing, positions = self.limits.weight_sharing, np.array(region.positions)
            used["neurons"] += region.neurons
            used["synaptic memory"] += self.known[name].memory(positions, region.features, sharing=sharing)
        used["input axons"] = sum(int(values.sum()) for values in self._needed_by(pieces).values())
        if "output axons" in self.limits.core:
            for core in self.cores:
                taken = self._needed_by(core.pieces)
                for name, region in pieces.items():
                    used["output axons"] += int(np.sum(taken[name][region.index])) if name in taken else 0
        return all(used[name] <= limit for name, limit in self.limits.core.items())


@pytest.mark.parametrize("strategy", ["channel-major", "token-major"])
@pytest.mark.parametrize("seed", range(5))
def test_cores_are_filled_as_by_a_simple_first_fit(
    seed: int, strategy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    graph = build(
        Recipe(seed=seed, norm=False, height=3, width=4, sdsa=seed % 3 == 1, membrane=seed % 4 == 2)
    )
    limits = {"neurons_per_core": (8, 60), "synaptic_memory_per_core": (400, 4000)}
    if seed % 2:  # loihi2 publishes no limit of axons
        limits |= {"input_axons_per_core": (60, 200), "output_axons_per_core": (100, 800)}
    profile = load_profile(f"loihi{2 - seed % 2}")
    entries = dict(profile.limits)
    for name, ends in limits.items():
        value = int(rng.integers(*ends))
        unit = "B" if name.startswith("synaptic") else "1"
        entries[name] = dataclasses.replace(entries[name], value=value, low=value, high=value, unit=unit)
    profile = dataclasses.replace(profile, limits=entries)
    found = _placed(graph, profile, strategy)
    monkeypatch.setattr(tasks, "Packer", Simple)
    assert found == _placed(graph, profile, strategy)


def _placed(graph: Graph, profile: Profile, strategy: Any) -> CoreMapping | str:
    try:
        return place(graph, profile, strategy=strategy)
    except DoesNotFit as error:
        return str(error)
