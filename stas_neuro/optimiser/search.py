"""Prices every deployment of every network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.choices import Mode
from stas_neuro.compiler import Compiler
from stas_neuro.energy import Deployment
from stas_neuro.energy import price as totals_of
from stas_neuro.errors import InputError, StasError
from stas_neuro.ir import POLICIES, Graph
from stas_neuro.optimiser.measure import Bench, Measured
from stas_neuro.optimiser.placements import Placed, Placements
from stas_neuro.optimiser.result import Candidate, Price
from stas_neuro.optimiser.space import (
    IMAGE_PIPELINED,
    Placing,
    Space,
    Variant,
    deployments,
    spreads,
    strategies,
    variants,
)
from stas_neuro.optimiser.workers import Doing

Report = Callable[[str, int, int], None]
"""Called with what is done, and the number of finished and of all networks or points."""


@dataclass(frozen=True)
class Target:
    """What a frontier is for: a chip, and whether images come alone or in a stream."""

    profile: Profile
    mode: Mode

    @property
    def name(self) -> str:
        """The chip and the mode."""
        return f"{self.profile.name}-{self.mode}"

    def check(self) -> None:
        """Refuse a chip on which nothing can be placed and priced; raises InputError with all reasons."""
        lacks = {
            "limits": "networks cannot be placed",
            "energy": "events have no energy",
            "time": "steps have no time",
        }
        reasons = {words: self.profile.reason(section) for section, words in lacks.items()}
        found = [f"{words} ({why})" for words, why in reasons.items() if why is not None]
        if found:
            what = f"no deployment on {self.profile.name} can be priced: {', '.join(found)}"
            raise InputError(what, "use another profile")


@dataclass(frozen=True)
class Task:
    """Networks of one model that share steps of their compilation: they differ in schedule and bits."""

    bench: int
    variants: tuple[Variant, ...]


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
    """One search over the networks of some models, for several targets.

    Parameters
    ----------
    benches : sequence of Bench
        The models; the first is the one that is optimised, the others are rivals.
    targets : sequence of Target
    space : Space
    placements : Placements
    """

    benches: Sequence[Bench]
    targets: Sequence[Target]
    space: Space
    placements: Placements

    def tasks(self) -> list[Task]:
        """List the networks to make; the first of each family first, which others share placements with."""
        first: dict[str, Task] = {}
        others: list[Task] = []
        for number, bench in enumerate(self.benches):
            shared: dict[object, list[Variant]] = {}
            for variant in self._variants(bench, rival=number > 0):
                shared.setdefault(variant.recipe, []).append(variant)
            for members in shared.values():
                task = Task(number, tuple(members))
                if first.setdefault(members[0].family, task) is not task:
                    others.append(task)
        return [*first.values(), *others]

    def explore(self, tasks: Sequence[Task], do: Doing, report: Report) -> list[Explored]:
        """Do tasks, and join what was found for each target."""
        explored = [Explored() for _ in self.targets]
        total, done = sum(len(task.variants) for task in tasks), 0
        report("networks", 0, total)
        for task, parts in zip(tasks, do(tasks), strict=True):
            for whole, part in zip(explored, parts, strict=True):
                whole.add(part)
            done += len(task.variants)
            report("networks", done, total)
        return explored

    def part(self, task: Task) -> list[Explored]:
        """Price every deployment of the networks of a task, for each target."""
        bench = self.benches[task.bench]
        compiler = bench.compiler()
        explored = [Explored() for _ in self.targets]
        for variant in task.variants:
            measured: dict[int, Measured] = {}
            for profile, numbers in self._chips():
                parts = {self.targets[number].mode: explored[number] for number in numbers}
                try:
                    graph = bench.integers(compiler, variant, profile)
                except StasError as error:
                    for part in parts.values():
                        part.refused[error.what] += 1
                    continue
                if id(graph) not in measured:  # chips with the same arithmetic have the same program
                    measured[id(graph)] = bench.measure(variant, graph)
                self._price(bench, compiler, measured[id(graph)], profile, parts)
        return explored

    def _chips(self) -> list[tuple[Profile, list[int]]]:
        """List the chips, and the numbers of the targets of each."""
        chips: dict[str, tuple[Profile, list[int]]] = {}
        for number, target in enumerate(self.targets):
            chips.setdefault(target.profile.name, (target.profile, []))[1].append(number)
        return list(chips.values())

    def _variants(self, bench: Bench, *, rival: bool) -> Iterator[Variant]:
        network = bench.opened.network
        if network is None:
            raise InputError("the network is quantised already", "give the model that it was compiled from")
        chip = self.targets[0].profile
        given = Variant(family="as given", options={"bits": self.space.bits[0]})
        graph = bench.compilation(bench.compiler(), given, chip).fold()
        trained = graph.accumulators[0].mode if graph.accumulators else None
        fixed = trained is not None and isinstance(network, Graph)
        by_image = any(POLICIES[policy].by_image for policy in self.space.policies)
        return variants(
            self.space.without_tokens() if rival else self.space,
            model=bench.label,
            steps=graph.time_steps,
            trained=trained,
            fixed=fixed,
            exits=bench.exits(chip, self.space.leads) if by_image and not fixed else (),
        )

    def _price(
        self,
        bench: Bench,
        compiler: Compiler,
        measured: Measured,
        profile: Profile,
        parts: dict[Mode, Explored],
    ) -> None:
        """Price the deployments of a network on one chip, for each mode."""
        halts, overlaps = bool(measured.graph.accumulators), measured.variant.family == IMAGE_PIPELINED
        options = {
            mode: deployments(self.space, profile, mode, halts=halts, overlaps=overlaps) for mode in parts
        }
        gated = any(each.gating in ("core", "power") for listed in options.values() for each in listed)
        gating = "core" if gated else "silent"  # what is counted for it is not priced without it
        for part in parts.values():
            part.networks += 1
        placed: list[Placed] = []
        for found in self.placed_in_all_ways(bench, compiler, measured, profile, gating):
            if isinstance(found, Placed):
                placed.append(found)
                continue
            for mode, part in parts.items():
                part.refused[found.what] += len(options[mode])
        activities = bench.activities(measured, [each.counting for each in placed]) if placed else []
        for on_cores, activity in zip(placed, activities, strict=True):
            for mode, part in parts.items():
                part.found += _priced(measured, profile, on_cores, activity, options[mode], part.refused)

    def placed_in_all_ways(
        self, bench: Bench, compiler: Compiler, measured: Measured, profile: Profile, gating: str
    ) -> Iterator[Placed | StasError]:
        """Place a network on a chip in all ways, or yield why that cannot be."""
        graph = measured.graph

        def placed(placing: Placing) -> Placed | StasError:
            try:
                if placing.strategy == "halting-aware":
                    learned = bench.compilation(compiler, measured.variant, profile, placing)
                    return Placed.learned(graph, learned, placing, gating)
                return self.placements.of(graph, profile, placing, gating)
            except StasError as error:
                return error

        for strategy in strategies(self.space, profile, halts=bool(graph.accumulators)):
            fewest = placed(Placing(strategy=strategy, cores=None, groups=None))
            yield fewest
            if isinstance(fewest, Placed):
                for placing in spreads(self.space, profile, graph.tokens, fewest.mapping, strategy):
                    found = placed(placing)
                    if isinstance(found, StasError):
                        # Where each group takes its own copy of inputs or weights, more groups may not fit.
                        found = placed(replace(placing, groups=fewest.mapping.groups))
                    yield found


def _priced(
    measured: Measured,
    profile: Profile,
    placed: Placed,
    activity: Activity,
    options: Sequence[Deployment],
    refused: Counter[str],
) -> Iterator[Candidate]:
    """Price the deployments of a network on one placement."""
    cores = len(placed.mapping.cores)
    room = profile.limit("cores_per_chip") // cores
    for deployment in options:
        if (reason := _no_copies(deployment, room)) is not None:
            refused[reason] += 1
            continue
        try:
            price = Price.of(totals_of(activity, profile, deployment))
        except StasError as error:
            refused[error.what] += 1
            continue
        if price is None:
            refused[f"{profile.name} has no energy or no time"] += 1
            continue
        yield Candidate(
            variant=measured.variant,
            placing=placed.placing,
            deployment=deployment,
            accuracy=measured.accuracy,
            visits=measured.visits,
            cores=cores,
            price=price,
            sample=tuple(measured.sample.tolist()),
        )


def _no_copies(deployment: Deployment, room: int) -> str | None:
    """Say why copies are not priced: a chip has not the room, or it is full of another number that is."""
    copies = deployment.replicas
    if copies == "fill":
        return None if room > 1 else "a chip is full of one copy of the network"
    return None if copies == 1 or copies < room else f"a chip has no room for more copies than {copies}"
