"""A chip as SANA-FE describes it: tiles on a mesh, cores in tiles, units in cores, each with its costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stas_neuro.errors import InputError
from stas_neuro.mapping import CoreLocation

NEURONS_PER_UNIT = 1024
"""What a neuron unit of SANA-FE holds."""
LIF, SYNAPSE, INPUT, HOST = "lif", "synapse", "input", "host"
"""Names of what computes: neurons and their synapses, input spikes and the core they are on."""
SINK, SINK_SYNAPSE = "sink", "sink_synapse"
"""Names of the neurons that spikes end in when they are read out. SANA-FE takes units of one name for one."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Costs of a chip, energies in J and times in s.

    Parameters
    ----------
    synapse_j, synapse_s : float
        One spike through one synapse.
    access_j, access_s : float
        One neuron stepped, whatever it does.
    update_j, update_s : float
        What it takes besides where it is active: SANA-FE says so of a neuron that got a spike, has a bias or
        holds a potential.
    message_j, message_s : float
        One message sent to one core.
    host_message_j : float
        One input spike sent to one core.
    hop_x_j, hop_x_s, hop_y_j, hop_y_s : float
        One message over one tile hop.
    barrier_s : float
        Synchronisation at the end of a step.
    all_active : bool
        Whether every neuron is active in every step.
    """

    synapse_j: float
    synapse_s: float
    access_j: float
    access_s: float
    update_j: float
    update_s: float
    message_j: float
    message_s: float
    host_message_j: float
    hop_x_j: float
    hop_x_s: float
    hop_y_j: float
    hop_y_s: float
    barrier_s: float
    all_active: bool = False


@dataclass(frozen=True)
class Floor:
    """Where cores are in SANA-FE, which numbers tiles down the columns, and the cores within a tile.

    Every tile has one core more, the host's: what it sends into the tile hops nowhere.
    """

    height: int
    tiles: int
    cores_in: dict[int, int]
    addresses: tuple[str, ...]
    tile_of: tuple[int, ...]

    @staticmethod
    def of(sites: Sequence[CoreLocation]) -> Floor:
        """Number the cores of a mapping; raises InputError where they are on more than one chip."""
        if len({site.chip for site in sites}) > 1:
            raise InputError("the mapping takes several chips", "SANA-FE simulates one: use fewer cores")
        height = max(site.y for site in sites) + 1
        cores_in: dict[int, int] = {}
        addresses, tile_of = [], []
        for site in sites:
            tile = site.x * height + site.y
            addresses.append(f"{tile}.{cores_in.setdefault(tile, 0)}")
            tile_of.append(tile)
            cores_in[tile] += 1
        width = max(site.x for site in sites) + 1
        return Floor(height, width * height, cores_in, tuple(addresses), tuple(tile_of))

    def host(self, tile: int) -> str:
        """Address of the host's core of a tile."""
        return f"{tile}.{self.cores_in.get(tile, 0)}"


def architecture_document(costs: Architecture, floor: Floor, inputs: dict[int, int]) -> dict[str, Any]:
    """Describe the chip; `inputs` are the numbers of input spike trains by tile."""
    hops = {"north": (costs.hop_y_j, costs.hop_y_s), "east": (costs.hop_x_j, costs.hop_x_s)}
    hops |= {"south": hops["north"], "west": hops["east"]}
    attributes = {f"energy_{way}_hop": energy for way, (energy, _) in hops.items()}
    attributes |= {f"latency_{way}_hop": time for way, (_, time) in hops.items()}
    tiles = []
    for tile in range(floor.tiles):
        cores = [_neuron_core(costs, f"core{core}") for core in range(floor.cores_in.get(tile, 0))]
        if inputs.get(tile):
            cores.append(_host_core(costs, inputs[tile]))
        tiles.append({"name": f"tile{tile}", "attributes": attributes, "core": cores})
    mesh = {
        "topology": "mesh",
        "width": floor.tiles // floor.height,
        "height": floor.height,
        "link_buffer_size": 16,
        "sync_model": "fixed",
        "latency_sync": costs.barrier_s,
    }
    return {"architecture": {"name": "chip", "attributes": mesh, "tile": tiles}}


def _neuron_core(costs: Architecture, name: str) -> dict[str, Any]:
    lif = {
        "model": "leaky_integrate_fire",
        "energy_access_neuron": costs.access_j,
        "latency_access_neuron": costs.access_s,
        "energy_update_neuron": costs.update_j,
        "latency_update_neuron": costs.update_s,
        "energy_spike_out": 0.0,
        "latency_spike_out": 0.0,
    }
    synapses = [
        _unit(SYNAPSE, _synapse(costs.synapse_j, costs.synapse_s)),
        _unit(SINK_SYNAPSE, _synapse(0.0, 0.0)),
    ]
    somas = [_unit(LIF, lif), _unit(SINK, _source())]
    return _core(name, synapses, somas, (costs.message_j, costs.message_s))


def _host_core(costs: Architecture, inputs: int) -> dict[str, Any]:
    """A unit a spike train: SANA-FE gives all neurons of a unit the same."""
    somas = [_unit(f"{INPUT}[0..{inputs - 1}]" if inputs > 1 else f"{INPUT}[0]", _source())]
    return _core(HOST, [_unit(SYNAPSE, _synapse(0.0, 0.0))], somas, (costs.host_message_j, 0.0))


def _core(name: str, synapses: list[Any], somas: list[Any], message: tuple[float, float]) -> dict[str, Any]:
    accumulator = {"model": "accumulator", "energy_update": 0.0, "latency_update": 0.0}
    return {
        "name": name,
        "attributes": {"buffer_position": "soma", "max_neurons_supported": NEURONS_PER_UNIT},
        "axon_in": [_unit("in", {"energy_message_in": 0.0, "latency_message_in": 0.0})],
        "synapse": synapses,
        "dendrite": [_unit("dendrite", accumulator)],
        "soma": somas,
        "axon_out": [_unit("out", {"energy_message_out": message[0], "latency_message_out": message[1]})],
    }


def _synapse(energy: float, time: float) -> dict[str, Any]:
    return {"model": "current_based", "energy_process_spike": energy, "latency_process_spike": time}


def _source() -> dict[str, Any]:
    """What only sends, or only takes: it costs nothing."""
    names = ("access_neuron", "update_neuron", "spike_out")
    return {"model": "input"} | {f"{what}_{name}": 0.0 for name in names for what in ("energy", "latency")}


def _unit(name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "attributes": attributes}
