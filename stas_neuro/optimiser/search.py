"""Prices every deployment of every network."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.choices import Mode
from stas_neuro.energy import price as totals_of
from stas_neuro.errors import InputError, StasError
from stas_neuro.extras import needs
from stas_neuro.ir import POLICIES, Graph
from stas_neuro.optimiser.measure import Bench, Measured
from stas_neuro.optimiser.result import Candidate, Price
from stas_neuro.optimiser.space import Placing, Space, Variant, deployments, placings, variants

Report = Callable[[str, int, int], None]
"""Called with what is done, and the number of finished and of all networks or points."""


@dataclass
class Explored:
    """What was found: the priced deployments, the number of networks made, and what cannot be, by reason."""

    found: list[Candidate] = field(default_factory=list)
    networks: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, other: Explored) -> None:
        """Add what was found in another part of the search."""
        self.found += other.found
        self.networks += other.networks
        self.refused += other.refused


@dataclass(frozen=True)
class Search:
    """One search over the networks of some models.

    Parameters
    ----------
    benches : sequence of Bench
        The models; the first is the one that is optimised, the others are rivals.
    profile : Profile
    mode : "single" or "stream"
    space : Space
    """

    benches: Sequence[Bench]
    profile: Profile
    mode: Mode
    space: Space

    def explore(self, report: Report, jobs: int) -> Explored:
        """Price every deployment of every network, in `jobs` processes."""
        tasks = [
            (number, variant)
            for number, bench in enumerate(self.benches)
            for variant in self._variants(bench, rival=number > 0)
        ]
        explored = Explored()
        report("networks", 0, len(tasks))
        for number, part in enumerate(self._parts(tasks, jobs), 1):
            explored.add(part)
            report("networks", number, len(tasks))
        return explored

    def _parts(self, tasks: Sequence[tuple[int, Variant]], jobs: int) -> Iterator[Explored]:
        if jobs == 1:
            yield from (self.part(*task) for task in tasks)
            return
        # Forked workers could deadlock in the threads of torch, so they start anew.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(pickle.dumps(self),)) as pool:
            yield from pool.map(_part, tasks)

    def part(self, bench: int, variant: Variant) -> Explored:
        """Price every deployment of one network."""
        explored = Explored()
        try:
            measured = self.benches[bench].measure(variant)
        except StasError as error:
            explored.refused[error.what] += 1
            return explored
        explored.networks = 1
        halts = bool(measured.graph.accumulators)
        for placing in placings(self.space, self.profile, measured.graph.tokens, halts=halts):
            explored.found += self._priced(self.benches[bench], measured, placing, explored.refused)
        return explored

    def _variants(self, bench: Bench, *, rival: bool) -> Iterator[Variant]:
        network = bench.compiler.opened.network
        if network is None:
            raise InputError("the network is quantised already", "give the model that it was compiled from")
        graph = bench.compilation(Variant(family="as given", options={"bits": self.space.bits[0]})).fold()
        trained = graph.accumulators[0].mode if graph.accumulators else None
        fixed = trained is not None and isinstance(network, Graph)
        by_image = any(POLICIES[policy].by_image for policy in self.space.policies)
        return variants(
            self.space.without_tokens() if rival else self.space,
            model=bench.label,
            steps=graph.time_steps,
            trained=trained,
            fixed=fixed,
            margins=bench.margins(self.space.leads) if by_image and not fixed else (),
        )

    def _priced(
        self, bench: Bench, measured: Measured, placing: Placing, refused: Counter[str]
    ) -> Iterator[Candidate]:
        """Price the deployments of a network on one placement."""
        options = deployments(self.space, self.profile, self.mode, halts=bool(measured.graph.accumulators))
        try:
            mapping = bench.place(measured, placing)
        except StasError as error:
            refused[error.what] += len(options)
            return
        activities: dict[str, Activity] = {}
        for deployment in options:
            gating = deployment.gating or "silent"
            try:
                if gating not in activities:
                    activities[gating] = bench.activity(measured, mapping, gating)
                price = Price.of(totals_of(activities[gating], self.profile, deployment))
            except StasError as error:
                refused[error.what] += 1
                continue
            if price is None:
                refused[f"{self.profile.name} has no total energy or no time"] += 1
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


_search: Search | None = None
"""The search of a worker process."""


def _start(search: bytes) -> None:
    global _search
    with needs("torch"):  # a model may be of torch
        _search = pickle.loads(search)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is gone: it would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    wait([parent.sentinel])
    os._exit(1)


def _part(task: tuple[int, Variant]) -> Explored:
    assert _search is not None  # `_start` sets it
    return _search.part(*task)
