"""A graph as SANA-FE describes a network: groups of neurons, every synapse, and the core of every neuron.

Values of a node are numbered position by position, features within: SANA-FE knows numbers only. Membranes are
in units of a synapse's weight, which is 64 of the integer program's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanafe_oracle.architecture import (
    INPUT,
    LIF,
    NEURONS_PER_UNIT,
    SINK,
    SINK_SYNAPSE,
    SYNAPSE,
    Floor,
)
from sanafe_oracle.support import cannot_say, origin_of, refusals
from sanafe_oracle.synapses import Indices, Synapses, synapses_of
from stas_neuro.analysis import extent
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    ALIGN,
    FixedInput,
    FixedLIF,
    FixedSynaptic,
    Graph,
    Node,
    Range,
    Readout,
    membrane_range,
)
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.check import check_mapping

Frames = NDArray[Any]
HOST_GROUPS = "host:"
"""How the names of the groups begin that send the input."""


def spiking_layers(graph: Graph) -> tuple[FixedLIF, ...]:
    """The layers whose neurons SANA-FE steps."""
    return graph.of_type(FixedLIF)


def group_name(name: str) -> str:
    """Name of a node's group: SANA-FE parts a group from a number by a point."""
    return name.replace(".", "/")


def host_group(tile: int) -> str:
    """Name of the group of input spikes of a tile: no name of a node has a colon."""
    return f"{HOST_GROUPS}{tile}"


def network_document(
    graph: Graph, mapping: Mapping, frames: Frames, floor: Floor, *, all_active: bool
) -> tuple[dict[str, Any], dict[int, int]]:
    """Describe the mapped network, and how many spike trains enter each tile.

    Parameters
    ----------
    graph : Graph
        Quantised, without `refusals`.
    mapping : Mapping
        Of this graph, on the cores of `floor`.
    frames : (T, C, H, W) of integers
        The spikes of the input, all of one value.
    all_active : bool
        Force every neuron to be active in every step.

    Raises
    ------
    InputError
        Naming every node that SANA-FE cannot say, or what does not fit it.
    """
    if reasons := refusals(graph):
        raise cannot_say(reasons)
    check_mapping(graph, mapping)
    draft = _Draft(graph, mapping, floor, *_trains(graph, frames))
    for lif in spiking_layers(graph):
        draft.layer(lif, all_active)
    for readout in graph.of_type(Readout):
        draft.readout(readout)
    draft.inputs()
    _check_room(draft)
    network = {"name": "network", "groups": draft.groups, "edges": draft.edges}
    return {"network": network, "mappings": draft.places}, {
        tile: int(pixels.size) for tile, pixels in draft.entered().items()
    }


def _check_room(draft: _Draft) -> None:
    for core, neurons in enumerate(draft.held):
        if neurons > NEURONS_PER_UNIT:
            what = f"core {core} holds {neurons} neurons, a unit of SANA-FE {NEURONS_PER_UNIT}"
            raise InputError(what, "place fewer on a core")


def _trains(graph: Graph, frames: Frames) -> tuple[NDArray[np.bool_], int]:
    """Spikes of every pixel, bool (T, pixels), position by position, and the value that each carries."""
    wanted = (graph.time_steps, *graph.input.shape)
    size = int(frames.max(initial=1))
    if frames.shape != wanted or not np.isin(frames, (0, size)).all():
        what = f"frames of shape {frames.shape} hold {len(np.unique(frames))} values"
        raise InputError(
            what, f"give frames of shape {wanted} that hold 0 and one value: SANA-FE has no graded spikes"
        )
    steps, channels = wanted[:2]
    return np.asarray(frames.reshape(steps, channels, -1).swapaxes(1, 2).reshape(steps, -1) != 0), size


class _Draft:
    """The document while it is written."""

    def __init__(
        self, graph: Graph, mapping: Mapping, floor: Floor, trains: NDArray[np.bool_], size: int
    ) -> None:
        self.graph = graph
        self.mapping = mapping
        self.floor = floor
        self.trains = trains
        self.size = size
        self.groups: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self.places: list[dict[str, Any]] = []
        self.held = [0] * len(mapping.cores)
        self._entering: dict[int, list[tuple[str, Synapses]]] = {}

    def layer(self, lif: FixedLIF, all_active: bool) -> None:
        """Add a layer of neurons with the synapses that end on them."""
        node = self.graph.node(self.graph.inputs(lif)["x"].src)
        assert isinstance(node, FixedSynaptic)  # what `refusals` let pass
        homes = self._place(lif, {"soma": LIF, "synapse": SYNAPSE})
        soma = _neuron(self.graph, lif) | {"force_update": all_active}
        neurons = [{_span((0, homes.size - 1)): {"log_spikes": True, "soma": soma}}]
        self.groups.append({"name": group_name(lif.name), "neurons": neurons})
        self._connect(origin_of(self.graph, node, "x"), lif, synapses_of(self.graph, node), homes)

    def readout(self, readout: Readout) -> None:
        """Add what takes the spikes that are read out, at no cost: SANA-FE sends them there."""
        homes = self._place(readout, {"soma": SINK, "synapse": SINK_SYNAPSE})
        self.groups.append(
            {
                "name": group_name(readout.name),
                "neurons": [{_span((0, homes.size - 1)): {"log_spikes": False}}],
            }
        )
        for port in self.graph.inputs(readout):
            if port.startswith("z"):
                origin = origin_of(self.graph, readout, port)
                positions, features = extent(self.graph, origin)
                number = np.arange(positions * features)
                ends = Synapses(number, number % features, np.zeros(number.size))
                self._connect(origin, readout, ends, homes)

    def entered(self) -> dict[int, Indices]:
        """Pixels that each tile takes, ascending."""
        return {
            tile: np.unique(np.concatenate([synapses.source for _, synapses in ways]))
            for tile, ways in sorted(self._entering.items())
        }

    def inputs(self) -> None:
        """Add the input: a spike train for each tile that takes the pixel, on the host's core there."""
        for tile, pixels in self.entered().items():
            name = host_group(tile)
            trains = self.trains[:, pixels].T.astype(int).tolist()
            neurons = [
                {str(n): {"log_spikes": True, "soma": {"spikes": train}}} for n, train in enumerate(trains)
            ]
            self.groups.append({"name": name, "neurons": neurons})
            self.places += [
                {f"{name}.{n}": {"core": self.floor.host(tile), "soma": f"{INPUT}[{n}]"}}
                for n in range(pixels.size)
            ]
            if pixels.size > NEURONS_PER_UNIT:
                what = (
                    f"{pixels.size} pixels enter a tile, a core of SANA-FE holds {NEURONS_PER_UNIT} neurons"
                )
                raise InputError(what, "use smaller frames")
            for target, synapses in self._entering[tile]:
                local = np.searchsorted(pixels, synapses.source)
                self._edge(name, target, Synapses(local, synapses.target, self.size * synapses.weight))

    def _place(self, node: Node, units: dict[str, str]) -> Indices:
        """Place the neurons of a layer; gives the core of each, (neurons,)."""
        positions, features = extent(self.graph, node)
        homes = np.zeros((positions, features), np.int64)
        for piece in self.mapping.of_layer(node.name):
            homes[list(piece.positions), slice(*piece.features)] = piece.core
            self.held[piece.core] += piece.neurons
        self.places += [
            {f"{group_name(node.name)}.{_span(run)}": {"core": self.floor.addresses[core], **units}}
            for core, run in _runs(homes.ravel())
        ]
        return homes.ravel()

    def _connect(self, origin: Node, target: Node, synapses: Synapses, homes: Indices) -> None:
        name = group_name(target.name)
        if not isinstance(origin, FixedInput):
            self._edge(group_name(origin.name), name, synapses)
            return
        tiles = np.array(self.floor.tile_of)[homes[synapses.target]]
        for tile in np.unique(tiles):
            chosen = tiles == tile
            part = Synapses(*(a[chosen] for a in (synapses.source, synapses.target, synapses.weight)))
            self._entering.setdefault(int(tile), []).append((name, part))

    def _edge(self, source: str, target: str, synapses: Synapses) -> None:
        pairs = np.stack([synapses.source, synapses.target], axis=1).tolist()
        edge = {"type": "sparse", "source_target_pairs": pairs, "weight": synapses.weight.tolist()}
        self.edges.append({f"{source} -> {target}": edge})


def _neuron(graph: Graph, lif: FixedLIF) -> dict[str, Any]:
    """The neuron's constants. A membrane that a step's leak empties is emptied at once.

    SANA-FE takes a neuron that holds a potential for active, though the potential be gone when it is used.
    """
    given = graph.source_type(graph.inputs(lif)["x"])
    assert given.bound is not None
    low = membrane_range(lif, Range(given.low, given.bound), graph.time_steps).low
    keep = 4096 - lif.dv
    constants = {"threshold": lif.vth, "reset": 0, "reset_mode": "hard", "leak_decay": keep / 4096}
    if max(lif.vth << ALIGN, -low) * keep >> 12 == 0:
        # Just above the threshold, so that a potential at the threshold, which does not fire, goes too.
        above = lif.vth + 2.0 ** -(ALIGN + 1)
        constants |= {"reverse_threshold": above, "reverse_reset": 0, "reverse_reset_mode": "hard"}
    return constants


def _runs(values: Indices) -> Iterator[tuple[int, tuple[int, int]]]:
    """Runs of equal values: the value, and the first and last number of the run."""
    for value, numbers in groupby(range(values.size), key=lambda number: values[number]):
        run = list(numbers)
        yield int(value), (run[0], run[-1])


def _span(run: tuple[int, int]) -> str:
    return f"{run[0]}..{run[1]}"
