"""Limits of a core and a chip from a profile, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stas_neuro.chips import Profile
from stas_neuro.errors import InputError

CORE_RESOURCES: Mapping[str, str] = {
    "neurons": "neurons_per_core",
    "synaptic memory": "synaptic_memory_per_core",
    "input axons": "input_axons_per_core",
    "output axons": "output_axons_per_core",
}
"""Resources of a core, and the profile limit of each."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a chip.

    Parameters
    ----------
    core : mapping
        Amount per core of each resource of `CORE_RESOURCES`, synaptic memory in bits. Limits that the profile
        declares unavailable are left out.
    fan_in : int or None
        Largest number of sources of one neuron; None if the profile has no limit.
    cores_per_chip : int
        Number of cores of a chip.
    chips : int or None
        Number of chips of the largest system; None if the profile has no limit.
    mesh : (tiles_x, tiles_y, cores_per_tile) or None
        Shape of a chip. None if the profile does not have it; every core is then at tile 0,0.
    weight_sharing : bool
        Whether positions on one core share their weights.
    unchecked : mapping
        Reason why a limit is not checked, by its name.
    """

    core: Mapping[str, int]
    fan_in: int | None
    cores_per_chip: int
    chips: int | None
    mesh: tuple[int, int, int] | None
    weight_sharing: bool
    unchecked: Mapping[str, str]


def with_contexts(limits: Limits, contexts: int) -> Limits:
    """Return the limits of cores on which each neuron has several membranes, and takes the place of as many.

    Raises
    ------
    InputError
        When a core does not hold one such neuron.
    """
    neurons = limits.core.get("neurons")
    if neurons is None or contexts == 1:
        return limits
    if contexts > neurons:
        what = f"a neuron with {contexts} contexts takes the place of as many, a core has {neurons} neurons"
        raise InputError(what, f"use at most {neurons} contexts")
    return replace(limits, core={**limits.core, "neurons": neurons // contexts})


def limits_of(profile: Profile) -> Limits:
    """Return the limits of a profile.

    Raises
    ------
    InputError
        When the profile has no cores, or lacks an entry without declaring it unavailable.
    """
    nothing = profile.reason("limits.neurons_per_core") or profile.reason("limits.cores_per_chip")
    if nothing is not None:
        raise InputError(f"profile {profile.name} has no cores: {nothing}", "place on loihi1 or loihi2")
    unchecked: dict[str, str] = {}

    def limit(name: str) -> int | None:
        why = profile.reason(f"limits.{name}")
        if why is None:
            return profile.limit(name)
        unchecked[name] = why
        return None

    core = {resource: limit(name) for resource, name in CORE_RESOURCES.items()}
    if core["synaptic memory"] is not None:
        core["synaptic memory"] *= 8
    x, y, per_tile = (limit(name) for name in ("tiles_x", "tiles_y", "cores_per_tile"))
    mesh = None if x is None or y is None or per_tile is None else (x, y, per_tile)
    of_chip = profile.limit("cores_per_chip")
    if mesh is not None and mesh[0] * mesh[1] * mesh[2] < of_chip:
        what = (
            f"profile {profile.name}: {mesh[0]} x {mesh[1]} tiles of {mesh[2]} cores, {of_chip} cores a chip"
        )
        raise InputError(what, "correct limits.tiles_x, tiles_y, cores_per_tile or cores_per_chip")
    why_not = profile.reason("capabilities.weight_sharing")
    if why_not is not None:
        unchecked["weight_sharing"] = f"{why_not}; taken as no"
    return Limits(
        core={resource: value for resource, value in core.items() if value is not None},
        fan_in=limit("fan_in"),
        cores_per_chip=of_chip,
        chips=limit("chips"),
        mesh=mesh,
        weight_sharing=why_not is None and profile.capability("weight_sharing") == "yes",
        unchecked=unchecked,
    )
