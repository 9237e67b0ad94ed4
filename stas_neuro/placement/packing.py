"""First-fit packing of layers onto cores, within all limits of a core.

Layers are packed from the readout back to the input, so that the number of cores that a neuron sends to is
known when the neuron is placed. A region that does not fit an empty core is cut.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import inf, isqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import neuron_layers
from stas_neuro.ir import Graph
from stas_neuro.placement.demands import LayerDemand
from stas_neuro.placement.inputs import Elements, Inputs, Values, count, difference, elements, index_of, union
from stas_neuro.placement.limits import Limits
from stas_neuro.placement.reasons import Reason

Domain = tuple[str, int]
"""Cores that are gated together: a part of the network, and a group of its tokens or features."""
Axis = Literal["positions", "features"]


@dataclass(frozen=True)
class Region:
    """Some positions and a range of features of a layer; it is cut in the order of the positions.

    Positions in a row are a `range`, which is as short however many there are.
    """

    positions: Sequence[int]
    features: tuple[int, int]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return len(self.positions) * (self.features[1] - self.features[0])

    @property
    def index(self) -> tuple[NDArray[np.intp] | slice, slice]:
        """Index of the neurons in an array (positions, features)."""
        at = self.positions
        rows = slice(at.start, at.stop) if isinstance(at, range) else np.array(at, dtype=np.intp)
        return rows, slice(*self.features)

    @cached_property
    def sets(self) -> tuple[Elements, Elements]:
        """Its positions and features as sets."""
        return elements(self.positions), elements(range(*self.features))


@dataclass(frozen=True)
class Core:
    """Contents of a core: its domain, pieces by layer, and the values they receive, by source.

    The values, and the axons for them, are only kept if the axons of a core are limited.
    """

    domain: Domain
    pieces: Mapping[str, Region] = field(default_factory=dict)
    axons: int = 0
    taken: Mapping[str, Values] = field(default_factory=dict)


_EMPTY = Core(("", 0))


class Packer:
    """Puts layers on cores; `cores` are the cores in use, `reasons` why some layer fits no core.

    It stops where they are more than `most`, and leaves the rest unplaced.
    """

    def __init__(self, graph: Graph, limits: Limits, inputs: Inputs, most: float = inf) -> None:
        self.limits = limits
        self.most = most
        self.cores: list[Core] = []
        self.reasons: list[Reason] = []
        self._inputs = inputs
        self._counts_axons = bool({"input axons", "output axons"} & limits.core.keys())
        sends = neuron_layers(graph) if "output axons" in limits.core else {}
        self._targets = {name: np.zeros(extent, np.int64) for name, extent in sends.items()}
        """Number of cores that each neuron of a layer sends to, (positions, features), if that is limited."""
        self._of_domain: dict[Domain, list[int]] = {}
        self._added = [name for name in limits.core if name != "input axons"]
        """Resources of which a core uses the sum of what its pieces need."""
        beside = {name: limit for name, limit in limits.core.items() if name != "neurons"}
        self._cheap_first = sorted(beside.items(), key=lambda each: each[0] == "input axons")
        """The limits of a core but its neurons; that of what its pieces receive takes longest to find."""
        self._capacity = np.array([limits.core[name] for name in self._added], dtype=np.int64)
        self._used = np.zeros((0, len(self._added)), dtype=np.int64)
        """Use of each core, and of cores to come."""

    def fork(self) -> Packer:
        """Return a packer that continues from the current state and does not change this one."""
        other = copy.copy(self)
        other.cores, other.reasons = list(self.cores), list(self.reasons)
        other._targets = {name: targets.copy() for name, targets in self._targets.items()}
        other._used = self._used.copy()
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
        fan_ins = [self._received(demand, neuron, _EMPTY) for neuron in neurons]
        most = max(fan_ins)
        self.reasons += self._broken(demand, neurons[fan_ins.index(most)])
        if self.limits.fan_in is not None and most > self.limits.fan_in:
            self.reasons.append(Reason(demand.name, "fan-in", most, self.limits.fan_in))

    def overfull(self) -> Iterator[Reason]:
        """Yield reasons for cores with too many targets, due to targets unknown when the core was filled.

        These are targets of delayed edges, which are placed later.
        """
        limit = self.limits.core.get("output axons")
        if limit is None:
            return
        for core in self.cores:
            needed = sum(int(self._targets[name][held.index].sum()) for name, held in core.pieces.items())
            if needed > limit:
                yield Reason(next(iter(core.pieces)), "output axons", needed, limit)

    def place(self, demand: LayerDemand, region: Region, domain: Domain, axis: Axis) -> None:
        """Put a region of a layer on cores of a domain, cut along `axis` if it does not fit one core.

        Where one step along that axis does not fit a core, the other axis is cut, too.
        """
        waiting = [region]
        while waiting and len(self.cores) <= self.most:
            fitting, rest = self._largest(demand, waiting.pop(), axis)
            if fitting is None:
                return
            # What does not fit an empty core fits no other, either.
            home = None if rest else self._open_core(demand, fitting, domain)
            self._put(demand, fitting, self._new_core(domain) if home is None else home)
            waiting += reversed(rest)

    def _new_core(self, domain: Domain) -> int:
        self._of_domain.setdefault(domain, []).append(len(self.cores))
        self.cores.append(Core(domain))
        if len(self.cores) > len(self._used):
            self._used = np.pad(self._used, ((0, max(64, len(self.cores))), (0, 0)))
        return len(self.cores) - 1

    def _open_core(self, demand: LayerDemand, region: Region, domain: Domain) -> int | None:
        """Return the first core of a domain with room for a region, which fits an empty core."""
        cores = self._of_domain.get(domain)
        if cores is None:
            return None
        needed = np.array([self._needs_of(name, demand, region) for name in self._added], dtype=np.int64)
        fitting = np.flatnonzero((self._used[cores] + needed <= self._capacity).all(axis=1)).tolist()
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
        fitting, rest = self._prefix(demand, region, axis)
        if fitting is not None:
            return fitting, rest
        neuron = Region(region.positions[:1], (region.features[0], region.features[0] + 1))
        if broken := list(self._broken(demand, neuron)):
            self.reasons += broken
            return None, []
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
        steps = min(size, self.limits.core.get("neurons", region.neurons) // (region.neurons // size))
        for resource, limit in self._cheap_first:
            steps = self._steps_within(demand, region, axis, steps, resource, limit)
        return (None, []) if steps == 0 else (_first(region, axis, steps), _rest(region, axis, steps))

    def _steps_within(
        self, demand: LayerDemand, region: Region, axis: Axis, high: int, resource: str, limit: int
    ) -> int:
        """Return how many steps, up to `high`, an empty core has enough of a resource for."""

        def fits(steps: int) -> bool:
            return self._needs_of(resource, demand, _first(region, axis, steps)) <= limit

        if not high or fits(high):
            return high
        if not fits(1):
            return 0
        low, high = 1, high - 1
        while low < high:
            middle = (low + high + 1) // 2
            if fits(middle):
                low = middle
            else:
                high = middle - 1
        return low

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
            positions = slice(0) if sharing else region.index[0]
            return demand.memory(positions, region.features, sharing=sharing)
        return int(self._targets[demand.name][region.index].sum())

    def _received(self, demand: LayerDemand, region: Region, core: Core) -> int:
        """Return the number of values that a core would receive with a region."""
        axons = core.axons
        for source, values in self._inputs.of(demand.name, *region.sets).items():
            before = core.taken.get(source, ())
            axons += count(union(before, values)) - count(before)
        return axons

    def _put(self, demand: LayerDemand, region: Region, number: int) -> None:
        core = self.cores[number]
        self._used[number] += [self._needs_of(name, demand, region) for name in self._added]
        axons, taken = core.axons, dict(core.taken)
        if self._counts_axons:
            axons = self._received(demand, region, core)
            for source, values in self._inputs.of(demand.name, *region.sets).items():
                before = taken.get(source, ())
                taken[source] = union(before, values)
                for new in difference(values, before) if source in self._targets else ():
                    self._targets[source][np.ix_(*map(index_of, new))] += 1
        at = region.positions
        held = Region(at if isinstance(at, range) else tuple(sorted(at)), region.features)
        self.cores[number] = Core(core.domain, {**core.pieces, demand.name: held}, axons, taken)


def whole(demand: LayerDemand) -> Region:
    """Return the region of all neurons of a layer."""
    return Region(range(demand.positions), (0, demand.features))


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
