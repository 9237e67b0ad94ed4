"""First-fit packing of layers onto cores, within all limits of a core.

Layers are packed from the readout back to the input, so that the number of cores that a neuron sends to is
known when the neuron is placed. A region that does not fit an empty core is cut.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import Graph
from stas_neuro.ir.ops.base import Wanted
from stas_neuro.mapping.reach import Reach
from stas_neuro.mapping.routes import merged
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.limits import Limits
from stas_neuro.placement.reasons import Reason

Domain = tuple[str, int]
"""Cores that are gated together: a part of the network, and a group of its tokens or features."""
Axis = Literal["positions", "features"]


@dataclass(frozen=True)
class Region:
    """Some positions and a range of features of a layer; it is cut in the order of the positions."""

    positions: tuple[int, ...]
    features: tuple[int, int]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return len(self.positions) * (self.features[1] - self.features[0])

    @property
    def index(self) -> tuple[NDArray[np.intp], slice]:
        """Index of the neurons in an array (positions, features)."""
        return np.array(self.positions, dtype=np.intp), slice(*self.features)


@dataclass(frozen=True)
class Core:
    """Contents of a core: its domain, pieces by layer, resources they use, and values they receive.

    The values are only kept if the axons of a core are limited.
    """

    domain: Domain
    pieces: Mapping[str, Region] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[str, Wanted] = field(default_factory=dict)


_EMPTY = Core(("", 0))


class Packer:
    """Puts layers on cores; `cores` are the cores in use, `reasons` why some layer fits no core."""

    def __init__(self, graph: Graph, limits: Limits) -> None:
        self.limits = limits
        self.cores: list[Core] = []
        self.reasons: list[Reason] = []
        self._graph = graph
        self._reach = Reach(graph)
        self._counts_axons = bool({"input axons", "output axons"} & limits.core.keys())
        self._needs: dict[tuple[str, Region], dict[str, Wanted]] = {}
        self._targets: dict[str, NDArray[np.int64]] = {}
        """Number of cores that each neuron of a layer sends to, (positions, features)."""
        self._of_domain: dict[Domain, list[int]] = {}
        self._added = [name for name in limits.core if name != "input axons"]
        """Resources of which a core uses the sum of what its pieces need."""
        self._most = np.array([limits.core[name] for name in self._added], dtype=np.int64)
        self._used = np.zeros((0, len(self._added)), dtype=np.int64)
        """Use of each core, and of cores to come."""

    def fork(self) -> Packer:
        """Return a packer that continues from the current state and does not change this one."""
        other = copy.copy(self)
        other.cores, other.reasons = list(self.cores), list(self.reasons)
        other._targets, other._used = dict(self._targets), self._used.copy()
        other._of_domain = {domain: list(cores) for domain, cores in self._of_domain.items()}
        return other

    def check(self, demand: LayerDemand) -> None:
        """Add the reasons why a neuron of a layer fits no core, without the limits of its targets."""
        side = isqrt(demand.positions)
        # In a square map the neuron in the middle has the most sources; for others this is not known.
        middle = (
            [side // 2 * side + side // 2] if side * side == demand.positions else range(demand.positions)
        )
        neurons = [Region((at,), (0, 1)) for at in middle]
        fan_ins = [sum(int(v.sum()) for v in self._needed(demand, neuron).values()) for neuron in neurons]
        most = max(fan_ins)
        self.reasons += self._broken(demand, neurons[fan_ins.index(most)])
        if self.limits.fan_in is not None and most > self.limits.fan_in:
            self.reasons.append(Reason(demand.name, "fan-in", most, self.limits.fan_in))

    def overfull(self) -> Iterator[Reason]:
        """Yield reasons for cores with too many targets, due to targets unknown when the core was filled.

        These are targets of delayed edges, which are placed later.
        """
        limit = self.limits.core.get("output axons")
        for core in self.cores:
            parts = ((name, region) for name, region in core.pieces.items() if name in self._targets)
            needed = sum(int(self._targets[name][region.index].sum()) for name, region in parts)
            if limit is not None and needed > limit:
                yield Reason(next(iter(core.pieces)), "output axons", needed, limit)

    def place(self, demand: LayerDemand, region: Region, domain: Domain, axis: Axis) -> None:
        """Put a region of a layer on cores of a domain, cut along `axis` if it does not fit one core.

        Where one step along that axis does not fit a core, the other axis is cut, too.
        """
        waiting = [region]
        while waiting:
            whole = waiting.pop(0)
            home = self._open_core(demand, whole, domain)
            if home is not None:
                self._put(demand, whole, home)
                continue
            fitting, rest = self._largest(demand, whole, axis)
            if fitting is None:
                return
            self._put(demand, fitting, self._new_core(domain))
            waiting = [*rest, *waiting]

    def _new_core(self, domain: Domain) -> int:
        self._of_domain.setdefault(domain, []).append(len(self.cores))
        self.cores.append(Core(domain))
        if len(self.cores) > len(self._used):
            self._used = np.pad(self._used, ((0, len(self.cores)), (0, 0)))
        return len(self.cores) - 1

    def _open_core(self, demand: LayerDemand, region: Region, domain: Domain) -> int | None:
        cores = self._of_domain.get(domain)
        if cores is None or region.neurons > self.limits.core.get("neurons", region.neurons):
            return None
        needed = np.array([self._needs_of(name, demand, region) for name in self._added], dtype=np.int64)
        fitting = np.flatnonzero((self._used[cores] + needed <= self._most).all(axis=1)).tolist()
        limit = self.limits.core.get("input axons")
        for number in (cores[at] for at in fitting):
            core = self.cores[number]
            if demand.name in core.pieces:
                continue
            if limit is None or self._received(demand, region, core) <= limit:
                return int(number)
        return None

    def _largest(self, demand: LayerDemand, region: Region, axis: Axis) -> tuple[Region | None, list[Region]]:
        """Cut off the largest part that fits an empty core.

        Returns that part and the remaining regions; None, with new `reasons`, where one neuron does not fit.
        """
        neuron = Region(region.positions[:1], (region.features[0], region.features[0] + 1))
        if broken := list(self._broken(demand, neuron)):
            self.reasons += broken
            return None, []
        fitting, rest = self._prefix(demand, region, axis)
        if fitting is not None:
            return fitting, rest
        other: Axis = "features" if axis == "positions" else "positions"
        parts, size = 2, _size(region, other)
        while parts <= size:
            pieces = list(_cut(region, other, parts))
            fitting, rest = self._prefix(demand, pieces[0], axis)
            if fitting is not None:
                return fitting, [*rest, *pieces[1:]]
            parts += 1
        raise AssertionError(f"{demand.name}: a neuron fits a core, and no part of the layer does")

    def _prefix(self, demand: LayerDemand, region: Region, axis: Axis) -> tuple[Region | None, list[Region]]:
        """Cut off as many steps along an axis as fit an empty core.

        Returns that part and the remaining regions; None where one step does not fit.
        """
        size = _size(region, axis)
        most = self.limits.core.get("neurons", region.neurons)
        low, high = 0, min(size, most // (region.neurons // size))
        while low < high:
            middle = (low + high + 1) // 2
            if any(self._broken(demand, _first(region, axis, middle))):
                high = middle - 1
            else:
                low = middle
        return (None, []) if low == 0 else (_first(region, axis, low), _rest(region, axis, low))

    def _broken(self, demand: LayerDemand, region: Region) -> Iterator[Reason]:
        """Yield the limits of an empty core that a region exceeds; those cheap to compute come first."""
        for resource, limit in self.limits.core.items():
            needed = self._needs_of(resource, demand, region)
            if needed > limit:
                yield Reason(demand.name, resource, needed, limit)

    def _needs_of(self, resource: str, demand: LayerDemand, region: Region) -> int:
        """Return the amount of a resource that a region needs on an empty core."""
        if resource == "input axons":
            return self._received(demand, region, _EMPTY)
        if resource == "neurons":
            return region.neurons
        if resource == "synaptic memory":
            sharing = self.limits.weight_sharing
            # Positions that share their weights need them once, wherever they are.
            positions = np.array(() if sharing else region.positions, dtype=np.intp)
            return demand.memory(positions, region.features, sharing=sharing)
        targets = self._targets.get(demand.name)
        return 0 if targets is None else int(targets[region.index].sum())

    def _received(self, demand: LayerDemand, region: Region, core: Core) -> int:
        """Return the number of values that a core would receive with a region."""
        return sum(int(values.sum()) for values in self._with(demand, region, core).values())

    def _with(self, demand: LayerDemand, region: Region, core: Core) -> dict[str, Wanted]:
        """Return the values that a core would receive with a region."""
        needs = self._needed(demand, region)
        return {**core.taken, **{name: v | core.taken.get(name, False) for name, v in needs.items()}}

    def _needed(self, demand: LayerDemand, region: Region) -> dict[str, Wanted]:
        """Return the values that a region needs; values computed outside the cores have no axons."""
        needs = self._needs.get((demand.name, region))
        if needs is None:
            needs = merged(self._reach.of(demand.name, region.positions, region.features))
            needs = {name: v for name, v in needs.items() if not self._graph.node(name).off_core}
            self._needs = {(demand.name, region): needs}  # the next question is of the same or a new one
        return needs

    def _put(self, demand: LayerDemand, region: Region, number: int) -> None:
        core = self.cores[number]
        added = [self._needs_of(name, demand, region) for name in self._added]
        self._used[number] += np.array(added, dtype=np.int64)
        used = dict(zip(self._added, self._used[number].tolist(), strict=True))
        taken = core.taken
        if self._counts_axons:
            taken = self._with(demand, region, core)
            used["input axons"] = sum(int(values.sum()) for values in taken.values())
            for source in self._needed(demand, region):
                new = taken[source] & ~np.asarray(core.taken.get(source, False))
                self._targets[source] = new + self._targets.get(source, np.int64(0))
        held = Region(tuple(sorted(region.positions)), region.features)
        self.cores[number] = Core(core.domain, {**core.pieces, demand.name: held}, used, taken)


def whole(demand: LayerDemand) -> Region:
    """Return the region of all neurons of a layer."""
    return Region(tuple(range(demand.positions)), (0, demand.features))


def _size(region: Region, axis: Axis) -> int:
    return len(region.positions) if axis == "positions" else region.features[1] - region.features[0]


def _first(region: Region, axis: Axis, steps: int) -> Region:
    """Return the first steps of a region along an axis."""
    if axis == "positions":
        return Region(region.positions[:steps], region.features)
    first = region.features[0]
    return Region(region.positions, (first, first + steps))


def _rest(region: Region, axis: Axis, steps: int) -> list[Region]:
    """Return a region without its first steps along an axis, if any are left."""
    if steps == _size(region, axis):
        return []
    if axis == "positions":
        return [Region(region.positions[steps:], region.features)]
    first, end = region.features
    return [Region(region.positions, (first + steps, end))]


def _cut(region: Region, axis: Axis, parts: int) -> Iterator[Region]:
    """Cut a region along an axis into parts whose sizes differ by one step at most."""
    for part in equal_parts(_size(region, axis), parts):
        if axis == "positions":
            yield Region(region.positions[part.start : part.stop], region.features)
        else:
            yield Region(region.positions, (region.features[0] + part.start, region.features[0] + part.stop))


def equal_parts(size: int, parts: int) -> Sequence[range]:
    """Cut 0..size into ranges whose lengths differ by one at most, the longer ones first."""
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + size // parts + (part < size % parts))
    return [range(a, b) for a, b in pairwise(ends)]
