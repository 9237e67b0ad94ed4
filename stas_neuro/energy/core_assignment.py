"""Assignment of layers to cores as a record has it, and whether it fits a chip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, Layer, owner_of
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import Profile
from stas_neuro.errors import InputError

_SHARES_LIMIT = 1 << 27
"""Largest number of (layer, kind of core) pairs; each takes one float64 in memory."""


@dataclass(frozen=True, eq=False)
class CoreAssignment:
    """Layers assigned to cores.

    Parameters
    ----------
    neuron_layers : tuple of str
        Layers that have neurons; a layer placed with another shares its cores.
    group : int (layers,)
        Index into `neuron_layers` for each layer.
    shares : float (neuron_layers, kinds)
        Fraction of a neuron layer's neurons, and of all work of its group, on each core of a kind. Cores
        with the same contents are of one kind.
    kind_of : int (cores,)
        Kind of each core.
    chips : int
        Number of chips in use.
    chip_of : int (cores,)
        Chip of each core.
    """

    neuron_layers: tuple[str, ...]
    group: npt.NDArray[np.intp]
    shares: npt.NDArray[np.float64]
    kind_of: npt.NDArray[np.intp]
    chips: int
    chip_of: npt.NDArray[np.intp]

    @property
    def share(self) -> npt.NDArray[np.float64]:
        """Share of each neuron layer on each core, (layers, cores).

        A row sums to 1, or to 0 for a layer that is not on cores.
        """
        return self.shares[:, self.kind_of]

    @property
    def cores(self) -> int:
        """Number of cores in use."""
        return len(self.kind_of)

    def cores_of(self, *neuron_layers: int) -> int:
        """Count the cores with neurons of any of these neuron layers (indices)."""
        holds = np.any(self.shares[list(neuron_layers)] > 0, axis=0)
        return int(np.count_nonzero(holds[self.kind_of]))


@dataclass
class Core:
    """Neurons and bits of weights that a core uses, or has room for."""

    neurons: int
    memory: int


def placed(activity: Activity) -> CoreAssignment:
    """Return the placement in the record of a run on cores."""
    neuron_layers = [layer for layer in activity.layers if not layer.placed_with]
    shares = no_shares(len(neuron_layers), len(activity.cores))
    for row, layer in enumerate(neuron_layers):
        if layer.core is not None:
            shares[row, layer.core] = 1
    kinds = np.arange(len(activity.cores))
    chips = np.array([site.chip for site in activity.cores], dtype=np.intp)
    names = tuple(layer.name for layer in neuron_layers)
    group = owners_of(activity.layers, names)
    return CoreAssignment(names, group, shares, kinds, len(set(chips.tolist())), chips)


def check_cores(activity: Activity, profile: Profile, weight_bits: int, contexts: int = 1) -> None:
    """Refuse a run whose placement does not fit the chip: a price would be meaningless.

    Positions on a core are taken to share their weights, which is a lower bound of the memory. A record has
    no axons, so these are not checked.

    Raises
    ------
    CannotRun
        When a core has more neurons or weights, or a chip or tile more cores, than the limits allow.
    """

    def refuse(what: str) -> CannotRun:
        many = "" if contexts == 1 else f" and --contexts {contexts}"
        remedy = f"compile with --placement and --profile {profile.name}{many}, or run with --no-mapping"
        return CannotRun(f"the run was not placed for {profile.name}: {what}", remedy)

    capacity = core_of(profile)
    held = [Core(0, 0) for _ in activity.cores]
    for layer in activity.layers:
        if layer.core is not None:
            held[layer.core].neurons += 0 if layer.placed_with else layer.neurons
            held[layer.core].memory += layer.weights * weight_bits
    for number, core in enumerate(held):
        neurons, bits = core.neurons * contexts, core.memory
        if neurons > capacity.neurons:
            many = "" if contexts == 1 else f"{core.neurons} x {contexts} contexts = "
            raise refuse(f"core {number} has {many}{neurons} neurons, the limit is {capacity.neurons}")
        if bits > capacity.memory:
            what = f"core {number} has {-(-bits // 8)} bytes of weights at {weight_bits} bits (--weight-bits)"
            raise refuse(f"{what}, the limit is {capacity.memory // 8}")
    _check_sites(activity, profile, refuse)


def check_apart(activity: Activity) -> None:
    """Raise CannotRun where a core has neurons of the stem and others, which cannot be stepped apart."""
    stem = {layer.core for layer in activity.layers if in_stem(layer)}
    mixed = sorted(
        (layer.core, layer.name)
        for layer in activity.layers
        if layer.core in stem and not in_stem(layer)
        if layer.core is not None
    )
    if mixed:
        core, name = mixed[0]
        what = f"the stem is to be apart, and core {core} has layer {name} too ({len(mixed)} such pieces)"
        raise CannotRun(what, "place the stem on cores of its own, or price it shared")


def in_stem(layer: Layer) -> bool:
    """Return whether a row belongs to a stem that is computed once for an image."""
    return layer.phase == "once"


def _check_sites(activity: Activity, profile: Profile, refuse: Callable[[str], CannotRun]) -> None:
    limits = {
        name: profile.limit(name)
        for name in ("cores_per_chip", "cores_per_tile", "tiles_x", "tiles_y", "chips")
        if profile.reason(f"limits.{name}") is None and f"limits.{name}" in profile.entries()
    }
    if not {"tiles_x", "tiles_y"} <= limits.keys():
        limits.pop("cores_per_tile", None)  # without a mesh, placement has all cores on one tile
    on_chip = Counter(site.chip for site in activity.cores)
    on_tile = Counter(activity.cores)
    for number, site in enumerate(activity.cores):
        tile = f"tile {site.x},{site.y} of chip {site.chip}"
        for name, found, what in (
            ("cores_per_chip", on_chip[site.chip], f"chip {site.chip} has {on_chip[site.chip]} cores"),
            ("cores_per_tile", on_tile[site], f"{tile} has {on_tile[site]} cores"),
            ("tiles_x", site.x + 1, f"it is on {tile}, in column {site.x + 1} of tiles"),
            ("tiles_y", site.y + 1, f"it is on {tile}, in row {site.y + 1} of tiles"),
            ("chips", len(on_chip), f"the cores are on {len(on_chip)} chips"),
        ):
            if name in limits and found > limits[name]:
                raise refuse(f"core {number}: {what}, the limit is {limits[name]}")


def owners_of(layers: Sequence[Layer], neuron_layers: Sequence[str]) -> npt.NDArray[np.intp]:
    """Return the index of the layer with the neurons of each row, intp (rows,)."""
    index = {name: position for position, name in enumerate(neuron_layers)}
    return np.array([index[owner_of(layer)] for layer in layers], dtype=np.intp)


def no_shares(neuron_layers: int, kinds: int) -> npt.NDArray[np.float64]:
    """Return zeros (neuron_layers, kinds); raises InputError where they would take too much memory."""
    if neuron_layers * kinds > _SHARES_LIMIT:
        what = f"{neuron_layers} layers with neurons on {kinds} different cores"
        raise InputError(what, f"merge layers, or use fewer cores: the limit is {_SHARES_LIMIT} pairs")
    return np.zeros((neuron_layers, kinds))


def core_of(profile: Profile) -> Core:
    """Return the capacity of a core."""
    return Core(profile.limit("neurons_per_core"), 8 * profile.limit("synaptic_memory_per_core"))
