"""Runs of networks on the cores of chips, each placed on the fewest cores, to compare them on every chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stas_neuro import api
from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.choices import Gating
from stas_neuro.data import LabelledImages
from stas_neuro.energy import Comparison, Deployment, compare
from stas_neuro.energy.early_end import can_end_early, computes_on
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.placement import place
from stas_neuro.placement.limits import limits_of


@dataclass
class ChipRuns:
    """Runs networks on the cores of chips, each placement once.

    Parameters
    ----------
    images : LabelledImages
        What is run.
    profiling : LabelledImages, optional
        Other images, from which placements on chips that can gate cores learn which tokens halt together.
        Without them these are placed as on other chips.
    placed : bool
        Whether networks are placed at all.
    notes : dict
        Why networks are run without cores; filled by runs.
    """

    images: LabelledImages
    profiling: LabelledImages | None = None
    placed: bool = True
    notes: dict[str, None] = field(default_factory=dict)
    _done: dict[object, tuple[Graph, Activity]] = field(default_factory=dict)
    """Activities by the ids of graph and images; the graph is stored to keep its `id` valid."""
    _placed: dict[object, tuple[Graph, CoreMapping]] = field(default_factory=dict)
    """Placements that are not learned, by the id of the graph and the limits of the chip."""

    def run(self, networks: Mapping[str, Graph], profile: Profile) -> dict[str, Activity]:
        """Run networks, by name, on the cores of a chip; without cores if one of them cannot be placed."""
        mappings = self._place(networks, profile)
        return {name: self._run(graph, self.images, mappings.get(name)) for name, graph in networks.items()}

    def _place(self, networks: Mapping[str, Graph], profile: Profile) -> dict[str, CoreMapping]:
        if not self.placed:
            return {}
        if (why := profile.reason("limits")) is not None:
            self.notes[f"{profile.name}: priced without a mapping, as {why}"] = None
            return {}
        mappings = {}
        for name, graph in networks.items():
            # The assignment of tokens to cores matters only if cores can be gated.
            seen = None
            if self.profiling is not None and graph.accumulators and gating_of(profile) != "silent":
                seen = self._run(graph, self.profiling, None)
            try:
                if seen is None:
                    mappings[name] = self._unlearned(graph, profile)
                else:
                    mappings[name] = place(graph, profile, strategy="halting-aware", seen=seen)
            except InputError as error:
                note = f"{profile.name}: priced without a mapping, as {name} cannot be placed: {error}"
                self.notes[note] = None
                return {}
        return mappings

    def _unlearned(self, graph: Graph, profile: Profile) -> CoreMapping:
        key = id(graph), repr(limits_of(profile))
        if key not in self._placed:
            self._placed[key] = graph, place(graph, profile, strategy="token-major")
        return self._placed[key][1]

    def _run(self, graph: Graph, images: LabelledImages, mapping: CoreMapping | None) -> Activity:
        key = id(graph), id(images), mapping and (mapping.cores, mapping.pieces)
        if key not in self._done:
            self._done[key] = graph, api.run(graph, images, mapping=mapping, per_image=True).activity
        return self._done[key][1]


def has_total(profile: Profile) -> bool:
    """Return whether energy is priced as a whole: the chip has cores, times and static power."""
    needed = ("limits", "time", "power", "power.static")
    return all(profile.reason(name) is None for name in needed)


def gating_of(profile: Profile) -> Gating:
    """Return the strongest gating that a chip supports; power gating only if its cores are known."""
    if profile.reason("capabilities.core_gating") is not None:
        return "silent"
    can = profile.capability("core_gating")
    if can == "power" and profile.reason("limits") is None:
        return "power"
    return "silent" if can == "no" else "core"


def compare_on_chips(
    runs: ChipRuns,
    halting: tuple[str, Graph],
    baselines: Mapping[str, Graph],
    profiles: Sequence[Profile],
    baseline: Deployment | None = None,
) -> Comparison:
    """Compare a halting network with baselines, by label, placed on each chip.

    A pipeline that ends with an exit (`PipelineExit`) does so on every chip that can end a run. `baseline`
    is how baselines are deployed, as for `compare`.
    """
    label, graph = halting
    found = []
    for profile in profiles:
        ran = runs.run({label: graph, **baselines}, profile)
        ours = ran.pop(label)
        found.append(compare(ours, ran, [profile], _deployment(ours, profile), baseline=baseline))
    return joined(found)


def _deployment(activity: Activity, profile: Profile) -> Deployment:
    """Deploy a halting network: its pipeline ends with the exit, or its halted tokens are gated."""
    if computes_on(activity):
        return Deployment(early_end=can_end_early(profile))
    gating = gating_of(profile)
    return Deployment(gating="core" if gating == "power" and not activity.cores else gating)


def joined(results: Sequence[Comparison]) -> Comparison:
    """Concatenate comparisons."""
    return replace(results[0], rows=tuple(row for result in results for row in result.rows))
