"""Resources used on the cores of a mapped network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stas_neuro.chips import Profile
from stas_neuro.ir import Graph
from stas_neuro.mapping import CoreLocation
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.mapping.routes import routes
from stas_neuro.placement.demands import DEFAULT_BITS, LayerDemand, demands_of, weight_bits
from stas_neuro.placement.limits import Limits, limits_of


@dataclass(frozen=True, eq=False, kw_only=True)
class Utilisation:
    """Resources used by each core, with the limits.

    Parameters
    ----------
    profile : str
        Profile with the limits.
    strategy : str
    groups : int or None
        Strategy and groups of the mapping.
    cores : tuple of CoreLocation
    used : mapping of resource to int64 (cores,)
        Neurons, bytes of synaptic memory, input axons (neurons and pixels whose values the core receives) and
        output axons (sum over its neurons of the number of cores that each sends to).
    limits : mapping of resource to int
        Amount per core; without limits that the profile does not have.
    layers : tuple of tuples of str
        Layers that each core has a piece of.
    chips, cores_per_chip : int
        Number of chips in use, and of cores per chip.
    most_chips : int or None
        Number of chips of the largest system; None if the profile has no limit.
    unchecked : mapping
        Reason why a limit was not checked, by its name.
    weight_bits : int
        Bits of a weight.
    cores_unshared : int or None
        Number of cores that synaptic memory would fill at least if positions on a core did not share weights;
        None where they do not, or the memory of a core is unknown.
    """

    profile: str
    strategy: str
    groups: int | None
    cores: tuple[CoreLocation, ...]
    used: Mapping[str, NDArray[np.int64]]
    limits: Mapping[str, int]
    layers: tuple[tuple[str, ...], ...]
    chips: int
    cores_per_chip: int
    most_chips: int | None
    unchecked: Mapping[str, str]
    weight_bits: int
    cores_unshared: int | None

    def worst(self, resource: str) -> int:
        """Return the first of the cores that use the most of a resource."""
        return int(self.used[resource].argmax())

    def exceeded(self) -> tuple[str, ...]:
        """Return a text for each exceeded limit, the most exceeded first; empty if the network fits."""
        held = Counter(site.chip for site in self.cores)
        sizes = {
            resource: (int(used.max()), self.limits.get(resource)) for resource, used in self.used.items()
        }
        sizes |= {
            "cores on a chip": (max(held.values()), self.cores_per_chip),
            "chips": (self.chips, self.most_chips),
        }
        beyond = sorted(
            (-used / limit, f"{name} {used} of {limit} ({100 * used / limit:.0f} %)")
            for name, (used, limit) in sizes.items()
            if limit is not None and used > limit
        )
        return tuple(line for _, line in beyond)


def utilisation(
    graph: Graph, mapping: CoreMapping, profile: Profile, bits: int = DEFAULT_BITS
) -> Utilisation:
    """Return the resources that the cores of a mapping use.

    `bits` is the width of a weight in a graph that is not quantised.

    Raises
    ------
    InputError
        If the mapping is not a mapping of this graph, or the profile has no cores.
    """
    limits = limits_of(profile)
    bits = weight_bits(graph, bits, profile)
    demands = {demand.name: demand for demand in demands_of(graph, bits)}
    ways = routes(graph, mapping)
    neurons = np.zeros(len(mapping.cores), dtype=np.int64)
    memory = np.zeros(len(mapping.cores), dtype=np.int64)
    layers: list[list[str]] = [[] for _ in mapping.cores]
    for piece in mapping.pieces:
        neurons[piece.core] += piece.neurons
        memory[piece.core] += demands[piece.layer].memory(
            np.array(piece.positions, dtype=np.intp), piece.features, sharing=limits.weight_sharing
        )
        layers[piece.core].append(piece.layer)
    known = dict(limits.core)
    if "synaptic memory" in known:
        known["synaptic memory"] //= 8
    return Utilisation(
        profile=profile.name,
        strategy=mapping.strategy,
        groups=mapping.groups,
        cores=mapping.cores,
        used={
            "neurons": neurons,
            "synaptic memory": -(-memory // 8),
            "input axons": ways.input_axons,
            "output axons": ways.output_axons,
        },
        limits=known,
        layers=tuple(map(tuple, layers)),
        chips=mapping.chips,
        cores_per_chip=limits.cores_per_chip,
        most_chips=limits.chips,
        unchecked=limits.unchecked,
        weight_bits=bits,
        cores_unshared=_cores_unshared(demands.values(), limits),
    )


def _cores_unshared(demands: Iterable[LayerDemand], limits: Limits) -> int | None:
    if not limits.weight_sharing or "synaptic memory" not in limits.core:
        return None
    needed = sum(
        each.memory(np.arange(each.positions), (0, each.features), sharing=False) for each in demands
    )
    return -(-needed // limits.core["synaptic memory"])
