"""First-fit packing of the layers of a run without a placement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stas_neuro.activity import Activity, Layer, stages_in
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import Profile
from stas_neuro.choices import Stem
from stas_neuro.energy.core_assignment import (
    Core,
    CoreAssignment,
    check_apart,
    check_cores,
    core_of,
    in_stem,
    no_shares,
    owners_of,
    placed,
)
from stas_neuro.errors import InputError

CORES_LIMIT = 1 << 20
"""Largest number of cores of a packed network."""


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


def assign_cores(
    activity: Activity, profile: Profile, weight_bits: int = 8, contexts: int = 1, stem: Stem = "shared"
) -> CoreAssignment:
    """Return the placement in the record of a run; without one, pack the layers, see `pack`.

    Each neuron has `contexts` membranes, and takes the place of as many. The cores of a stem that is `apart`
    have no other neurons.

    Raises CannotRun where the placement does not fit the chip, see `check_cores`, or as `pack` does.
    """
    if not activity.cores:
        return pack(activity.layers, profile, weight_bits, contexts, stem)
    check_cores(activity, profile, weight_bits, contexts)
    if stem == "apart":
        check_apart(activity)
    return placed(activity)


def pack(
    layers: Sequence[Layer],
    profile: Profile,
    weight_bits: int = 8,
    contexts: int = 1,
    stem: Stem = "shared",
) -> CoreAssignment:
    """Pack layers onto cores by first fit, in the order of the layers.

    A group (neurons and the weights of all synapses that end on them) is cut into equal pieces that fit a
    core: some output features of some tokens or map positions, with the weights of those features. Positions
    on one core share their weights. Each piece is assigned to the first core with room for its neurons and
    weights. Axons, routing tables and indices are not counted, so a real placement may need fewer or more
    cores.

    A neuron takes the place of `contexts` neurons. A stem that is `apart` shares no core. The neurons of one
    that is `folded` are packed last, onto cores whose neurons are free again but whose memory is not.

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
    if contexts > capacity.neurons:
        what = f"{contexts} contexts of a neuron, a core of {profile.name} has {capacity.neurons} neurons"
        raise CannotRun(what, f"use at most {capacity.neurons} contexts")
    capacity = Core(capacity.neurons // contexts, capacity.memory)
    neuron_layers = [layer for layer in layers if not layer.placed_with]
    names = tuple(layer.name for layer in neuron_layers)
    group = owners_of(layers, names)
    weights = np.bincount(group, [layer.weights for layer in layers], len(neuron_layers)) * weight_bits
    folded = folded_layers(layers) if stem == "folded" else set()
    runs: list[_Run] = []
    cuts: dict[int, Cut] = {}
    for part in _parts(neuron_layers, stem, folded):
        kept = [] if stem == "apart" else [_freed(run, cuts, neuron_layers, part, folded) for run in runs]
        closed = runs if stem == "apart" else []
        for owner in part:
            cuts[owner] = cut_group(neuron_layers[owner], int(weights[owner]), capacity)
            kept = _first_fit(kept, owner, cuts[owner], capacity)
            if (cores := sum(run.cores for run in (*closed, *kept))) > CORES_LIMIT:
                name, neurons = neuron_layers[owner].name, neuron_layers[owner].neurons
                what = f"with layer {name} of {neurons} neurons, the network needs {cores} cores"
                raise CannotRun(what, f"use a chip with larger cores: the limit for prices is {CORES_LIMIT}")
        runs = [*closed, *kept]
    if not runs:
        raise InputError("no layer of the activity has neurons", "set the number of neurons of each layer")
    pieces = np.array([cuts[owner].pieces for owner in range(len(neuron_layers))], dtype=np.float64)
    shares = no_shares(len(neuron_layers), len(runs))
    for kind, run in enumerate(runs):
        for owner, held in run.pieces.items():
            shares[owner, kind] = held / pieces[owner]
    kind_of = np.repeat(np.arange(len(runs)), [run.cores for run in runs])
    chip_of = np.arange(len(kind_of)) // profile.limit("cores_per_chip")
    return CoreAssignment(names, group, shares, kind_of, int(chip_of[-1]) + 1, chip_of)


def folded_layers(layers: Sequence[Layer]) -> set[str]:
    """Return the layers of the stem whose neurons can be reused after its pass: all but its last stage.

    Its last neurons keep what the blocks receive in every model step.
    """
    last = stages_in(layers, "once") - 1
    return {layer.name for layer in layers if in_stem(layer) and (layer.stage or 0) < last}


def _parts(neuron_layers: Sequence[Layer], stem: Stem, folded: set[str]) -> list[list[int]]:
    """Divide layers, by index, into parts that are packed one after another; the folded ones come last."""
    owners = range(len(neuron_layers))
    if stem == "apart":
        chosen = {owner for owner in owners if in_stem(neuron_layers[owner])}
        parts = [[owner for owner in owners if owner in chosen], [o for o in owners if o not in chosen]]
    else:
        chosen = {owner for owner in owners if neuron_layers[owner].name in folded}
        parts = [[owner for owner in owners if owner not in chosen], [o for o in owners if o in chosen]]
    return [part for part in parts if part]


def _freed(
    run: _Run, cuts: Mapping[int, Cut], neuron_layers: Sequence[Layer], part: Sequence[int], folded: set[str]
) -> _Run:
    """Return the cores as folded layers find them: with the neurons of the stem only, and all weights."""
    if not folded.issuperset(neuron_layers[owner].name for owner in part):
        return run
    stay = (owner for owner in run.pieces if in_stem(neuron_layers[owner]))
    return replace(run, neurons=sum(run.pieces[owner] * cuts[owner].neurons for owner in stay))


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
