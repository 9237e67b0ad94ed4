"""Prices every deployment of every network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.choices import Mode
from stas_neuro.energy import estimate
from stas_neuro.errors import InputError, StasError
from stas_neuro.ir import POLICIES, Graph
from stas_neuro.optimise.measure import Bench, Measured
from stas_neuro.optimise.result import Candidate, Price
from stas_neuro.optimise.space import Placing, Space, Variant, deployments, placings, variants

Report = Callable[[str, int, int], None]
"""Called with what is done, and the number of finished and of all networks or points."""


@dataclass
class Search:
    """One search over the networks of some models.

    Parameters
    ----------
    profile : Profile
    mode : "single" or "stream"
    space : Space
    report : callable

    Attributes
    ----------
    found : list of Candidate
    networks : int
        Number of networks that were made.
    refused : Counter
        Number of networks and deployments that cannot be, by reason.
    """

    profile: Profile
    mode: Mode
    space: Space
    report: Report
    found: list[Candidate] = field(default_factory=list)
    networks: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def explore(self, benches: Sequence[Bench]) -> None:
        """Price every deployment of every network of the models."""
        tasks = [(bench, variant) for bench in benches for variant in self._variants(bench)]
        for number, (bench, variant) in enumerate(tasks):
            self.report("networks", number, len(tasks))
            try:
                measured = bench.measure(variant)
            except StasError as error:
                self.refused[error.what] += 1
                continue
            self.networks += 1
            halts = bool(measured.graph.accumulators)
            for placing in placings(self.space, self.profile, halts=halts):
                self.found += self._priced(bench, measured, placing)
        self.report("networks", len(tasks), len(tasks))

    def _variants(self, bench: Bench) -> Iterator[Variant]:
        network = bench.compiler.opened.network
        if network is None:
            raise InputError("the network is quantised already", "give the model that it was compiled from")
        graph = bench.compilation(Variant(family="as given", options={"bits": self.space.bits[0]})).fold()
        trained = graph.accumulators[0].mode if graph.accumulators else None
        fixed = trained is not None and isinstance(network, Graph)
        by_image = any(POLICIES[policy].by_image for policy in self.space.policies)
        return variants(
            self.space,
            model=bench.label,
            steps=graph.time_steps,
            trained=trained,
            fixed=fixed,
            margins=bench.margins(self.space.leads) if by_image and not fixed else (),
        )

    def _priced(self, bench: Bench, measured: Measured, placing: Placing) -> Iterator[Candidate]:
        """Price the deployments of a network on one placement."""
        options = deployments(self.space, self.profile, self.mode, halts=bool(measured.graph.accumulators))
        try:
            mapping = bench.place(measured, placing)
        except StasError as error:
            self.refused[error.what] += len(options)
            return
        activities: dict[str, Activity] = {}
        for deployment in options:
            gating = deployment.gating or "silent"
            try:
                if gating not in activities:
                    activities[gating] = bench.activity(measured, mapping, gating)
                price = Price.of(estimate(activities[gating], self.profile, deployment, both=False))
            except StasError as error:
                self.refused[error.what] += 1
                continue
            if price is None:
                self.refused[f"{self.profile.name} has no total energy or no time"] += 1
                continue
            yield Candidate(
                variant=measured.variant,
                placing=placing,
                deployment=deployment,
                accuracy=measured.accuracy,
                visits=measured.visits,
                cores=len(mapping.cores),
                price=price,
            )
