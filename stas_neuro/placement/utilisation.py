"""How full the cores of a mapped network are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stas_neuro.chips import Profile
from stas_neuro.ir import Graph
from stas_neuro.mapping import CoreLocation
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.mapping.routes import routes
from stas_neuro.placement.demands import DEFAULT_BITS, demands_of, weight_bits
from stas_neuro.placement.limits import limits_of


@dataclass(frozen=True, eq=False, kw_only=True)
class Utilisation:
    """What each core uses of what it has.

    Parameters
    ----------
    profile : str
        Whose limits they are.
    strategy : str
    groups : int or None
        Of the mapping.
    cores : tuple of CoreLocation
    used : mapping of resource to int64 (cores,)
        Neurons, bytes of synaptic memory, input axons (neurons and pixels whose values the core takes) and
        output axons (its neurons, times the cores that each sends to).
    limits : mapping of resource to int
        What a core has; without what the profile does not know.
    layers : tuple of tuples of str
        Layers that each core has a piece of.
    chips, cores_per_chip : int
        Chips in use, and cores that each of them has.
    most_chips : int or None
        Chips of the largest system; None where the profile knows no limit.
    unchecked : mapping
        Why a limit was not checked, by its name.
    weight_bits : int
        Bits of a weight.
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

    def worst(self, resource: str) -> int:
        """Name the core that uses most of a resource: the first of them."""
        return int(self.used[resource].argmax())

    def exceeded(self) -> tuple[str, ...]:
        """Tell what is used beyond the limits, the farthest beyond first; nothing where it fits."""
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
    """Count what the cores of a mapping use, from the mapping alone.

    `bits` are those of a weight where the graph has no integers yet.

    Raises
    ------
    InputError
        If the mapping is not one of this graph, or the profile has no cores.
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
    )
