"""Assignment of layers to cores: taken from a record, or computed by first-fit packing within limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, Layer
from stas_neuro.analysis import owner_of
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import Profile
from stas_neuro.errors import InputError


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


@dataclass(frozen=True)
class Cut:
    """A group cut into equal pieces of `features` output features at `positions` tokens or map positions.

    Parameters
    ----------
    memory : int
        Bits of the weights of a piece.
    parts, chunks : int
        Number of parts that the features and the positions are cut into.
    """

    features: int
    positions: int
    memory: int
    parts: int
    chunks: int

    @property
    def neurons(self) -> int:
        """Number of neurons in a piece."""
        return self.features * self.positions

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return self.parts * self.chunks


CORES_LIMIT = 1 << 20
"""Largest number of cores of a packed network."""
_SHARES_LIMIT = 1 << 27
"""Largest number of (layer, kind of core) pairs; each takes one float64 in memory."""


@dataclass(frozen=True)
class _Run:
    """Consecutive cores with the same contents: neurons, bits, and the number of pieces of each owner."""

    cores: int
    neurons: int = 0
    memory: int = 0
    pieces: Mapping[int, int] = field(default_factory=dict)

    def with_pieces(self, cores: int, owner: int, pieces: int, piece: Cut) -> _Run:
        """Return a run of `cores` cores, each with `pieces` more pieces of `owner`."""
        held = {**self.pieces, owner: pieces} if pieces else self.pieces
        return _Run(cores, self.neurons + pieces * piece.neurons, self.memory + pieces * piece.memory, held)


def assign_cores(activity: Activity, profile: Profile, weight_bits: int = 8) -> CoreAssignment:
    """Return the placement in the record of a run; without one, pack the layers, see `pack`.

    Raises CannotRun where the placement does not fit the chip, see `check_cores`, or as `pack` does.
    """
    if not activity.cores:
        return pack(activity.layers, profile, weight_bits)
    check_cores(activity, profile, weight_bits)
    neuron_layers = [layer for layer in activity.layers if not layer.placed_with]
    shares = _no_shares(len(neuron_layers), len(activity.cores))
    for row, layer in enumerate(neuron_layers):
        if layer.core is not None:
            shares[row, layer.core] = 1
    kinds = np.arange(len(activity.cores))
    chips = np.array([site.chip for site in activity.cores], dtype=np.intp)
    names = tuple(layer.name for layer in neuron_layers)
    group = _groups(activity.layers, names)
    return CoreAssignment(names, group, shares, kinds, len(set(chips.tolist())), chips)


def check_cores(activity: Activity, profile: Profile, weight_bits: int) -> None:
    """Refuse a run whose placement does not fit the chip: a price would be meaningless.

    Positions on a core are taken to share their weights, which is a lower bound of the memory. A record has
    no axons, so these are not checked.

    Raises
    ------
    CannotRun
        When a core has more neurons or weights, or a chip or tile more cores, than the limits allow.
    """

    def refuse(what: str) -> CannotRun:
        remedy = f"compile with --placement and --profile {profile.name}, or run with --no-mapping"
        return CannotRun(f"the run was not placed for {profile.name}: {what}", remedy)

    capacity = core_of(profile)
    held = [Core(0, 0) for _ in activity.cores]
    for layer in activity.layers:
        if layer.core is not None:
            held[layer.core].neurons += 0 if layer.placed_with else layer.neurons
            held[layer.core].memory += layer.weights * weight_bits
    for number, core in enumerate(held):
        neurons, bits = core.neurons, core.memory
        if neurons > capacity.neurons:
            raise refuse(f"core {number} has {neurons} neurons, the limit is {capacity.neurons}")
        if bits > capacity.memory:
            what = f"core {number} has {-(-bits // 8)} bytes of weights at {weight_bits} bits (--weight-bits)"
            raise refuse(f"{what}, the limit is {capacity.memory // 8}")
    _check_sites(activity, profile, refuse)


def _check_sites(activity: Activity, profile: Profile, refuse: Callable[[str], CannotRun]) -> None:
    limits = {
        name: profile.limit(name)
        for name in ("cores_per_chip", "cores_per_tile", "tiles_x", "tiles_y", "chips")
        if profile.reason(f"limits.{name}") is None and f"limits.{name}" in profile.entries()
    }
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


def _groups(layers: Sequence[Layer], neuron_layers: Sequence[str]) -> npt.NDArray[np.intp]:
    index = {name: position for position, name in enumerate(neuron_layers)}
    return np.array([index[owner_of(layer)] for layer in layers], dtype=np.intp)


def pack(layers: Sequence[Layer], profile: Profile, weight_bits: int = 8) -> CoreAssignment:
    """Pack layers onto cores by first fit, in the order of the layers.

    A group (neurons and the weights of all synapses that end on them) is cut into equal pieces that fit a
    core: some output features of some tokens or map positions, with the weights of those features. Positions
    on one core share their weights. Each piece is assigned to the first core with room for its neurons and
    weights. Axons, routing tables and indices are not counted, so a real placement may need fewer or more
    cores.

    Raises
    ------
    CannotRun
        When the weights have too many bits, or one output feature does not fit a core.
    InputError
        When no layer has neurons.
    """
    widest = profile.limit("weight_bits")
    if weight_bits > widest:
        remedy = f"use at most {widest}, the limit of profile {profile.name}"
        raise CannotRun(f"weights have {weight_bits} bits", remedy)
    capacity = core_of(profile)
    neuron_layers = [layer for layer in layers if not layer.placed_with]
    names = tuple(layer.name for layer in neuron_layers)
    group = _groups(layers, names)
    weights = np.bincount(group, [layer.weights for layer in layers], len(neuron_layers)) * weight_bits
    runs: list[_Run] = []
    pieces = np.zeros(len(neuron_layers))
    for owner, layer in enumerate(neuron_layers):
        cut = cut_group(layer, int(weights[owner]), capacity)
        pieces[owner] = cut.pieces
        runs = _first_fit(runs, owner, cut, capacity)
        if (cores := sum(run.cores for run in runs)) > CORES_LIMIT:
            what = f"with layer {layer.name} of {layer.neurons} neurons, the network needs {cores} cores"
            raise CannotRun(what, f"use a chip with larger cores: the limit for prices is {CORES_LIMIT}")
    if not runs:
        raise InputError("no layer of the activity has neurons", "set the number of neurons of each layer")
    shares = _no_shares(len(neuron_layers), len(runs))
    for kind, run in enumerate(runs):
        for owner, held in run.pieces.items():
            shares[owner, kind] = held / pieces[owner]
    kind_of = np.repeat(np.arange(len(runs)), [run.cores for run in runs])
    chip_of = np.arange(len(kind_of)) // profile.limit("cores_per_chip")
    return CoreAssignment(names, group, shares, kind_of, int(chip_of[-1]) + 1, chip_of)


def _no_shares(neuron_layers: int, kinds: int) -> npt.NDArray[np.float64]:
    if neuron_layers * kinds > _SHARES_LIMIT:
        what = f"{neuron_layers} layers with neurons on {kinds} different cores"
        raise InputError(what, f"merge layers, or use fewer cores: the limit is {_SHARES_LIMIT} pairs")
    return np.zeros((neuron_layers, kinds))


def core_of(profile: Profile) -> Core:
    """Return the capacity of a core."""
    return Core(profile.limit("neurons_per_core"), 8 * profile.limit("synaptic_memory_per_core"))


def cut_group(layer: Layer, weight_bits: int, capacity: Core) -> Cut:
    """Cut a group into the fewest equal pieces that fit a core; into none if it has no neurons.

    `weight_bits` is the size of all its weights in bits. Raises CannotRun where one output feature does not
    fit a core.
    """
    if layer.neurons == 0:
        return Cut(0, 0, 0, 0, 0)
    features = min(layer.out_features, layer.neurons) or layer.neurons
    positions = -(-layer.neurons // features)
    parts = max(-(-weight_bits // capacity.memory), -(-features // capacity.neurons))
    if parts > features:
        raise CannotRun(
            f"layer {layer.name}: the weights of one of its {features} features take "
            f"{weight_bits / 8 / features:.0f} bytes, a core has {capacity.memory // 8}",
            "use fewer weight bits, or a smaller layer",
        )
    width = -(-features // parts)
    chunks = -(-positions // max(capacity.neurons // width, 1))
    return Cut(width, -(-positions // chunks), -(-weight_bits // parts), parts, chunks)


def _first_fit(runs: Sequence[_Run], owner: int, cut: Cut, capacity: Core) -> list[_Run]:
    """Put each piece of an owner on the first core with room for it, or on a new core at the end.

    The time this takes is proportional to the number of runs, not of cores.
    """
    placed: list[_Run] = []
    left = cut.pieces
    for run in [*runs, _Run(cores=left)]:
        each = _room(run, cut, capacity)
        full = min(run.cores, left // each) if each else 0
        last = left - full * each if each and full < run.cores else 0  # on one more core
        left -= full * each + last
        rest = run.cores - full - min(last, 1)
        for cores, pieces in ((full, each), (min(last, 1), last), (rest, 0)):
            if cores and (pieces or run.pieces):
                placed.append(run.with_pieces(cores, owner, pieces, cut))
    return placed


def _room(run: _Run, piece: Cut, capacity: Core) -> int:
    """Count the pieces that each core of a run still has room for."""
    of_neurons = (capacity.neurons - run.neurons) // max(piece.neurons, 1)
    return min(of_neurons, (capacity.memory - run.memory) // piece.memory) if piece.memory else of_neurons
