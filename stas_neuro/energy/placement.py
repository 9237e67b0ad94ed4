"""Which work is on which core: as a record says, or else by first-fit packing under a profile's limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, Layer
from stas_neuro.energy.profile import Profile
from stas_neuro.energy.refusal import CannotRun
from stas_neuro.errors import InputError


@dataclass(frozen=True, eq=False)
class Placement:
    """Layers on cores.

    Parameters
    ----------
    owners : tuple of str
        Layers that keep neurons; a layer placed with another is on that one's cores.
    group : int (layers,)
        Index into `owners` for each layer.
    share : float (owners, cores)
        Part of an owner's neurons, and of all work of its group, on each core; rows sum to 1, or to 0 where
        it is beside the cores.
    chips : int
        Chips the cores fill.
    chip_of : int (cores,)
        Chip of each core.
    """

    owners: tuple[str, ...]
    group: npt.NDArray[np.intp]
    share: npt.NDArray[np.float64]
    chips: int
    chip_of: npt.NDArray[np.intp]

    @property
    def cores(self) -> int:
        """Cores in use."""
        return int(self.share.shape[1])

    def cores_of(self, owner: int) -> int:
        """Cores that hold some of an owner's neurons."""
        return int(np.count_nonzero(self.share[owner]))


@dataclass
class Core:
    """What a core holds, or has room for: neurons, and bits of weights."""

    neurons: int
    memory: int


@dataclass(frozen=True)
class Cut:
    """A group in equal pieces, each `features` output features of `positions` tokens or map positions.

    Parameters
    ----------
    memory : int
        Bits of the weights of a piece.
    parts, chunks : int
        Into how many the features and the positions are cut.
    """

    features: int
    positions: int
    memory: int
    parts: int
    chunks: int

    @property
    def neurons(self) -> int:
        """Neurons of a piece."""
        return self.features * self.positions

    @property
    def pieces(self) -> int:
        """How many there are."""
        return self.parts * self.chunks


def place(activity: Activity, profile: Profile, weight_bits: int = 8) -> Placement:
    """Place a run where its record says it was; pack it where it was on no cores, see `pack`.

    Raises CannotRun where the chip has no such cores, see `check_cores`, or as `pack` does.
    """
    if not activity.cores:
        return pack(activity.layers, profile, weight_bits)
    check_cores(activity, profile, weight_bits)
    owners = [layer for layer in activity.layers if not layer.placed_with]
    share = np.zeros((len(owners), len(activity.cores)))
    for row, layer in enumerate(owners):
        if layer.core is not None:
            share[row, layer.core] = 1
    chips = np.array([site.chip for site in activity.cores], dtype=np.intp)
    names = tuple(layer.name for layer in owners)
    return Placement(names, _groups(activity.layers, names), share, len(set(chips.tolist())), chips)


def check_cores(activity: Activity, profile: Profile, weight_bits: int) -> None:
    """Refuse a run on cores that the chip does not have: placed for another, it is no price of this one.

    Weights are counted as positions on a core share them, which is the least that they take. Axons are not
    in a record.

    Raises
    ------
    CannotRun
        When a core holds more neurons or weights, or a chip or tile more cores, than there can be.
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
            raise refuse(f"core {number} holds {neurons} neurons, the limit is {capacity.neurons}")
        if bits > capacity.memory:
            what = (
                f"core {number} holds {-(-bits // 8)} bytes of weights at {weight_bits} bits (--weight-bits)"
            )
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


def _groups(layers: Sequence[Layer], owners: Sequence[str]) -> npt.NDArray[np.intp]:
    index = {name: position for position, name in enumerate(owners)}
    return np.array([index[layer.placed_with or layer.name] for layer in layers], dtype=np.intp)


def pack(layers: Sequence[Layer], profile: Profile, weight_bits: int = 8) -> Placement:
    """Pack layers onto cores, first fit in the order of the layers.

    A group (neurons and the weights of all synapses that end on them) is cut into equal pieces that fit a
    core: some output features of some tokens or map positions, with the weights of those features. Positions
    on one core share their weights. Each piece goes to the first core with room for its neurons and weights.
    Axons, routing tables and indices are not counted: a placement may take fewer cores, or more.

    Raises
    ------
    CannotRun
        When weights are too wide, or one output feature does not fit a core.
    InputError
        When nothing has neurons.
    """
    widest = profile.limit("weight_bits")
    if weight_bits > widest:
        raise CannotRun(f"weights have {weight_bits} bits", f"profile {profile.name} holds at most {widest}")
    capacity = core_of(profile)
    owners = [layer for layer in layers if not layer.placed_with]
    names = tuple(layer.name for layer in owners)
    group = _groups(layers, names)
    weights = np.bincount(group, [layer.weights for layer in layers], len(owners)) * weight_bits
    cores: list[Core] = []
    places: list[tuple[int, int]] = []
    for owner, layer in enumerate(owners):
        cut = cut_group(layer, int(weights[owner]), capacity)
        first = 0
        for _ in range(cut.pieces):
            # Equal pieces: where one did not fit, the next will not either.
            first = _first_fit(cores, cut, capacity, first)
            places.append((owner, first))
    if not cores:
        raise InputError("no layer of the activity keeps neurons", "give layers their number of neurons")
    share = np.zeros((len(owners), len(cores)))
    for owner, core in places:
        share[owner, core] += 1
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1)
    chip_of = np.arange(len(cores)) // profile.limit("cores_per_chip")
    return Placement(names, group, share, int(chip_of[-1]) + 1, chip_of)


def core_of(profile: Profile) -> Core:
    """Give the room of a core."""
    return Core(profile.limit("neurons_per_core"), 8 * profile.limit("synaptic_memory_per_core"))


def cut_group(layer: Layer, weight_bits: int, capacity: Core) -> Cut:
    """Cut a group into the fewest equal pieces that fit a core; no piece where it keeps no neurons.

    `weight_bits` are those of all its weights. Raises CannotRun where one output feature does not fit.
    """
    if layer.neurons == 0:
        return Cut(0, 0, 0, 0, 0)
    features = min(layer.out_features, layer.neurons) or layer.neurons
    positions = -(-layer.neurons // features)
    parts = max(-(-weight_bits // capacity.memory), -(-features // capacity.neurons))
    if parts > features:
        raise CannotRun(
            f"layer {layer.name}: the weights of one of its {features} features take "
            f"{weight_bits / 8 / features:.0f} bytes, a core holds {capacity.memory // 8}",
            "use fewer bits, or a smaller layer",
        )
    width = -(-features // parts)
    chunks = -(-positions // max(capacity.neurons // width, 1))
    return Cut(width, -(-positions // chunks), -(-weight_bits // parts), parts, chunks)


def _first_fit(cores: list[Core], piece: Cut, capacity: Core, start: int) -> int:
    for number in range(start, len(cores)):
        core = cores[number]
        if core.neurons + piece.neurons <= capacity.neurons and core.memory + piece.memory <= capacity.memory:
            core.neurons += piece.neurons
            core.memory += piece.memory
            return number
    cores.append(Core(piece.neurons, piece.memory))
    return len(cores) - 1
