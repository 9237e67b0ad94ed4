"""What is written for SANA-FE: files that say the network, checked by simulating them, and what is refused.

The slow test runs SANA-FE itself, an outside program in an environment of its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sanafe_oracle.architecture import Architecture
from sanafe_oracle.cases import sanafe_cases
from sanafe_oracle.cross_check import Case, Count, CrossCheck, architecture_of, cross_check
from sanafe_oracle.network import group_name
from sanafe_oracle.networks import by_channels, input_spikes, one_core, scattered, spiking_network
from sanafe_oracle.package import write_package
from sanafe_oracle.support import cannot_say, refusals
from support.fixed_random import quantised_at_random
from support.ir_random import Recipe, build
from support.paths import ROOT

from stas_neuro.chips import load_profile
from stas_neuro.energy import Interval
from stas_neuro.errors import InputError
from stas_neuro.ir import FixedLIF, Graph
from stas_neuro.mapping import CoreLocation, Mapping
from stas_neuro.placement import place
from stas_neuro.reference import run_reference
from stas_neuro.validation import Check

COSTS = Architecture(
    synapse_j=1e-11, synapse_s=1e-9, access_j=5e-11, access_s=2e-9, update_j=3e-11, update_s=1e-9,
    message_j=2e-12, message_s=3e-9, host_message_j=7e-10, hop_x_j=3e-12, hop_x_s=4e-9,
    hop_y_j=4e-12, hop_y_s=6e-9, barrier_s=1e-7,
)  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["memoryless", "leaky"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return spiking_network(3, leaky=request.param)


def documents(graph: Graph, mapping: Mapping, target: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    write_package(graph, mapping, COSTS, input_spikes(5), target)
    chip, network = (json.loads((target / name).read_text()) for name in ("chip.yaml", "network.yaml"))
    return chip["architecture"], network


def numbers(span: str) -> range:
    first, *last = span.split("..")
    return range(int(first), int(last[0] if last else first) + 1)


class Simulated:
    """The written network, run as SANA-FE says it runs: spikes arrive in the step after they are sent."""

    def __init__(self, network: dict[str, Any]) -> None:
        self.homes: dict[tuple[str, int], str] = {}
        for entry in network["mappings"]:
            ((where, unit),) = entry.items()
            group, span = where.split(".", 1)
            self.homes |= {(group, n): unit["core"] for n in numbers(span)}
        self.soma = {
            (group["name"], n): neuron.get("soma", {})
            for group in network["network"]["groups"]
            for entry in group["neurons"]
            for span, neuron in entry.items()
            for n in numbers(span)
        }
        self.targets: dict[tuple[str, int], list[tuple[tuple[str, int], float]]] = {}
        for entry in network["network"]["edges"]:
            ((ends, edge),) = entry.items()
            source, target = ends.split(" -> ")
            for (a, b), weight in zip(edge["source_target_pairs"], edge["weight"], strict=True):
                self.targets.setdefault((source, a), []).append(((target, b), weight))
        self.potential = dict.fromkeys(self.soma, 0.0)

    def run(self, steps: int) -> list[list[tuple[str, int]]]:
        """Give the neurons that fire in each step."""
        arriving: Counter[tuple[str, int]] = Counter()
        fired = []
        for step in range(steps):
            now = [neuron for neuron in self.soma if self._fires(neuron, step, arriving[neuron])]
            arriving = Counter()
            for neuron in now:
                for target, weight in self.targets.get(neuron, []):
                    arriving[target] += weight  # type: ignore[assignment]
            fired.append(now)
        return fired

    def _fires(self, neuron: tuple[str, int], step: int, given: float) -> bool:
        soma = self.soma[neuron]
        if "spikes" in soma:
            return bool(step < len(soma["spikes"]) and soma["spikes"][step])
        if "threshold" not in soma:
            return False
        kept = math.trunc(self.potential[neuron] * soma["leak_decay"] * 64) / 64
        v = kept + given
        fires = v > soma["threshold"]
        self.potential[neuron] = 0.0 if fires or v < soma.get("reverse_threshold", -math.inf) else v
        return bool(fires)


@pytest.mark.parametrize("mapping", ["one core", "by channels", "scattered"])
def test_written_network_spikes_as_the_reference(graph: Graph, mapping: str, tmp_path: Path) -> None:
    made = {"one core": one_core, "by channels": lambda g: by_channels(g, 3)}.get(
        mapping, lambda g: scattered(g, 7, 1)
    )
    _, network = documents(graph, made(graph), tmp_path / "out")
    fired = Simulated(network).run(graph.time_steps + 4)
    own = run_reference(graph, input_spikes(5)[None].astype(np.int64), record_spikes=True).spikes
    for stage, lif in enumerate(graph.of_type(FixedLIF)):
        spikes = own[lif.name][0]
        if spikes.ndim == 4:  # maps (T, C, H, W), written position by position
            spikes = spikes.reshape(*spikes.shape[:2], -1).swapaxes(1, 2)
        assert spikes.any() and not spikes.all()
        for step in range(graph.time_steps):
            name = group_name(lif.name)
            theirs = {n for group, n in fired[step + stage + 1] if group == name}
            assert theirs == set(np.flatnonzero(spikes[step]).tolist())


def test_input_spikes_may_carry_one_value(tmp_path: Path) -> None:
    graph = spiking_network(3, leaky=True)
    for size in (1, 3):
        frames = input_spikes(5) * size
        write_package(graph, one_core(graph), COSTS, frames, tmp_path / "out", force=True)
        network = json.loads((tmp_path / "out" / "network.yaml").read_text())
        fired = Simulated(network).run(graph.time_steps + 4)
        trace = run_reference(graph, frames[None].astype(np.int64), record_spikes=True)
        spikes = [int(trace.spikes["block0.fc2.lif"][0, t].sum()) for t in range(graph.time_steps)]
        theirs = [sum(group == "block0/fc2/lif" for group, _ in step) for step in fired]
        assert theirs == [0] * 4 + spikes


def test_input_enters_each_tile_once_a_pixel_without_hops(tmp_path: Path) -> None:
    graph = spiking_network(3, leaky=True)
    mapping = scattered(graph, 7, 1)
    chip, network = documents(graph, mapping, tmp_path / "out")
    simulated = Simulated(network)
    tiles = {site.x * chip["attributes"]["height"] + site.y for site in mapping.cores}
    hosts = {neuron[0] for neuron in simulated.soma if neuron[0].startswith("host:")}
    assert hosts == {f"host:{tile}" for tile in tiles}
    for neuron, home in simulated.homes.items():
        if neuron[0].startswith("host:"):
            own = home.split(".")[0]
            assert {simulated.homes[t].split(".")[0] for t, _ in simulated.targets[neuron]} == {own}
    # Every synapse is written, those of weight 0 too, and of a border only those inside.
    synapses = sum(
        len(edge["source_target_pairs"])
        for entry in network["network"]["edges"]
        for ends, edge in entry.items()
        if ends.startswith("host:")
    )
    assert synapses == 4 * 2 * (8 * 3 - 2) ** 2


def test_tiles_are_where_sites_are(tmp_path: Path) -> None:
    graph = spiking_network(3, leaky=True)
    mapping = scattered(graph, 7, 1)
    chip, network = documents(graph, mapping, tmp_path / "out")
    height = chip["attributes"]["height"]
    assert len(chip["tile"]) == chip["attributes"]["width"] * height
    simulated = Simulated(network)
    for piece in mapping.pieces:
        if (group_name(piece.layer), 0) not in simulated.homes:
            continue
        features = graph.types[piece.layer, graph.node(piece.layer).OUTPUTS[0]].shape
        width = features[0] if len(features) == 3 else features[-1]
        site = mapping.cores[piece.core]
        for position in piece.positions:
            home = simulated.homes[group_name(piece.layer), position * width + piece.features[0]]
            tile = int(home.split(".")[0])
            assert (tile // height, tile % height) == (site.x, site.y)


def test_costs_are_the_profiles() -> None:
    profile = load_profile("loihi1")
    costs = architecture_of(profile)
    assert costs.synapse_j == pytest.approx(23.6e-12)
    assert (costs.access_j, costs.access_j + costs.update_j) == pytest.approx((52e-12, 72.3e-12))
    assert (costs.hop_x_j, costs.hop_y_j) == pytest.approx((3e-12, 4e-12))


def test_every_node_that_cannot_be_said_is_named() -> None:
    graph = quantised_at_random(build(Recipe(norm=False, stem="sps", blocks=1, events=True)), 0)
    told = "; ".join(refusals(graph))
    for op in ("SpikeMatMul", "HaltingScore", "HaltAccumulate", "Gate", "SpikeMaxPool", "Add"):
        nodes = [node.name for node in graph.nodes if type(node).__name__.removeprefix("Fixed") == op]
        assert nodes and all(f"{name}: {op} " in told for name in nodes)
    with pytest.raises(InputError, match=f"cannot say {len(refusals(graph))} parts"):
        write_package(graph, one_core(graph), COSTS, input_spikes(0), Path("unused"))


def test_many_refusals_are_told_by_kind() -> None:
    graph = quantised_at_random(build(Recipe(norm=False, stem="sps", blocks=2, events=True)), 0)
    reasons = refusals(graph)
    error = cannot_say(reasons)
    assert "none with attention or halting" in str(error)
    counts = [int(line.split(" x ")[0]) if " x " in line else 1 for line in error.lines]
    assert sum(counts) == len(reasons) and counts == sorted(counts, reverse=True)
    kinds = {reason.partition(": ")[2] for reason in reasons}
    assert len(error.lines) == len(kinds) and f"other kinds: {len(kinds) - 3}" in str(error)
    assert cannot_say(reasons[:1]).lines == () and reasons[0] in str(cannot_say(reasons[:1]))


def test_sums_that_are_rounded_are_refused() -> None:
    graph = spiking_network(3, leaky=False)
    exponents = np.full(graph.tensor("conv1", "weight_exp").shape, -1, np.int16)
    odd = dataclasses.replace(graph, tensors={**graph.tensors, "conv1/weight_exp": exponents})
    assert any(reason.startswith("conv1: Conv2d rounds") for reason in refusals(odd))
    even = (graph.tensor("conv1", "weight") * 2).astype(np.int16)
    whole = dataclasses.replace(odd, tensors={**odd.tensors, "conv1/weight": even})
    assert refusals(whole) == ()


def test_biases_are_refused() -> None:
    graph = spiking_network(3, leaky=True)
    bias = np.ones_like(graph.tensor("conv1", "bias"))
    biased = dataclasses.replace(graph, tensors={**graph.tensors, "conv1/bias": bias})
    assert [reason.split(" ")[0] for reason in refusals(biased)] == ["conv1:"]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    graph = spiking_network(3, leaky=True)
    mapping = one_core(graph)
    frames = input_spikes(0)
    for wrong in (frames + frames[::-1], frames[1:]):
        with pytest.raises(InputError, match="no graded spikes"):
            write_package(graph, mapping, COSTS, wrong, tmp_path / "out")
    two = by_channels(graph, 3)
    sites = (*two.cores[:-1], CoreLocation(chip=1))
    with pytest.raises(InputError, match="several chips"):
        write_package(graph, dataclasses.replace(two, cores=sites), COSTS, frames, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def sanafe_python() -> Path:
    """The environment that uv.lock says, made anew where it is missing."""
    python = ROOT / ".oracle" / "bin" / "python"
    subprocess.run(["make", "-s", "-C", str(ROOT), "oracle"], check=True)
    return python


@pytest.mark.slow
def test_sanafe_counts_and_prices_the_same(sanafe_python: Path, tmp_path: Path) -> None:
    for case in sanafe_cases():
        check = cross_check(case, sanafe_python, tmp_path)
        for count in check.counts:
            assert count.own == count.theirs, (case.name, count.quantity)
            on_one_tile = len(set(case.mapping.cores)) == 1
            assert any(count.own) or (on_one_tile and count.quantity.startswith("hops"))
        for energy in check.energies:
            assert abs(energy.error) < 1e-6, (case.name, energy.quantity, energy.error)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_sanafe_agrees_on_other_networks(sanafe_python: Path, tmp_path: Path, seed: int) -> None:
    """Other weights, spikes and cores, among them those that `place` chooses."""
    profile = load_profile("loihi1-fitted")
    graph = spiking_network(seed, leaky=False)
    mappings = (
        scattered(graph, 5 + 7 * seed, seed),
        place(graph, profile, strategy="token-major", groups=2 + seed),
        place(graph, profile, strategy="channel-major", groups=2 + seed),
    )
    for number, mapping in enumerate(mappings):
        case = Case(f"case {number}", graph, mapping, input_spikes(100 + seed), profile)
        check = cross_check(case, sanafe_python, tmp_path)
        assert check.holds, check
        assert max(abs(energy.error) for energy in check.energies) < 1e-6


def test_a_difference_is_found() -> None:
    count = Count("messages", (0, 3, 5), (0, 3, 5))
    energy = Check(
        case="", quantity="all", unit="J", predicted=Interval(1.0, 1.0, 1.0), measured=1.005,
        promise="error", bound=0.01,
    )  # fmt: skip
    check = CrossCheck("", (count,), (energy,), {})
    assert check.holds
    moved = dataclasses.replace(count, theirs=(3, 0, 5))
    assert not dataclasses.replace(check, counts=(moved,)).holds
    assert not dataclasses.replace(check, energies=(dataclasses.replace(energy, measured=1.02),)).holds


def test_a_missing_or_failing_sanafe_is_told(tmp_path: Path) -> None:
    case = sanafe_cases()[0]
    with pytest.raises(InputError, match="make oracle"):
        cross_check(case, tmp_path / "python", tmp_path)
    with pytest.raises(InputError, match=r"SANA-FE failed on .*No module named 'sanafe'"):
        cross_check(case, Path(sys.executable), tmp_path)
